//! Child processes and temporary folders that never outlive the test.
//!
//! [`Process`] and [`Scratch`] stop the child and remove the folder when they are dropped, also by a
//! panic. A test process that is killed drops nothing, so each child and each folder has a guard: a
//! small shell that waits on a pipe whose other end only the test holds. The kernel closes that end
//! when the test process ends for any reason, and the guard then kills the child or removes the
//! folder. This needs nothing of the operating system but pipes.

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

/// Bytes of the end of a child's log that a failed test prints: enough for the last events.
const LOG_TAIL_BYTES: u64 = 16 * 1024;

/// Time that a child has after its signal before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A signal that tests send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, the request of a service manager to shut down.
    Term,
    /// SIGINT, as from Ctrl-C.
    Int,
    /// SIGQUIT, PostgreSQL's immediate shutdown.
    Quit,
    /// SIGKILL.
    Kill,
    /// SIGSTOP, which pauses the process until `Cont`.
    Stop,
    /// SIGCONT.
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

    /// Sends the signal by the shell's built-in `kill`, which needs no unsafe code here.
    fn send(self, pid: u32) -> Result<()> {
        let status = Command::new("sh")
            .args(["-c", r#"kill -s "$1" "$2""#, "sh", self.name(), &pid.to_string()])
            .stderr(Stdio::null())
            .status()?;
        ensure!(status.success(), "cannot send {self:?} to process {pid}: it has exited");
        Ok(())
    }
}

/// A shell that cleans up when this process ends without having dismissed it.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Guards a process: sends it `signal`, and SIGKILL if it has not exited after ten seconds.
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

    /// Guards a folder: removes it, repeatedly while a process that is exiting still writes to it.
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

    /// Ends the guard after the process or folder is gone.
    ///
    /// A guard must not outlive its process: the kernel may reuse the process id.
    fn dismiss(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            // A guard that has exited needs no message.
            let _ = pipe.write_all(b"\n");
        }
        let _ = self.shell.wait();
    }

    /// Closes the pipe, as the kernel does when this process is killed.
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

/// A temporary folder for the files of a test, which is removed when this is dropped.
///
/// Other users may open files in it by name, since PostgreSQL may have to run as another user.
#[derive(Debug)]
pub struct Scratch {
    // The folder is removed before its guard is dismissed.
    folder: TempDir,
    _guard: Guard,
}

impl Scratch {
    /// Creates an empty folder.
    ///
    /// # Errors
    /// Fails when the file system fails.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tidewater-test-").tempdir()?;
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o711))?;
        let guard = Guard::of_folder(folder.path())?;
        Ok(Self { folder, _guard: guard })
    }

    /// Returns the path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// The exit code and the output of a process.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code; `None` if a signal has killed the process.
    pub code: Option<i32>,
    /// The whole standard output.
    pub stdout: String,
    /// The whole standard error.
    pub stderr: String,
}

impl Output {
    /// Asserts the exit code, and that no thread has panicked.
    #[track_caller]
    pub fn assert_code(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }

    /// Asserts that the standard error contains each of the texts.
    #[track_caller]
    pub fn assert_says(&self, texts: &[&str]) {
        for text in texts {
            assert!(self.stderr.contains(text), "'{text}' is not in:\n{}", self.stderr);
        }
    }
}

/// A child process whose output goes to files, and which is stopped when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    guard: Guard,
    end: Signal,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// Options of [`Process::spawn`].
#[derive(Clone, Copy, Debug)]
pub struct Lodging<'a> {
    /// Name of the process in messages and file names.
    pub name: &'a str,
    /// Folder for its output and its temporary files.
    pub logs: &'a Path,
    /// Signal that stops the process when it is dropped, and when the test is killed.
    pub end: Signal,
}

