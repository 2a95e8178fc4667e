//! A backlog that was made while the worker was stopped.
//!
//! Measured from the start of `tidewater ingest`, its connecting included, until a client of
//! `tidewater serve` on the same directory has read a complete checkpoint with a marker that was
//! committed after the backlog.

use anyhow::Result;
use tokio::time::Instant;

use crate::options::Options;
use crate::reader::Reader;
use crate::site::{self, Site};
use crate::source::{Layout, OWNER, Source, insert, insert_one_by_one};
use crate::table::{Line, rate};
use crate::{floors, usage};

const MARK: &str = "backlog-has-arrived";

/// What the backlog consists of.
struct Backlog {
    what: &'static str,
    sql: String,
    /// Of row changes or transactions, whichever the bar is in.
    count: u64,
    unit: &'static str,
    bar: &'static str,
}

pub(crate) async fn measure(options: &Options) -> Result<()> {
    for layout in Layout::ALL {
        let one = Backlog {
            what: "one transaction of 100000 rows",
            sql: insert(100_000),
            count: 100_000,
            unit: "row changes/s",
            bar: ">= 80000 row changes/s",
        };
        run(options, layout, &one).await?;
        let many = Backlog {
            what: "10000 transactions of one row",
            sql: insert_one_by_one(10_000),
            count: 10_000,
            unit: "tx/s",
            bar: ">= 10000 tx/s",
        };
        run(options, layout, &many).await?;
    }
    Ok(())
}

async fn run(options: &Options, layout: Layout, backlog: &Backlog) -> Result<()> {
    let source = Source::with_rows(options.preload()).await?;
    let mut site = Site::new(layout, false)?;
    let (_serve, url) = site.filled(&source).await?;
    let mut reader = Reader::open(&url, &site.token(OWNER)?).await?;
    reader.completed().await?;

    floors::make_slot(&source).await?;
    source.postgres.execute(&backlog.sql).await?;
    let end = source.position().await?;
    source.mark(MARK).await?;

    let floor = floors::receive_backlog(&source, &end).await?.as_secs_f64();
    let start = Instant::now();
    let mut ingest = site.ingest(&source)?;
    reader.completed_with(MARK).await?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = usage::cpu_seconds(ingest.id())?;
    site::end(&mut ingest).await?;
    let Backlog { what, count, unit, bar, .. } = backlog;
    Line {
        what: format!("backlog of {what}, {}", layout.name()),
        figure: format!("{} {unit}; {seconds:.2} s", rate(*count, seconds)),
        floor: format!("{floor:.2} s"),
        ratio: format!("{:.1}", seconds / floor),
        bar,
        cpu: format!("{cpu:.2}"),
    }
    .print()
}
