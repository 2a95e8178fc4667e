//! A disk that is soon full, and can be made larger.
//!
//! It is a file system in memory, mounted in a mount namespace of its own: nobody else sees it, it
//! needs no rights where the kernel lets users have namespaces, and it is gone when its last
//! process is, whatever ended that.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{Lodging, Process, Scratch, Signal};
use crate::wait::eventually;

const START: Duration = Duration::from_secs(30);

/// A small disk, which is gone when this is dropped.
pub struct SmallDisk {
    // The process that holds the namespace ends before its folder goes.
    holder: Process,
    is_root: bool,
    folder: Scratch,
}

impl SmallDisk {
    /// A disk of so many KiB.
    ///
    /// # Errors
    /// When the kernel allows no such thing.
    pub async fn new(kib: u64) -> Result<Self> {
        // It keeps the namespace, and its standard input says for how long.
        const HOLD: &str = r#"
            mount -t tmpfs -o "size=$2k" tmpfs "$1" && echo mounted && exec sleep infinity"#;
        let folder = Scratch::new()?;
        let is_root = std::fs::metadata("/proc/self")?.uid() == 0;
        let mount = folder.path().join("disk");
        std::fs::create_dir(&mount)?;
        let mut command = Command::new("unshare");
        if !is_root {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "sh", "-c", HOLD, "hold"]).arg(&mount).arg(kib.to_string());
        command.stdin(Stdio::null());
        let lodging = Lodging { name: "small-disk", logs: folder.path(), end: Signal::Kill };
        let mut holder = Process::spawn(&mut command, lodging)?;
        eventually("a small disk", START, async || {
            holder.must_run()?;
            Ok(holder.stdout()?.contains("mounted").then_some(()))
        })
        .await?;
        Ok(Self { holder, is_root, folder })
    }

    /// Where it is, for processes that run inside.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Where a file of it is, for everybody else.
    #[must_use]
    pub fn seen_from_outside(&self, path: &Path) -> PathBuf {
        let mut seen = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        seen.extend(path.components().skip(1));
        seen
    }

    /// The same command, run where the disk is.
    #[must_use]
    pub fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.args(["--target", &self.holder.id().to_string(), "--mount"]);
        if !self.is_root {
            inside.args(["--user", "--preserve-credentials"]);
        }
        inside.arg("--").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside.stdin(Stdio::null());
        inside
    }

    /// Makes it larger.
    ///
    /// # Errors
    /// When the kernel does not.
    pub fn grow(&self, kib: u64) -> Result<()> {
        let mut command = Command::new("mount");
        command.args(["-o", &format!("remount,size={kib}k")]).arg(self.path());
        let status = self.inside(&command).status().context("cannot run nsenter")?;
        ensure!(status.success(), "the small disk cannot be made larger");
        Ok(())
    }
}
