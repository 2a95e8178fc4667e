//! `tidewater verify`: the store is compared with its source while everything runs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidewater_ingest_worker::{CommitOptions, LogWriter};
use tidewater_protocol::{Body, OpId, RowKey};
use tidewater_storage::{
    BucketHead, BucketKey, BucketStore, Catalog, ControlStore, Embedded, Generation, Nonce, OpLog,
    RecordKey, Registry, Replay, SegmentReader,
};
use tidewater_tests::{
    DevOptions, LineEffect, Lodging, Output, Postgres, Process, Signal, SyncReader, Tidewater,
};
use tokio::task::JoinHandle;

/// Timeout of a comparison: long enough for a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(120);
/// Comparisons under load.
const COMPARISONS: usize = 5;

const TABLES: &str = "
    CREATE TABLE todos (id text PRIMARY KEY, list_id text, title text, n int);
    CREATE TABLE members (list_id text, user_id text, PRIMARY KEY (list_id, user_id));
    CREATE TABLE logs (id text, note text);
    ALTER TABLE logs REPLICA IDENTITY FULL;
    INSERT INTO todos SELECT 't' || i, 'l' || i % 5, 'title ' || i, i FROM generate_series(1, 500) i;
    INSERT INTO members SELECT 'l' || i % 5, 'u' || i FROM generate_series(1, 20) i;
    INSERT INTO logs SELECT 'g' || i % 20, 'note' FROM generate_series(1, 100) i;
    CREATE PUBLICATION powersync FOR TABLE todos, members, logs";

const CONFIG: &str = "
config: { edition: 3 }
streams:
  todos:
    auto_subscribe: true
    query: SELECT * FROM todos WHERE list_id IN
           (SELECT list_id FROM members WHERE user_id = auth.user_id())
  logs: { auto_subscribe: true, query: SELECT * FROM logs }
";

struct Setup {
    postgres: Postgres,
    tidewater: Tidewater,
}

impl Setup {
    async fn new() -> Result<Self> {
        let postgres = Postgres::start().await?;
        postgres.execute(TABLES).await?;
        let options = DevOptions::new(&postgres.url("postgres"), CONFIG);
        let tidewater = Tidewater::dev_ready(options).await?;
        Ok(Self { postgres, tidewater })
    }

    /// Runs the command with further arguments.
    async fn verify(&self, arguments: &[&str]) -> Result<Output> {
        self.verify_store(&self.tidewater.data_dir(), arguments).await
    }

    async fn verify_store(&self, data_dir: &Path, arguments: &[&str]) -> Result<Output> {
        let mut command = Tidewater::command()?;
        command.args(["verify", "--database-url", &self.postgres.url("postgres")]);
        command.arg("--store").arg(format!("embedded:{}", data_dir.display()));
        command.args(arguments);
        let lodging = Lodging { name: "verify", logs: self.tidewater.folder(), end: Signal::Kill };
        Process::spawn(&mut command, lodging)?.wait(SOON).await
    }

    /// Compares, and returns the JSON of a result with this exit code.
    async fn report(&self, arguments: &[&str], code: i32) -> Result<Value> {
        let output = self.verify(&[&["--json"], arguments].concat()).await?;
        ensure!(output.code == Some(code), "{:?}: {output:?}", output.code);
        serde_json::from_str(&output.stdout).with_context(|| output.stdout)
    }

    /// Changes the store as if a worker had, without the source.
    async fn forge(&mut self, forge: impl AsyncFnOnce(&mut Forger) -> Result<()>) -> Result<()> {
        self.tidewater.terminate().await?;
        let mut forger = Forger::open(&self.tidewater).await?;
        forge(&mut forger).await?;
        forger.commit().await?;
        drop(forger);
        self.tidewater.start().await?;
        self.tidewater.ready().await
    }
}

/// Writes of a load that goes on until it is stopped.
struct Load {
    is_stopped: Arc<AtomicBool>,
    task: JoinHandle<Result<u64>>,
}

