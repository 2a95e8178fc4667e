//! The cost of traffic on AWS, in request units as DynamoDB counts them.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use tidewater_protocol::OpId;
use tidewater_storage::ControlStore;
use tidewater_tests::{Lodging, Postgres, Process, Scratch, Signal, eventually};

use crate::aws::{Aws, Units};

/// A bound for whatever must happen: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(120);

const BY_OWNER: &str = "SELECT * FROM notes WHERE owner = auth.user_id()";
const GLOBAL: &str = "SELECT * FROM notes";

/// A worker with a table of small rows.
struct Setup {
    aws: Aws,
    postgres: Postgres,
    worker: Process,
    _folder: Scratch,
}

/// What was consumed, in all and by table.
struct Cost {
    total: Units,
    of_tables: String,
    /// Objects that were stored so far.
    objects: u32,
}

impl Setup {
    /// Starts a worker on a table of `rows` rows of some 100 bytes, shared out among `owners`.
    async fn start(query: &str, rows: u32, owners: u32) -> Result<Self> {
        let postgres = Postgres::start().await?;
        let tables = format!(
            "CREATE TABLE notes (id text PRIMARY KEY, owner text, text text);
             CREATE PUBLICATION powersync FOR TABLE notes;
             INSERT INTO notes SELECT n::text, (n % {owners})::text, repeat(md5(n::text), 2)
             FROM generate_series(1, {rows}) n"
        );
        postgres.execute(&tables).await?;
        let aws = Aws::start().await?;
        let folder = Scratch::new()?;
        let config = folder.path().join("sync-config.yaml");
        let text = format!(
            "config: {{ edition: 3 }}\nstreams:\n  notes: {{ auto_subscribe: true, query: {query} }}\n"
        );
        std::fs::write(&config, text)?;
        let mut command = aws.worker(&postgres.url("postgres"), &config)?;
        let lodging = Lodging { name: "ingest", logs: folder.path(), end: Signal::Term };
        let worker = Process::spawn(&mut command, lodging)?;
        Ok(Self { aws, postgres, worker, _folder: folder })
    }

    async fn until_copied(&mut self) -> Result<()> {
        eventually("the copy to be visible", SOON, async || {
            self.worker.must_run()?;
            let control = self.aws.store().control().await?;
            Ok(control.is_some_and(|control| control.visible.is_some()).then_some(()))
        })
        .await
    }

    async fn committed(&self) -> Result<OpId> {
        let control = self.aws.store().control().await?;
        Ok(control.context("no control record")?.committed.op)
    }

    /// Executes a transaction, and waits until readers have all its operations.
    async fn commit(&self, sql: &str, operations: u64) -> Result<()> {
        let before = self.committed().await?;
        self.postgres.execute(sql).await?;
        eventually("the transaction to be visible", SOON, async || {
            let control = self.aws.store().control().await?.context("no control record")?;
            let visible = control.visible.context("no checkpoint")?.at.op;
            let made = visible.get().saturating_sub(before.get());
            Ok((made >= i64::try_from(operations)?).then_some(()))
        })
        .await
    }

    /// Returns what was consumed since the last call, without this test's own reads of the control record.
    fn cost(&self) -> Cost {
        let mut total = Units::default();
        let mut of_tables = String::new();
        for (table, units) in self.aws.take_consumed() {
            total.written += units.written;
            if table != "control" {
                total.read += units.read;
            }
            let _ = write!(of_tables, " {table} {}+{}", units.written, units.read);
        }
        Cost { total, of_tables, objects: self.aws.count("s3:PutObject", "objects/*") }
    }

    fn print(&self, what: &str, per: f64) -> Cost {
        let cost = self.cost();
        let Cost { total: Units { read, written }, of_tables, objects } = &cost;
        eprintln!(
            "{what}: {written} write units, {:.3} each; {read} read units, {:.3} each; {objects} objects so far; \
             written+read by table:{of_tables}",
            written / per,
            read / per,
        );
        cost
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_row_costs_at_most_a_little_more_than_a_write_unit() -> Result<()> {
    let mut global = Setup::start(GLOBAL, 2_000, 1).await?;
    global.until_copied().await?;
    let cost = global.print("copy of 2,000 rows into a global bucket", 2_000.0);
    assert!(cost.total.written <= 1.1 * 2_000.0);

    let mut many = Setup::start(BY_OWNER, 4_000, 1_000).await?;
    many.until_copied().await?;
    let cost = many.print("copy of 4,000 rows into 1,000 buckets", 4_000.0);
    assert!(cost.total.written <= 2.0 * 4_000.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_cost_as_many_units_as_documented() -> Result<()> {
    let mut setup = Setup::start(BY_OWNER, 10_000, 200).await?;
    setup.until_copied().await?;
    let cost = setup.print("copy of 10,000 rows into 200 buckets", 10_000.0);
    assert!(cost.total.written <= 1.2 * 10_000.0);

    for n in 0..20 {
        let update = format!("UPDATE notes SET text = 'alone {n}' WHERE id = '{}'", 100 + n);
        setup.commit(&update, 1).await?;
    }
    let cost = setup.print("20 transactions that update a row", 20.0);
    assert!(cost.total.written <= 4.0 * 20.0);

    setup.commit("UPDATE notes SET text = text || '!'", 10_000).await?;
    let cost = setup.print("a transaction that updates 10,000 rows in 200 buckets", 10_000.0);
    assert!(cost.total.written <= 0.1 * 10_000.0);
    assert!(cost.total.read <= 1.1 * 10_000.0);
    Ok(())
}
