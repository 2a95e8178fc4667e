//! Fetches the files of a snapshot: frames in parallel, each verified before it is written.

use std::path::PathBuf;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use reqwest::Url;
use tidewater_protocol::{ErrorChain, SnapshotFrame, SnapshotLine};
use tidewater_snapshot::{Snapshot, SnapshotError, unpack_frame};
use tokio::task::spawn_blocking;

use super::http::{self, RangeError};
use crate::core::FetchFailed;
use crate::db::snapshot_files::{self, SnapshotFiles, expected};

/// The number of frames in flight. Each takes the memory of its raw and its compressed size, and
/// four fill a connection of usual latency.
const FRAMES_AT_ONCE: usize = 4;

impl From<SnapshotError> for FetchFailed {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Damaged { what, cause: None } => Self::Damaged(what),
            SnapshotError::Damaged { what, cause: Some(cause) } => {
                Self::Damaged(format!("{what}: {}", ErrorChain(&*cause)))
            }
            SnapshotError::NewerFormat(_) => Self::Newer(error.to_string()),
            SnapshotError::Order { .. } | SnapshotError::File { .. } | SnapshotError::Sqlite(_) => {
                Self::Storage(ErrorChain(&error).to_string())
            }
        }
    }
}

/// A frame to fetch: its source and its place in the file.
struct FrameFetch {
    url: Url,
    path: PathBuf,
    frame: SnapshotFrame,
    /// The frame's offset in the compressed file.
    offset: u64,
    /// The frame's offset in the raw file.
    raw_offset: u64,
    may_be_there: bool,
}

/// Fetches the frames that are missing, then verifies what the files say of themselves.
///
/// `base` is the stream's address. Calls `on_frame` for each frame with its compressed size and
/// whether it was fetched.
pub(crate) async fn fetch(
    client: &reqwest::Client,
    base: &Url,
    files: &SnapshotFiles,
    line: &Arc<SnapshotLine>,
    on_frame: impl Fn(u64, bool) + Copy,
) -> Result<(), FetchFailed> {
    let frames = {
        let base = base.clone();
        let files = files.clone();
        let line = Arc::clone(line);
        blocking(move || prepare(&base, &files, &line)).await?
    };

    futures::stream::iter(frames)
        .map(|frame| async move {
            let bytes = frame.frame.bytes;
            let is_new = fetch_frame(client, frame).await?;
            on_frame(bytes, is_new);
            Ok::<_, FetchFailed>(())
        })
        .buffer_unordered(FRAMES_AT_ONCE)
        .try_for_each(|()| std::future::ready(Ok(())))
        .await?;

    let files = files.clone();
    let line = Arc::clone(line);
    blocking(move || verify_files(&files, &line)).await
}

/// Creates the files that are missing, and returns all frames.
fn prepare(
    base: &Url,
    files: &SnapshotFiles,
    line: &SnapshotLine,
) -> Result<Vec<FrameFetch>, FetchFailed> {
    let mut frames = Vec::new();

    for (number, file) in line.files.iter().enumerate() {
        let url = base
            .join(&file.url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| FetchFailed::Damaged("its address is not a URL".to_owned()))?;
        let path = files.path(line, number);
        let may_be_there = files.prepare(&path, file).map_err(|error| storage(&error))?;

        let mut offset = 0;
        let mut raw_offset = 0;
        for frame in &file.frames {
            frames.push(FrameFetch {
                url: url.clone(),
                path: path.clone(),
                frame: frame.clone(),
                offset,
                raw_offset,
                may_be_there,
            });
            offset += frame.bytes;
            raw_offset += frame.raw_bytes;
        }
    }
    Ok(frames)
}

/// Fetches a frame unless it is there. Returns whether it was fetched.
async fn fetch_frame(client: &reqwest::Client, fetch: FrameFetch) -> Result<bool, FetchFailed> {
    let FrameFetch { url, path, frame, offset, raw_offset, may_be_there } = fetch;

    if may_be_there {
        let path = path.clone();
        let frame = frame.clone();
        let is_there = blocking(move || {
            snapshot_files::has_frame(&path, raw_offset, &frame).map_err(|error| storage(&error))
        });
        if is_there.await? {
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
        // Unpacking verifies the hash. Only a right frame is written.
        let raw = unpack_frame(&compressed, &frame)?;
        snapshot_files::write_frame(&path, raw_offset, &raw).map_err(|error| storage(&error))
    })
    .await?;
    Ok(true)
}

/// Verifies the headers and row counts of a snapshot's files, whose frames are all right. The rows
/// are verified when a publication merges them, before any of them is visible.
fn verify_files(files: &SnapshotFiles, line: &SnapshotLine) -> Result<(), FetchFailed> {
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

/// Runs file work on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FetchFailed> + Send + 'static,
) -> Result<T, FetchFailed> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(FetchFailed::Storage(error.to_string())))
}

fn storage(error: &std::io::Error) -> FetchFailed {
    FetchFailed::Storage(format!("cannot store a snapshot: {error}"))
}
