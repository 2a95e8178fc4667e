//! Tests of one promise or one fault each.
//!
//! "Fault F5" refers to the list in `tests/FAULTS.md`.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tidewater_tests::{
    Completed, DevOptions, LineEffect, Postgres, Signal, SyncReader, Tidewater, eventually,
};

/// Timeout of whatever happens at once: long, since other tests run at the same time.
const SOON: Duration = Duration::from_secs(30);

const TODOS: &str = "
    CREATE TABLE todos (id text PRIMARY KEY, owner_id text, title text, body text);
    ALTER TABLE todos ALTER COLUMN body SET STORAGE EXTERNAL;
    CREATE PUBLICATION powersync FOR TABLE todos;
";

const GLOBAL: &str = "
config: { edition: 3 }
streams:
  todos: { auto_subscribe: true, query: SELECT * FROM todos }
";

const BY_OWNER: &str = "
config: { edition: 3 }
streams:
  todos: { auto_subscribe: true, query: SELECT * FROM todos WHERE owner_id = auth.user_id() }
";

/// PostgreSQL with the to-do table, and Tidewater once the first checkpoint is visible.
struct Setup {
    tidewater: Tidewater,
    postgres: Postgres,
}

impl Setup {
    async fn new(config: &str, sql: &str) -> Result<Self> {
        let postgres = Postgres::start().await?;
        postgres.execute(&format!("{TODOS} {sql}")).await?;
        let options = DevOptions::new(&postgres.url("postgres"), config);
        let tidewater = Tidewater::dev_ready(options).await?;
        Ok(Self { tidewater, postgres })
    }

    /// Connects and reads until the user has exactly these to-dos, each as `id title`.
    async fn read_until(
        &self,
        reader: &mut SyncReader,
        user: &str,
        expected: &[&str],
    ) -> Result<()> {
        let mut last = Vec::new();
        let read = async {
            let mut connection = self.tidewater.connect(reader, user).await?;
            loop {
                last = titles(&connection.completed().await?);
                if last == expected {
                    return anyhow::Ok(());
                }
            }
        };

        match tokio::time::timeout(SOON, read).await {
            Ok(outcome) => outcome,
            Err(_) => anyhow::bail!("user {user} sees {last:?}, not {expected:?}"),
        }
    }
}

/// Returns the rows of a checkpoint, each as `id title`.
fn titles(completed: &Completed) -> Vec<String> {
    let mut titles = Vec::new();
    for row in completed.rows.values() {
        let id = row["id"].as_str().unwrap_or("null");
        let title = row["title"].as_str().unwrap_or("null");
        titles.push(format!("{id} {title}"));
    }
    titles
}

#[tokio::test]
async fn existing_rows_are_copied_and_changes_follow() -> Result<()> {
    let setup = Setup::new(GLOBAL, "INSERT INTO todos VALUES ('a', 'u1', 'one')").await?;
    let mut reader = SyncReader::new();
    setup.read_until(&mut reader, "u1", &["a one"]).await?;

    setup
        .postgres
        .execute(
            "BEGIN; INSERT INTO todos VALUES ('b', 'u1', 'two');
             UPDATE todos SET title = 'first' WHERE id = 'a'; COMMIT",
        )
        .await?;
    setup.read_until(&mut reader, "u1", &["a first", "b two"]).await?;

    setup.postgres.execute("DELETE FROM todos WHERE id = 'a'").await?;
    setup.read_until(&mut reader, "u1", &["b two"]).await
}

#[tokio::test]
async fn users_see_their_own_rows_only() -> Result<()> {
    let rows = "INSERT INTO todos VALUES ('a', 'u1', 'one'), ('b', 'u2', 'two'), ('c', NULL, '3')";
    let setup = Setup::new(BY_OWNER, rows).await?;
    setup.read_until(&mut SyncReader::new(), "u1", &["a one"]).await?;
    setup.read_until(&mut SyncReader::new(), "u2", &["b two"]).await?;
    setup.read_until(&mut SyncReader::new(), "u3", &[]).await
}

