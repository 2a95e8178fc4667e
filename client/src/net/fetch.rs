//! Fetches the files of a snapshot: ranges in parallel, each frame checked before it is written.

use std::path::PathBuf;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use reqwest::Url;
use tidewater_protocol::{SnapshotFrame, SnapshotLine};
use tidewater_snapshot::{Expected, Snapshot, SnapshotError, unpack_frame};
use tokio::task::spawn_blocking;

use crate::core::RequestFailed;
use crate::db::snapshot_files::{self, SnapshotFiles};
use crate::net::http::{self, RangeError};

/// Frames under way at once; each takes its raw and its compressed size of memory.
const FRAMES_AT_ONCE: usize = 4;

/// Why a snapshot was not fetched. What arrived of it stays, and need not be fetched again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FetchFailed {
    /// The network, or a refusal: a new stream brings new addresses.
    Request(RequestFailed),
    /// It is not what was announced.
    Damaged(String),
    /// A later version wrote it.
    Newer(String),
    /// The device's disk.
    Storage(String),
}

impl From<SnapshotError> for FetchFailed {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Damaged(reason) => Self::Damaged(reason),
            SnapshotError::NewerFormat(_) => Self::Newer(error.to_string()),
            SnapshotError::Order { .. } | SnapshotError::File { .. } | SnapshotError::Sqlite(_) => {
                Self::Storage(with_source(&error))
            }
        }
    }
}

/// A frame's place.
struct Place {
    url: Url,
    path: PathBuf,
    frame: SnapshotFrame,
    offset: u64,
    raw_offset: u64,
    may_be_there: bool,
}

/// Fetches what is missing, then looks at what the files say of themselves. `base` is the stream's
/// address; `on_frame` is told each frame's compressed bytes and whether it had to be fetched.
pub(crate) async fn fetch(
    client: &reqwest::Client,
    base: &Url,
    files: &SnapshotFiles,
    line: &Arc<SnapshotLine>,
    on_frame: impl Fn(u64, bool) + Copy,
) -> Result<(), FetchFailed> {
    let places = {
        let (base, files, line) = (base.clone(), files.clone(), Arc::clone(line));
        blocking(move || places(&base, &files, &line)).await?
    };
    futures::stream::iter(places)
        .map(|place| async move {
            let bytes = place.frame.bytes;
            let is_new = fetch_frame(client, place).await?;
            on_frame(bytes, is_new);
            Ok::<_, FetchFailed>(())
        })
        .buffer_unordered(FRAMES_AT_ONCE)
        .try_for_each(|()| std::future::ready(Ok(())))
        .await?;
    let (files, line) = (files.clone(), Arc::clone(line));
    blocking(move || look(&files, &line)).await
}

fn places(
    base: &Url,
    files: &SnapshotFiles,
    line: &SnapshotLine,
) -> Result<Vec<Place>, FetchFailed> {
    let mut places = Vec::new();
    for (number, file) in line.files.iter().enumerate() {
        let url = base.join(&file.url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| FetchFailed::Damaged("its address is no URL".to_owned()))?;
        let path = files.path(line, number);
        let may_be_there = files.prepare(&path, file).map_err(|e| storage(&e))?;
        let (mut offset, mut raw_offset) = (0, 0);
        for frame in &file.frames {
            let (url, path, frame) = (url.clone(), path.clone(), frame.clone());
            let (bytes, raw_bytes) = (frame.bytes, frame.raw_bytes);
            places.push(Place { url, path, frame, offset, raw_offset, may_be_there });
            offset += bytes;
            raw_offset += raw_bytes;
        }
    }
    Ok(places)
}

/// True if the frame was not there yet.
async fn fetch_frame(client: &reqwest::Client, place: Place) -> Result<bool, FetchFailed> {
    let Place { url, path, frame, offset, raw_offset, may_be_there } = place;
    if may_be_there {
        let (path, frame) = (path.clone(), frame.clone());
        let look = move || snapshot_files::has_frame(&path, raw_offset, &frame);
        if blocking(move || look().map_err(|e| storage(&e))).await? {
            return Ok(false);
        }
    }
    let compressed = match http::range(client, url, offset, frame.bytes).await {
        Ok(compressed) => compressed,
        Err(RangeError::Failed(failed)) => return Err(FetchFailed::Request(failed)),
        Err(RangeError::Short) => {
            let reason = "the file ends before its announced length".to_owned();
            return Err(FetchFailed::Damaged(reason));
        }
    };
    blocking(move || {
        let raw = unpack_frame(&compressed, &frame)?;
        snapshot_files::write_frame(&path, raw_offset, &raw).map_err(|e| storage(&e))
    })
    .await?;
    Ok(true)
}

/// Looks at all files of a snapshot whose frames were proven. Rows are looked at when they are taken
/// in, before anything of them is visible.
fn look(files: &SnapshotFiles, line: &SnapshotLine) -> Result<(), FetchFailed> {
    let mut rows = 0;
    for (number, file) in line.files.iter().enumerate() {
        let snapshot = Snapshot::open(&files.path(line, number), &expected(line, file.raw_bytes))?;
        rows += snapshot.rows();
    }
    if rows == line.rows {
        return Ok(());
    }
    Err(FetchFailed::Damaged(format!("it has {rows} rows instead of {}", line.rows)))
}

/// What a file of a line must be.
pub(crate) fn expected(line: &SnapshotLine, raw_bytes: u64) -> Expected<'_> {
    Expected { bucket: &line.bucket, to: line.to, checksum: line.checksum, raw_bytes }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FetchFailed> + Send + 'static,
) -> Result<T, FetchFailed> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(FetchFailed::Storage(error.to_string())))
}

fn storage(error: &std::io::Error) -> FetchFailed {
    FetchFailed::Storage(format!("cannot store a snapshot: {error}"))
}

fn with_source(error: &SnapshotError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
