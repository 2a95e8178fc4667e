//! The cost of a row at several sizes of the table: of the initial copy, of one transaction that
//! changes every row, and the bytes that are stored. A cost that grows with the table shows here.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tokio::time::Instant;

use crate::deployment::{Deployment, TIMEOUT};
use crate::options::BenchOptions;
use crate::source::{BucketLayout, SourceDatabase};
use crate::table::{ResultLine, micros_each, rate};
use crate::usage;

/// Sizes of the table, as multiples of the number of rows of the other measurements.
const MULTIPLES: [u64; 3] = [1, 2, 6];

/// A run of the ingest worker until it has caught up.
struct CatchUp {
    seconds: f64,
    cpu: f64,
    /// Bytes that are stored afterwards.
    stored: u64,
}

pub(crate) async fn measure(options: &BenchOptions) -> Result<()> {
    for layout in BucketLayout::ALL {
        for multiple in MULTIPLES {
            measure_size(options.rows * multiple, layout).await?;
        }
    }
    Ok(())
}

async fn measure_size(rows: u64, layout: BucketLayout) -> Result<()> {
    let source = SourceDatabase::with_rows(rows).await?;
    let mut deployment = Deployment::new(layout, true)?;

    let copy = catch_up(&mut deployment, &source).await?;
    ResultLine {
        measurement: format!("copy of {rows} rows, {}", layout.name()),
        result: format!(
            "{} rows/CPU s; {} bytes stored per row",
            rate(rows, copy.cpu),
            copy.stored / rows
        ),
        target: match layout {
            BucketLayout::Global => ">= 250000 rows/CPU s, <= 250 bytes",
            BucketLayout::PerOwner => ">= 150000 rows/CPU s, <= 250 bytes",
        },
        cpu: format!("{:.2}", copy.cpu),
        ..ResultLine::default()
    }
    .print()?;

    source.postgres.execute("UPDATE todos SET description = description || '!'").await?;
    let update = catch_up(&mut deployment, &source).await?;
    ResultLine {
        measurement: format!("one transaction that updates {rows} rows, {}", layout.name()),
        result: format!(
            "{} rows/s, {} us of CPU each; {} bytes stored per row",
            rate(rows, update.seconds),
            micros_each(rows, update.cpu),
            update.stored / rows
        ),
        target: ">= 60000 rows/s, <= 15 us",
        cpu: format!("{:.2}", update.cpu),
        ..ResultLine::default()
    }
    .print()
}

/// Runs the worker until it has committed everything that the source has.
async fn catch_up(deployment: &mut Deployment, source: &SourceDatabase) -> Result<CatchUp> {
    let cpu_before = usage::children_cpu_seconds()?;
    let start = Instant::now();
    let output = deployment.ingest_until_caught_up(source)?.wait(TIMEOUT).await?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(output.code == Some(0), "ingest failed: {}", output.stderr);

    let cpu = usage::children_cpu_seconds()? - cpu_before;
    Ok(CatchUp { seconds, cpu, stored: stored_bytes(&deployment.data_dir())? })
}

/// Returns the length of all files in a folder.
fn stored_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                bytes += metadata.len();
            }
        }
    }
    Ok(bytes)
}