/// Fault F16.
#[tokio::test]
async fn a_row_that_changes_its_bucket_or_its_key_is_removed_where_it_was() -> Result<()> {
    let rows = "INSERT INTO todos VALUES ('a', 'u1', 'one'), ('b', 'u1', 'two')";
    let setup = Setup::new(BY_OWNER, rows).await?;
    let mut first = SyncReader::new();
    let mut second = SyncReader::new();
    setup.read_until(&mut first, "u1", &["a one", "b two"]).await?;
    setup.read_until(&mut second, "u2", &[]).await?;

    setup
        .postgres
        .execute(
            "BEGIN; UPDATE todos SET owner_id = 'u2' WHERE id = 'a';
             UPDATE todos SET id = 'z' WHERE id = 'b'; COMMIT",
        )
        .await?;
    setup.read_until(&mut first, "u1", &["z two"]).await?;
    setup.read_until(&mut second, "u2", &["a one"]).await?;

    setup.postgres.execute("UPDATE todos SET owner_id = NULL").await?;
    setup.read_until(&mut first, "u1", &[]).await?;
    setup.read_until(&mut second, "u2", &[]).await
}

/// Fault F14.
#[tokio::test]
async fn changes_that_were_rolled_back_never_appear() -> Result<()> {
    let setup = Setup::new(GLOBAL, "").await?;
    setup
        .postgres
        .execute(
            "BEGIN; INSERT INTO todos VALUES ('lost', 'u1', 'never'); ROLLBACK;
             BEGIN; INSERT INTO todos VALUES ('a', 'u1', 'one'); SAVEPOINT s;
             INSERT INTO todos VALUES ('b', 'u1', 'never'); ROLLBACK TO SAVEPOINT s;
             SAVEPOINT s; UPDATE todos SET title = 'kept'; RELEASE SAVEPOINT s; COMMIT",
        )
        .await?;

    let mut reader = SyncReader::new();
    let mut connection = setup.tidewater.connect(&mut reader, "u1").await?;
    loop {
        let seen = titles(&connection.completed().await?);
        assert!(seen.is_empty() || seen == ["a kept"], "{seen:?}");
        if !seen.is_empty() {
            return Ok(());
        }
    }
}

/// Fault F15, for each replica identity.
#[tokio::test]
async fn an_out_of_line_value_that_an_update_does_not_change_is_kept() -> Result<()> {
    for identity in ["DEFAULT", "FULL", "USING INDEX todos_pkey"] {
        let sql = format!(
            "ALTER TABLE todos REPLICA IDENTITY {identity};
             INSERT INTO todos VALUES ('a', 'u1', 'one', repeat('large', 20000))"
        );
        let setup = Setup::new(BY_OWNER, &sql).await?;
        let mut reader = SyncReader::new();
        let mut connection = setup.tidewater.connect(&mut reader, "u1").await?;
        connection.completed_with(|done| !done.rows.is_empty()).await?;

        let changes = [
            ("UPDATE todos SET title = 'two'", "a", "two"),
            ("UPDATE todos SET id = 'b', title = 'three'", "b", "three"),
            (
                "UPDATE todos SET owner_id = NULL; UPDATE todos SET owner_id = 'u1', title = 'four'",
                "b",
                "four",
            ),
        ];
        for (sql, id, title) in changes {
            setup.postgres.execute(sql).await?;
            let done = connection
                .completed_with(|done| {
                    done.row("todos", id).is_some_and(|row| row["title"] == title)
                })
                .await?;
            assert_eq!(done.rows.len(), 1);
            let row = done.row("todos", id).context("no row")?;
            let body = row["body"].as_str().context("no body")?;
            assert_eq!(body, "large".repeat(20_000), "{identity}: {sql}");
        }
    }
    Ok(())
}

/// Fault F13, for one large transaction.
#[tokio::test]
async fn a_large_transaction_after_one_without_synced_rows_becomes_visible_as_a_whole() -> Result<()>
{
    let unsynced = "CREATE TABLE audit (id int PRIMARY KEY);
                    ALTER PUBLICATION powersync ADD TABLE audit";
    let setup = Setup::new(GLOBAL, unsynced).await?;
    let mut reader = SyncReader::new();
    let mut connection = setup.tidewater.connect(&mut reader, "u1").await?;
    assert!(connection.completed().await?.rows.is_empty());

    // The worker commits the position of the first transaction together with the second, which it
    // writes in several parts.
    let insert = "BEGIN; INSERT INTO audit VALUES (1); COMMIT;
                  BEGIN; INSERT INTO todos
                  SELECT n::text, 'u1', 'x', 'y' FROM generate_series(1, 20000) n; COMMIT";
    setup.postgres.execute(insert).await?;
    connection
        .completed_with(|done| {
            assert!([0, 20_000].contains(&done.rows.len()), "{} rows", done.rows.len());
            done.rows.len() == 20_000
        })
        .await?;
    Ok(())
}

