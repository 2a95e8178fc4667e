//! The time that a worker needs for a backlog that grew while it was stopped.
//!
//! It begins with the start of `tidewater ingest`, so it includes the connection to PostgreSQL. It
//! ends when a client of `tidewater serve` on the same directory has read a complete checkpoint with
//! a marker row that was committed after the backlog.

use anyhow::Result;
use tokio::time::Instant;

use crate::deployment::{self, Deployment};
use crate::options::BenchOptions;
use crate::source::{BucketLayout, OWNER, SourceDatabase, insert, insert_one_by_one};
use crate::stream_reader::StreamReader;
use crate::table::{ResultLine, rate};
use crate::{floors, usage};

const MARKER: &str = "backlog-has-arrived";

/// A backlog and the target for it.
struct Backlog {
    name: &'static str,
    sql: String,
    /// Number of `unit` in the backlog.
    count: u64,
    /// Unit of the rate: row changes or transactions per second.
    unit: &'static str,
    target: &'static str,
}

pub(crate) async fn measure(options: &BenchOptions) -> Result<()> {
    for layout in BucketLayout::ALL {
        let one_transaction = Backlog {
            name: "one transaction of 100000 rows",
            sql: insert(100_000),
            count: 100_000,
            unit: "row changes/s",
            target: ">= 80000 row changes/s",
        };
        run(options, layout, &one_transaction).await?;

        let many_transactions = Backlog {
            name: "10000 transactions of one row",
            sql: insert_one_by_one(10_000),
            count: 10_000,
            unit: "tx/s",
            target: ">= 10000 tx/s",
        };
        run(options, layout, &many_transactions).await?;
    }
    Ok(())
}

async fn run(options: &BenchOptions, layout: BucketLayout, backlog: &Backlog) -> Result<()> {
    let source = SourceDatabase::with_rows(options.preloaded_rows()).await?;
    let mut deployment = Deployment::new(layout, false)?;
    let (_serve, url) = deployment.copy_and_serve(&source).await?;
    let mut reader = StreamReader::open(&url, &deployment.token(OWNER)?).await?;
    reader.completed().await?;

    floors::create_slot(&source).await?;
    source.postgres.execute(&backlog.sql).await?;
    let end = source.position().await?;
    source.set_marker(MARKER).await?;

    let floor = floors::receive_backlog(&source, &end).await?.as_secs_f64();
    let start = Instant::now();
    let mut ingest = deployment.ingest(&source)?;
    reader.completed_with(MARKER).await?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = usage::cpu_seconds(ingest.id())?;
    deployment::shut_down(&mut ingest).await?;

    let Backlog { name, count, unit, target, .. } = backlog;
    ResultLine {
        measurement: format!("backlog of {name}, {}", layout.name()),
        result: format!("{} {unit}; {seconds:.2} s", rate(*count, seconds)),
        floor: format!("{floor:.2} s"),
        ratio: format!("{:.1}", seconds / floor),
        target,
        cpu: format!("{cpu:.2}"),
    }
    .print()
}
