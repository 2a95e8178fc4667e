//! The latency of a commit: from the reply to COMMIT until a connected client has read the line
//! `checkpoint_complete`.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::deployment::{self, Deployment, TIMEOUT};
use crate::options::BenchOptions;
use crate::source::{BucketLayout, OWNER, SourceDatabase};
use crate::stream_reader::{StreamReader, occurrences};
use crate::table::ResultLine;
use crate::usage;

/// Number of updates: enough for a 99th percentile.
const UPDATES: usize = 400;

/// Interval between two updates: longer than the target, so that updates do not wait for each other.
const UPDATE_INTERVAL: Duration = Duration::from_millis(50);

/// Time until all updates must have arrived: far more than they take.
const UPDATES_TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) async fn measure(options: &BenchOptions) -> Result<()> {
    for layout in BucketLayout::ALL {
        let source = SourceDatabase::with_rows(options.preloaded_rows()).await?;
        let mut deployment = Deployment::new(layout, true)?;
        let (mut process, url) = deployment.dev(&source).await?;
        process.ready(&url, TIMEOUT).await?;
        let mut reader = StreamReader::open(&url, &deployment.token(OWNER)?).await?;
        reader.completed().await?;

        // The updates do not wait for the client. Otherwise a slow checkpoint would delay the next
        // updates, and the percentiles would hide it.
        let before = usage::cpu_seconds(process.id())?;
        let both = async { tokio::try_join!(update(&source), read_updates(&mut reader)) };
        let both = timeout(UPDATES_TIMEOUT, both).await;
        let (committed, seen) = both.context("not all updates have arrived")??;
        let cpu = usage::cpu_seconds(process.id())? - before;

        let mut latencies: Vec<Duration> = std::iter::zip(committed, seen)
            .map(|(committed, seen)| seen.saturating_duration_since(committed))
            .collect();
        latencies.sort();
        ResultLine {
            measurement: format!("commit to client, {UPDATES} updates, {}", layout.name()),
            result: format!(
                "p50 {:.1} ms, p99 {:.1} ms",
                percentile_ms(&latencies, 50),
                percentile_ms(&latencies, 99)
            ),
            target: "p50 <= 20 ms, p99 <= 100 ms",
            cpu: format!("{cpu:.2}"),
            ..ResultLine::default()
        }
        .print()?;
        deployment::shut_down(&mut process).await?;
    }
    Ok(())
}

fn percentile_ms(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100].as_secs_f64() * 1e3
}

/// Commits the updates. Returns the time of the reply to each COMMIT.
async fn update(source: &SourceDatabase) -> Result<Vec<Instant>> {
    let client = source.postgres.connect().await?;
    let sql = format!("SELECT id::text FROM todos WHERE owner_id = '{OWNER}' LIMIT 1");
    let id = source.postgres.value(&sql).await?;

    let mut ticks = interval(UPDATE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut committed = Vec::new();
    for number in 0..UPDATES {
        ticks.tick().await;
        let text = text(number);
        let sql = format!("UPDATE todos SET description = '{text}' WHERE id = '{id}'");
        client.batch_execute(&sql).await?;
        committed.push(Instant::now());
    }
    Ok(committed)
}

/// Reads the updates. Returns the time at which the checkpoint with each update was complete.
///
/// A checkpoint with a later update of the same row contains the earlier updates too.
async fn read_updates(reader: &mut StreamReader) -> Result<Vec<Instant>> {
    let mut seen = Vec::new();
    while seen.len() < UPDATES {
        let lines = reader.completed().await?;
        let now = Instant::now();
        let newest = (seen.len()..UPDATES).rev().find(|number| {
            let text = text(*number);
            lines.iter().any(|line| occurrences(line, &text) > 0)
        });
        if let Some(newest) = newest {
            seen.resize(newest + 1, now);
        }
    }
    Ok(seen)
}

fn text(number: usize) -> String {
    format!("update-{number:05}-of-the-latency-run")
}
