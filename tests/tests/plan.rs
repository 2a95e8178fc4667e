//! `tidewater plan` beside a running `tidewater dev`: what it says is what a deployment then does.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidewater_tests::{DevOptions, Lodging, Output, Postgres, Process, Signal, Tidewater};

/// A bound for whatever must happen: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(60);

const CONFIG: &str = "
config: { edition: 3 }
streams:
  own: { auto_subscribe: true, query: SELECT * FROM todos WHERE owner = auth.user_id() }
  notes: { auto_subscribe: true, query: SELECT * FROM notes }
";

const TABLES: &str = "
    CREATE TABLE todos (id int PRIMARY KEY, owner text, done bool);
    CREATE TABLE notes (id text PRIMARY KEY);
    CREATE TABLE more (id text PRIMARY KEY);
    CREATE PUBLICATION powersync FOR TABLE todos, notes, more;
    INSERT INTO todos SELECT i, 'u' || i % 3 FROM generate_series(1, 300) AS i;
    INSERT INTO more VALUES ('m1');
    ANALYZE todos, notes;
";

async fn setup() -> Result<(Postgres, Tidewater)> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    let options = DevOptions::new(&postgres.url("postgres"), CONFIG);
    Ok((postgres, Tidewater::dev_ready(options).await?))
}

/// Runs `tidewater plan` on the store of the running server, with this text in place of the config's.
async fn run(
    postgres: &Postgres,
    tidewater: &Tidewater,
    config: &str,
    more: &[&str],
) -> Result<Output> {
    let folder: &Path = tidewater.folder();
    let file = folder.join("new.yaml");
    std::fs::write(&file, config)?;
    let mut command = Tidewater::command()?;
    let store = format!("embedded:{}", tidewater.data_dir().display());
    command.arg("plan").arg(&file).args(["--store", &store]);
    command.args(["--database-url", &postgres.url("postgres")]).args(more);
    let lodging = Lodging { name: "plan", logs: folder, end: Signal::Kill };
    Process::spawn(&mut command, lodging)?.wait(SOON).await
}

/// Plans a config, and checks that the exit code says whether a table is copied.
async fn plan(postgres: &Postgres, tidewater: &Tidewater, config: &str) -> Result<Value> {
    let output = run(postgres, tidewater, config, &["--json", "--rows-per-second", "100"]).await?;
    let plan: Value = serde_json::from_str(&output.stdout)
        .with_context(|| format!("no plan: {}", output.stderr))?;
    output.assert_code(if plan["copies"] == true { 2 } else { 0 });
    Ok(plan)
}

/// Returns the fate of each definition.
fn fates(plan: &Value) -> Vec<(String, String)> {
    let definitions = plan["definitions"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    definitions.iter().map(|one| (text(&one["name"]), text(&one["fate"]))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, fate)| ((*name).to_owned(), (*fate).to_owned())).collect()
}

#[tokio::test]
async fn what_changes_no_row_copies_nothing() -> Result<()> {
    let (postgres, tidewater) = setup().await?;
    let same = plan(&postgres, &tidewater, CONFIG).await?;
    assert_eq!((&same["is_same_text"], &same["tables"]), (&json!(true), &json!([])));
    let comment = format!("# a comment\n{}", CONFIG.replace("auto_subscribe: true, ", ""));
    let text_only = plan(&postgres, &tidewater, &comment).await?;
    assert_eq!(fates(&text_only), pairs(&[("own|0", "kept"), ("notes|0", "kept")]));
    assert_eq!((&text_only["copies"], &text_only["is_same_text"]), (&json!(false), &json!(false)));

    let text = run(&postgres, &tidewater, &comment, &[]).await?;
    ensure!(text.stdout.starts_with("result      only the text differs"), "{}", text.stdout);
    Ok(())
}

#[tokio::test]
async fn a_changed_query_is_removed_and_new_and_a_new_table_is_copied() -> Result<()> {
    let (postgres, tidewater) = setup().await?;
    let config = "
config: { edition: 3 }
streams:
  own: { auto_subscribe: true, query: SELECT * FROM todos WHERE owner = auth.user_id() AND done IS NULL }
  notes: { auto_subscribe: true, query: SELECT * FROM notes }
  more: { query: SELECT * FROM more }
";
    let planned = plan(&postgres, &tidewater, config).await?;
    let expected = [("own|0", "new"), ("notes|0", "kept"), ("more|0", "new"), ("own|0", "removed")];
    assert_eq!(fates(&planned), pairs(&expected));
    assert_eq!(planned["definitions"][3]["buckets"], 3, "of three users");
    assert_eq!(planned["holds_devices"], false);

    let tables = planned["tables"].as_array().context("no tables")?;
    let named = |name: &str| tables.iter().find(|table| table["name"] == name);
    let todos = named("public.todos").context("todos are copied")?;
    assert_eq!(
        (&todos["reason"], &todos["estimated_rows"]),
        (&json!("more_definitions"), &json!(300))
    );
    assert_eq!(todos["definitions"], json!(["own|0"]));
    ensure!(todos["bytes"].as_u64() > Some(0), "{todos}");
    let more = named("public.more").context("more is copied")?;
    assert_eq!(
        (&more["reason"], &more["estimated_rows"]),
        (&json!("new"), &Value::Null),
        "never analysed"
    );
    ensure!(named("public.notes").is_none(), "{planned}");
    ensure!(planned["estimated_seconds"].is_null(), "a table has no estimate: {planned}");

    postgres.execute("ANALYZE more").await?;
    let planned = plan(&postgres, &tidewater, config).await?;
    assert_eq!(planned["estimated_seconds"], 4, "301 rows, 100 a second");
    Ok(())
}

#[tokio::test]
async fn a_removed_stream_copies_nothing() -> Result<()> {
    let (postgres, tidewater) = setup().await?;
    let config = "
config: { edition: 3 }
streams:
  notes: { auto_subscribe: true, query: SELECT * FROM notes }
";
    let planned = plan(&postgres, &tidewater, config).await?;
    assert_eq!(fates(&planned), pairs(&[("notes|0", "kept"), ("own|0", "removed")]));
    assert_eq!(planned["copies"], false, "{planned}");
    Ok(())
}

#[tokio::test]
async fn a_config_that_cannot_be_used_is_an_error_and_not_a_copy() -> Result<()> {
    let (postgres, tidewater) = setup().await?;
    for config in
        ["streams: [", "config: { edition: 3 }\nstreams: { s: { query: SELECT * FROM missing } }"]
    {
        let output = run(&postgres, &tidewater, config, &[]).await?;
        output.assert_code(1);
        ensure!(output.stdout.is_empty() && output.stderr.contains("error"), "{output:?}");
    }
    postgres.execute("ALTER PUBLICATION powersync DROP TABLE more").await?;
    let config = "config: { edition: 3 }\nstreams: { s: { query: SELECT * FROM more } }";
    let output = run(&postgres, &tidewater, config, &[]).await?;
    output.assert_code(1);
    ensure!(output.stderr.contains("ALTER PUBLICATION"), "{}", output.stderr);
    Ok(())
}
