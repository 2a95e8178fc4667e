//! A base as a `snapshot` line: addresses of its files instead of its rows.

use tidewater_protocol::{SnapshotFile, SnapshotLine};
use tidewater_storage::{BaseReader, ObjectStore, StorageError};

use crate::snapshot_url::SnapshotAddresses;

/// Returns the line that replaces all rows of a base.
pub(super) async fn snapshot_line<S: ObjectStore>(
    storage: &S,
    addresses: SnapshotAddresses<'_>,
    bucket: &str,
    open: &BaseReader,
) -> Result<SnapshotLine, StorageError> {
    let base = &open.base;
    let mut files = Vec::with_capacity(open.manifest.files.len());
    for (number, file) in open.manifest.files.iter().enumerate() {
        let object = base.file(number);
        let url = match storage.object_url(&object, addresses.lifetime).await? {
            Some(url) => url,
            None => addresses.urls.sign(&object, file.bytes, addresses.lifetime),
        };
        files.push(SnapshotFile { url, raw_bytes: file.raw_bytes, frames: file.frames.clone() });
    }

    Ok(SnapshotLine {
        bucket: bucket.to_owned(),
        id: base.name.clone(),
        to: base.to,
        checksum: base.checksum,
        rows: base.rows,
        count: base.sent_operations(),
        files,
    })
}
