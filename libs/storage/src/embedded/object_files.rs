//! The files of objects.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use crate::error::StorageError;

/// The directories of finished and unfinished objects.
#[derive(Debug)]
pub(super) struct ObjectFiles {
    finished: PathBuf,
    unfinished: PathBuf,
}

impl ObjectFiles {
    /// Creates the directories below `dir`, and removes the unfinished files of killed processes.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let objects = Self { finished: dir.join("objects"), unfinished: dir.join("unfinished") };
        fs::create_dir_all(&objects.finished)?;
        fs::create_dir_all(&objects.unfinished)?;
        for entry in fs::read_dir(&objects.unfinished)? {
            let path = entry?.path();
            // A writer locks its file, and the lock of a killed process is released.
            if File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
                let _ = fs::remove_file(path);
            }
        }
        Ok(objects)
    }

    /// Returns the size of all objects in bytes.
    pub(super) fn size(&self) -> io::Result<u64> {
        let mut bytes = 0;
        let mut open = vec![self.finished.clone()];

        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                match entry.metadata() {
                    Ok(found) if found.is_dir() => open.push(entry.path()),
                    Ok(found) => bytes += found.len(),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(bytes)
    }

    /// Returns the path of an object.
    ///
    /// # Errors
    /// If a part of the name is empty, `.` or `..`.
    pub(super) fn path(&self, name: &str) -> Result<PathBuf, StorageError> {
        if !name.split('/').all(is_plain) {
            let cause = format!("'{name}' cannot be the name of an object");
            return Err(StorageError::Refused(cause.into()));
        }
        Ok(self.finished.join(name))
    }

    pub(super) fn put(&self, path: &Path, mut content: &[u8]) -> io::Result<()> {
        self.put_from(path, &mut content)
    }

    pub(super) fn put_from(&self, path: &Path, content: &mut impl Read) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.unfinished)?;
        file.as_file().lock()?;
        io::copy(content, file.as_file_mut())?;
        file.as_file().sync_all()?;
        let dir = path.parent().unwrap_or(&self.finished);
        fs::create_dir_all(dir)?;
        file.persist(path)?;

        // The name is durable once its directory is synced, and each directory once its parent is.
        for dir in dir.ancestors().take_while(|dir| dir.starts_with(&self.finished)) {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }
}

/// Returns whether a part of a name means itself in a path.
fn is_plain(part: &str) -> bool {
    let mut components = Path::new(part).components();
    !part.contains('\0')
        && matches!(components.next(), Some(Component::Normal(whole)) if whole == part)
        && components.next().is_none()
}

/// Reads a range of a file, cut at the file's end.
pub(super) fn read(path: &Path, range: Range<u64>) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    let end = range.end.min(file.metadata()?.len());
    let length = end.saturating_sub(range.start);
    let mut content = Vec::new();
    if length > 0 {
        content.reserve_exact(usize::try_from(length).map_err(io::Error::other)?);
        file.seek(SeekFrom::Start(range.start))?;
        file.take(length).read_to_end(&mut content)?;
    }
    Ok(content.into())
}
