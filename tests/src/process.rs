//! Child processes that never outlive the test, and folders that do not either.
//!
//! A test that ends in any orderly way, panics included, stops its children and removes its folders
//! when it drops them. A test process that is killed cannot: so each child and each folder has a
//! guard beside it, a small shell that waits on a pipe whose other end only the test holds. The
//! kernel closes that end whatever ends the test, and the guard then kills the child, or removes
//! the folder. Nothing here depends on process groups, on threads, or on more of an operating
//! system than pipes.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::wait::eventually;

/// How much of a child's log is shown with a failed test.
const LOG_TAIL_BYTES: u64 = 16 * 1024;

/// A signal that tests send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// An orderly end.
    Term,
    /// Ctrl-C.
    Int,
    /// PostgreSQL's immediate shutdown.
    Quit,
    /// The end at once.
    Kill,
    /// Frozen until `Cont`.
    Stop,
    /// Goes on after `Stop`.
    Cont,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Cont => "CONT",
        }
    }

    /// Sends the signal. `kill` is a built-in of every shell, and needs no unsafe code here.
    fn send(self, pid: u32) -> Result<()> {
        let status = Command::new("sh")
            .args(["-c", r#"kill -s "$1" "$2""#, "sh", self.name(), &pid.to_string()])
            .stderr(Stdio::null())
            .status()?;
        ensure!(status.success(), "cannot send {self:?} to process {pid}: it is gone");
        Ok(())
    }
}

/// Acts when this process ends without having said otherwise.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Sends a process this signal, and kills it when that does not end it.
    fn of_process(pid: u32, signal: Signal) -> Result<Self> {
        const SCRIPT: &str = r#"
            kill -s "$2" "$1" 2>/dev/null
            tries=0
            while kill -0 "$1" 2>/dev/null && [ "$tries" -lt 100 ]; do
                sleep 0.1; tries=$((tries + 1))
            done
            kill -s KILL "$1" 2>/dev/null"#;
        Self::new(SCRIPT, &[pid.to_string().as_ref(), signal.name().as_ref()])
    }

    /// Removes a folder, in which a process may still be at work for a moment.
    fn of_folder(folder: &Path) -> Result<Self> {
        const SCRIPT: &str = r#"
            tries=0
            while rm -rf "$1" 2>/dev/null; [ -e "$1" ] && [ "$tries" -lt 100 ]; do
                sleep 0.1; tries=$((tries + 1))
            done
            sleep 0.5
            rm -rf "$1""#;
        Self::new(SCRIPT, &[folder.as_ref()])
    }

    fn new(script: &str, arguments: &[&OsStr]) -> Result<Self> {
        let script = format!("trap '' INT TERM HUP\nread -r _ && exit 0\n{script}");
        let mut shell = Command::new("sh")
            .args(["-c", &script, "guard"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start a shell")?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }

    /// What was guarded is gone. A process's id may be given to another at any time.
    fn dismiss(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            // Cannot fail but by a guard that is gone, which then guards nothing.
            let _ = pipe.write_all(b"\n");
        }
        let _ = self.shell.wait();
    }

    /// What the kernel does when this process is killed; for the test of the guard itself.
    #[cfg(test)]
    fn abandon(&mut self) {
        drop(self.pipe.take());
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.dismiss();
    }
}

/// A folder for the files of a test. Other users may look up what they know the name of: a server
/// may have to run as one.
#[derive(Debug)]
pub struct Scratch {
    // The folder goes before its guard.
    folder: TempDir,
    _guard: Guard,
}

impl Scratch {
    /// An empty folder.
    ///
    /// # Errors
    /// Of the file system.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tidewater-test-").tempdir()?;
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o711))?;
        let guard = Guard::of_folder(folder.path())?;
        Ok(Self { folder, _guard: guard })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// How a process ended, and what it said.
#[derive(Clone, Debug)]
pub struct Output {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

/// A child process whose output goes to files, and which ends when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    guard: Guard,
    end: Signal,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// Where a process lives and how it is ended.
#[derive(Clone, Copy, Debug)]
pub struct Lodging<'a> {
    /// For logs.
    pub name: &'a str,
    /// Takes its output.
    pub logs: &'a Path,
    /// What ends it when it is dropped, and when the test is killed.
    pub end: Signal,
}

impl Process {
    /// Starts it, with nothing to read on its standard input unless the command says otherwise.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command, lodging: Lodging<'_>) -> Result<Self> {
        let stdout = lodging.logs.join(format!("{}.out", lodging.name));
        let stderr = lodging.logs.join(format!("{}.err", lodging.name));
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            // What a process that is killed has there goes with the test's own folder.
            .env("TMPDIR", lodging.logs)
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let guard = match Guard::of_process(child.id(), lodging.end) {
            Ok(guard) => guard,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
        let name = lodging.name.to_owned();
        Ok(Self { name, child, guard, end: lodging.end, stdout, stderr })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, once, if the command asked for a pipe.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal.send(self.child.id())
    }

    /// Waits for the line `listening on http://...` on its standard output; the address.
    ///
    /// # Errors
    /// When it does not come in time, or the process ends instead, with its log.
    pub async fn listening(&mut self, within: Duration) -> Result<String> {
        let url = eventually("the line `listening on ...`", within, async || {
            if self.try_wait()?.is_some() {
                return Ok(Some(None));
            }
            let stdout = self.stdout()?;
            let line = stdout.lines().find_map(|line| line.strip_prefix("listening on "));
            // The line may be half written.
            Ok(line.filter(|_| stdout.ends_with('\n')).map(|url| Some(url.trim().to_owned())))
        })
        .await?;
        self.must_run()?;
        url.with_context(|| format!("{} ended", self.name))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.guard.dismiss();
        }
        Ok(status)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after that time.
    pub async fn wait(&mut self, within: Duration) -> Result<Output> {
        let what = format!("the end of {}", self.name);
        let status = eventually(&what, within, async || self.try_wait()).await?;
        Ok(Output { code: status.code(), stdout: self.stdout()?, stderr: self.stderr()? })
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.guard.dismiss();
        Ok(())
    }

    /// What it has written to standard output so far.
    ///
    /// # Errors
    /// Of the file system.
    pub fn stdout(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.stdout)?).into_owned())
    }

    /// What it has written to standard error so far.
    ///
    /// # Errors
    /// Of the file system.
    pub fn stderr(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.stderr)?).into_owned())
    }

    /// Fails, with its log, if it has ended.
    ///
    /// # Errors
    /// As said.
    pub fn must_run(&mut self) -> Result<()> {
        if let Some(status) = self.try_wait()? {
            bail!("{} has ended ({status}):\n{}", self.name, tail(&self.stderr)?);
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        // A stopped process does not see any other signal.
        let _ = self.signal(Signal::Cont);
        let _ = self.signal(self.end);
        for _ in 0..500 {
            if self.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill()
    }
}

impl Drop for Process {
    /// Ends it. The end of its log goes to standard error, which test runners show for a test
    /// that fails, and only then.
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("cannot stop {}: {error:#}", self.name);
        }
        let log = tail(&self.stderr).unwrap_or_default();
        eprintln!("---- log of {} ----\n{log}", self.name);
    }
}

fn tail(path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_and_its_files_go_when_the_test_is_killed() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("data");
        std::fs::create_dir(&folder).unwrap();
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let mut guards = [Guard::of_process(child.id(), Signal::Term), Guard::of_folder(&folder)]
            .map(Result::unwrap);
        guards.iter_mut().for_each(Guard::abandon);
        assert!(!child.wait().unwrap().success());
        drop(guards);
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn a_dropped_process_is_gone_and_so_is_its_guard() {
        let scratch = Scratch::new().unwrap();
        let lodging = Lodging { name: "sleep", logs: scratch.path(), end: Signal::Term };
        let process = Process::spawn(Command::new("sleep").arg("600"), lodging).unwrap();
        let id = process.child.id();
        drop(process);
        assert!(Signal::Cont.send(id).is_err());
        let path = scratch.path().to_owned();
        assert!(path.exists());
        drop(scratch);
        assert!(!path.exists());
    }
}
