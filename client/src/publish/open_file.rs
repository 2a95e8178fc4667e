//! A snapshot's file that is open for merging.

use std::path::PathBuf;

use tidewater_snapshot::Snapshot;

#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) bucket: i64,
    pub(super) bucket_name: String,
    /// The snapshot's line as stored. It tells whether the snapshot still waits.
    pub(super) line: String,
    pub(super) path: PathBuf,
    pub(super) snapshot: Snapshot,
    /// The name under which the file is attached. `None` if too many others are.
    pub(super) schema: Option<String>,
}
