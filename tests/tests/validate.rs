//! `tidewater validate` against a real database.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tidewater_tests::{Lodging, Postgres, Process, Scratch, Signal, Tidewater};

/// Long enough for a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(60);

const CONFIG: &str = "\
config: { edition: 3 }
streams:
  mine:
    query: SELECT * FROM lists WHERE owner = auth.user_id()
  any:
    query: SELECT * FROM lists WHERE name = connection.parameter('name')
";

#[tokio::test]
async fn what_the_database_lacks_stands_in_the_order_of_the_file() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute("CREATE TABLE lists (id text PRIMARY KEY, name text, owner_id text)").await?;
    let folder = Scratch::new()?;
    let file = folder.path().join("sync-config.yaml");
    std::fs::write(&file, CONFIG)?;
    let mut command = Tidewater::command()?;
    command.arg("validate").arg(&file).args(["--format", "json"]);
    command.args(["--database-url", &postgres.url("postgres")]);
    let lodging = Lodging { name: "validate", logs: folder.path(), end: Signal::Kill };
    let output = Process::spawn(&mut command, lodging)?.wait(SOON).await?;
    assert_eq!(output.code, Some(2), "{}", output.stderr);
    let document: Value = serde_json::from_str(&output.stdout)?;
    assert_eq!(document["ok"], false);
    let findings = document["findings"].as_array().context("findings")?;
    let shown: Vec<_> = findings
        .iter()
        .map(|one| format!("{}:{} {}", one["line"], one["column"], one["severity"]))
        .collect();
    // The column, which the database lacks, then the query that any client may use.
    assert_eq!(shown, ["4:38 \"error\"", "6:12 \"warning\""]);
    assert_eq!(findings[0]["message"], "the table `lists` has no column `owner`");
    Ok(())
}
