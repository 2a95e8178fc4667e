//! One promise or one fault at a time.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use tidewater_tests::{
    Completed, DevOptions, LineEffect, Postgres, Rows, Signal, SyncReader, Tidewater, eventually,
};

/// For whatever is said to be immediate: long, since other tests run beside this one.
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

    /// Reads until the to-dos are these: `id title` each, in order.
    async fn titles(&self, reader: &mut SyncReader, user: &str, expected: &[&str]) -> Result<()> {
        let token = self.tidewater.token(user)?;
        let mut last = Vec::new();
        let read = async {
            let mut connection = reader.connect(self.tidewater.url(), &token).await?;
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

fn titles(completed: &Completed) -> Vec<String> {
    let title = |row: &Map<String, Value>| {
        let text = |name: &str| row[name].as_str().unwrap_or("null").to_owned();
        format!("{} {}", text("id"), text("title"))
    };
    completed.rows.values().map(title).collect()
}

fn row<'a>(rows: &'a Rows, id: &str) -> &'a Map<String, Value> {
    &rows[&("todos".to_owned(), id.to_owned())]
}

#[tokio::test]
async fn what_is_there_is_copied_and_what_changes_follows() -> Result<()> {
    let setup = Setup::new(GLOBAL, "INSERT INTO todos VALUES ('a', 'u1', 'one')").await?;
    let mut reader = SyncReader::new();
    setup.titles(&mut reader, "u1", &["a one"]).await?;
    setup
        .postgres
        .execute(
            "BEGIN; INSERT INTO todos VALUES ('b', 'u1', 'two');
             UPDATE todos SET title = 'first' WHERE id = 'a'; COMMIT",
        )
        .await?;
    setup.titles(&mut reader, "u1", &["a first", "b two"]).await?;
    setup.postgres.execute("DELETE FROM todos WHERE id = 'a'").await?;
    setup.titles(&mut reader, "u1", &["b two"]).await
}

#[tokio::test]
async fn users_see_their_own_rows_only() -> Result<()> {
    let rows = "INSERT INTO todos VALUES ('a', 'u1', 'one'), ('b', 'u2', 'two'), ('c', NULL, '3')";
    let setup = Setup::new(BY_OWNER, rows).await?;
    setup.titles(&mut SyncReader::new(), "u1", &["a one"]).await?;
    setup.titles(&mut SyncReader::new(), "u2", &["b two"]).await?;
    setup.titles(&mut SyncReader::new(), "u3", &[]).await
}

/// Fault F16.
#[tokio::test]
async fn a_row_moves_between_buckets_and_a_key_changes_in_one_checkpoint() -> Result<()> {
    let rows = "INSERT INTO todos VALUES ('a', 'u1', 'one'), ('b', 'u1', 'two')";
    let setup = Setup::new(BY_OWNER, rows).await?;
    let (mut first, mut second) = (SyncReader::new(), SyncReader::new());
    setup.titles(&mut first, "u1", &["a one", "b two"]).await?;
    setup.titles(&mut second, "u2", &[]).await?;
    setup
        .postgres
        .execute(
            "BEGIN; UPDATE todos SET owner_id = 'u2' WHERE id = 'a';
             UPDATE todos SET id = 'z' WHERE id = 'b'; COMMIT",
        )
        .await?;
    setup.titles(&mut first, "u1", &["z two"]).await?;
    setup.titles(&mut second, "u2", &["a one"]).await?;
    setup.postgres.execute("UPDATE todos SET owner_id = NULL").await?;
    setup.titles(&mut first, "u1", &[]).await?;
    setup.titles(&mut second, "u2", &[]).await
}

