//! The `tidewater` binary, run as its users run it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::postgres::profile_folder;
use crate::process::{Lodging, Output, Process, Scratch, Signal};
use crate::small_disk::SmallDisk;
use crate::token::{AUDIENCE, SigningKey};
use crate::wait::eventually;

/// Long enough for a debug build on a busy machine.
const START: Duration = Duration::from_secs(60);

/// What `tidewater dev` is told.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// `--database-url`.
    pub database_url: String,
    /// The text of the file for `--sync-config`.
    pub sync_config: String,
    /// Further arguments.
    pub arguments: Vec<String>,
}

impl DevOptions {
    /// A database and a sync config.
    #[must_use]
    pub fn new(database_url: &str, sync_config: &str) -> Self {
        Self {
            database_url: database_url.to_owned(),
            sync_config: sync_config.to_owned(),
            arguments: Vec::new(),
        }
    }

    /// The same, with further arguments.
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
    /// Makes the data directory, the sync config's file and the keys; starts nothing.
    ///
    /// # Errors
    /// Of the file system.
    pub fn prepare(options: DevOptions) -> Result<Self> {
        let folder = Scratch::new()?;
        let key = SigningKey::random("test");
        key.write_jwk_set(folder.path())?;
        std::fs::write(folder.path().join("sync-config.yaml"), &options.sync_config)?;
        let url = String::new();
        Ok(Self { process: None, url, starts: 0, key, options, folder, disk: None })
    }

    /// The same, with its data directory on a disk of its own.
    #[must_use]
    pub fn on(self, disk: SmallDisk) -> Self {
        Self { disk: Some(disk), ..self }
    }

    /// The disk that it was given.
    #[must_use]
    pub fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    /// Starts it and waits until its API listens.
    ///
    /// # Errors
    /// When it ends instead, with its log.
    pub async fn dev(options: DevOptions) -> Result<Self> {
        let mut tidewater = Self::prepare(options)?;
        tidewater.start().await?;
        Ok(tidewater)
    }

    /// Starts it and waits until the first checkpoint is visible.
    ///
    /// # Errors
    /// As [`Tidewater::dev`].
    pub async fn dev_ready(options: DevOptions) -> Result<Self> {
        let mut tidewater = Self::dev(options).await?;
        tidewater.ready().await?;
        Ok(tidewater)
    }

    /// Starts it, again if it ran before, on the same data directory.
    ///
    /// # Errors
    /// As [`Tidewater::dev`].
    pub async fn start(&mut self) -> Result<()> {
        let mut process = self.spawn()?;
        self.url = process.listening(START).await?;
        self.process = Some(process);
        Ok(())
    }

    /// Runs it to its end, which must come by itself.
    ///
    /// # Errors
    /// When it still runs after that time.
    pub async fn run_to_end(&mut self, within: Duration) -> Result<Output> {
        self.spawn()?.wait(within).await
    }

    /// Runs it to its end on the data directory of another.
    ///
    /// # Errors
    /// When it still runs after that time.
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

    /// The binary, with an environment in which nothing but the arguments configures it.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn command() -> Result<Command> {
        let binary = profile_folder()?.join("tidewater");
        ensure!(
            binary.exists(),
            "{} is missing: run `./test`, or `cargo build -p tidewater` before the tests",
            binary.display()
        );
        let mut command = Command::new(binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TIDEWATER_") {
                command.env_remove(name);
            }
        }
        // Processes that run at once must not compete for the default port of metrics.
        command.env("TIDEWATER_METRICS_LISTEN", "off");
        command.stdin(Stdio::null()).env("RUST_BACKTRACE", "1");
        Ok(command)
    }

    /// Waits until the first checkpoint is visible.
    ///
    /// # Errors
    /// When it is not after a minute, or the process ends.
    pub async fn ready(&mut self) -> Result<()> {
        let url = format!("{}/probes/readiness", self.url);
        let process = self.process.as_mut().context("not started")?;
        eventually("the first checkpoint to be visible", START, async || {
            if process.try_wait()?.is_some() {
                return Ok(Some(()));
            }
            Ok((reqwest::get(&url).await?.status() == 200).then_some(()))
        })
        .await?;
        process.must_run()
    }

    /// Where its API listens: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The key that its JWK Set file holds.
    #[must_use]
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// A token of a user, valid for an hour.
    ///
    /// # Errors
    /// Never in practice.
    pub fn token(&self, user: &str) -> Result<String> {
        self.key.token(user).sign()
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.disk.as_ref().map_or(self.folder.path().to_owned(), SmallDisk::path).join("data")
    }

    /// A folder for files of the test.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.as_ref().context("not started")?.signal(signal)
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_9(&mut self) -> Result<()> {
        self.process.take().context("not started")?.kill()
    }

    /// Waits for its end, which must come by itself.
    ///
    /// # Errors
    /// When it still runs after that time.
    pub async fn wait(&mut self, within: Duration) -> Result<Output> {
        let output = self.process.as_mut().context("not started")?.wait(within).await?;
        self.process = None;
        Ok(output)
    }

    /// SIGTERM, and how it ends.
    ///
    /// # Errors
    /// When it has not drained after half a minute.
    pub async fn terminate(&mut self) -> Result<Output> {
        self.signal(Signal::Term)?;
        self.wait(Duration::from_secs(30)).await
    }

    /// What this run has logged so far.
    ///
    /// # Errors
    /// When it does not run.
    pub fn log(&self) -> Result<String> {
        self.process.as_ref().context("not started")?.stderr()
    }

    /// How it ended, if it has by itself.
    ///
    /// # Errors
    /// When it was not started.
    pub fn ended(&mut self) -> Result<Option<Output>> {
        let process = self.process.as_mut().context("not started")?;
        let Some(status) = process.try_wait()? else { return Ok(None) };
        let (stdout, stderr) = (process.stdout()?, process.stderr()?);
        Ok(Some(Output { code: status.code(), stdout, stderr }))
    }

    /// Fails, with its log, if it has ended.
    ///
    /// # Errors
    /// As said.
    pub fn must_run(&mut self) -> Result<()> {
        self.process.as_mut().context("not started")?.must_run()
    }
}
