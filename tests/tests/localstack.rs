//! The deployed system on LocalStack: the template, the Lambda binaries, and the worker with
//! DynamoDB and S3.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tidewater_tests::{
    Completed, Device, LocalStack, Postgres, Process, Stack, SyncReader, eventually,
};

/// Timeout of each wait. A function call takes tens of milliseconds, and other tests run at the same
/// time.
const SOON: Duration = Duration::from_secs(60);

/// Time until the builder must have run twice. It runs each minute, and its first run may be before
/// the rows are stored.
const TWO_BUILDER_RUNS: Duration = Duration::from_secs(150);

/// Interval between two new devices: each of them is a process and several function calls.
const DEVICE_INTERVAL: Duration = Duration::from_secs(2);

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
        assert_eq!(reqwest::get(&readiness).await?.status(), 503, "nothing has been copied");

        let mut worker = stack.ingest(&postgres.url("postgres"), CONFIG)?;
        worker.ready(stack.url()?, SOON).await?;
        Ok(Self { _worker: worker, stack, postgres })
    }

    /// Connects until a checkpoint satisfies a condition. The function ends each up-to-date stream.
    async fn read_until(
        &self,
        reader: &mut SyncReader,
        condition: impl Fn(&Completed) -> bool,
    ) -> Result<()> {
        let url = self.stack.url()?;
        let token = self.stack.token("u1")?;
        eventually("the change to arrive", SOON, async || {
            Ok(condition(&reader.sync_once(url, &token).await?).then_some(()))
        })
        .await
    }

    /// Syncs a device once. Returns the method by which it received its only bucket.
    async fn sync(&self, device: &mut Device) -> Result<String> {
        let url = self.stack.url()?;
        let token = self.stack.token("u1")?;
        let output = device.sync_once(url, &token, &[], SOON).await?;
        output.assert_code(0);

        let report: Value = serde_json::from_str(&output.stdout)?;
        let buckets = report["buckets"].as_object().context("no buckets in the report")?;
        assert_eq!(buckets.len(), 1, "{report}");
        let method = buckets.values().next().and_then(Value::as_str).context("no method")?;
        Ok(method.to_owned())
    }

    /// Asserts that a device has the rows of the source.
    async fn assert_equals_source(&self, device: &Device) -> Result<()> {
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
    completed.row("todos", id)?["title"].as_str()
}

#[tokio::test]
async fn the_deployed_system_copies_follows_acknowledges_and_makes_snapshots() -> Result<()> {
    let setup = Setup::new().await?;
    let url = setup.stack.url()?;
    let token = setup.stack.token("u1")?;

    // The initial copy.
    let mut reader = SyncReader::new();
    assert_eq!(reader.sync_once(url, &token).await?.rows.len(), 300);
    let mut device = Device::new(SCHEMA)?;
    setup.sync(&mut device).await?;
    setup.assert_equals_source(&device).await?;

    // Later changes.
    let change = "BEGIN; UPDATE todos SET title = 'new' WHERE id = '7';
                  DELETE FROM todos WHERE id = '8'; INSERT INTO todos VALUES ('x', 'u1', 'more');
                  COMMIT";
    setup.postgres.execute(change).await?;
    setup
        .read_until(&mut reader, |done| {
            title(done, "7") == Some("new")
                && title(done, "8").is_none()
                && title(done, "x") == Some("more")
        })
        .await?;
    setup.sync(&mut device).await?;
    setup.assert_equals_source(&device).await?;

    // A write checkpoint, which acknowledges the write only together with its row.
    setup.postgres.execute("INSERT INTO todos VALUES ('y', 'u1', 'written')").await?;
    let number = reader.write_checkpoint(url, &token).await?;
    setup
        .read_until(&mut reader, |done| {
            let is_acknowledged = done.acknowledges(number);
            assert!(!is_acknowledged || title(done, "y") == Some("written"));
            is_acknowledged
        })
        .await?;

    // The scheduled builder makes a snapshot, and a new device starts from it.
    eventually("a device to start from a snapshot", TWO_BUILDER_RUNS, async || {
        let mut new_device = Device::new(SCHEMA)?;
        let method = setup.sync(&mut new_device).await?;
        setup.assert_equals_source(&new_device).await?;
        if method == "lines" {
            tokio::time::sleep(DEVICE_INTERVAL).await;
            return Ok(None);
        }
        assert_eq!(method, "snapshot merged");
        Ok(Some(()))
    })
    .await?;

    // The first device resumes from its position and needs no snapshot.
    assert_eq!(setup.sync(&mut device).await?, "lines");
    setup.assert_equals_source(&device).await
}

#[tokio::test]
async fn a_stack_is_updated_in_place_and_destroyed_with_its_data() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(TODOS).await?;
    let mut stack = Stack::deploy(LocalStack::start()?)?;
    let url = stack.url()?.to_owned();
    let mut worker = stack.ingest(&postgres.url("postgres"), CONFIG)?;
    worker.ready(&url, SOON).await?;

    // What is not given stays: the keys of tokens, and the rows.
    stack.update(&["ApiMemory=640".to_owned(), "SnapshotThreshold=50".to_owned()])?;
    assert_eq!(stack.url()?, url, "devices would need another address");
    let token = stack.token("u1")?;
    assert_eq!(SyncReader::new().sync_once(&url, &token).await?.rows.len(), 300);

    let unknown = stack.update(&["TablePrefix=other".to_owned()]).unwrap_err().to_string();
    assert!(unknown.contains("no parameter TablePrefix"), "{unknown}");

    worker.kill()?;
    stack.destroy()?;
    let gone = stack.destroy().unwrap_err().to_string();
    assert!(gone.contains("there is no stack"), "{gone}");
    Ok(())
}
