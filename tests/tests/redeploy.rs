//! Changes of the sync config: what is as before is not copied, and devices do not receive it again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidewater_tests::{
    Completed, DevOptions, LineEffect, Postgres, Rows, SyncReader, Tidewater, eventually,
};

const SOON: Duration = Duration::from_secs(60);

/// Rows of each table.
const ROWS: usize = 40;

const LISTS: &str = "  lists: { auto_subscribe: true, query: SELECT * FROM lists }\n";
const TODOS: &str = "  todos: { auto_subscribe: true, query: SELECT * FROM todos }\n";

/// A source with two tables, a worker, and a reader.
struct Deployment {
    postgres: Postgres,
    tidewater: Tidewater,
    reader: SyncReader,
}

/// The operations that the reader has received until it had the rows that were waited for.
struct Received {
    operations: usize,
    /// The names of the buckets.
    buckets: Vec<String>,
}

impl Deployment {
    async fn start(streams: &str) -> Result<Self> {
        Self::start_with(streams, ROWS).await
    }

    /// Starts with so many todos.
    async fn start_with(streams: &str, todos: usize) -> Result<Self> {
        let postgres = Postgres::start().await?;
        postgres
            .execute(&format!(
                "CREATE TABLE lists (id int PRIMARY KEY, name text);
                 CREATE TABLE todos (id int PRIMARY KEY, list_id int, body text);
                 INSERT INTO lists SELECT i, 'list ' || i FROM generate_series(1, {ROWS}) AS i;
                 INSERT INTO todos SELECT i, i % 4, 'todo ' || i FROM generate_series(1, {todos}) AS i;
                 CREATE PUBLICATION powersync FOR ALL TABLES"
            ))
            .await?;
        let options = DevOptions::new(&postgres.url("postgres"), &config(streams));
        let tidewater = Tidewater::dev_ready(options).await?;
        Ok(Self { postgres, tidewater, reader: SyncReader::new() })
    }

    /// Stops the worker, changes the config, and starts it again.
    async fn deploy(&mut self, streams: &str) -> Result<()> {
        self.tidewater.terminate().await?;
        self.write(&config(streams))?;
        self.tidewater.start().await
    }

    /// Replaces the file of the config.
    fn write(&self, text: &str) -> Result<()> {
        Ok(std::fs::write(self.tidewater.folder().join("sync-config.yaml"), text)?)
    }

    /// Waits until the log has a text so many times.
    async fn logged(&mut self, text: &str, times: usize) -> Result<()> {
        let tidewater = &mut self.tidewater;
        eventually("a log line", SOON, async || {
            tidewater.must_run()?;
            let log = tidewater.log()?;
            ensure!(log.matches(text).count() >= times, "{log}");
            Ok(Some(()))
        })
        .await
    }

    /// Syncs until a condition holds for the reader's rows.
    async fn until(&mut self, holds: impl Fn(&Rows) -> bool) -> Result<Received> {
        let Self { tidewater, reader, .. } = self;
        let mut operations = 0;
        eventually("the rows of the new config", SOON, async || {
            tidewater.must_run()?;
            let token = tidewater.token("u1")?;
            let mut connection = reader.connect(tidewater.url(), &token).await?;
            loop {
                match connection.next().await?.context("the stream ended too early")? {
                    LineEffect::Stored { operations: stored } => operations += stored,
                    LineEffect::Complete(completed) => {
                        ensure!(holds(&completed.rows), "{} rows", completed.rows.len());
                        return Ok(Some(()));
                    }
                    LineEffect::Announced
                    | LineEffect::Partial(_)
                    | LineEffect::TokenExpiresIn(_)
                    | LineEffect::Ignored => {}
                }
            }
        })
        .await?;

        let token = tidewater.token("u1")?;
        let connection = reader.connect(tidewater.url(), &token).await?;
        let buckets = connection.positions.iter().map(|bucket| bucket.name.clone()).collect();
        Ok(Received { operations, buckets })
    }
}