/// Fault F17.
#[tokio::test]
async fn truncate_removes_all_rows_in_one_checkpoint_also_during_a_download() -> Result<()> {
    let rows = "INSERT INTO todos SELECT n::text, 'u1', 'x', repeat('y', 500)
                FROM generate_series(1, 20000) n";
    let setup = Setup::new(GLOBAL, rows).await?;
    let mut idle = SyncReader::new();
    let mut connection = setup.tidewater.connect(&mut idle, "u1").await?;
    assert_eq!(connection.completed().await?.rows.len(), 20_000);

    let mut busy = SyncReader::new();
    let mut downloading = setup.tidewater.connect(&mut busy, "u1").await?;
    while !matches!(downloading.next().await?, Some(LineEffect::Stored { .. })) {}
    setup.postgres.execute("TRUNCATE todos; INSERT INTO todos VALUES ('new', 'u1', 'row')").await?;

    // All rows, none, or the new one are visible, and never a part of them.
    let done = connection
        .completed_with(|done| {
            assert!([20_000, 0, 1].contains(&done.rows.len()), "{} rows", done.rows.len());
            done.rows.len() == 1
        })
        .await?;
    assert_eq!(titles(&done), ["new row"]);
    downloading.completed_with(|done| titles(done) == ["new row"]).await?;

    drop(connection);
    let mut third = SyncReader::new();
    setup.read_until(&mut third, "u1", &["new row"]).await
}

/// Fault F17.
#[tokio::test]
async fn truncate_cascade_empties_all_tables_in_one_checkpoint() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres
        .execute(
            "CREATE TABLE lists (id text PRIMARY KEY);
             CREATE TABLE items (id text PRIMARY KEY, list_id text REFERENCES lists);
             CREATE PUBLICATION powersync FOR TABLE lists, items;
             INSERT INTO lists VALUES ('l'); INSERT INTO items VALUES ('i', 'l'), ('j', 'l')",
        )
        .await?;
    let config = "
config: { edition: 3 }
streams:
  all: { auto_subscribe: true, queries: [SELECT * FROM lists, SELECT * FROM items] }
";
    let options = DevOptions::new(&postgres.url("postgres"), config);
    let tidewater = Tidewater::dev_ready(options).await?;
    let mut reader = SyncReader::new();
    let mut connection = tidewater.connect(&mut reader, "u1").await?;
    assert_eq!(connection.completed().await?.rows.len(), 3);

    postgres.execute("TRUNCATE lists CASCADE").await?;
    let done = connection.completed_with(|done| done.rows.len() != 3).await?;
    assert!(done.rows.is_empty());
    Ok(())
}

/// Fault F33, and promise 3.
#[tokio::test]
async fn a_write_checkpoint_arrives_within_two_seconds_on_an_idle_database() -> Result<()> {
    let setup = Setup::new(GLOBAL, "").await?;
    let url = setup.tidewater.url().to_owned();
    let token = setup.tidewater.token("u1")?;
    let mut reader = SyncReader::new();
    reader.sync_once(&url, &token).await?;

    for _ in 0..3 {
        let number = reader.write_checkpoint(&url, &token).await?;
        let acknowledged = async {
            let mut connection = reader.connect(&url, &token).await?;
            connection.completed_with(|done| done.acknowledges(number)).await
        };
        tokio::time::timeout(Duration::from_secs(2), acknowledged)
            .await
            .context("no write checkpoint after 2 seconds")??;
    }
    Ok(())
}

#[tokio::test]
async fn a_checkpoint_that_acknowledges_a_write_contains_it() -> Result<()> {
    let setup = Setup::new(GLOBAL, "").await?;
    let url = setup.tidewater.url().to_owned();
    let token = setup.tidewater.token("u1")?;
    let mut reader = SyncReader::new();
    for n in 1..=20 {
        setup.postgres.execute(&format!("INSERT INTO todos VALUES ('{n:02}', 'u1', 'x')")).await?;
        let number = reader.write_checkpoint(&url, &token).await?;

        let mut connection = reader.connect(&url, &token).await?;
        let done = connection.completed_with(|done| done.acknowledges(number)).await?;
        assert_eq!(done.rows.len(), n);
    }
    Ok(())
}

