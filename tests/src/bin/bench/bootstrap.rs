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

use crate::options::Options;
use crate::site::{PATIENCE, Site};
use crate::source::{Layout, OWNER, Source};
use crate::table::{Line, megabytes};
use crate::{floors, usage};

const SCHEMA: &str = "
    CREATE TABLE todos (id TEXT PRIMARY KEY, created_at TEXT, completed INTEGER,
        description TEXT, list_id TEXT, owner_id TEXT);
    CREATE TABLE marker (id TEXT PRIMARY KEY, text TEXT);";

pub(crate) async fn measure(options: &Options) -> Result<()> {
    let source = Source::with_rows(options.rows).await?;
    let mut site = Site::new(Layout::Global, true)?;
    let (serve, url) = site.filled(&source).await?;
    let raw = sync(&site, &url, options.rows, &[]).await?;
    site.compact().await?;
    // One that has not looked at the bucket yet.
    drop(serve);
    let (_serve, url) = site.serve().await?;
    let floor = floor(&site.data_dir().join("objects")).await?;
    let adopted = sync(&site, &url, options.rows, &[]).await?;
    let lines = sync(&site, &url, options.rows, &["--no-snapshots"]).await?;
    let runs = [
        ("with snapshots", adopted, "<= 1.5 adopted, <= 4 merged"),
        ("data lines of a base", lines, ""),
        ("data lines of raw history", raw, ""),
    ];
    for (how, run, bar) in runs {
        Line {
            what: format!("first sync of {} rows by our client, {how}", options.rows),
            figure: format!(
                "{:.2} s, {} ({}); {:.2} s to the end of the process",
                run.seconds,
                megabytes(run.bytes),
                run.methods,
                run.until_end
            ),
            floor: format!("{floor:.2} s"),
            ratio: format!("{:.1}", run.seconds / floor),
            bar,
            cpu: format!("{:.2}", run.cpu),
        }
        .print()?;
    }
    Ok(())
}

/// What the client says of itself, and what it took.
struct Run {
    /// From its connecting to the visible checkpoint.
    seconds: f64,
    /// Of the whole process: after a snapshot it writes the WAL back before it ends.
    until_end: f64,
    bytes: u64,
    methods: String,
    cpu: f64,
}

async fn sync(site: &Site, url: &str, rows: u64, arguments: &[&str]) -> Result<Run> {
    let mut device = Device::new(SCHEMA)?;
    let before = usage::children_cpu_seconds()?;
    let start = Instant::now();
    let output = device.sync_once(url, &site.token(OWNER)?, arguments, PATIENCE).await?;
    let until_end = start.elapsed().as_secs_f64();
    let cpu = usage::children_cpu_seconds()? - before;
    ensure!(output.code == Some(0), "sync failed: {}", output.stderr);
    let report: Value = serde_json::from_str(&output.stdout)?;
    let count = device.column("SELECT CAST(count(*) AS TEXT) FROM todos")?;
    ensure!(count == [rows.to_string()], "the file has {count:?} rows, not {rows}");
    let methods = report["buckets"].as_object().context("no buckets in the report")?;
    let mut methods: Vec<&str> = methods.values().filter_map(Value::as_str).collect();
    methods.sort_unstable();
    methods.dedup();
    Ok(Run {
        seconds: report["seconds"]["total"].as_f64().context("no total in the report")?,
        until_end,
        bytes: report["bytes"].as_u64().context("no bytes in the report")?,
        methods: methods.join(", "),
        cpu,
    })
}

/// The snapshot's files over loopback, `zstd -d`, and one row read from the result.
async fn floor(objects: &Path) -> Result<f64> {
    let mut files = Vec::new();
    find_files(objects, &mut files)?;
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
        ensure!(zstd.status()?.success(), "zstd cannot unpack {}", file.display());
        let tables = "SELECT rows FROM _tw_tables LIMIT 1";
        Connection::open(&unpacked)?.query_row(tables, [], |row| row.get::<_, i64>(0))?;
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Objects whose names say that they are typed files of a base.
fn find_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_files(&path, found)?;
        } else if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("file-")) {
            found.push(path);
        }
    }
    Ok(())
}
