//! The whole system as it is deployed: the template, the Lambda binaries, the worker on DynamoDB
//! and S3, on an AWS that runs on this machine.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tidewater_tests::{
    Completed, Device, LocalStack, Postgres, Process, Stack, SyncReader, eventually,
};

/// Function calls take tens of milliseconds here, and other tests run beside this one.
const SOON: Duration = Duration::from_secs(60);
/// The builder runs each minute; its first run may be a little too early.
const TWO_TICKS: Duration = Duration::from_secs(150);

/// A look is a process and a function call.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

const TODOS: &str = "
    CREATE TABLE todos (id text PRIMARY KEY, owner_id text, title text);
    CREATE PUBLICATION powersync FOR TABLE todos;
    INSERT INTO todos SELECT n::text, 'u1', 'title ' || n FROM generate_series(1, 300) n;
    INSERT INTO todos VALUES ('other', 'u2', 'not for u1')";

const CONFIG: &str = "
config: { edition: 3 }
streams:
  todos: { auto_subscribe: true, query: SELECT * FROM todos WHERE owner_id = auth.user_id() }
";

const SCHEMA: &str = "CREATE TABLE todos (id TEXT PRIMARY KEY, owner_id TEXT, title TEXT);";

struct Setup {
    _worker: Process,
    stack: Stack,
    postgres: Postgres,
}

impl Setup {
    async fn new() -> Result<Self> {
        let postgres = Postgres::start().await?;
        postgres.execute(TODOS).await?;
        let stack = Stack::deploy(LocalStack::start()?)?;
        let readiness = format!("{}/probes/readiness", stack.url()?);
        assert_eq!(reqwest::get(&readiness).await?.status(), 400, "nothing has been copied");

        let mut worker = stack.ingest(&postgres.url("postgres"), CONFIG)?;
        eventually("the first checkpoint to be visible", SOON, async || {
            if worker.try_wait()?.is_some() {
                return Ok(Some(()));
            }
            Ok((reqwest::get(&readiness).await?.status() == 200).then_some(()))
        })
        .await?;
        worker.must_run()?;
        Ok(Self { _worker: worker, stack, postgres })
    }

    /// Polls until what a reader holds is so; a function ends its streams when they are up to date.
    async fn reader_until(
        &self,
        reader: &mut SyncReader,
        condition: impl Fn(&Completed) -> bool,
    ) -> Result<()> {
        let (url, token) = (self.stack.url()?, self.stack.token("u1")?);
        eventually("the change to arrive", SOON, async || {
            Ok(condition(&reader.sync_once(url, &token).await?).then_some(()))
        })
        .await
    }

    /// Syncs a device once; how it got its one bucket.
    async fn sync(&self, device: &mut Device) -> Result<String> {
        let (url, token) = (self.stack.url()?, self.stack.token("u1")?);
        let output = device.sync_once(url, &token, &[], SOON).await?;
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        let report: Value = serde_json::from_str(&output.stdout)?;
        let buckets = report["buckets"].as_object().context("buckets")?;
        assert_eq!(buckets.len(), 1, "{report}");
        let method = buckets.values().next().and_then(Value::as_str).context("a method")?;
        Ok(method.to_owned())
    }

    /// Compares a device with the source, row by row.
    async fn must_equal_source(&self, device: &Device) -> Result<()> {
        let expected = self
            .postgres
            .value(
                "SELECT string_agg(id || ' ' || title, ',' ORDER BY id COLLATE \"C\")
                 FROM todos WHERE owner_id = 'u1'",
            )
            .await?;
        let rows = device.column("SELECT id || ' ' || title FROM todos ORDER BY id")?;
        assert_eq!(rows.join(","), expected);
        Ok(())
    }
}

fn title<'a>(completed: &'a Completed, id: &str) -> Option<&'a str> {
    completed.rows.get(&("todos".to_owned(), id.to_owned()))?["title"].as_str()
}

#[tokio::test]
async fn the_deployed_system_copies_follows_acknowledges_and_makes_snapshots() -> Result<()> {
    let setup = Setup::new().await?;
    let (url, token) = (setup.stack.url()?, setup.stack.token("u1")?);
    let mut reader = SyncReader::new();
    assert_eq!(reader.sync_once(url, &token).await?.rows.len(), 300);
    let mut device = Device::new(SCHEMA)?;
    setup.sync(&mut device).await?;
    setup.must_equal_source(&device).await?;

    // What changes arrives.
    let change = "BEGIN; UPDATE todos SET title = 'new' WHERE id = '7';
                  DELETE FROM todos WHERE id = '8'; INSERT INTO todos VALUES ('x', 'u1', 'more');
                  COMMIT";
    setup.postgres.execute(change).await?;
    let arrived = |done: &Completed| {
        let seen = (title(done, "7"), title(done, "8"), title(done, "x"));
        seen == (Some("new"), None, Some("more"))
    };
    setup.reader_until(&mut reader, arrived).await?;
    setup.sync(&mut device).await?;
    setup.must_equal_source(&device).await?;

    // A write checkpoint comes back, with the write that it was asked for after.
    setup.postgres.execute("INSERT INTO todos VALUES ('y', 'u1', 'written')").await?;
    let number = reader.write_checkpoint(url, &token).await?;
    let acknowledged = |done: &Completed| {
        let reached = done.write_checkpoint.is_some_and(|at| at.get() >= number);
        assert!(!reached || title(done, "y") == Some("written"));
        reached
    };
    setup.reader_until(&mut reader, acknowledged).await?;

    // The scheduled builder makes a snapshot, and a fresh device starts from it.
    eventually("a device to start from a snapshot", TWO_TICKS, async || {
        let mut fresh = Device::new(SCHEMA)?;
        let method = setup.sync(&mut fresh).await?;
        setup.must_equal_source(&fresh).await?;
        if method == "lines" {
            tokio::time::sleep(LOOK_INTERVAL).await;
            return Ok(None);
        }
        assert_eq!(method, "snapshot merged");
        Ok(Some(()))
    })
    .await?;
    // The one that was there before goes on from where it was.
    assert_eq!(setup.sync(&mut device).await?, "lines");
    setup.must_equal_source(&device).await
}
