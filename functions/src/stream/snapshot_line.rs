//! A base as a `snapshot` line: addresses of its files instead of its rows.

use std::time::Duration;

use tidewater_protocol::{SnapshotFile, SnapshotLine};
use tidewater_storage::{BaseReader, ObjectStore, StorageError};

use crate::snapshot_url::SnapshotUrls;

/// Lifetime of an address. An hour is enough for 1 GiB at 300 kB/s. A client that needs longer
/// connects again, gets new addresses, and resumes where it was.
const URL_LIFETIME: Duration = Duration::from_secs(3_600);

/// Returns the line that replaces all rows of a base.
pub(super) async fn snapshot_line<S: ObjectStore>(
    storage: &S,
    urls: &SnapshotUrls,
    bucket: &str,
    open: &BaseReader,
) -> Result<SnapshotLine, StorageError> {
    let base = &open.base;
    let mut files = Vec::with_capacity(open.manifest.files.len());
    for (number, file) in open.manifest.files.iter().enumerate() {
        let object = base.file(number);
        let url = match storage.object_url(&object, URL_LIFETIME).await? {
            Some(url) => url,
            None => urls.sign(&object, file.bytes, URL_LIFETIME),
        };
        files.push(SnapshotFile { url, raw_bytes: file.raw_bytes, frames: file.frames.clone() });
    }

    Ok(SnapshotLine {
        bucket: bucket.to_owned(),
        id: base.name.clone(),
        to: base.to,
        checksum: base.checksum,
        rows: base.rows,
        count: base.rows,
        files,
    })
}