fn config(streams: &str) -> String {
    format!("config: {{ edition: 3 }}\nstreams:\n{streams}")
}

/// Returns how many rows of a type the reader has.
fn count(rows: &Rows, object_type: &str) -> usize {
    rows.keys().filter(|(found, _)| found == object_type).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_text_of_the_same_config_copies_nothing() -> Result<()> {
    let mut deployment = Deployment::start(&format!("{LISTS}{TODOS}")).await?;
    let first = deployment.until(|rows| rows.len() == 2 * ROWS).await?;
    ensure!(first.operations == 2 * ROWS && first.buckets.len() == 2);

    // The order, a comment and a priority are others, and one stream is not subscribed by itself.
    let todos =
        "  # by me\n  todos: { priority: 1, auto_subscribe: true, query: SELECT * FROM todos }\n";
    let lists = "  lists: { query: SELECT * FROM lists }\n";
    deployment.deploy(&format!("{todos}{lists}")).await?;
    let switched = deployment.until(|rows| count(rows, "lists") == 0).await?;
    ensure!(switched.operations == 0, "{} operations", switched.operations);
    ensure!(first.buckets.contains(&switched.buckets[0]), "{:?}", switched.buckets);
    let log = deployment.tidewater.log()?;
    ensure!(!log.contains("\"copied\""), "{log}");

    // What the config does not give to the reader now is kept up to date.
    deployment.postgres.execute("UPDATE lists SET name = 'new' WHERE id = 7").await?;
    deployment.deploy(&format!("{LISTS}{TODOS}")).await?;
    let back = deployment
        .until(|rows| rows.values().any(|row| row.get("name").is_some_and(|name| name == "new")))
        .await?;
    ensure!(back.buckets == first.buckets, "{:?}", back.buckets);
    // The reader has dropped the bucket, and gets it again with its history.
    ensure!(back.operations == ROWS + 1, "{} operations", back.operations);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_stream_costs_readers_its_own_rows() -> Result<()> {
    let mut deployment = Deployment::start(&format!("{LISTS}{TODOS}")).await?;
    let first = deployment.until(|rows| rows.len() == 2 * ROWS).await?;

    let more = "  short:\n    auto_subscribe: true\n    query: SELECT id FROM todos AS short WHERE list_id = 1\n";
    deployment.deploy(&format!("{more}{LISTS}{TODOS}")).await?;
    let added = deployment.until(|rows| count(rows, "short") == ROWS / 4).await?;
    ensure!(added.operations == ROWS / 4, "{} operations", added.operations);
    ensure!(first.buckets.iter().all(|bucket| added.buckets.contains(bucket)));
    let log = deployment.tidewater.log()?;
    ensure!(log.contains("copying table public.todos for the new sync config"), "{log}");
    ensure!(!log.contains("public.lists"), "the other table is not copied: {log}");

    // All of them follow the source.
    let moved = "UPDATE todos SET list_id = 1 WHERE list_id = 2; DELETE FROM lists WHERE id = 1";
    deployment.postgres.execute(moved).await?;
    let followed = deployment
        .until(|rows| count(rows, "short") == ROWS / 2 && count(rows, "lists") == ROWS - 1)
        .await?;
    ensure!(followed.operations == ROWS / 4 + ROWS / 4 + 1, "{} operations", followed.operations);

    // A stream that is gone leaves the others as they are, and is kept up to date for a while.
    deployment.deploy(&format!("{LISTS}{TODOS}")).await?;
    let removed = deployment.until(|rows| count(rows, "short") == 0).await?;
    ensure!(removed.operations == 0 && removed.buckets == first.buckets);
    deployment.postgres.execute("DELETE FROM todos WHERE list_id = 1 AND id < 20").await?;
    let left = deployment.until(|rows| count(rows, "todos") < ROWS).await?;
    deployment.deploy(&format!("{LISTS}{TODOS}{more}")).await?;
    let again = deployment.until(|rows| count(rows, "short") > 0).await?;
    ensure!(again.buckets.len() == 3 && again.buckets.iter().all(|b| added.buckets.contains(b)));
    // The reader has dropped the bucket, and gets it again with its history.
    ensure!(again.operations == ROWS / 2 + left.operations, "{} operations", again.operations);
    let log = deployment.tidewater.log()?;
    ensure!(!log.contains("copying table"), "{log}");
    Ok(())
}

/// A stream of few of the todos, and another one that needs all of them read.
const FEW: &str = "  few:
    auto_subscribe: true
    query: SELECT id, body FROM todos AS few WHERE id <= 40
";
const OTHERS: &str = "  others: { auto_subscribe: true, query: SELECT id FROM todos AS others WHERE id % 1000 = 7 }\n";
/// Todos whose copy takes several chunks, between which the stream has its turn.
const MANY: usize = 300_000;

/// Changes a list and a todo, and waits until a client that is connected has both, with the promise that
/// its own writes are in.
async fn follow_live(deployment: &mut Deployment, text: &str) -> Result<Completed> {
    let Deployment { postgres, tidewater, reader } = deployment;
    let token = tidewater.token("u1")?;
    postgres
        .execute(&format!(
            "UPDATE lists SET name = '{text}' WHERE id = 1; UPDATE todos SET body = '{text}' WHERE id = 7"
        ))
        .await?;
    let written = reader.write_checkpoint(tidewater.url(), &token).await?;
    let mut connection = reader.connect(tidewater.url(), &token).await?;
    let has = |rows: &Rows, key: (&str, &str), column: &str| {
        let row = rows.get(&(key.0.to_owned(), key.1.to_owned()));
        row.and_then(|row| row.get(column)).is_some_and(|value| value == text)
    };
    connection
        .completed_with(|completed| {
            has(&completed.rows, ("lists", "1"), "name")
                && has(&completed.rows, ("few", "7"), "body")
                && completed.write_checkpoint.is_some_and(|number| number.get() >= written)
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_follow_the_former_config_while_the_next_one_is_copied() -> Result<()> {
    const COPYING: &str = "copying table public.todos for the new sync config";
    let mut deployment = Deployment::start_with(&format!("{LISTS}{FEW}"), MANY).await?;
    let first = deployment.until(|rows| rows.len() == 2 * ROWS).await?;

    deployment.write(&config(&format!("{LISTS}{FEW}{OTHERS}")))?;
    deployment.logged(COPYING, 1).await?;
    let live = follow_live(&mut deployment, "during the copy").await?;
    ensure!(count(&live.rows, "others") == 0, "the copy has ended too early for this test");

    // A deployment that is given up leaves everything as it is.
    deployment.write(&config(&format!("{LISTS}{FEW}")))?;
    deployment.logged("the sync config has changed", 2).await?;
    let live = follow_live(&mut deployment, "given up").await?;
    ensure!(count(&live.rows, "others") == 0);

    // A worker that is killed during the copy goes on.
    deployment.write(&config(&format!("{LISTS}{FEW}{OTHERS}")))?;
    deployment.logged(COPYING, 2).await?;
    let live = follow_live(&mut deployment, "before the kill").await?;
    ensure!(count(&live.rows, "others") == 0, "the copy has ended too early for this test");
    deployment.tidewater.kill_9()?;
    deployment.tidewater.start().await?;
    let switched = deployment.until(|rows| count(rows, "others") > 0).await?;
    ensure!(switched.operations == MANY / 1000, "{} operations", switched.operations);
    ensure!(first.buckets.iter().all(|bucket| switched.buckets.contains(bucket)));

    // A rollback within the grace, and back again: nothing is copied, and nothing was missed.
    deployment.write(&config(&format!("{LISTS}{FEW}")))?;
    let back = deployment.until(|rows| count(rows, "others") == 0).await?;
    ensure!(back.operations == 0 && back.buckets == first.buckets, "{:?}", back.buckets);
    deployment.postgres.execute("DELETE FROM todos WHERE id = 5007").await?;
    deployment.write(&config(&format!("{LISTS}{FEW}{OTHERS}")))?;
    let again = deployment.until(|rows| count(rows, "others") == MANY / 1000 - 1).await?;
    ensure!(again.operations == MANY / 1000 + 1, "{} operations", again.operations);
    ensure!(again.buckets == switched.buckets, "{:?}", again.buckets);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_over_a_table_that_nobody_read_leaves_the_others_alone() -> Result<()> {
    let mut deployment = Deployment::start(LISTS).await?;
    let first = deployment.until(|rows| rows.len() == ROWS).await?;

    deployment.deploy(&format!("{TODOS}{LISTS}")).await?;
    let added = deployment.until(|rows| rows.len() == 2 * ROWS).await?;
    ensure!(added.operations == ROWS && added.buckets.contains(&first.buckets[0]));

    deployment.deploy(LISTS).await?;
    let removed = deployment.until(|rows| rows.len() == ROWS).await?;
    ensure!(removed.operations == 0 && removed.buckets == first.buckets);
    deployment.postgres.execute("UPDATE lists SET name = 'new' WHERE id < 5").await?;
    let followed = deployment
        .until(|rows| rows.values().any(|row| row.get("name").is_some_and(|name| name == "new")))
        .await?;
    ensure!(followed.operations == 4, "{} operations", followed.operations);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_worker_takes_a_changed_file_if_it_can_be_used() -> Result<()> {
    const NOT_USED: &str = "the changed sync config is not used";
    let mut deployment = Deployment::start(LISTS).await?;
    let first = deployment.until(|rows| rows.len() == ROWS).await?;

    deployment.write(&config(&format!("{LISTS}{TODOS}")))?;
    let added = deployment.until(|rows| rows.len() == 2 * ROWS).await?;
    ensure!(added.operations == ROWS && added.buckets.contains(&first.buckets[0]));

    // One that does not compile, and one that the source does not fit.
    deployment.write(&config("  lists: { query: SELECT * FRM lists }\n"))?;
    deployment.logged(NOT_USED, 1).await?;
    deployment.write(&config("  missing: { query: SELECT * FROM missing }\n"))?;
    deployment.logged(NOT_USED, 2).await?;
    deployment.postgres.execute("UPDATE lists SET name = 'new' WHERE id < 5").await?;
    let followed = deployment
        .until(|rows| rows.values().any(|row| row.get("name").is_some_and(|name| name == "new")))
        .await?;
    ensure!(followed.operations == 4 && followed.buckets == added.buckets);

    deployment.write(&config(TODOS))?;
    let removed = deployment.until(|rows| rows.len() == ROWS).await?;
    ensure!(removed.operations == 0, "{} operations", removed.operations);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_follow_the_former_config_while_a_transaction_delays_the_copy() -> Result<()> {
    let mut deployment = Deployment::start_with(&format!("{LISTS}{FEW}"), 2_000).await?;
    deployment.until(|rows| count(rows, "lists") == ROWS).await?;

    // It was open when the run of the next config began, so that run may have applied it before.
    let mut client = deployment.postgres.connect().await?;
    let open = client.transaction().await?;
    open.execute("INSERT INTO todos VALUES (10007, 2, 'not committed yet')", &[]).await?;
    deployment.write(&config(&format!("{LISTS}{FEW}{OTHERS}")))?;
    deployment.logged("waits for transactions that are open on the source", 1).await?;
    for text in ["during the wait", "and again"] {
        let live = follow_live(&mut deployment, text).await?;
        ensure!(count(&live.rows, "others") == 0, "copied beside an open transaction");
    }

    open.commit().await?;
    let key = ("others".to_owned(), "10007".to_owned());
    deployment.until(|rows| rows.contains_key(&key)).await?;
    Ok(())
}
