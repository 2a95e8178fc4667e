//! The example backend: the app's own server, which applies uploads to PostgreSQL.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::postgres::profile_folder;
use crate::process::{Lodging, Process, Scratch, Signal};
use crate::token::{AUDIENCE, SigningKey};

const START: Duration = Duration::from_secs(30);

/// A running backend.
pub struct Backend {
    _process: Process,
    url: String,
    _folder: Scratch,
}

impl Backend {
    /// Starts it on a database, with the key of the users' tokens and the tables they may write.
    ///
    /// # Errors
    /// When it has not been built, or ends.
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
        let url = process.listening(START).await?;
        Ok(Self { _process: process, url, _folder: folder })
    }

    /// Where local transactions are posted to.
    #[must_use]
    pub fn upload_url(&self) -> String {
        format!("{}/upload", self.url)
    }
}
