//! `tidewater rows`: the rows that it prints for a user are those that the user receives.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use tidewater_tests::{
    DevOptions, Output, Postgres, Process, Scratch, SyncReader, Tidewater, eventually,
};

/// Timeout of each wait: long enough for a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// SQL that creates the tables, with unusual defaults for the format of values.
///
/// The session of the command must override the defaults. A tag without a code has no id and cannot
/// be synced.
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
    Process::run(&mut command, SOON).await
}

/// Starts PostgreSQL with the tables.
async fn database() -> Result<Postgres> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    Ok(postgres)
}

#[tokio::test]
async fn the_buckets_of_a_user_are_printed_with_their_rows() -> Result<()> {
    let postgres = database().await?;
    let url = postgres.url("postgres");
    let output = rows(&url, CONFIG, &["--user-id", "u1", "--limit", "1"]).await?;
    output.assert_code(0);

    // Only the default streams: lists that u1 owns, and to-dos of the lists that u1 is a member of.
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
async fn a_user_receives_the_rows_that_are_printed() -> Result<()> {
    let postgres = database().await?;
    let url = postgres.url("postgres");
    let claims = ["--user-id", "u1", "--claims", r#"{"org": "acme"}"#, "--format", "json"];
    let output =
        rows(&url, CONFIG, &[&claims[..], &["--stream", r#"tags={"team": "a"}"#]].concat()).await?;
    output.assert_code(0);

    let document: Value = serde_json::from_str(&output.stdout)?;
    let mut printed = BTreeMap::new();
    for bucket in document["buckets"].as_array().context("no buckets")? {
        let rows = bucket["rows"].as_array().context("no rows")?;
        assert_eq!(bucket["row_count"], rows.len(), "{bucket}");
        let definition = bucket["definition"].as_str().context("no definition")?;
        assert_eq!(bucket["bucket"], format!("{definition}{}", bucket["parameters"]));
        for row in rows {
            let object_type = row["type"].as_str().unwrap_or_default().to_owned();
            let id = row["id"].as_str().unwrap_or_default().to_owned();
            printed.insert((object_type, id), row["data"].clone());
        }
    }
    assert_eq!(printed[&("tags".to_owned(), "c1".to_owned())]["label"], "one");
    assert_eq!(printed.len(), 5, "not a list, three to-dos and a tag: {printed:?}");

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

/// A transaction commits while the command waits for the lock of a table. The command has read the
/// lookups before that, and reads the to-dos after it.
#[tokio::test]
async fn all_tables_are_read_in_one_snapshot() -> Result<()> {
    let postgres = database().await?;
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
async fn a_role_that_cannot_read_all_rows_is_refused() -> Result<()> {
    let postgres = database().await?;
    postgres
        .execute("CREATE ROLE reader LOGIN; GRANT SELECT ON lists, todos, tags TO reader")
        .await?;

    let url = postgres.url_of("reader", "any", "postgres");
    let output = rows(&url, CONFIG, &["--user-id", "u1"]).await?;
    output.assert_code(1);
    assert_eq!(output.stdout, "");
    output.assert_says(&[r#"GRANT SELECT ON "public"."members" TO "reader";"#]);

    // No other privilege is needed.
    postgres.execute("GRANT SELECT ON members TO reader").await?;
    let output = rows(&url, CONFIG, &["--user-id", "u1"]).await?;
    output.assert_code(0);
    assert!(output.stdout.contains("3 buckets, 4 rows"), "{}", output.stdout);

    // Row security hides all rows from the role.
    postgres.execute("ALTER TABLE todos ENABLE ROW LEVEL SECURITY").await?;
    let output = rows(&url, CONFIG, &["--user-id", "u1"]).await?;
    output.assert_code(1);
    output.assert_says(&["BYPASSRLS"]);
    Ok(())
}

#[tokio::test]
async fn a_pattern_matches_ordinary_tables_only() -> Result<()> {
    let postgres = database().await?;
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
    output.assert_code(0);
    let expected = r#"events|0[]: priority 3, 2 rows
  {"type":"e","id":"a","data":{"id":"a","suffix":"1"}}
  {"type":"e","id":"b","data":{"id":"b","n":7,"suffix":"2"}}
1 bucket, 2 rows
"#;
    assert_eq!(output.stdout, expected);
    let warning = "sync-config.yaml:6:23: warning: the table `ev_1` has no column `n`\n";
    output.assert_says(&[warning]);
    Ok(())
}

#[tokio::test]
async fn a_config_that_does_not_fit_the_database_is_refused_with_the_position() -> Result<()> {
    let postgres = database().await?;
    let config = CONFIG.replace("owner_id", "owner");
    let output = rows(&postgres.url("postgres"), &config, &["--user-id", "u1"]).await?;
    output.assert_code(2);
    // `    query: SELECT * FROM lists WHERE ` on line 7 has 37 characters.
    output.assert_says(&["sync-config.yaml:7:38: error: the table `lists` has no column `owner`"]);
    Ok(())
}
