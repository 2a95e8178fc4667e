//! `tidewater rows`: what it says a user would get is what the user gets.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use tidewater_tests::{
    DevOptions, Lodging, Output, Postgres, Process, Scratch, Signal, SyncReader, Tidewater,
    eventually,
};

/// Long enough for a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// The database prints values in its own way unless a session says otherwise. Tags without a code
/// have no id, and cannot be synced.
const TABLES: &str = "
    ALTER DATABASE postgres SET timezone = 'Asia/Tokyo';
    ALTER DATABASE postgres SET datestyle = 'SQL, DMY';
    ALTER DATABASE postgres SET extra_float_digits = 0;
    CREATE TABLE lists (id text PRIMARY KEY, owner_id text, name text);
    CREATE TABLE members (list_id text, user_id text, PRIMARY KEY (list_id, user_id));
    CREATE TABLE todos (id int8 PRIMARY KEY, list_id text, done bool, due timestamptz,
                        ratio float8, amount numeric);
    CREATE TABLE tags (key int PRIMARY KEY, org text, team text, code text, label text);
    CREATE PUBLICATION powersync FOR TABLE lists, members, todos, tags;
    INSERT INTO lists VALUES ('l1', 'u1', E'mine\\t\\\\ \"1\"'), ('l2', 'u2', 'theirs');
    INSERT INTO members VALUES ('l1', 'u1'), ('l2', 'u1'), ('l2', 'u2'), ('l3', 'u3');
    INSERT INTO todos VALUES
        (9007199254740993, 'l1', true, '2024-02-29 12:00:00+09', 0.1::float8 + 0.2::float8,
         12345678901234567890.10),
        (2, 'l2', false, NULL, NULL, NULL), (3, 'l2', true, NULL, NULL, NULL),
        (4, 'l3', true, NULL, NULL, NULL);
    INSERT INTO tags VALUES (1, 'acme', 'a', 'c1', 'one'), (2, 'acme', 'b', 'c2', 'two'),
        (3, 'other', 'a', 'c3', 'three'), (4, 'acme', 'a', NULL, 'four');
";

const CONFIG: &str = "
config: { edition: 3 }
streams:
  my_lists:
    auto_subscribe: true
    priority: 1
    query: SELECT * FROM lists WHERE owner_id = auth.user_id()
  todos:
    auto_subscribe: true
    query: >
      SELECT * FROM todos
      WHERE list_id IN (SELECT list_id FROM members WHERE user_id = auth.user_id())
  tags:
    query: >
      SELECT code AS id, label FROM tags
      WHERE org = auth.parameter('org') AND team = subscription.parameter('team')
";

/// Runs the command to its end.
async fn rows(url: &str, config: &str, arguments: &[&str]) -> Result<Output> {
    let folder = Scratch::new()?;
    let file = folder.path().join("sync-config.yaml");
    std::fs::write(&file, config)?;
    let mut command = Tidewater::command()?;
    command.arg("rows").arg(&file).args(["--database-url", url]).args(arguments);
    let lodging = Lodging { name: "rows", logs: folder.path(), end: Signal::Kill };
    Process::spawn(&mut command, lodging)?.wait(SOON).await
}

#[tokio::test]
async fn the_buckets_of_a_user_are_printed_with_their_rows() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    let url = postgres.url("postgres");
    let output = rows(&url, CONFIG, &["--user-id", "u1", "--limit", "1"]).await?;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    // The streams by themselves: lists that u1 owns, todos of the lists that u1 is a member of.
    let expected = r#"my_lists|0["u1"]: priority 1, 1 row
  {"type":"lists","id":"l1","data":{"id":"l1","owner_id":"u1","name":"mine\t\\ \"1\""}}
todos|0["l1"]: priority 3, 1 row
  {"type":"todos","id":"9007199254740993","data":{"id":9007199254740993,"list_id":"l1","done":1,"due":"2024-02-29T03:00:00.000000Z","ratio":0.30000000000000004,"amount":"12345678901234567890.10"}}
todos|0["l2"]: priority 3, 2 rows
  {"type":"todos","id":"2","data":{"id":2,"list_id":"l2","done":0,"due":null,"ratio":null,"amount":null}}
  ... and 1 more (--limit)
3 buckets, 4 rows
left out, of all users' rows: 1 (tags|0: the column `id` is NULL)
"#;
    assert_eq!(output.stdout, expected);
    let output = rows(&url, CONFIG, &["--user-id", "nobody"]).await?;
    let expected = "my_lists|0[\"nobody\"]: priority 1, 0 rows\n1 bucket, 0 rows\n";
    assert!(output.stdout.starts_with(expected), "{}", output.stdout);
    let slots = postgres.value("SELECT count(*) FROM pg_replication_slots").await?;
    assert_eq!(slots, "0");
    Ok(())
}

