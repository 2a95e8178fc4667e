//! The data directory: created if it is missing, and readable by its owner alone. One process with a
//! worker (`dev`, `ingest`) uses it at a time; `serve` and `compact` may share it.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::Context;
use rustix::fs::Mode;

use crate::terminal::failure::Failure;

/// Data directory without `--data-dir`.
pub(crate) const DEFAULT: &str = ".tidewater";

/// Content of the `.gitignore` in a data directory: people run Tidewater in the folder of their project.
const GIT_IGNORE: &[u8] =
    b"# Synced rows and the development key of Tidewater. Not for version control.\n*\n";

/// Makes the files and directories that this process creates readable by its owner alone: they hold
/// rows of all users, and keys.
pub(crate) fn create_private_files() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// A data directory that this process has locked. The kernel releases the lock when the process ends,
/// also when it is killed.
#[derive(Debug)]
pub(crate) struct DataDir {
    _lock: File,
}

impl DataDir {
    /// Creates the directory if it does not exist, and locks it. An existing directory keeps its mode.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        create_private_files();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot create the data directory '{shown}'"))?;

        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .with_context(|| format!("cannot write to the data directory '{shown}'"))?;

        ignore_in_git(path)
            .with_context(|| format!("cannot write to the data directory '{shown}'"))?;

        match file.try_lock() {
            Ok(()) => Ok(Self { _lock: file }),
            Err(TryLockError::WouldBlock) => Err(anyhow::anyhow!(
                "the data directory '{shown}' is in use by another tidewater process; stop that \
                 process, or choose another directory with --data-dir or --store"
            )
            .into()),
            Err(TryLockError::Error(error)) => Err(anyhow::Error::new(error)
                .context(format!("cannot lock the data directory '{shown}'"))
                .into()),
        }
    }
}

/// Writes `.gitignore`, unless there is one.
fn ignore_in_git(dir: &Path) -> std::io::Result<()> {
    match File::create_new(dir.join(".gitignore")) {
        Ok(mut file) => std::io::Write::write_all(&mut file, GIT_IGNORE),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn only_the_owner_reads_a_new_directory_and_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/for/it");
        let _open = DataDir::open(&path).unwrap();
        std::fs::write(path.join("rows"), "of all users").unwrap();
        std::fs::create_dir(path.join("objects")).unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!((mode(&path.join("lock")), mode(&path.join("rows"))), (0o600, 0o600));
        assert_eq!(mode(&path.join("objects")), 0o700);
    }

    #[test]
    fn an_existing_directory_keeps_its_mode_and_its_gitignore() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o750)).unwrap();
        std::fs::write(dir.path().join(".gitignore"), "mine").unwrap();
        let _open = DataDir::open(dir.path()).unwrap();
        assert_eq!(mode(dir.path()), 0o750);
        assert_eq!(std::fs::read_to_string(dir.path().join(".gitignore")).unwrap(), "mine");
    }

    #[test]
    fn git_ignores_everything_in_a_new_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let _open = DataDir::open(&path).unwrap();
        let text = std::fs::read_to_string(path.join(".gitignore")).unwrap();
        assert!(text.lines().any(|line| line == "*"), "{text}");
    }

    #[test]
    fn a_locked_directory_cannot_be_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/for/it");
        let first = DataDir::open(&path).unwrap();
        let Err(Failure::Failed(error)) = DataDir::open(&path) else {
            panic!("it was opened twice")
        };
        assert!(error.to_string().contains("in use by another tidewater process"), "{error}");
        drop(first);
        DataDir::open(&path).unwrap();
    }
}
