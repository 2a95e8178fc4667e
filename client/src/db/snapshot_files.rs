//! The files of snapshots on the device, complete or not. `LAYOUT.md` describes them.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tidewater_protocol::{SnapshotFile, SnapshotFrame, SnapshotLine};
use tidewater_snapshot::{ExpectedFile, frame_matches};

/// The folder of snapshot files beside a database.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotFiles {
    folder: PathBuf,
}

impl SnapshotFiles {
    pub(crate) fn beside(database: &Path) -> Self {
        let mut folder = database.as_os_str().to_owned();
        folder.push("-snapshots");
        Self { folder: folder.into() }
    }

    /// Returns the path of a snapshot's file. The server chooses the names of bucket and snapshot,
    /// so they are hashed: they may contain anything, path separators included.
    pub(crate) fn path(&self, line: &SnapshotLine, file: usize) -> PathBuf {
        let mut hash = Sha256::new();
        hash.update((line.bucket.len() as u64).to_le_bytes());
        hash.update(&line.bucket);
        hash.update(&line.id);
        let name = hex::encode(&hash.finalize()[..8]);

        self.folder.join(format!("{name}-{file}.part"))
    }

    /// Creates a file in its full length, or keeps the one that is there. Returns whether it may
    /// contain frames already.
    pub(crate) fn prepare(&self, path: &Path, file: &SnapshotFile) -> io::Result<bool> {
        fs::create_dir_all(&self.folder)?;
        let part = File::options().create(true).truncate(false).write(true).open(path)?;
        let was_there = part.metadata()?.len() > 0;
        part.set_len(file.raw_bytes)?;

        Ok(was_there)
    }

    /// Removes all files. Must not be called while a snapshot is being fetched or waits to be
    /// published.
    pub(crate) fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Returns the header that a file of the line must have.
pub(crate) fn expected(line: &SnapshotLine, raw_bytes: u64) -> ExpectedFile<'_> {
    ExpectedFile { bucket: &line.bucket, to: line.to, checksum: line.checksum, raw_bytes }
}

/// Returns whether the frame is in the file already.
pub(crate) fn has_frame(path: &Path, offset: u64, frame: &SnapshotFrame) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut raw = Vec::new();
    file.take(frame.raw_bytes).read_to_end(&mut raw)?;

    Ok(frame_matches(&raw, frame))
}

pub(crate) fn write_frame(path: &Path, offset: u64, raw: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(raw)
}

/// Returns whether all frames of a file are there.
pub(crate) fn is_complete(path: &Path, file: &SnapshotFile) -> io::Result<bool> {
    let mut offset = 0;
    for frame in &file.frames {
        if !has_frame(path, offset, frame)? {
            return Ok(false);
        }
        offset += frame.raw_bytes;
    }

    Ok(true)
}