impl Load {
    /// Changes rows whose numbers are above 100, and other members and logs, all the time.
    async fn start(postgres: &Postgres) -> Result<Self> {
        let client = postgres.connect().await?;
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_stopped);
        let task = tokio::spawn(async move {
            let mut count = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                count += 1;
                let row = 101 + count * 7919 % 400;
                client.batch_execute(&change(count, row)).await?;
            }
            Ok(count)
        });
        Ok(Self { is_stopped, task })
    }

    async fn stop(self) -> Result<u64> {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

/// Returns a transaction. The first of them change one row again and again.
fn change(count: u64, row: u64) -> String {
    match count % 8 {
        0..=2 => format!("UPDATE todos SET n = {count} WHERE id = 't101'"),
        3 => format!("UPDATE todos SET list_id = 'l' || {} WHERE id = 't{row}'", count % 5),
        4 => format!(
            "BEGIN; DELETE FROM todos WHERE id = 't{row}';
             INSERT INTO todos VALUES ('t{row}', 'l1', 'again', {count}); COMMIT"
        ),
        5 => format!(
            "INSERT INTO members VALUES ('l{}', 'm{}') ON CONFLICT DO NOTHING;
             DELETE FROM members WHERE user_id = 'm{}'",
            count % 5,
            count % 3,
            count % 2
        ),
        6 => format!(
            "INSERT INTO logs VALUES ('g{}', 'load'); DELETE FROM logs WHERE ctid IN
             (SELECT ctid FROM logs WHERE note = 'load' LIMIT 1)",
            count % 9
        ),
        _ => format!(
            "UPDATE todos SET n = n + 1 WHERE n % 50 = {} AND length(id) = 4 AND id > 't200'",
            count % 50
        ),
    }
}

/// A worker that writes what it is told.
struct Forger {
    writer: LogWriter<Embedded>,
    generation: Generation,
}

/// A row in a bucket.
struct Found {
    bucket: BucketKey,
    row: RowKey<'static>,
    data: String,
}

impl Forger {
    async fn open(tidewater: &Tidewater) -> Result<Self> {
        let store = Embedded::open(&tidewater.data_dir())?;
        let control = store.control().await?.context("no control record")?;
        let generation = store.generation(control.generation).await?.context("no generation")?;
        let (next, archived) = control.after_takeover(Nonce("forger".into()))?;
        let writer = LogWriter::take_over(store, Some(control), next, archived, None).await?;
        Ok(Self { writer, generation })
    }

    /// Returns the buckets of a definition.
    async fn buckets(&self, definition: usize) -> Result<Vec<BucketKey>> {
        let tag = &self.generation.definitions[definition];
        Ok(self.writer.storage().registered_buckets(tag, None, 100).await?)
    }

    /// Finds a row of the first definition by its id.
    async fn find(&self, id: &str) -> Result<Found> {
        for bucket in self.buckets(0).await? {
            let store = self.writer.storage();
            let item = store.buckets(std::slice::from_ref(&bucket)).await?.remove(0);
            let item = item.context("no bucket")?;
            let committed = self.writer.committed_ops();
            let head = item.head.latest_for_writer(committed).and_then(|v| v.value.as_ref());
            let head = BucketHead::decode(head.context("no head")?)?;
            let base = Catalog::decode(&item.catalog)?.base;
            let mut replay =
                Replay::new(store, &bucket, base.as_ref(), head, |op| committed.is_committed(op));

            let mut found = None;
            while let Some(payload) = replay.next().await? {
                for operation in SegmentReader::new(&payload) {
                    match operation?.body {
                        Body::Put { row, data } if row.object_id == id => {
                            found = Some(Found {
                                bucket: bucket.clone(),
                                row: row.into_owned(),
                                data: data.into_owned(),
                            });
                        }
                        Body::Remove { row } if row.object_id == id => found = None,
                        Body::Put { .. } | Body::Remove { .. } | Body::Move | Body::Clear => {}
                    }
                }
            }

            if let Some(found) = found {
                return Ok(found);
            }
        }
        anyhow::bail!("no bucket has row {id}")
    }

    fn put(&mut self, bucket: &BucketKey, row: RowKey<'_>, data: String) {
        self.writer.append(bucket.as_str(), Body::Put { row, data: data.into() });
    }

    async fn commit(&mut self) -> Result<()> {
        let committed = self.writer.control().committed;
        self.writer.commit(committed.lsn, committed.ticket, CommitOptions::default()).await?;
        Ok(())
    }
}

/// Returns kind, id and changed columns of each row that differs.
fn row_differences(report: &Value) -> Vec<(String, String, Value)> {
    let differences = report["differences"].as_array().into_iter().flatten();
    let rows = differences.filter(|difference| difference["bucket"].is_string());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    rows.map(|one| (text(&one["kind"]), text(&one["id"]), one["columns"].clone())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_follows_a_busy_source_is_equal() -> Result<()> {
    let setup = Setup::new().await?;
    let load = Load::start(&setup.postgres).await?;
    for comparison in 0..COMPARISONS {
        let report = setup.report(&[], 0).await.with_context(|| format!("{comparison}"))?;
        ensure!(report["result"] == "equal" && report["difference_count"] == 0, "{report}");
        // Equal rows without a key are one row on devices.
        ensure!(report["rows"].as_u64() >= Some(520), "{report}");
        ensure!(report["answers"].as_u64() >= Some(20), "{report}");
        ensure!(report["tables"].as_array().map(Vec::len) == Some(3), "{report}");
    }
    let count = load.stop().await?;
    ensure!(count > 100, "there were only {count} transactions");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_difference_is_found_under_load_and_named_exactly() -> Result<()> {
    let mut setup = Setup::new().await?;
    setup
        .forge(async |forger| {
            let one = forger.find("t1").await?;
            let data = one.data.replace("title 1", "wrong");
            forger.put(&one.bucket, one.row, data);
            let two = forger.find("t2").await?;
            forger.writer.append(two.bucket.as_str(), Body::Remove { row: two.row });
            let three = forger.find("t3").await?;
            let row = RowKey::new("todos", "nobody", &three.row.subkey);
            forger.put(&three.bucket, row, r#"{"id":"nobody"}"#.to_owned());
            Ok(())
        })
        .await?;

    let load = Load::start(&setup.postgres).await?;
    let report = setup.report(&[], 1).await?;
    let columns = json!([{"name": "title", "store": "wrong", "source": "title 1"}]);
    let mut found = row_differences(&report);
    found.sort_by(|one, other| one.1.cmp(&other.1));
    let expected = [
        ("extra".to_owned(), "nobody".to_owned(), json!([])),
        ("changed".to_owned(), "t1".to_owned(), columns),
        ("missing".to_owned(), "t2".to_owned(), json!([])),
    ];
    ensure!(found == expected, "{report:#}");
    ensure!(report["difference_count"] == 3 && report["result"] == "different", "{report:#}");
    let changed = report["differences"].as_array().context("no list")?;
    let changed = changed.iter().find(|one| one["id"] == "t1").context("no t1")?;
    ensure!(changed["table"] == "public.todos" && changed["key"] == "t1", "{changed:#}");
    let bucket = changed["bucket"].as_str().context("no bucket")?;
    ensure!(bucket.starts_with("todos|0.") && bucket.ends_with("[\"l1\"]"), "{changed:#}");

    // A part of the store.
    setup.report(&["--table", "logs", "--table", "public.members"], 0).await?;
    setup.report(&["--sync-bucket", "todos|0[\"l4\"]"], 0).await?;
    let report = setup.report(&["--sync-bucket", bucket], 1).await?;
    ensure!(report["difference_count"] == 1 && report["buckets"] == 1, "{report:#}");
    let report = setup.report(&["--sample", "100%", "--limit", "1"], 1).await?;
    ensure!(row_differences(&report).len() == 1, "{report:#}");
    let text = setup.verify(&[]).await?;
    ensure!(text.code == Some(1) && text.stdout.contains("not equal: 3 differences"), "{text:?}");
    load.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_differ_and_buckets_that_cannot_be_read_are_found() -> Result<()> {
    let mut setup = Setup::new().await?;
    setup
        .forge(async |forger| {
            // The answers of u1, whoever gives them, and one that nobody gives.
            let lookup = forger.generation.lookups[0].clone();
            let key = tidewater_storage::LookupKey::new(&lookup, "[\"u1\"]");
            let store = forger.writer.storage();
            let keys = std::slice::from_ref(&key);
            let rows = tidewater_storage::LookupStore::lookup_rows(store, keys).await?;
            let row = rows.first().and_then(|rows| rows.first()).context("u1 has no answer")?;
            let name = row.answer_name.clone();
            let table = tidewater_storage::table_of_answer(&name).context("no table")?;
            let stale = tidewater_storage::answer_name(table, "gone", 7);
            for (name, output) in [(name, None), (stale, Some("[\"l4\"]"))] {
                let key = RecordKey::Lookup(key.clone(), name);
                forger.writer.set_at(key, output.map(|text| text.as_bytes().to_vec().into()));
            }
            let logs = forger.buckets(1).await?;
            for bucket in &logs {
                forger.writer.storage().delete_segments(bucket, OpId::MAX).await?;
            }
            Ok(())
        })
        .await?;

    let report = setup.report(&[], 1).await?;
    let differences = report["differences"].as_array().context("no list")?;
    let mut kinds: Vec<_> = differences.iter().map(|one| one["kind"].clone()).collect();
    kinds.sort_by_key(ToString::to_string);
    ensure!(kinds == ["extra", "missing"], "{report:#}");
    for one in differences {
        let lookup = one["lookup"].as_str().context("not a lookup")?;
        ensure!(lookup.ends_with("[\"u1\"]") && one["table"] == "public.members", "{report:#}");
    }
    let damaged = report["damaged_buckets"].as_array().context("no list")?;
    ensure!(damaged.len() == 1, "{report:#}");
    ensure!(damaged[0]["bucket"].as_str().is_some_and(|name| name.starts_with("logs|0.")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_compared_is_not_equal() -> Result<()> {
    let mut setup = Setup::new().await?;
    let unknown = setup.verify(&["--table", "nobody"]).await?;
    unknown.assert_code(2);
    unknown.assert_says(&["the sync config reads no table 'nobody'"]);
    let unknown = setup.verify(&["--sync-bucket", "nobody[]"]).await?;
    unknown.assert_code(2);
    setup.verify(&["--sample", "10"]).await?.assert_code(2);
    let elsewhere = setup.verify_store(Path::new("/nowhere"), &[]).await?;
    elsewhere.assert_code(2);
    elsewhere.assert_says(&["there is no store in '/nowhere'"]);

    // Rows of a transaction that is open are no difference.
    let open = setup.postgres.connect().await?;
    open.batch_execute("BEGIN; UPDATE todos SET n = 0 WHERE id = 't1'").await?;
    setup.report(&[], 0).await?;
    open.batch_execute("COMMIT").await?;
    setup.report(&[], 0).await?;

    // A store that does not follow.
    setup.tidewater.terminate().await?;
    let behind = setup.verify(&["--timeout", "2s"]).await?;
    behind.assert_code(1);
    behind.assert_says(&["did not reach the source's position within 2 s"]);
    setup.tidewater.start().await?;
    setup.report(&[], 0).await.map(drop)
}

/// Receives a checkpoint, and returns the number of operations in it.
async fn operations(setup: &Setup, reader: &mut SyncReader) -> Result<usize> {
    let token = setup.tidewater.token("u1")?;
    let mut connection = reader.connect(setup.tidewater.url(), &token).await?;
    let mut count = 0;
    loop {
        match connection.next().await?.context("the stream ended too early")? {
            LineEffect::Stored { operations } => count += operations,
            LineEffect::Complete(_) => return Ok(count),
            LineEffect::Announced
            | LineEffect::Partial(_)
            | LineEffect::TokenExpiresIn(_)
            | LineEffect::Ignored => {}
        }
    }
}

/// Rows `t1` and `t6` are in list `l1`, which user `u1` gets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_missed_is_repaired_by_the_operations_that_it_takes() -> Result<()> {
    let mut setup = Setup::new().await?;
    setup
        .forge(async |forger| {
            for id in ["t1", "t6"] {
                let found = forger.find(id).await?;
                let number = found.row.subkey.split_once('.').context("no subkey")?.0.parse()?;
                let key = RecordKey::SourceRow(forger.generation.rows_of(), number, id.into());
                forger.writer.set_at(key, None);
                forger.writer.append(found.bucket.as_str(), Body::Remove { row: found.row });
            }
            Ok(())
        })
        .await?;
    let mut reader = SyncReader::new();
    operations(&setup, &mut reader).await?;

    let report = setup.report(&["--repair"], 0).await?;
    let repaired = json!([{"table": "public.todos", "all_rows": false}]);
    ensure!(report["repaired"] == repaired && report["result"] == "equal", "{report:#}");
    let count = operations(&setup, &mut reader).await?;
    ensure!(count == 2, "{count} operations for two rows");
    ensure!(setup.report(&["--repair"], 0).await?["repaired"] == json!([]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_beneath_right_source_rows_is_repaired_under_load() -> Result<()> {
    let mut setup = Setup::new().await?;
    setup
        .forge(async |forger| {
            let one = forger.find("t1").await?;
            let row = RowKey::new("todos", "nobody", &one.row.subkey).into_owned();
            forger.put(&one.bucket, row, r#"{"id":"nobody"}"#.to_owned());
            let data = one.data.replace("title 1", "wrong");
            forger.put(&one.bucket, one.row, data);
            let six = forger.find("t6").await?;
            forger.writer.append(six.bucket.as_str(), Body::Remove { row: six.row });
            Ok(())
        })
        .await?;

    let load = Load::start(&setup.postgres).await?;
    let report = setup.report(&["--repair"], 0).await?;
    let repaired = json!([
        {"table": "public.todos", "all_rows": false},
        {"table": "public.todos", "all_rows": true}
    ]);
    ensure!(report["repaired"] == repaired && report["result"] == "equal", "{report:#}");
    setup.report(&[], 0).await?;
    load.stop().await?;

    let token = setup.tidewater.token("u1")?;
    let synced = SyncReader::new().sync_once(setup.tidewater.url(), &token).await?;
    ensure!(synced.row("todos", "t1").is_some_and(|row| row["title"] == "title 1"));
    ensure!(synced.row("todos", "t6").is_some() && synced.row("todos", "nobody").is_none());
    Ok(())
}
