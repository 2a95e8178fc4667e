//! The cost of a commit and of a write checkpoint beside many clients with an open stream.
//!
//! Everything runs in one `tidewater dev`, so the CPU time contains that of the worker. The same commits
//! are measured with a single client, which is their floor.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidewater_tests::Process;
use tokio::time::Instant;

use crate::deployment::{self, Deployment, TIMEOUT};
use crate::held_clients::{HeldClients, user};
use crate::options::BenchOptions;
use crate::source::{BucketLayout, SourceDatabase};
use crate::table::{ResultLine, megabytes};
use crate::usage;

/// Clients with an open stream. Each has a bucket of its own, and all share that of the marker.
const CLIENTS: usize = 10_000;

/// Commits of one row for one client, each for another client.
const ROWS: usize = 100;

/// Commits of one row for all clients.
const MARKERS: u64 = 5;

/// Write checkpoints of one client.
const WRITE_CHECKPOINTS: usize = 50;

/// Pause before a measurement of memory or CPU: what the former step has caused is done then.
const SETTLE: Duration = Duration::from_secs(2);

/// Pause between two commits. Without it, the worker would commit several at once.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) async fn measure(_: &BenchOptions) -> Result<()> {
    let source = SourceDatabase::with_rows(0).await?;
    source
        .postgres
        .execute(&format!(
            "INSERT INTO todos SELECT gen_random_uuid(), now(), false, 'held', gen_random_uuid(), \
             ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid \
             FROM generate_series(1, {CLIENTS}) AS n; CREATE INDEX ON todos (owner_id)"
        ))
        .await?;
    let mut deployment = Deployment::new(BucketLayout::PerOwner, true)?;
    let (mut process, url) = deployment.dev(&source).await?;
    process.ready(&url, TIMEOUT).await?;

    let one = HeldClients::connect(&deployment, &url, 1).await?;
    let floor = rows_for_one(&source, &process, &one, 1).await?;
    drop(one);
    tokio::time::sleep(SETTLE).await;

    let memory_before = usage::resident_bytes(process.id())?;
    let clients = connect(&deployment, &process, &url).await?;
    tokio::time::sleep(SETTLE).await;
    let memory = usage::resident_bytes(process.id())?;
    ResultLine {
        measurement: format!("memory of the process with {CLIENTS} held clients"),
        result: format!("{}; {} without", megabytes(memory), megabytes(memory_before)),
        target: "<= 256 MB",
        ..ResultLine::default()
    }
    .print()?;

    let rows = rows_for_one(&source, &process, &clients, CLIENTS).await?;
    rows.print(&floor)?;
    marker_for_all(&source, &process, &clients).await?;
    write_checkpoints(&deployment, &process, &url, &clients).await?;

    drop(clients);
    deployment::shut_down(&mut process).await
}

/// Connects all clients at once, as after a restart.
async fn connect(deployment: &Deployment, process: &Process, url: &str) -> Result<HeldClients> {
    let before = usage::cpu_seconds(process.id())?;
    let begun = Instant::now();
    let clients = HeldClients::connect(deployment, url, CLIENTS).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = usage::cpu_seconds(process.id())? - before;
    ResultLine {
        measurement: format!("{CLIENTS} clients connect at once"),
        result: format!("{seconds:.2} s until all are up to date"),
        target: "<= 3 CPU s",
        cpu: format!("{cpu:.2}"),
        ..ResultLine::default()
    }
    .print()?;
    Ok(clients)
}

/// The cost of commits that each concern one client.
struct RowsForOne {
    latencies: Vec<Duration>,
    cpu_seconds: f64,
}

impl RowsForOne {
    fn print(&self, floor: &Self) -> Result<()> {
        let each = |cpu_seconds: f64| cpu_seconds * 1e3 / ROWS as f64;
        ResultLine {
            measurement: format!("one row for one of {CLIENTS} held clients, {ROWS} times"),
            result: format!(
                "p50 {:.1} ms, p95 {:.1} ms; {:.2} ms of CPU each, {:.2} more than with one client",
                percentile_ms(&self.latencies, 50),
                percentile_ms(&self.latencies, 95),
                each(self.cpu_seconds),
                each(self.cpu_seconds - floor.cpu_seconds),
            ),
            floor: format!(
                "p95 {:.1} ms, {:.2} ms of CPU with one client",
                percentile_ms(&floor.latencies, 95),
                each(floor.cpu_seconds)
            ),
            target: "<= 1 ms of CPU more, p95 <= 5 ms",
            cpu: format!("{:.2}", self.cpu_seconds),
            ..ResultLine::default()
        }
        .print()
    }
}