impl Process {
    /// Starts a process and its guard.
    ///
    /// # Errors
    /// Fails when the process cannot be started.
    pub fn spawn(command: &mut Command, lodging: Lodging<'_>) -> Result<Self> {
        let stdout = lodging.logs.join(format!("{}.out", lodging.name));
        let stderr = lodging.logs.join(format!("{}.err", lodging.name));
        let program = command.get_program().to_string_lossy().into_owned();

        let mut child = command
            // Temporary files that a killed process leaves are removed with the test's folder.
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

    /// Runs a command in a temporary folder and waits until it exits.
    ///
    /// # Errors
    /// Fails when the process cannot be started, and when it still runs after `within`.
    pub async fn run(command: &mut Command, within: Duration) -> Result<Output> {
        let folder = Scratch::new()?;
        let lodging = Lodging { name: "command", logs: folder.path(), end: Signal::Kill };
        Self::spawn(command, lodging)?.wait(within).await
    }

    /// Waits until the sync API at `url`, which this process fills or serves, has a visible checkpoint.
    ///
    /// # Errors
    /// Fails when `within` has passed, and with the log when the process exits.
    pub async fn ready(&mut self, url: &str, within: Duration) -> Result<()> {
        let url = format!("{url}/probes/readiness");
        eventually("the first checkpoint to be visible", within, async || {
            if self.try_wait()?.is_some() {
                return Ok(Some(()));
            }
            Ok((reqwest::get(&url).await?.status() == 200).then_some(()))
        })
        .await?;
        self.must_run()
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the peak resident memory so far, in bytes.
    ///
    /// # Errors
    /// Fails when the process has exited.
    pub fn peak_rss_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.context("no VmHWM")?.trim().trim_end_matches(" kB");
        Ok(kilobytes.parse::<u64>()? * 1024)
    }

    /// Takes the standard input, if the command has made it a pipe.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// Fails when the process has exited.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal.send(self.child.id())
    }

    /// Waits for the line `listening on http://...` of the standard output, and returns the URL.
    ///
    /// # Errors
    /// Fails when `within` has passed, and with the log when the process exits.
    pub async fn listening(&mut self, within: Duration) -> Result<String> {
        let url = eventually("the line `listening on ...`", within, async || {
            if self.try_wait()?.is_some() {
                return Ok(Some(None));
            }
            let stdout = self.stdout()?;
            let line = stdout.lines().find_map(|line| line.strip_prefix("listening on "));
            // The last line may be incomplete.
            Ok(line.filter(|_| stdout.ends_with('\n')).map(|url| Some(url.trim().to_owned())))
        })
        .await?;
        self.must_run()?;
        url.with_context(|| format!("{} has exited", self.name))
    }

    /// Returns the exit status if the process has exited.
    ///
    /// # Errors
    /// Fails when the operating system fails.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.guard.dismiss();
        }
        Ok(status)
    }

    /// Waits until the process exits.
    ///
    /// # Errors
    /// Fails when it still runs after `within`.
    pub async fn wait(&mut self, within: Duration) -> Result<Output> {
        let what = format!("{} to exit", self.name);
        let status = eventually(&what, within, async || self.try_wait()).await?;
        Ok(Output { code: status.code(), stdout: self.stdout()?, stderr: self.stderr()? })
    }

    /// Kills the process and waits until it is gone.
    ///
    /// # Errors
    /// Fails when the operating system fails.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.guard.dismiss();
        Ok(())
    }

    /// Returns the standard output so far.
    ///
    /// # Errors
    /// Fails when the file system fails.
    pub fn stdout(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.stdout)?).into_owned())
    }

    /// Returns the standard error so far.
    ///
    /// # Errors
    /// Fails when the file system fails.
    pub fn stderr(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.stderr)?).into_owned())
    }

    /// Verifies that the process is running.
    ///
    /// # Errors
    /// Fails with the end of the log when the process has exited.
    pub fn must_run(&mut self) -> Result<()> {
        if let Some(status) = self.try_wait()? {
            bail!("{} has exited ({status}):\n{}", self.name, tail(&self.stderr)?);
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        if self.try_wait()?.is_some() {
            return Ok(());
        }

        // A process that SIGSTOP has paused handles other signals only after SIGCONT.
        let _ = self.signal(Signal::Cont);
        let _ = self.signal(self.end);

        // The standard library cannot wait for a child with a timeout.
        let interval = Duration::from_millis(10);
        for _ in 0..STOP_TIMEOUT.as_millis() / interval.as_millis() {
            if self.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(interval);
        }
        self.kill()
    }
}

impl Drop for Process {
    /// Stops the process and prints the end of its log to standard error.
    ///
    /// Test runners show that only for a failed test.
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("cannot stop {}: {error:#}", self.name);
        }
        let log = tail(&self.stderr).unwrap_or_default();
        eprintln!("---- log of {} ----\n{log}", self.name);
    }
}

/// Returns the last [`LOG_TAIL_BYTES`] of a file.
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
    fn guards_clean_up_when_the_test_process_is_killed() {
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
    async fn dropping_a_process_and_a_folder_removes_both() {
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