/// Fault F5.
#[tokio::test]
async fn commits_that_postgresql_sends_again_after_a_crash_are_applied_once() -> Result<()> {
    let mut setup = Setup::new(GLOBAL, "").await?;
    let mut reader = SyncReader::new();
    let mut expected = Vec::new();
    for n in 0..3 {
        for m in 0..10 {
            let id = format!("{n}{m}");
            let insert = format!("INSERT INTO todos VALUES ('{id}', 'u1', 'x')");
            setup.postgres.execute(&insert).await?;
            expected.push(format!("{id} x"));
        }

        let titles: Vec<&str> = expected.iter().map(String::as_str).collect();
        setup.read_until(&mut reader, "u1", &titles).await?;
        setup.postgres.crash_and_restart().await?;
    }
    setup.postgres.execute("UPDATE todos SET title = 'y' WHERE id = '00'").await?;
    expected[0] = "00 y".to_owned();
    let titles: Vec<&str> = expected.iter().map(String::as_str).collect();
    setup.read_until(&mut reader, "u1", &titles).await?;
    setup.tidewater.must_run()?;

    // A new client verifies the checksum of the whole history, in which nothing may be twice.
    setup.read_until(&mut SyncReader::new(), "u1", &titles).await
}

#[tokio::test]
async fn a_restart_after_sigterm_or_ctrl_c_resumes_without_a_new_copy() -> Result<()> {
    let rows = "INSERT INTO todos SELECT n::text, 'u1', 'x' FROM generate_series(1, 1000) n";
    let mut setup = Setup::new(GLOBAL, rows).await?;
    let token = setup.tidewater.token("u1")?;
    let mut reader = SyncReader::new();
    let before = reader.sync_once(setup.tidewater.url(), &token).await?;

    for signal in [Signal::Term, Signal::Int] {
        setup.tidewater.signal(signal)?;
        setup.tidewater.wait(SOON).await?.assert_code(0);
        setup.postgres.execute("UPDATE todos SET title = title || 'x' WHERE id = '7'").await?;
        setup.tidewater.start().await?;

        // The process is ready at once: the former checkpoint is still visible.
        let ready = reqwest::get(format!("{}/probes/readiness", setup.tidewater.url())).await?;
        assert_eq!(ready.status(), 200);
    }

    let mut connection = setup.tidewater.connect(&mut reader, "u1").await?;
    let mut operations = 0;
    loop {
        let effect = connection.next().await?.context("the stream ended")?;
        if let LineEffect::Stored { operations: stored } = &effect {
            operations += stored;
        }
        if let LineEffect::Complete(done) = effect
            && done.row("todos", "7").context("no row")?["title"] == "xxx"
        {
            assert_eq!(done.rows.len(), before.rows.len());
            assert!(operations <= 2, "{operations} operations for two changes");
            return Ok(());
        }
    }
}

#[tokio::test]
async fn an_open_stream_ends_after_a_whole_line_when_the_server_shuts_down() -> Result<()> {
    let mut setup = Setup::new(GLOBAL, "").await?;
    let mut reader = SyncReader::new();
    let mut connection = setup.tidewater.connect(&mut reader, "u1").await?;
    connection.completed().await?;

    setup.tidewater.terminate().await?.assert_code(0);
    while connection.next().await?.is_some() {}
    Ok(())
}

/// The replication slot is the lease: only one worker can use it at a time.
#[tokio::test]
async fn a_second_worker_waits_for_the_slot_and_takes_over() -> Result<()> {
    let mut setup = Setup::new(GLOBAL, "INSERT INTO todos VALUES ('a', 'u1', 'one')").await?;
    let slots = "SELECT string_agg(slot_name, ',') FROM pg_replication_slots";
    let slot = setup.postgres.value(slots).await?;
    let options = DevOptions::new(&setup.postgres.url("postgres"), GLOBAL);

    // The second worker uses the slot of the first one, and its own data directory, as on another
    // machine.
    let mut second = Tidewater::dev(options.with(&["--slot", &slot])).await?;
    setup.postgres.execute("INSERT INTO todos VALUES ('b', 'u1', 'two')").await?;
    setup.read_until(&mut SyncReader::new(), "u1", &["a one", "b two"]).await?;
    eventually("a log line that the second worker waits for the slot", SOON, async || {
        Ok(second.log()?.contains("another session holds the slot").then_some(()))
    })
    .await?;
    let ready = reqwest::get(format!("{}/probes/readiness", second.url())).await?;
    assert_eq!(ready.status(), 503, "a worker without data must not be ready");
    setup.tidewater.must_run()?;

    // PostgreSQL releases the slot when the connection of a killed worker ends.
    setup.tidewater.kill_9()?;
    second.ready().await?;
    let done = SyncReader::new().sync_once(second.url(), &second.token("u1")?).await?;
    assert_eq!(titles(&done), ["a one", "b two"]);
    Ok(())
}