/// Fault F14.
#[tokio::test]
async fn what_was_rolled_back_is_never_seen() -> Result<()> {
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
    let token = setup.tidewater.token("u1")?;
    let mut reader = SyncReader::new();
    let mut connection = reader.connect(setup.tidewater.url(), &token).await?;
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
async fn a_large_value_that_an_update_leaves_alone_is_kept() -> Result<()> {
    let identities = ["DEFAULT", "FULL", "USING INDEX todos_pkey"];
    for identity in identities {
        let sql = format!(
            "ALTER TABLE todos REPLICA IDENTITY {identity};
             INSERT INTO todos VALUES ('a', 'u1', 'one', repeat('large', 20000))"
        );
        let setup = Setup::new(BY_OWNER, &sql).await?;
        let token = setup.tidewater.token("u1")?;
        let mut reader = SyncReader::new();
        let mut connection = reader.connect(setup.tidewater.url(), &token).await?;
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
            let key = ("todos".to_owned(), id.to_owned());
            let changed =
                |done: &Completed| done.rows.get(&key).is_some_and(|row| row["title"] == title);
            let done = connection.completed_with(changed).await?;
            assert_eq!(done.rows.len(), 1);
            let body = row(&done.rows, id)["body"].as_str().context("a body")?;
            assert_eq!(body, "large".repeat(20_000), "{identity}: {sql}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_large_transaction_is_seen_whole_behind_one_that_concerns_nobody() -> Result<()> {
    let unsynced = "CREATE TABLE audit (id int PRIMARY KEY);
                    ALTER PUBLICATION powersync ADD TABLE audit";
    let setup = Setup::new(GLOBAL, unsynced).await?;
    let token = setup.tidewater.token("u1")?;
    let mut reader = SyncReader::new();
    let mut connection = reader.connect(setup.tidewater.url(), &token).await?;
    assert!(connection.completed().await?.rows.is_empty());
    // The position of the first waits for a commit that has something to store; the second is
    // written in parts.
    let insert = "BEGIN; INSERT INTO audit VALUES (1); COMMIT;
                  BEGIN; INSERT INTO todos
                  SELECT n::text, 'u1', 'x', 'y' FROM generate_series(1, 20000) n; COMMIT";
    setup.postgres.execute(insert).await?;
    let whole = |done: &Completed| {
        assert!([0, 20_000].contains(&done.rows.len()), "{} rows", done.rows.len());
        done.rows.len() == 20_000
    };
    connection.completed_with(whole).await?;
    Ok(())
}

/// Fault F17.
#[tokio::test]
async fn a_truncated_table_is_empty_at_once_also_for_who_is_downloading() -> Result<()> {
    let rows = "INSERT INTO todos SELECT n::text, 'u1', 'x', repeat('y', 500)
                FROM generate_series(1, 20000) n";
    let setup = Setup::new(GLOBAL, rows).await?;
    let token = setup.tidewater.token("u1")?;
    let mut idle = SyncReader::new();
    let mut connection = idle.connect(setup.tidewater.url(), &token).await?;
    assert_eq!(connection.completed().await?.rows.len(), 20_000);

    let mut cut = SyncReader::new();
    let mut downloading = cut.connect(setup.tidewater.url(), &token).await?;
    while !matches!(downloading.next().await?, Some(LineEffect::Stored { .. })) {}
    setup.postgres.execute("TRUNCATE todos; INSERT INTO todos VALUES ('new', 'u1', 'row')").await?;
    // Atomic: all rows, or none of them, or the new one; never some.
    let done = connection
        .completed_with(|done| {
            assert!([20_000, 0, 1].contains(&done.rows.len()), "{} rows", done.rows.len());
            done.rows.len() == 1
        })
        .await?;
    assert_eq!(titles(&done), ["new row"]);
    downloading.completed_with(|done| titles(done) == ["new row"]).await?;

    // One that was cut in the middle goes on from there.
    let mut third = SyncReader::new();
    drop(connection);
    setup.titles(&mut third, "u1", &["new row"]).await
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
    let token = tidewater.token("u1")?;
    let mut reader = SyncReader::new();
    let mut connection = reader.connect(tidewater.url(), &token).await?;
    assert_eq!(connection.completed().await?.rows.len(), 3);
    postgres.execute("TRUNCATE lists CASCADE").await?;
    let done = connection.completed_with(|done| done.rows.len() != 3).await?;
    assert!(done.rows.is_empty());
    Ok(())
}

/// Fault F33, and promise 3.
#[tokio::test]
async fn a_write_checkpoint_comes_soon_on_an_idle_database() -> Result<()> {
    let setup = Setup::new(GLOBAL, "").await?;
    let (url, token) = (setup.tidewater.url().to_owned(), setup.tidewater.token("u1")?);
    let mut reader = SyncReader::new();
    reader.sync_once(&url, &token).await?;
    for _ in 0..3 {
        let number = reader.write_checkpoint(&url, &token).await?;
        let covered = async {
            let mut connection = reader.connect(&url, &token).await?;
            let reached = |done: &Completed| {
                done.write_checkpoint.is_some_and(|reached| reached.get() >= number)
            };
            connection.completed_with(reached).await
        };
        tokio::time::timeout(Duration::from_secs(2), covered)
            .await
            .context("no write checkpoint after 2 seconds")??;
    }
    Ok(())
}

#[tokio::test]
async fn a_write_checkpoint_is_never_shown_without_the_write() -> Result<()> {
    let setup = Setup::new(GLOBAL, "").await?;
    let (url, token) = (setup.tidewater.url().to_owned(), setup.tidewater.token("u1")?);
    let mut reader = SyncReader::new();
    for n in 1..=20 {
        setup.postgres.execute(&format!("INSERT INTO todos VALUES ('{n:02}', 'u1', 'x')")).await?;
        let number = reader.write_checkpoint(&url, &token).await?;
        let mut connection = reader.connect(&url, &token).await?;
        let reached = |done: &Completed| done.write_checkpoint.is_some_and(|at| at.get() >= number);
        let done = connection.completed_with(reached).await?;
        assert_eq!(done.rows.len(), n);
    }
    Ok(())
}

/// Fault F5.
#[tokio::test]
async fn commits_that_postgresql_sends_again_after_a_crash_are_taken_once() -> Result<()> {
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
        setup.titles(&mut reader, "u1", &titles).await?;
        setup.postgres.crash_and_restart().await?;
        revive(&mut setup.tidewater).await?;
    }
    setup.postgres.execute("UPDATE todos SET title = 'y' WHERE id = '00'").await?;
    expected[0] = "00 y".to_owned();
    let titles: Vec<&str> = expected.iter().map(String::as_str).collect();
    setup.titles(&mut reader, "u1", &titles).await?;
    // Nothing twice: a client that starts again gets the history once.
    setup.titles(&mut SyncReader::new(), "u1", &titles).await
}

/// A lost database connection may end the process, as a service manager would expect, or be
/// waited out by it. Either is fine; what counts is what is served afterwards.
async fn revive(tidewater: &mut Tidewater) -> Result<()> {
    let ended = tidewater.wait(Duration::from_secs(2)).await;
    match ended {
        Ok(output) => {
            assert_eq!(output.code, Some(1), "{}", output.stderr);
            tidewater.start().await
        }
        Err(_) => tidewater.must_run(),
    }
}

#[tokio::test]
async fn sigterm_and_ctrl_c_drain_and_a_restart_goes_on_without_copying_again() -> Result<()> {
    let rows = "INSERT INTO todos SELECT n::text, 'u1', 'x' FROM generate_series(1, 1000) n";
    let mut setup = Setup::new(GLOBAL, rows).await?;
    let token = setup.tidewater.token("u1")?;
    let mut reader = SyncReader::new();
    let before = reader.sync_once(setup.tidewater.url(), &token).await?;
    for signal in [Signal::Term, Signal::Int] {
        setup.tidewater.signal(signal)?;
        let output = setup.tidewater.wait(SOON).await?;
        assert_eq!(output.code, Some(0), "{signal:?}: {}", output.stderr);
        setup.postgres.execute("UPDATE todos SET title = title || 'x' WHERE id = '7'").await?;
        setup.tidewater.start().await?;
        // Ready at once: what was visible still is.
        let ready = reqwest::get(format!("{}/probes/readiness", setup.tidewater.url())).await?;
        assert_eq!(ready.status(), 200);
    }
    let mut connection = reader.connect(setup.tidewater.url(), &token).await?;
    let mut operations = 0;
    loop {
        let effect = connection.next().await?.context("the stream ended")?;
        if let LineEffect::Stored { operations: more } = &effect {
            operations += more;
        }
        if let LineEffect::Complete(done) = effect
            && row(&done.rows, "7")["title"] == "xxx"
        {
            assert_eq!(done.rows.len(), before.rows.len());
            assert!(operations <= 2, "{operations} operations for two changes");
            return Ok(());
        }
    }
}

#[tokio::test]
async fn a_held_connection_ends_in_order_when_the_server_drains() -> Result<()> {
    let mut setup = Setup::new(GLOBAL, "").await?;
    let token = setup.tidewater.token("u1")?;
    let mut reader = SyncReader::new();
    let mut connection = reader.connect(setup.tidewater.url(), &token).await?;
    connection.completed().await?;
    let output = setup.tidewater.terminate().await?;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    while connection.next().await?.is_some() {}
    Ok(())
}

/// Two workers on one slot: the slot is the lease.
#[tokio::test]
async fn a_second_worker_waits_for_the_slot_and_takes_over() -> Result<()> {
    let mut setup = Setup::new(GLOBAL, "INSERT INTO todos VALUES ('a', 'u1', 'one')").await?;
    let slots = "SELECT string_agg(slot_name, ',') FROM pg_replication_slots";
    let slot = setup.postgres.value(slots).await?;
    let options = DevOptions::new(&setup.postgres.url("postgres"), GLOBAL);
    // A data directory of its own, as on another machine, on the slot of the first.
    let mut second = Tidewater::dev(options.with(&["--slot", &slot])).await?;
    setup.postgres.execute("INSERT INTO todos VALUES ('b', 'u1', 'two')").await?;
    setup.titles(&mut SyncReader::new(), "u1", &["a one", "b two"]).await?;
    eventually("a log line that it waits", SOON, async || {
        Ok(second.log()?.contains("another session holds the slot").then_some(()))
    })
    .await?;
    let ready = reqwest::get(format!("{}/probes/readiness", second.url())).await?;
    assert_eq!(ready.status(), 400, "it must not serve what it cannot know");
    setup.tidewater.must_run()?;
    // The lease ends with its holder, however that ends.
    setup.tidewater.kill_9()?;
    second.ready().await?;
    let done = SyncReader::new().sync_once(second.url(), &second.token("u1")?).await?;
    assert_eq!(titles(&done), ["a one", "b two"]);
    Ok(())
}

/// Rows of different source rows with one id, in one bucket: the later one shows, and the other
/// comes back when that goes.
#[tokio::test]
async fn equal_rows_of_a_keyless_table_go_one_by_one() -> Result<()> {
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
    let token = tidewater.token("u1")?;
    let mut reader = SyncReader::new();
    let mut connection = reader.connect(tidewater.url(), &token).await?;
    assert_eq!(connection.completed().await?.rows.len(), 2);
    let one = "DELETE FROM events WHERE ctid = (SELECT min(ctid) FROM events WHERE code = 'a')";
    postgres.execute(&format!("{one}; INSERT INTO events VALUES ('c', 3)")).await?;
    let ids = |done: &Completed| done.rows.keys().map(|(_, id)| id.clone()).collect::<Vec<_>>();
    let done = connection.completed_with(|done| ids(done).contains(&"c".to_owned())).await?;
    assert_eq!(ids(&done), ["a", "b", "c"]);
    postgres.execute(&format!("{one}; INSERT INTO events VALUES ('d', 3)")).await?;
    let done = connection.completed_with(|done| ids(done).contains(&"d".to_owned())).await?;
    assert_eq!(ids(&done), ["b", "c", "d"]);
    Ok(())
}

#[tokio::test]
async fn values_of_all_usual_types_arrive_as_documented() -> Result<()> {
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
    let key = ("kinds".to_owned(), "9007199254740993".to_owned());
    let row = Value::Object(done.rows.get(&key).context("the row")?.clone());
    let expected = json!({
        "id": 9_007_199_254_740_993_i64, "small": -3, "truth": 1, "ratio": 0.5, "price": "12.50",
        "day": "2024-02-29", "clock": "17:42:01.120000", "at": "2023-03-06T15:47:12.400000",
        "zoned": "2023-03-06T13:47:00.000000Z", "code": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "doc": "{\"a\": null, \"b\": 1}", "feeling": "fine", "tags": "[\"x\",null]",
        "span": "1 day", "fixed": "ab  "
    });
    assert_eq!(row, expected);
    Ok(())
}
