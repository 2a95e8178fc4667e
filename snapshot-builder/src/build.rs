//! Making a base of one bucket.

use std::path::PathBuf;

use tempfile::TempDir;
use tidewater_protocol::OpId;
use tidewater_snapshot::{SnapshotHeader, SnapshotOptions, SnapshotWriter, WrittenFile};
use tidewater_storage::{
    Base, BaseManifest, BucketHead, BucketKey, Catalog, CommittedOps, Replay, Storage, TypedFile,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::BuildError;
use crate::live_rows::LiveRows;
use crate::options::Options;
use crate::policy;

/// Prefix of the names of all objects of bases.
const PREFIX: &str = "snapshots";
/// A marker counts rows in 32 bits.
const ROWS_MAX: u64 = u32::MAX as u64;

/// A bucket to make a base of.
pub(crate) struct Job<'a> {
    pub(crate) bucket: &'a BucketKey,
    pub(crate) head: BucketHead,
    pub(crate) catalog: &'a Catalog,
    pub(crate) committed_ops: &'a CommittedOps,
}

/// Files of a base that is not stored yet.
struct Written {
    base: Base,
    manifest: BaseManifest,
    rows: PathBuf,
    typed: Vec<PathBuf>,
    /// Where they are, as long as it exists.
    dir: TempDir,
}

/// Makes a base of a bucket at a head, and stores its objects. `None` if its rows are not worth it.
pub(crate) async fn build<S: Storage>(
    storage: &S,
    job: Job<'_>,
    options: &Options,
) -> Result<Option<Base>, BuildError> {
    let dir = match &options.temp_dir {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let path = dir.path().join("live");
    let mut rows = blocking(move || LiveRows::create(&path)).await?;
    let live = |op: OpId| job.committed_ops.is_committed(op);
    let mut replay = Replay::new(storage, job.bucket, job.catalog.base.as_ref(), job.head, live);
    while let Some(payload) = replay.next().await? {
        rows = blocking(move || rows.apply(&payload).map(|()| rows)).await?;
    }
    let (rows, totals) = blocking(move || rows.totals().map(|totals| (rows, totals))).await?;
    let is_worth = policy::is_worth(totals.rows, &job.head, job.catalog, options);
    if !is_worth || totals.rows > ROWS_MAX {
        return Ok(None);
    }
    let base = Base {
        to: job.head.last,
        checksum: job.head.sum,
        remainder: job.head.sum - totals.sum,
        rows: totals.rows,
        count: job.head.count,
        name: new_name(job.bucket, job.head.last)?,
        marker: u32::from_le_bytes(random()?),
        files: 0,
    };
    let (bucket, is_typed) = (job.bucket.clone(), totals.rows >= options.threshold);
    let line_rows = options.line_rows;
    let written = blocking(move || {
        let path = dir.path().join("rows");
        let frames = rows.write_rows(&path, line_rows)?;
        let mut written =
            Written { base, manifest: BaseManifest::default(), rows: path, typed: Vec::new(), dir };
        written.manifest.rows = frames;
        if is_typed {
            written.add_typed(&rows, &bucket)?;
        }
        Ok(written)
    })
    .await?;
    store(storage, written).await.map(Some)
}

impl Written {
    /// Writes the typed files.
    fn add_typed(&mut self, rows: &LiveRows, bucket: &BucketKey) -> Result<(), BuildError> {
        let header = SnapshotHeader {
            bucket: bucket.as_str().to_owned(),
            to: self.base.to,
            checksum: self.base.checksum,
        };
        let options = SnapshotOptions::default();
        let mut writer = SnapshotWriter::create(self.dir.path(), &header, &options)?;
        rows.write_typed(&mut writer)?;
        for file in writer.finish()? {
            let WrittenFile { path, raw_bytes, bytes, rows, frames } = file;
            self.typed.push(path);
            self.manifest.files.push(TypedFile { bytes, raw_bytes, rows, frames });
            self.base.files += 1;
        }
        Ok(())
    }
}

/// Stores all objects of a base. What a failure leaves is named by nothing.
async fn store<S: Storage>(storage: &S, written: Written) -> Result<Base, BuildError> {
    let Written { base, manifest, rows, typed, dir: _dir } = written;
    storage.put_object_file(&base.rows_object(), &rows).await?;
    for (number, path) in typed.iter().enumerate() {
        storage.put_object_file(&base.file(number), path).await?;
    }
    storage.put_object(&base.manifest(), manifest.encode()).await?;
    Ok(base)
}

/// A name that was never used before.
fn new_name(bucket: &BucketKey, to: OpId) -> Result<String, BuildError> {
    let hash = xxh3_64(bucket.as_str().as_bytes());
    let nonce = u64::from_le_bytes(random()?);
    Ok(format!("{PREFIX}/{hash:016x}/{}-{nonce:016x}", to.get()))
}

fn random<const N: usize>() -> Result<[u8; N], BuildError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(BuildError::Random)?;
    Ok(bytes)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(BuildError::Cancelled),
        },
    }
}

#[cfg(test)]
mod tests {
    use tidewater_protocol::Epoch;

    use super::*;

    #[test]
    fn two_bases_of_a_bucket_at_one_op_have_different_names() {
        let bucket = BucketKey::from_stored("aaaaaa[]");
        let to = OpId::new(Epoch::ZERO, 7);
        let names = [new_name(&bucket, to).unwrap(), new_name(&bucket, to).unwrap()];
        assert_ne!(names[0], names[1]);
    }
}