/// Two source rows have the same id in one bucket. The second one stays visible when the first is
/// deleted.
#[tokio::test]
async fn equal_rows_of_a_keyless_table_are_deleted_one_by_one() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres
        .execute(
            "CREATE TABLE events (code text, level int);
             ALTER TABLE events REPLICA IDENTITY FULL;
             CREATE PUBLICATION powersync FOR TABLE events;
             INSERT INTO events VALUES ('a', 1), ('a', 1), ('b', 2)",
        )
        .await?;
    let config = "
config: { edition: 3 }
streams:
  events: { auto_subscribe: true, query: 'SELECT code AS id, level FROM events' }
";
    let options = DevOptions::new(&postgres.url("postgres"), config);
    let tidewater = Tidewater::dev_ready(options).await?;
    let mut reader = SyncReader::new();
    let mut connection = tidewater.connect(&mut reader, "u1").await?;
    assert_eq!(connection.completed().await?.rows.len(), 2);

    let delete = "DELETE FROM events WHERE ctid = (SELECT min(ctid) FROM events WHERE code = 'a')";
    postgres.execute(&format!("{delete}; INSERT INTO events VALUES ('c', 3)")).await?;
    let done = connection.completed_with(|done| ids(done).contains(&"c")).await?;
    assert_eq!(ids(&done), ["a", "b", "c"]);

    postgres.execute(&format!("{delete}; INSERT INTO events VALUES ('d', 3)")).await?;
    let done = connection.completed_with(|done| ids(done).contains(&"d")).await?;
    assert_eq!(ids(&done), ["b", "c", "d"]);
    Ok(())
}

fn ids(completed: &Completed) -> Vec<&str> {
    completed.rows.keys().map(|(_, id)| id.as_str()).collect()
}

#[tokio::test]
async fn values_of_common_types_arrive_as_documented() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres
        .execute(
            "CREATE TYPE mood AS ENUM ('fine');
             CREATE TABLE kinds (
                 id bigint PRIMARY KEY, small int2, truth bool, ratio float4, price numeric(8,2),
                 day date, clock time, at timestamp, zoned timestamptz, code uuid, doc jsonb,
                 feeling mood, tags text[], bytes bytea, span interval, fixed char(4));
             CREATE PUBLICATION powersync FOR TABLE kinds;
             INSERT INTO kinds VALUES (
                 9007199254740993, -3, true, 0.5, 12.5, '2024-02-29', '17:42:01.12',
                 '2023-03-06 15:47:12.4', '2023-03-06 15:47:00+02',
                 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{\"b\": 1, \"a\": null}', 'fine',
                 '{x,NULL}', '\\x00ff', '1 day', 'ab')",
        )
        .await?;
    let config = "
config: { edition: 3 }
streams:
  kinds: { auto_subscribe: true, query: SELECT * FROM kinds }
";
    let options = DevOptions::new(&postgres.url("postgres"), config);
    let tidewater = Tidewater::dev_ready(options).await?;

    let done = SyncReader::new().sync_once(tidewater.url(), &tidewater.token("u1")?).await?;
    let row = done.row("kinds", "9007199254740993").context("no row")?;
    let expected = json!({
        "id": 9_007_199_254_740_993_i64, "small": -3, "truth": 1, "ratio": 0.5, "price": "12.50",
        "day": "2024-02-29", "clock": "17:42:01.120000", "at": "2023-03-06T15:47:12.400000",
        "zoned": "2023-03-06T13:47:00.000000Z", "code": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "doc": "{\"a\": null, \"b\": 1}", "feeling": "fine", "tags": "[\"x\",null]",
        "span": "1 day", "fixed": "ab  "
    });
    assert_eq!(Value::Object(row.clone()), expected);
    Ok(())
}
