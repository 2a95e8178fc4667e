//! The example backend as a process: it applies the uploads of apps to PostgreSQL.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::postgres::profile_folder;
use crate::process::{Lodging, Process, Scratch, Signal};
use crate::token::{AUDIENCE, SigningKey};

/// Time until the backend must listen: long enough for a debug build on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running backend, which is stopped when this is dropped.
pub struct Backend {
    _process: Process,
    url: String,
    _folder: Scratch,
}

impl Backend {
    /// Starts the backend on a database. Users whose tokens `key` signs may write to `tables`.
    ///
    /// # Errors
    /// Fails when the binary has not been built, or when the process exits.
    pub async fn start(database_url: &str, key: &SigningKey, tables: &[&str]) -> Result<Self> {
        let binary = profile_folder()?.join("tidewater-example-backend");
        ensure!(
            binary.exists(),
            "{} is missing: run `./test`, or `cargo build --workspace --bins` before the tests",
            binary.display()
        );

        let folder = Scratch::new()?;

        let mut command = Command::new(binary);
        command.args(["--database-url", database_url, "--listen", "127.0.0.1:0"]);
        command.arg("--jwks").arg(key.write_jwk_set(folder.path())?);
        command.args(tables.iter().flat_map(|table| ["--table", *table]));
        command.args(["--audience", AUDIENCE]).stdin(Stdio::null());

        let lodging = Lodging { name: "backend", logs: folder.path(), end: Signal::Kill };
        let mut process = Process::spawn(&mut command, lodging)?;
        let url = process.listening(START_TIMEOUT).await?;
        Ok(Self { _process: process, url, _folder: folder })
    }

    /// Returns the URL that accepts local transactions.
    #[must_use]
    pub fn upload_url(&self) -> String {
        format!("{}/upload", self.url)
    }
}
