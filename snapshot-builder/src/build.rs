//! Building the base of one bucket.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidewater_protocol::OpId;
use tidewater_snapshot::{SnapshotHeader, SnapshotOptions, SnapshotWriter, WrittenFile};
use tidewater_storage::{
    Base, BaseManifest, BucketHead, BucketKey, Catalog, CommittedOps, ObjectStore, OpLog, Replay,
    TypedFile,
};
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::BuildError;
use crate::live_rows::LiveRows;
use crate::metrics;
use crate::options::Options;
use crate::policy;

/// Prefix of the names of all objects of bases, for lifecycle rules and permissions.
const PREFIX: &str = "snapshots";
/// Maximum number of rows of a base. A marker has 32 bits for the number of rows.
const ROWS_MAX: u64 = u32::MAX as u64;

/// A bucket whose base is to be built.
pub(crate) struct Job<'a> {
    pub(crate) bucket: &'a BucketKey,
    /// The bucket's head at the visible checkpoint, up to which the base reaches.
    pub(crate) head: BucketHead,
    pub(crate) catalog: &'a Catalog,
    pub(crate) committed_ops: &'a CommittedOps,
}

/// The files of a base whose objects are not stored yet.
struct BaseFiles {
    base: Base,
    manifest: BaseManifest,
    rows: PathBuf,
    typed: Vec<PathBuf>,
    /// Directory of the files. It is removed when this is dropped.
    dir: TempDir,
}

/// Builds the base of a bucket and stores its objects, but does not publish it. Returns `None` if the bucket
/// has too few or too many rows.
pub(crate) async fn build<S: ObjectStore + OpLog>(
    storage: &S,
    job: Job<'_>,
    options: &Options,
) -> Result<Option<Base>, BuildError> {
    let began = Instant::now();
    let dir = match &options.temp_dir {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let path = dir.path().join("live");
    let mut rows = blocking(move || LiveRows::create(&path)).await?;

    // The replay ends without an error only if links and sums prove that the history is complete.
    let mut replay =
        Replay::new(storage, job.bucket, job.catalog.base.as_ref(), job.head, |op: OpId| {
            job.committed_ops.is_committed(op)
        });
    while let Some(payload) = replay.next().await? {
        metrics::count_read(payload.len());
        rows = blocking(move || rows.apply(&payload).map(|()| rows)).await?;
    }

    let (rows, totals) = blocking(move || rows.totals().map(|totals| (rows, totals))).await?;
    if !policy::is_worth(totals.rows, &job.head, job.catalog, options) || totals.rows > ROWS_MAX {
        return Ok(None);
    }

    // The remainder is the sum of the operations that the base leaves out. With it, base and log keep the
    // bucket's sum.
    let base = Base {
        to: job.head.last,
        checksum: job.head.sum,
        remainder: job.head.sum - totals.sum,
        rows: totals.rows,
        count: job.head.count,
        name: new_name(job.bucket, job.head.last)?,
        marker: u32::from_le_bytes(random()?),
        files: 0,
        frames: 0, // Known once the rows are written.
    };
    let bucket = job.bucket.clone();
    let is_typed = totals.rows >= options.threshold;
    let line_rows = options.line_rows;
    let files = blocking(move || {
        let path = dir.path().join("rows");
        let frames = rows.write_rows(&path, line_rows)?;
        let mut files = BaseFiles {
            base,
            manifest: BaseManifest::default(),
            rows: path,
            typed: Vec::new(),
            dir,
        };
        files.base.frames = u32::try_from(frames.len()).unwrap_or(u32::MAX);
        files.manifest.rows = frames;
        if is_typed {
            files.add_typed(&rows, &bucket)?;
        }
        Ok(files)
    })
    .await?;

    let base = store(storage, files).await?;
    metrics::record_build(began.elapsed());
    Ok(Some(base))
}

impl BaseFiles {
    /// Writes the typed files, which clients download as they are.
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

/// Stores all objects of a base.
///
/// The names are new, so nothing is overwritten. A failure leaves objects that no catalog names, and no
/// reader finds.
async fn store<S: ObjectStore>(storage: &S, files: BaseFiles) -> Result<Base, BuildError> {
    let BaseFiles { base, manifest, rows, typed, dir: _dir } = files;
    store_file(storage, &base.rows_object(), &rows).await?;
    for (number, path) in typed.iter().enumerate() {
        store_file(storage, &base.file(number), path).await?;
    }

    let manifest = manifest.encode();
    metrics::count_written(manifest.len() as u64);
    storage.put_object(&base.manifest(), manifest).await?;
    Ok(base)
}

async fn store_file<S: ObjectStore>(
    storage: &S,
    name: &str,
    path: &Path,
) -> Result<(), BuildError> {
    storage.put_object_file(name, path).await?;
    metrics::count_written(std::fs::metadata(path)?.len());
    Ok(())
}

/// Returns a name that was never used before: 64 random bits make it unique. A name that is reused could
/// meet a deletion that was meant for its former object.
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

/// Runs `work` on a thread that may block.
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
    fn two_bases_of_a_bucket_at_one_position_have_different_names() {
        let bucket = BucketKey::from_stored("aaaaaa[]");
        let to = OpId::new(Epoch::ZERO, 7);
        let names = [new_name(&bucket, to).unwrap(), new_name(&bucket, to).unwrap()];
        assert_ne!(names[0], names[1]);
    }
}
