//! A small disk for tests of a full file system, which can be made larger.
//!
//! [`SmallDisk`] is a `tmpfs` in a mount namespace of its own. Other processes do not see it. It
//! needs no privileges where the kernel permits user namespaces, and the kernel removes it with the
//! last process in the namespace.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{Lodging, Process, Scratch, Signal};
use crate::wait::eventually;

/// Time until the disk must be mounted: long enough for a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A mounted disk, which is removed when this is dropped.
pub struct SmallDisk {
    // The process that keeps the namespace exits before the folder is removed.
    holder: Process,
    is_root: bool,
    folder: Scratch,
}

impl SmallDisk {
    /// Mounts a disk of `kib` KiB.
    ///
    /// # Errors
    /// Fails when the kernel does not permit user namespaces.
    pub async fn new(kib: u64) -> Result<Self> {
        // The shell keeps the namespace until it is killed.
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
        eventually("the small disk to be mounted", START_TIMEOUT, async || {
            holder.must_run()?;
            Ok(holder.stdout()?.contains("mounted").then_some(()))
        })
        .await?;
        Ok(Self { holder, is_root, folder })
    }

    /// Returns the mount point, for processes in the namespace of the disk.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Returns the path of a file of the disk for processes outside its namespace.
    #[must_use]
    pub fn path_from_outside(&self, path: &Path) -> PathBuf {
        let mut outside = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        outside.extend(path.components().skip(1));
        outside
    }

    /// Returns a command that runs `command` in the namespace of the disk.
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

    /// Sets the size of the disk to `kib` KiB.
    ///
    /// # Errors
    /// Fails when the disk cannot be mounted again.
    pub fn grow(&self, kib: u64) -> Result<()> {
        let mut command = Command::new("mount");
        command.args(["-o", &format!("remount,size={kib}k")]).arg(self.path());
        let status = self.inside(&command).status().context("cannot run nsenter")?;
        ensure!(status.success(), "cannot set the size of the small disk to {kib} KiB");
        Ok(())
    }
}
