//! The example backend in Node as a process.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::official_sdk::installed;
use crate::process::{Lodging, Process, Scratch, Signal};
use crate::token::{AUDIENCE, SigningKey};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../client/examples/backend-node");
const PROGRAMS: [&str; 3] = ["backend.mjs", "tokens.mjs", "uploads.mjs"];

/// Time until the backend must listen.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running backend, which is stopped when this is dropped.
pub struct NodeBackend {
    _process: Process,
    url: String,
    _folder: Scratch,
}

impl NodeBackend {
    /// Starts the backend on a database. Users whose tokens `key` signs may write to `tables`.
    ///
    /// # Errors
    /// Fails when its packages are not installed, or when the process exits.
    pub async fn start(database_url: &str, key: &SigningKey, tables: &[&str]) -> Result<Self> {
        // Node searches packages beside the program's file and in the folders above it.
        let folder = Scratch::new()?;
        for program in PROGRAMS {
            fs::copy(Path::new(SOURCE).join(program), folder.path().join(program))?;
        }
        std::os::unix::fs::symlink(installed()?, folder.path().join("node_modules"))?;

        let mut command = Command::new("node");
        command.arg("backend.mjs").current_dir(folder.path());
        command.env("DATABASE_URL", database_url).env("TABLES", tables.join(","));
        command.env("JWKS", key.write_jwk_set(folder.path())?).env("AUDIENCE", AUDIENCE);
        command.env("LISTEN", "127.0.0.1:0");
        let lodging = Lodging { name: "backend-node", logs: folder.path(), end: Signal::Kill };
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
