//! The files of snapshots on the device, complete or not; see `LAYOUT.md`.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tidewater_protocol::{SnapshotFile, SnapshotFrame, SnapshotLine};
use tidewater_snapshot::frame_matches;

/// The folder beside a database that they lie in.
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

    /// Where a file of a snapshot is. The names of bucket and snapshot are the server's: not fit
    /// for a path.
    pub(crate) fn path(&self, line: &SnapshotLine, file: usize) -> PathBuf {
        let mut hash = Sha256::new();
        hash.update((line.bucket.len() as u64).to_le_bytes());
        hash.update(&line.bucket);
        hash.update(&line.id);
        let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = hash.finalize().into();
        let name = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        self.folder.join(format!("{name:016x}-{file}.part"))
    }

    /// Makes room for a file, or finds what is there of it. True if there may be something.
    pub(crate) fn prepare(&self, path: &Path, file: &SnapshotFile) -> io::Result<bool> {
        fs::create_dir_all(&self.folder)?;
        let part = File::options().create(true).truncate(false).write(true).open(path)?;
        let was_there = part.metadata()?.len() > 0;
        part.set_len(file.raw_bytes)?;
        Ok(was_there)
    }

    /// Removes all files. To be called when none is being fetched and none waits to be published.
    pub(crate) fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether the frame is in the file already.
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

/// Whether all frames of a file are there.
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
