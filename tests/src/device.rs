//! A device: a SQLite database file that `tidewater sync` syncs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tidewater_client::rusqlite::{self, Connection};
use tidewater_client::{Client, Options, Schema};

use crate::process::{Lodging, Output, Process, Scratch, Signal};
use crate::small_disk::SmallDisk;
use crate::tidewater::Tidewater;

/// Time that SQLite waits for a lock before a query fails.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// A database file and its schema. The `tidewater` command runs only during [`Device::sync_once`].
pub struct Device {
    runs: usize,
    folder: Scratch,
    disk: Option<SmallDisk>,
}

impl Device {
    /// Creates a device without data.
    ///
    /// # Errors
    /// Fails when the file system fails.
    pub fn new(schema: &str) -> Result<Self> {
        let folder = Scratch::new()?;
        std::fs::write(folder.path().join("schema.sql"), schema)?;
        Ok(Self { runs: 0, folder, disk: None })
    }

    /// Returns the device with its database on `disk`.
    #[must_use]
    pub fn on(self, disk: SmallDisk) -> Self {
        Self { disk: Some(disk), ..self }
    }

    /// Returns the disk that [`Device::on`] has set.
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

    /// Runs `tidewater sync --once --json` and waits until it exits.
    ///
    /// # Errors
    /// Fails when the process still runs after `within`.
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

    /// Runs `tidewater queue`: the action, and what follows the database file.
    ///
    /// # Errors
    /// Fails when the process cannot be started or does not end.
    pub async fn queue(&self, arguments: &[&str]) -> Result<Output> {
        let Some((action, rest)) = arguments.split_first() else { bail!("an action is missing") };
        let mut command = Tidewater::command()?;
        command.args(["queue", action]).arg(self.database()).args(rest);
        self.spawn(command, "queue")?.wait(Duration::from_secs(30)).await
    }

    fn spawn(&self, command: Command, name: &str) -> Result<Process> {
        let mut command = match &self.disk {
            Some(disk) => disk.inside(&command),
            None => command,
        };
        let logs: &Path = self.folder.path();
        Process::spawn(&mut command, Lodging { name, logs, end: Signal::Kill })
    }

    /// Runs statements as the app does, in one local transaction.
    ///
    /// # Errors
    /// Fails when a statement fails, or when the device has a disk of its own: that is mounted in
    /// another namespace.
    pub fn write(&self, sql: &str) -> Result<()> {
        ensure!(self.disk.is_none(), "the disk is not mounted in the namespace of this process");
        let schema = Schema::parse(&std::fs::read_to_string(self.schema())?)?;
        let client = Client::open(self.database(), &schema, Options::default())?;
        Ok(client.write(|tx| tx.execute_batch(sql))?)
    }

    /// Returns a path at which this process can open the database.
    ///
    /// A database on a small disk is copied: SQLite resolves symbolic links, and would follow
    /// `/proc/PID/root` into the namespace of this process.
    fn readable(&self) -> Result<PathBuf> {
        let Some(disk) = &self.disk else { return Ok(self.database()) };

        let copy = self.folder.path().join("copy.db");
        for suffix in ["", "-wal"] {
            let to = with_suffix(&copy, suffix);
            // A former copy may have a WAL file although the database has none now.
            let _ = std::fs::remove_file(&to);

            let from = disk.path_from_outside(&with_suffix(&self.database(), suffix));
            if from.exists() {
                std::fs::copy(from, to)?;
            }
        }
        Ok(copy)
    }

    /// Returns the first column of a query's rows, as text.
    ///
    /// # Errors
    /// Fails when SQLite fails.
    pub fn column(&self, sql: &str) -> Result<Vec<String>> {
        let connection = Connection::open(self.readable()?)?;
        connection.busy_timeout(LOCK_TIMEOUT)?;
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}
