//! The `tidewater` binary as a process, with `dev` as its subcommand unless a test says otherwise.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::postgres::profile_folder;
use crate::process::{Lodging, Output, Process, Scratch, Signal};
use crate::small_disk::SmallDisk;
use crate::sync_reader::{Connection, SyncReader};
use crate::token::{AUDIENCE, SigningKey};
use crate::wait::eventually;

/// Time until the API must listen and until the first checkpoint must be visible: long enough for a
/// debug build on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Time that the process has to shut down after SIGTERM.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// The arguments of `tidewater dev`.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// The value of `--database-url`.
    pub database_url: String,
    /// The text of the file for `--sync-config`.
    pub sync_config: String,
    /// Additional arguments.
    pub arguments: Vec<String>,
}

impl DevOptions {
    /// Creates options with a database and a sync config.
    #[must_use]
    pub fn new(database_url: &str, sync_config: &str) -> Self {
        Self {
            database_url: database_url.to_owned(),
            sync_config: sync_config.to_owned(),
            arguments: Vec::new(),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }
}

/// `tidewater dev` on a data directory of its own, which is removed when this is dropped.
pub struct Tidewater {
    process: Option<Process>,
    url: String,
    starts: usize,
    key: SigningKey,
    options: DevOptions,
    folder: Scratch,
    disk: Option<SmallDisk>,
}

impl Tidewater {
    /// Creates the sync config's file and the keys, and starts nothing.
    ///
    /// # Errors
    /// Fails when the file system fails.
    pub fn prepare(options: DevOptions) -> Result<Self> {
        let folder = Scratch::new()?;
        let key = SigningKey::random("test");
        key.write_jwk_set(folder.path())?;
        std::fs::write(folder.path().join("sync-config.yaml"), &options.sync_config)?;
        let url = String::new();
        Ok(Self { process: None, url, starts: 0, key, options, folder, disk: None })
    }

    /// Moves the data directory, which must not exist yet, to `disk`.
    #[must_use]
    pub fn on(self, disk: SmallDisk) -> Self {
        Self { disk: Some(disk), ..self }
    }

    /// Returns the disk that [`Tidewater::on`] has set.
    #[must_use]
    pub fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    /// Starts the process and waits until its API listens.
    ///
    /// # Errors
    /// Fails with the log when the process exits.
    pub async fn dev(options: DevOptions) -> Result<Self> {
        let mut tidewater = Self::prepare(options)?;
        tidewater.start().await?;
        Ok(tidewater)
    }

    /// Starts the process and waits until the first checkpoint is visible.
    ///
    /// # Errors
    /// Fails with the log when the process exits.
    pub async fn dev_ready(options: DevOptions) -> Result<Self> {
        let mut tidewater = Self::dev(options).await?;
        tidewater.ready().await?;
        Ok(tidewater)
    }

    /// Starts the process, or restarts it on the same data directory, and waits until its API listens.
    ///
    /// # Errors
    /// Fails with the log when the process exits.
    pub async fn start(&mut self) -> Result<()> {
        let mut process = self.spawn()?;
        self.url = process.listening(START_TIMEOUT).await?;
        self.process = Some(process);
        Ok(())
    }

    /// Starts a process that must fail by itself, and waits until it exits.
    ///
    /// # Errors
    /// Fails when the process still runs after `within`.
    pub async fn run_to_end(&mut self, within: Duration) -> Result<Output> {
        self.spawn()?.wait(within).await
    }

    /// Starts a process, and stops it once its log has a text, unless it has exited by then.
    ///
    /// # Errors
    /// Fails when the log still lacks the text after `within`.
    pub async fn run_until_logged(&mut self, text: &str, within: Duration) -> Result<Output> {
        let mut process = self.spawn()?;
        eventually("the text in the log", within, async || {
            Ok(process.stderr()?.contains(text).then_some(()))
        })
        .await?;
        if process.try_wait()?.is_none() {
            process.signal(Signal::Term)?;
        }
        process.wait(within).await
    }

    /// Runs a process that must fail by itself on the data directory of another one.
    ///
    /// # Errors
    /// Fails when the process still runs after `within`.
    pub async fn run_on_data_dir_of(&mut self, other: &Self, within: Duration) -> Result<Output> {
        std::os::unix::fs::symlink(other.data_dir(), self.data_dir())?;
        self.run_to_end(within).await
    }

    fn spawn(&mut self) -> Result<Process> {
        self.starts += 1;
        let mut command = Self::command()?;
        command.arg("dev").args(["--database-url", &self.options.database_url]);
        command.arg("--sync-config").arg(self.folder.path().join("sync-config.yaml"));
        command.args(["--listen", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(self.data_dir());
        command.arg("--jwks").arg(self.folder.path().join("test.jwks.json"));
        command.args(["--audience", AUDIENCE]).args(&self.options.arguments);

        let mut command = match &self.disk {
            Some(disk) => disk.inside(&command),
            None => command,
        };

        let lodging = Lodging {
            name: &format!("tidewater-{}", self.starts),
            logs: self.folder.path(),
            end: Signal::Kill,
        };
        Process::spawn(&mut command, lodging)
    }

    /// Returns a command of the binary that only its arguments configure, and no variable of the tests.
    ///
    /// # Errors
    /// Fails when the binary has not been built.
    pub fn command() -> Result<Command> {
        let mut command = Command::new(built_binary("tidewater")?);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TIDEWATER_") {
                command.env_remove(name);
            }
        }

        // Concurrent processes must not compete for the default port of metrics.
        command.env("TIDEWATER_METRICS_LISTEN", "off");
        command.stdin(Stdio::null()).env("RUST_BACKTRACE", "1");
        Ok(command)
    }

