//! The first sync of our own client, `tidewater sync --once`, into an empty file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tidewater_client::rusqlite::Connection;
use tidewater_tests::{Device, Scratch};
use tokio::time::Instant;

use crate::deployment::{Deployment, TIMEOUT};
use crate::options::BenchOptions;
use crate::source::{BucketLayout, OWNER, SourceDatabase};
use crate::table::{ResultLine, megabytes};
use crate::{floors, usage};

const SCHEMA: &str = "
    CREATE TABLE todos (id TEXT PRIMARY KEY, created_at TEXT, completed INTEGER,
        description TEXT, list_id TEXT, owner_id TEXT);
    CREATE TABLE marker (id TEXT PRIMARY KEY, text TEXT);";

pub(crate) async fn measure(options: &BenchOptions) -> Result<()> {
    let source = SourceDatabase::with_rows(options.rows).await?;
    let mut deployment = Deployment::new(BucketLayout::Global, true)?;
    let (serve, url) = deployment.copy_and_serve(&source).await?;
    let from_history = sync(&deployment, &url, options.rows, &[]).await?;

    // The former process may have cached that the bucket has no base.
    deployment.compact().await?;
    drop(serve);
    let (_serve, url) = deployment.serve().await?;
    let floor = floor(&deployment.data_dir().join("objects")).await?;
    let from_snapshot = sync(&deployment, &url, options.rows, &[]).await?;
    let from_base = sync(&deployment, &url, options.rows, &["--no-snapshots"]).await?;

    let syncs = [
        ("with snapshots", from_snapshot, "<= 1.5 adopted, <= 4 merged"),
        ("data lines of a base", from_base, ""),
        ("data lines of raw history", from_history, ""),
    ];
    for (method, sync, target) in syncs {
        ResultLine {
            measurement: format!("first sync of {} rows by our client, {method}", options.rows),
            result: format!(
                "{:.2} s, {} ({}); {:.2} s until the process exits",
                sync.seconds,
                megabytes(sync.bytes),
                sync.methods,
                sync.seconds_until_exit
            ),
            floor: format!("{floor:.2} s"),
            ratio: format!("{:.1}", sync.seconds / floor),
            target,
            cpu: format!("{:.2}", sync.cpu),
        }
        .print()?;
    }
    Ok(())
}

/// A finished `tidewater sync --once`: its own report and its resource usage.
struct ClientSync {
    /// Seconds from the connection to the visible checkpoint.
    seconds: f64,
    /// Seconds of the whole process. After a snapshot it runs a WAL checkpoint before it exits.
    seconds_until_exit: f64,
    bytes: u64,
    methods: String,
    cpu: f64,
}

async fn sync(
    deployment: &Deployment,
    url: &str,
    rows: u64,
    arguments: &[&str],
) -> Result<ClientSync> {
    let mut device = Device::new(SCHEMA)?;
    let before = usage::children_cpu_seconds()?;
    let start = Instant::now();
    let output = device.sync_once(url, &deployment.token(OWNER)?, arguments, TIMEOUT).await?;
    let seconds_until_exit = start.elapsed().as_secs_f64();
    let cpu = usage::children_cpu_seconds()? - before;
    ensure!(output.code == Some(0), "sync failed: {}", output.stderr);

    let report: Value = serde_json::from_str(&output.stdout)?;
    let count = device.column("SELECT CAST(count(*) AS TEXT) FROM todos")?;
    ensure!(count == [rows.to_string()], "the file has {count:?} rows, not {rows}");

    let methods = report["buckets"].as_object().context("no buckets in the report")?;
    let mut methods: Vec<&str> = methods.values().filter_map(Value::as_str).collect();
    methods.sort_unstable();
    methods.dedup();

    Ok(ClientSync {
        seconds: report["seconds"]["total"].as_f64().context("no total in the report")?,
        seconds_until_exit,
        bytes: report["bytes"].as_u64().context("no bytes in the report")?,
        methods: methods.join(", "),
        cpu,
    })
}

/// Returns the seconds to copy the snapshot's files over loopback, to decompress them by `zstd -d`,
/// and to read one row of each.
async fn floor(objects: &Path) -> Result<f64> {
    let mut files = Vec::new();
    find_snapshot_files(objects, &mut files)?;
    ensure!(!files.is_empty(), "there is no snapshot below {}", objects.display());
    let contents: Vec<Vec<u8>> = files.iter().map(fs::read).collect::<Result<_, _>>()?;
    let all: BytesMut = contents.iter().flatten().copied().collect();
    let all: Bytes = all.freeze();

    let scratch = Scratch::new()?;
    let start = Instant::now();
    floors::copy_over_loopback(all).await?;
    for (number, file) in files.iter().enumerate() {
        let unpacked = scratch.path().join(format!("{number}.db"));
        let mut zstd = Command::new("zstd");
        zstd.args(["-d", "-q", "-o"]).arg(&unpacked).arg(file).stdin(Stdio::null());
        ensure!(zstd.status()?.success(), "zstd cannot decompress {}", file.display());

        let tables = "SELECT rows FROM _tw_tables LIMIT 1";
        Connection::open(&unpacked)?.query_row(tables, [], |row| row.get::<_, i64>(0))?;
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Adds the objects whose names are those of snapshot files.
fn find_snapshot_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_snapshot_files(&path, found)?;
        } else if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("file-")) {
            found.push(path);
        }
    }
    Ok(())
}