/// Changes one row of one of the first `count` clients at a time.
async fn rows_for_one(
    source: &SourceDatabase,
    process: &Process,
    clients: &HeldClients,
    count: usize,
) -> Result<RowsForOne> {
    let client = source.postgres.connect().await?;
    let before = usage::cpu_seconds(process.id())?;
    let mut latencies = Vec::with_capacity(ROWS);
    for number in 0..ROWS {
        // A prime step spreads the commits over all clients.
        let target = 1 + number * 7_919 % count;
        let seen = clients.completions(target);
        let sql = format!(
            "UPDATE todos SET description = 'row {number}' WHERE owner_id = '{}'",
            user(target)
        );
        client.batch_execute(&sql).await?;
        let committed = Instant::now();
        clients.completed(target, seen + 1).await?;
        latencies.push(committed.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    // The last wakes of others belong to the commits, too.
    tokio::time::sleep(SETTLE).await;
    let cpu_seconds = usage::cpu_seconds(process.id())? - before;
    latencies.sort();
    Ok(RowsForOne { latencies, cpu_seconds })
}

/// Changes the row that all clients share.
async fn marker_for_all(
    source: &SourceDatabase,
    process: &Process,
    clients: &HeldClients,
) -> Result<()> {
    let mut slowest = Duration::ZERO;
    let first = clients.most_completions();
    let before = usage::cpu_seconds(process.id())?;
    // A few clients have completed more checkpoints than others, because of rows of their own.
    let least = |number: u64| number + 2;
    for number in 0..MARKERS {
        let begun = Instant::now();
        source.set_marker(&format!("marker {number}")).await?;
        clients.all_completed(least(number)).await?;
        slowest = slowest.max(begun.elapsed());
        tokio::time::sleep(SETTLE).await;
    }
    let cpu = (usage::cpu_seconds(process.id())? - before) / MARKERS as f64;
    ensure!(clients.most_completions() >= first, "completions are counted");

    ResultLine {
        measurement: format!("one row for all of {CLIENTS} held clients, {MARKERS} times"),
        result: format!(
            "{cpu:.2} CPU s each; at most {:.2} s until all have it",
            slowest.as_secs_f64()
        ),
        target: "<= 0.6 CPU s",
        cpu: format!("{:.2}", cpu * MARKERS as f64),
        ..ResultLine::default()
    }
    .print()
}

/// Requests write checkpoints for one client, and waits for each at its stream.
async fn write_checkpoints(
    deployment: &Deployment,
    process: &Process,
    url: &str,
    clients: &HeldClients,
) -> Result<()> {
    let http = reqwest::Client::new();
    let token = deployment.token(&user(1))?;
    let before = usage::cpu_seconds(process.id())?;
    let mut latencies = Vec::with_capacity(WRITE_CHECKPOINTS);
    for _ in 0..WRITE_CHECKPOINTS {
        let seen = clients.completions(1);
        let begun = Instant::now();
        let response = http
            .get(format!("{url}/write-checkpoint2.json?client_id=held-1"))
            .header("authorization", format!("Token {token}"))
            .send()
            .await?;
        response.error_for_status().context("the request of a write checkpoint was refused")?;
        clients.completed(1, seen + 1).await?;
        latencies.push(begun.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    tokio::time::sleep(SETTLE).await;
    let cpu = usage::cpu_seconds(process.id())? - before;
    latencies.sort();

    ResultLine {
        measurement: format!(
            "a write checkpoint beside {CLIENTS} held clients, {WRITE_CHECKPOINTS} times"
        ),
        result: format!(
            "p50 {:.1} ms, p95 {:.1} ms; {:.2} ms of CPU each",
            percentile_ms(&latencies, 50),
            percentile_ms(&latencies, 95),
            cpu * 1e3 / WRITE_CHECKPOINTS as f64
        ),
        cpu: format!("{cpu:.2}"),
        ..ResultLine::default()
    }
    .print()
}

fn percentile_ms(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100].as_secs_f64() * 1e3
}
