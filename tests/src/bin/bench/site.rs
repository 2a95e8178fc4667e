//! Tidewater's processes on one data directory.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use tidewater_tests::{
    AUDIENCE, Lodging, Process, Scratch, Signal, SigningKey, Tidewater, eventually,
};

use crate::source::{Layout, Source};

/// Far more than anything takes: a measurement ends by being done.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1_200);

/// A data directory with its sync config and keys.
pub(crate) struct Site {
    folder: Scratch,
    key: SigningKey,
    runs: usize,
}

impl Site {
    pub(crate) fn new(layout: Layout, todos_by_default: bool) -> Result<Self> {
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

    /// Everything in one process; and its address.
    pub(crate) async fn dev(&mut self, source: &Source) -> Result<(Process, String)> {
        let data = self.data_dir().display().to_string();
        let mut arguments = vec!["--data-dir".to_owned(), data];
        arguments.extend(self.source(source));
        arguments.extend(self.api());
        let mut process = self.spawn("dev", &arguments)?;
        let url = process.listening(PATIENCE).await?;
        Ok((process, url))
    }

    /// The worker alone.
    pub(crate) fn ingest(&mut self, source: &Source) -> Result<Process> {
        let mut arguments = self.store();
        arguments.extend(self.source(source));
        self.spawn("ingest", &arguments)
    }

    /// The sync API alone; and its address.
    pub(crate) async fn serve(&mut self) -> Result<(Process, String)> {
        let mut arguments = self.store();
        arguments.extend(self.api());
        let mut process = self.spawn("serve", &arguments)?;
        let url = process.listening(PATIENCE).await?;
        Ok((process, url))
    }

    /// One pass of the snapshot builder.
    pub(crate) async fn compact(&mut self) -> Result<()> {
        let mut arguments = self.store();
        arguments.push("--once".to_owned());
        let output = self.spawn("compact", &arguments)?.wait(PATIENCE).await?;
        ensure!(output.code == Some(0), "compact failed: {}", output.stderr);
        Ok(())
    }

    /// A store that a worker has filled and left, and the API on it: history only, no base yet.
    pub(crate) async fn filled(&mut self, source: &Source) -> Result<(Process, String)> {
        let mut ingest = self.ingest(source)?;
        let (mut serve, url) = self.serve().await?;
        ready(&mut serve, &url).await?;
        end(&mut ingest).await?;
        Ok((serve, url))
    }

    fn store(&self) -> Vec<String> {
        vec!["--store".to_owned(), format!("embedded:{}", self.data_dir().display())]
    }

    fn source(&self, source: &Source) -> Vec<String> {
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

/// Waits until the first checkpoint is visible.
pub(crate) async fn ready(process: &mut Process, url: &str) -> Result<()> {
    let probe = format!("{url}/probes/readiness");
    let http = reqwest::Client::new();
    eventually("the first checkpoint to be visible", PATIENCE, async || {
        if process.try_wait()?.is_some() {
            return Ok(Some(()));
        }
        Ok((http.get(&probe).send().await?.status() == 200).then_some(()))
    })
    .await?;
    process.must_run()
}

/// SIGTERM, and the end in order.
pub(crate) async fn end(process: &mut Process) -> Result<()> {
    process.signal(Signal::Term)?;
    let output = process.wait(PATIENCE).await?;
    ensure!(output.code == Some(0), "it ended with {:?}: {}", output.code, output.stderr);
    Ok(())
}
