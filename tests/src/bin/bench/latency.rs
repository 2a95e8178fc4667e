//! From the answer to COMMIT to the `checkpoint_complete` that a connected client has read.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::options::Options;
use crate::reader::{Reader, occurrences};
use crate::site::{self, Site};
use crate::source::{Layout, OWNER, Source};
use crate::table::Line;
use crate::usage;

const UPDATES: usize = 400;
const EACH: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) async fn measure(options: &Options) -> Result<()> {
    for layout in Layout::ALL {
        let source = Source::with_rows(options.preload()).await?;
        let mut site = Site::new(layout, true)?;
        let (mut process, url) = site.dev(&source).await?;
        site::ready(&mut process, &url).await?;
        let mut reader = Reader::open(&url, &site.token(OWNER)?).await?;
        reader.completed().await?;
        let before = usage::cpu_seconds(process.id())?;
        // The updates do not wait for the client: what is slow once must not thin them out.
        let (committed, seen) =
            timeout(PATIENCE, async { tokio::try_join!(update(&source), watch(&mut reader)) })
                .await
                .context("not all updates have arrived")??;
        let cpu = usage::cpu_seconds(process.id())? - before;
        let mut waits: Vec<Duration> = std::iter::zip(committed, seen)
            .map(|(committed, seen)| seen.saturating_duration_since(committed))
            .collect();
        waits.sort();
        let percentile = |p: usize| waits[(waits.len() - 1) * p / 100].as_secs_f64() * 1e3;
        Line {
            what: format!("commit to client, {UPDATES} updates, {}", layout.name()),
            figure: format!("p50 {:.1} ms, p99 {:.1} ms", percentile(50), percentile(99)),
            bar: "p50 <= 20 ms, p99 <= 100 ms",
            cpu: format!("{cpu:.2}"),
            ..Line::default()
        }
        .print()?;
        site::end(&mut process).await?;
    }
    Ok(())
}

/// When each update's COMMIT was answered.
async fn update(source: &Source) -> Result<Vec<Instant>> {
    let client = source.postgres.connect().await?;
    let sql = format!("SELECT id::text FROM todos WHERE owner_id = '{OWNER}' LIMIT 1");
    let id = source.postgres.value(&sql).await?;
    let mut ticks = interval(EACH);
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

/// When the checkpoint with each update, or with a later one of the same row, had been read.
async fn watch(reader: &mut Reader) -> Result<Vec<Instant>> {
    let mut seen = Vec::new();
    while seen.len() < UPDATES {
        let lines = reader.completed().await?;
        let now = Instant::now();
        let is_in = |number: usize| lines.iter().any(|line| occurrences(line, &text(number)) > 0);
        if let Some(newest) = (seen.len()..UPDATES).rev().find(|number| is_in(*number)) {
            seen.resize(newest + 1, now);
        }
    }
    Ok(seen)
}

fn text(number: usize) -> String {
    format!("update-{number:05}-of-the-latency-run")
}
