//! A device: a SQLite file that `tidewater sync` keeps in sync.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use tidewater_client::rusqlite::{self, Connection};
use tidewater_client::{Client, Options, Schema};

use crate::process::{Lodging, Output, Process, Scratch, Signal};
use crate::small_disk::SmallDisk;
use crate::tidewater::Tidewater;

/// How long SQLite waits for a lock.
const PATIENCE: Duration = Duration::from_secs(10);

/// A database file and its schema; the command is run for as long as it takes.
pub struct Device {
    runs: usize,
    folder: Scratch,
    disk: Option<SmallDisk>,
}

impl Device {
    /// A device without data.
    ///
    /// # Errors
    /// Of the file system.
    pub fn new(schema: &str) -> Result<Self> {
        let folder = Scratch::new()?;
        std::fs::write(folder.path().join("schema.sql"), schema)?;
        Ok(Self { runs: 0, folder, disk: None })
    }

    /// The same, with its database on a disk of its own.
    #[must_use]
    pub fn on(self, disk: SmallDisk) -> Self {
        Self { disk: Some(disk), ..self }
    }

    /// The disk that it was given.
    #[must_use]
    pub fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    fn schema(&self) -> PathBuf {
        self.folder.path().join("schema.sql")
    }

    fn database(&self) -> PathBuf {
        self.disk.as_ref().map_or(self.folder.path().to_owned(), SmallDisk::path).join("app.db")
    }

    /// Runs `tidewater sync --once --json` to its end.
    ///
    /// # Errors
    /// When it still runs after that time.
    pub async fn sync_once(
        &mut self,
        endpoint: &str,
        token: &str,
        arguments: &[&str],
        within: Duration,
    ) -> Result<Output> {
        self.runs += 1;
        let mut command = Tidewater::command()?;
        command.args(["sync", "--once", "--json", "--endpoint", endpoint, "--token", token]);
        command.arg("--schema").arg(self.schema());
        command.args(arguments).arg(self.database());
        let name = format!("sync-{}", self.runs);
        self.spawn(command, &name)?.wait(within).await
    }

    fn spawn(&self, command: Command, name: &str) -> Result<Process> {
        let mut command = match &self.disk {
            Some(disk) => disk.inside(&command),
            None => command,
        };
        let logs: &Path = self.folder.path();
        Process::spawn(&mut command, Lodging { name, logs, end: Signal::Kill })
    }

    /// Writes as the app does, in one local transaction. Not on a disk of its own.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn write(&self, sql: &str) -> Result<()> {
        ensure!(self.disk.is_none(), "the disk is out of this process's sight");
        let schema = Schema::parse(&std::fs::read_to_string(self.schema())?)?;
        let client = Client::open(self.database(), &schema, Options::default())?;
        Ok(client.write(|tx| tx.execute_batch(sql))?)
    }

    /// The database, or a copy of one on a disk of its own: SQLite resolves links, and would look
    /// for it where this process is.
    fn readable(&self) -> Result<PathBuf> {
        let Some(disk) = &self.disk else { return Ok(self.database()) };
        let copy = self.folder.path().join("copy.db");
        let files = |name: &Path, end: &str| PathBuf::from(format!("{}{end}", name.display()));
        for end in ["", "-wal"] {
            let (from, to) = (files(&self.database(), end), files(&copy, end));
            let _ = std::fs::remove_file(&to);
            let from = disk.seen_from_outside(&from);
            if from.exists() {
                std::fs::copy(from, to)?;
            }
        }
        Ok(copy)
    }

    /// The first column of a query, as texts.
    ///
    /// # Errors
    /// Of SQLite.
    pub fn column(&self, sql: &str) -> Result<Vec<String>> {
        let connection = Connection::open(self.readable()?)?;
        connection.busy_timeout(PATIENCE)?;
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