    /// Waits until the first checkpoint is visible.
    ///
    /// # Errors
    /// Fails after a minute, and with the log when the process exits.
    pub async fn ready(&mut self) -> Result<()> {
        self.process.as_mut().context("not started")?.ready(&self.url, START_TIMEOUT).await
    }

    /// Opens a stream for a user.
    ///
    /// # Errors
    /// Fails when the sync API refuses the stream.
    pub async fn connect<'a>(
        &self,
        reader: &'a mut SyncReader,
        user: &str,
    ) -> Result<Connection<'a>> {
        reader.connect(&self.url, &self.token(user)?).await
    }

    /// Returns the URL of the API: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the URL of the metrics, as the process logs it with `--metrics-listen 0`.
    ///
    /// # Errors
    /// Fails when the process does not log it.
    pub async fn metrics_url(&self) -> Result<String> {
        eventually("the log line with the URL of the metrics", START_TIMEOUT, async || {
            let log = self.log()?;
            let mut urls = log.lines().filter_map(|line| {
                let entry: Value = serde_json::from_str(line).ok()?;
                let url = entry["fields"]["url"].as_str()?;
                url.ends_with("/metrics").then(|| url.to_owned())
            });
            Ok(urls.next_back())
        })
        .await
    }

    /// Returns the value of a metric with these labels (`name{label="value"}`); `None` if it was not
    /// recorded.
    ///
    /// # Errors
    /// Fails when the process serves no metrics.
    pub async fn metric(&self, series: &str) -> Result<Option<f64>> {
        let text = reqwest::get(self.metrics_url().await?).await?.text().await?;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(value.map(str::parse).transpose()?)
    }

    /// Returns the key in the JWK Set file of the process.
    #[must_use]
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Returns a user's token, valid for an hour.
    ///
    /// # Errors
    /// Fails only when the claims cannot be written as JSON.
    pub fn token(&self, user: &str) -> Result<String> {
        self.key.token(user).sign()
    }

    /// Returns the data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.disk.as_ref().map_or(self.folder.path().to_owned(), SmallDisk::path).join("data")
    }

    /// Returns the folder with the process's files, which the test may use too.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// Fails when the process does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.as_ref().context("not started")?.signal(signal)
    }

    /// Kills the process by SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// Fails when the process does not run.
    pub fn kill_9(&mut self) -> Result<()> {
        self.process.take().context("not started")?.kill()
    }

    /// Waits until the process exits by itself.
    ///
    /// # Errors
    /// Fails when it still runs after `within`.
    pub async fn wait(&mut self, within: Duration) -> Result<Output> {
        let output = self.process.as_mut().context("not started")?.wait(within).await?;
        self.process = None;
        Ok(output)
    }

    /// Sends SIGTERM and waits until the process exits.
    ///
    /// # Errors
    /// Fails when the process still runs after half a minute.
    pub async fn terminate(&mut self) -> Result<Output> {
        self.signal(Signal::Term)?;
        self.wait(SHUTDOWN_TIMEOUT).await
    }

    /// Returns the peak resident memory of the current process so far, in bytes.
    ///
    /// # Errors
    /// Fails when the process does not run.
    pub fn peak_rss_bytes(&self) -> Result<u64> {
        self.process.as_ref().context("not started")?.peak_rss_bytes()
    }

    /// Returns the log of the current process so far.
    ///
    /// # Errors
    /// Fails when the process was not started.
    pub fn log(&self) -> Result<String> {
        self.process.as_ref().context("not started")?.stderr()
    }

    /// Returns exit code and output if the process has exited by itself.
    ///
    /// # Errors
    /// Fails when the process was not started.
    pub fn exited(&mut self) -> Result<Option<Output>> {
        let process = self.process.as_mut().context("not started")?;
        let Some(status) = process.try_wait()? else { return Ok(None) };
        Ok(Some(Output {
            code: status.code(),
            stdout: process.stdout()?,
            stderr: process.stderr()?,
        }))
    }

    /// Verifies that the process is running.
    ///
    /// # Errors
    /// Fails with the end of the log when the process has exited.
    pub fn must_run(&mut self) -> Result<()> {
        self.process.as_mut().context("not started")?.must_run()
    }
}

/// Returns a binary of the workspace.
///
/// # Errors
/// Fails when it has not been built.
pub fn built_binary(name: &str) -> Result<PathBuf> {
    let binary = profile_folder()?.join(name);
    ensure!(
        binary.exists(),
        "{} is missing: run `./test`, or `cargo build --workspace --bin {name}` before the tests",
        binary.display()
    );
    Ok(binary)
}
