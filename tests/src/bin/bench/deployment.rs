//! Tidewater's processes on one data directory, with its sync config and its keys.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use tidewater_tests::{AUDIENCE, Lodging, Process, Scratch, Signal, SigningKey, Tidewater};

use crate::source::{BucketLayout, SourceDatabase};

/// Timeout of any step: far more than a step takes, so that a slow machine does not stop the run.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1_200);

/// A data directory with its sync config and keys.
pub(crate) struct Deployment {
    folder: Scratch,
    key: SigningKey,
    runs: usize,
}

impl Deployment {
    pub(crate) fn new(layout: BucketLayout, todos_by_default: bool) -> Result<Self> {
        let folder = Scratch::new()?;
        let key = SigningKey::random("bench");
        key.write_jwk_set(folder.path())?;
        let config = layout.sync_config(todos_by_default);
        std::fs::write(folder.path().join("sync-config.yaml"), config)?;
        Ok(Self { folder, key, runs: 0 })
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn token(&self, user: &str) -> Result<String> {
        self.key.token(user).sign()
    }

    /// Starts `tidewater dev`, and returns its URL.
    pub(crate) async fn dev(&mut self, source: &SourceDatabase) -> Result<(Process, String)> {
        let data = self.data_dir().display().to_string();
        let mut arguments = vec!["--data-dir".to_owned(), data];
        arguments.extend(self.source(source));
        arguments.extend(self.api());
        let mut process = self.spawn("dev", &arguments)?;
        let url = process.listening(TIMEOUT).await?;
        Ok((process, url))
    }

    /// Starts `tidewater ingest`.
    pub(crate) fn ingest(&mut self, source: &SourceDatabase) -> Result<Process> {
        let mut arguments = self.store();
        arguments.extend(self.source(source));
        self.spawn("ingest", &arguments)
    }

    /// Starts `tidewater ingest`, which exits once everything that the source has is committed.
    pub(crate) fn ingest_until_caught_up(&mut self, source: &SourceDatabase) -> Result<Process> {
        let mut arguments = self.store();
        arguments.extend(self.source(source));
        arguments.push("--until-caught-up".to_owned());
        self.spawn("ingest", &arguments)
    }

    /// Starts `tidewater serve`, and returns its URL.
    pub(crate) async fn serve(&mut self) -> Result<(Process, String)> {
        let mut arguments = self.store();
        arguments.extend(self.api());
        let mut process = self.spawn("serve", &arguments)?;
        let url = process.listening(TIMEOUT).await?;
        Ok((process, url))
    }

    /// Runs one pass of the snapshot builder.
    pub(crate) async fn compact(&mut self) -> Result<()> {
        let mut arguments = self.store();
        arguments.push("--once".to_owned());
        let output = self.spawn("compact", &arguments)?.wait(TIMEOUT).await?;
        ensure!(output.code == Some(0), "compact failed: {}", output.stderr);
        Ok(())
    }

    /// Runs `tidewater ingest` until the initial copy is visible, and starts `tidewater serve`.
    ///
    /// The store then has the history only, and no base.
    pub(crate) async fn copy_and_serve(
        &mut self,
        source: &SourceDatabase,
    ) -> Result<(Process, String)> {
        let mut ingest = self.ingest(source)?;
        let (mut serve, url) = self.serve().await?;
        serve.ready(&url, TIMEOUT).await?;
        shut_down(&mut ingest).await?;
        Ok((serve, url))
    }

    fn store(&self) -> Vec<String> {
        vec!["--store".to_owned(), format!("embedded:{}", self.data_dir().display())]
    }

    fn source(&self, source: &SourceDatabase) -> Vec<String> {
        let config = self.folder.path().join("sync-config.yaml").display().to_string();
        vec!["--database-url".to_owned(), source.url(), "--sync-config".to_owned(), config]
    }

    fn api(&self) -> Vec<String> {
        let keys = self.folder.path().join("bench.jwks.json").display().to_string();
        ["--listen", "127.0.0.1:0", "--audience", AUDIENCE, "--jwks", &keys]
            .map(str::to_owned)
            .to_vec()
    }

    fn spawn(&mut self, subcommand: &str, arguments: &[String]) -> Result<Process> {
        self.runs += 1;
        let name = format!("{subcommand}-{}", self.runs);
        let mut command = Tidewater::command()?;
        command.arg(subcommand).args(arguments);
        let lodging = Lodging { name: &name, logs: self.folder.path(), end: Signal::Term };
        Process::spawn(&mut command, lodging)
    }
}

/// Sends SIGTERM and waits until the process has shut down.
pub(crate) async fn shut_down(process: &mut Process) -> Result<()> {
    process.signal(Signal::Term)?;
    let output = process.wait(TIMEOUT).await?;
    ensure!(output.code == Some(0), "the process exited with {:?}: {}", output.code, output.stderr);
    Ok(())
}