#[tokio::test]
async fn a_user_is_synced_the_rows_that_are_printed() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    let url = postgres.url("postgres");
    let claims = ["--user-id", "u1", "--claims", r#"{"org": "acme"}"#, "--format", "json"];
    let output =
        rows(&url, CONFIG, &[&claims[..], &["--stream", r#"tags={"team": "a"}"#]].concat()).await?;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let document: Value = serde_json::from_str(&output.stdout)?;
    let mut printed = BTreeMap::new();
    for bucket in document["buckets"].as_array().context("buckets")? {
        let rows = bucket["rows"].as_array().context("rows")?;
        assert_eq!(bucket["row_count"], rows.len(), "{bucket}");
        let (definition, parameters) = (bucket["definition"].as_str(), &bucket["parameters"]);
        assert_eq!(bucket["bucket"], format!("{}{parameters}", definition.context("a name")?));
        for row in rows {
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            printed.insert((text("type"), text("id")), row["data"].clone());
        }
    }
    assert_eq!(printed[&("tags".to_owned(), "c1".to_owned())]["label"], "one");
    assert_eq!(printed.len(), 5, "a list, three todos, a tag: {printed:?}");
    let streams = json!([
        {"name": "my_lists", "is_default": true, "errors": []},
        {"name": "todos", "is_default": true, "errors": []},
        {"name": "tags", "is_default": false, "errors": []},
    ]);
    assert_eq!(document["streams"], streams);
    assert_eq!(document["left_out"][0]["row_count"], 1);
    let message = document["left_out"][0]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("tags|0: "), "{message}");

    let tidewater = Tidewater::dev_ready(DevOptions::new(&url, CONFIG)).await?;
    let team = Map::from_iter([("team".to_owned(), json!("a"))]);
    let mut reader = SyncReader::new().subscribed("tags", team);
    let token = tidewater.key().token("u1").claim("org", "acme").sign()?;
    let synced = reader.sync_once(tidewater.url(), &token).await?.rows;
    let synced: BTreeMap<_, _> =
        synced.iter().map(|(key, data)| (key.clone(), Value::Object(data.clone()))).collect();
    assert_eq!(printed, synced);
    Ok(())
}

/// The transaction of the test commits while the command waits for the lists: the lookups are read
/// before it, the todos, which the config names after the lists, after it.
#[tokio::test]
async fn all_tables_are_read_as_of_one_moment() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    let writer = postgres.connect().await?;
    writer.batch_execute("BEGIN; LOCK TABLE lists; DELETE FROM todos WHERE list_id = 'l2'").await?;
    let url = postgres.url("postgres");
    let commit = async {
        eventually("the command to wait for the table", SOON, async || {
            let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
            Ok((postgres.value(waiting).await? != "0").then_some(()))
        })
        .await?;
        Ok(writer.batch_execute("COMMIT").await?)
    };
    let (output, ()) = tokio::try_join!(rows(&url, CONFIG, &["--user-id", "u1"]), commit)?;
    assert!(output.stdout.contains("3 buckets, 4 rows"), "{}{}", output.stdout, output.stderr);
    let output = rows(&url, CONFIG, &["--user-id", "u1"]).await?;
    assert!(output.stdout.contains("3 buckets, 2 rows"), "{}{}", output.stdout, output.stderr);
    Ok(())
}

#[tokio::test]
async fn a_database_that_does_not_let_all_rows_be_read_is_no_answer() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    postgres
        .execute("CREATE ROLE reader LOGIN; GRANT SELECT ON lists, todos, tags TO reader")
        .await?;
    let url = postgres.url_of("reader", "any", "postgres");
    let output = rows(&url, CONFIG, &["--user-id", "u1"]).await?;
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert_eq!(output.stdout, "");
    let fix = r#"GRANT SELECT ON "public"."members" TO "reader";"#;
    assert!(output.stderr.contains(fix), "{}", output.stderr);
    postgres.execute("GRANT SELECT ON members TO reader").await?;
    let output = rows(&url, CONFIG, &["--user-id", "u1"]).await?;
    assert_eq!(output.code, Some(0), "SELECT is all that is needed: {}", output.stderr);
    assert!(output.stdout.contains("3 buckets, 4 rows"), "{}", output.stdout);
    // The policy would hide all rows from the role.
    postgres.execute("ALTER TABLE todos ENABLE ROW LEVEL SECURITY").await?;
    let output = rows(&url, CONFIG, &["--user-id", "u1"]).await?;
    assert_eq!(output.code, Some(1), "{}", output.stdout);
    assert!(output.stderr.contains("BYPASSRLS"), "{}", output.stderr);
    Ok(())
}

#[tokio::test]
async fn patterns_find_ordinary_tables() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    let more = "CREATE TABLE ev_1 (id text PRIMARY KEY); INSERT INTO ev_1 VALUES ('a');
                CREATE TABLE ev_2 (id text PRIMARY KEY, n int); INSERT INTO ev_2 VALUES ('b', 7);
                CREATE VIEW ev_3 AS SELECT 'c' AS id, 8 AS n";
    postgres.execute(more).await?;
    let config = r#"
config: { edition: 3 }
streams:
  events:
    auto_subscribe: true
    query: SELECT id, n, e.table_suffix() AS suffix FROM "ev_%" AS e
"#;
    let output = rows(&postgres.url("postgres"), config, &["--user-id", "u1"]).await?;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let expected = r#"events|0[]: priority 3, 2 rows
  {"type":"e","id":"a","data":{"id":"a","suffix":"1"}}
  {"type":"e","id":"b","data":{"id":"b","n":7,"suffix":"2"}}
1 bucket, 2 rows
"#;
    assert_eq!(output.stdout, expected);
    let warns = "sync-config.yaml:6:23: warning: the table `ev_1` has no column `n`\n";
    assert!(output.stderr.contains(warns), "{}", output.stderr);
    Ok(())
}

#[tokio::test]
async fn a_config_that_does_not_fit_the_database_is_refused_with_its_place() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    let config = CONFIG.replace("owner_id", "owner");
    let output = rows(&postgres.url("postgres"), &config, &["--user-id", "u1"]).await?;
    assert_eq!(output.code, Some(2), "{}", output.stderr);
    // `    query: SELECT * FROM lists WHERE ` is 37 characters, on the 7th line.
    let says = "sync-config.yaml:7:38: error: the table `lists` has no column `owner`";
    assert!(output.stderr.contains(says), "{}", output.stderr);
    Ok(())
}
