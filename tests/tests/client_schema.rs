//! `tidewater schema --client`: the official Node SDK and SQLite take what it writes.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tidewater_tests::{
    Lodging, Output, Postgres, Process, Scratch, Signal, Tidewater, load_typescript_schema,
};

/// A bound for one command: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(60);

const CONFIG: &str = r#"
config: { edition: 3 }
streams:
  own:
    query: SELECT * FROM todos WHERE owner = auth.user_id()
  short:
    query: SELECT id, upper(title) AS "big title", done = true AS is_done, size * 2 AS twice FROM todos AS "short$todos"
"#;

const TABLES: &str = "
    CREATE TABLE todos (id uuid PRIMARY KEY, owner text, title text, done bool, size float8,
                        amount numeric, at timestamptz, tags text[], file bytea);
    CREATE TABLE other (id text PRIMARY KEY);
    CREATE PUBLICATION powersync FOR TABLE todos;
";

async fn schema(postgres: &Postgres, client: &str) -> Result<Output> {
    let folder = Scratch::new()?;
    let file = folder.path().join("sync-config.yaml");
    std::fs::write(&file, CONFIG)?;
    let mut command = Tidewater::command()?;
    command.arg("schema").arg(&file).args(["--client", client]);
    command.args(["--database-url", &postgres.url("postgres")]);
    let lodging = Lodging { name: "schema", logs: folder.path(), end: Signal::Kill };
    let output = Process::spawn(&mut command, lodging)?.wait(SOON).await?;
    output.assert_code(0);
    Ok(output)
}

#[tokio::test]
async fn the_official_node_sdk_opens_a_database_with_the_typescript_schema() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    let Output { stdout: typescript, stderr, .. } = schema(&postgres, "ts").await?;
    ensure!(stderr.contains("column \"big title\" of short$todos is left out"), "{stderr}");
    let tables = load_typescript_schema(&typescript).await?;
    // A view has the affinity of its casts.
    let expected = json!({
        "todos": {
            "id": "TEXT", "owner": "TEXT", "title": "TEXT", "done": "INT", "size": "REAL",
            "amount": "TEXT", "at": "TEXT", "tags": "TEXT",
        },
        "short$todos": { "id": "TEXT", "is_done": "INT", "twice": "REAL" },
    });
    assert_eq!(tables, expected, "{typescript}");
    Ok(())
}

#[tokio::test]
async fn the_schema_of_sqlite_is_one_that_the_client_takes() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    let sql = schema(&postgres, "sqlite").await?.stdout;
    ensure!(sql.contains("\"big title\" TEXT") && !sql.contains("file"), "{sql}");
    tidewater_client::Schema::parse(&sql)?;
    for client in ["dart", "kotlin", "swift"] {
        let text = schema(&postgres, client).await?.stdout;
        ensure!(text.contains("todos") && !text.contains("big title"), "{client}: {text}");
    }
    Ok(())
}
