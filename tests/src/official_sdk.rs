//! The official Node SDK, unmodified, controlled through `official-sdk/driver.mjs`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::process::{Lodging, Process, Scratch, Signal};
use crate::settings::Settings;
use crate::wait::eventually;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/official-sdk");

/// Timeout of one command of the driver. The first one loads the SDK.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// The servers of an app, and the token for both.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// URL of the sync API.
    pub sync: String,
    /// URL of the app's backend, which receives uploads.
    pub backend: String,
    /// The user's token.
    pub token: String,
}

/// A version of the SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SdkVersion {
    /// The newest version.
    Current,
    /// Version 0.15.2 of 2025. Devices keep the SDK of the app release that they installed.
    Old,
}

impl SdkVersion {
    /// All versions under test.
    pub const ALL: [Self; 2] = [Self::Current, Self::Old];

    /// Returns the name of the installed package.
    const fn package(self) -> &'static str {
        match self {
            Self::Current => "@powersync/node",
            Self::Old => "powersync-node-0.15",
        }
    }
}

/// A Node process with one database of the SDK.
pub struct OfficialSdk {
    stdin: ChildStdin,
    process: Process,
    commands: usize,
    folder: Scratch,
}

impl OfficialSdk {
    /// Starts Node with the newest SDK and opens an empty database.
    ///
    /// # Errors
    /// Fails when the SDK is not installed.
    pub async fn open(endpoints: &Endpoints) -> Result<Self> {
        Self::open_version(SdkVersion::Current, endpoints).await
    }

    /// Starts Node with a version of the SDK and opens an empty database.
    ///
    /// # Errors
    /// Fails when the SDK is not installed.
    pub async fn open_version(version: SdkVersion, endpoints: &Endpoints) -> Result<Self> {
        // Node searches packages beside the program's file and in the folders above it.
        let folder = Scratch::new()?;
        let source = Path::new(SOURCE).join("driver.mjs");
        let driver = folder.path().join("driver.mjs");
        fs::copy(source, &driver)?;
        let modules = installed()?;
        std::os::unix::fs::symlink(modules, folder.path().join("node_modules"))?;

        let lodging = Lodging { name: "official-sdk", logs: folder.path(), end: Signal::Kill };
        let mut command = Command::new("node");
        command
            .arg(&driver)
            .arg(version.package())
            .current_dir(folder.path())
            .stdin(Stdio::piped());
        let mut process = Process::spawn(&mut command, lodging)?;
        let stdin = process.take_stdin().context("Node has no standard input")?;

        let mut sdk = Self { stdin, process, commands: 0, folder };
        let file = sdk.folder.path().join("app.sqlite");
        let Endpoints { sync, backend, token } = endpoints;
        let open =
            json!({"open": {"file": file, "sync": sync, "backend": backend, "token": token}});
        sdk.send(open).await?;
        Ok(sdk)
    }

    /// Connects. The SDK reconnects until [`OfficialSdk::disconnect`].
    ///
    /// # Errors
    /// Fails when the SDK fails.
    pub async fn connect(&mut self) -> Result<()> {
        self.send(json!({"connect": {}})).await.map(drop)
    }

    /// Disconnects and keeps the database.
    ///
    /// # Errors
    /// Fails when the SDK fails.
    pub async fn disconnect(&mut self) -> Result<()> {
        self.send(json!({"disconnect": {}})).await.map(drop)
    }

    /// Returns the rows of a query.
    ///
    /// # Errors
    /// Fails when SQLite fails.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Value>> {
        let reply = self.send(json!({"query": {"sql": sql}})).await?;
        Ok(reply.as_array().context("the driver's reply is no list of rows")?.clone())
    }

    /// Runs local writes in one transaction.
    ///
    /// # Errors
    /// Fails when SQLite fails.
    pub async fn write(&mut self, statements: &[&str]) -> Result<()> {
        self.send(json!({"write": {"statements": statements}})).await.map(drop)
    }

    /// Returns `connected`, `hasSynced`, `downloadError`, `uploadError` and the length of the upload
    /// queue, `queued`.
    ///
    /// # Errors
    /// Fails when the process has exited.
    pub async fn status(&mut self) -> Result<Value> {
        self.send(json!({"status": {}})).await
    }

    /// Waits until a query returns exactly `rows`.
    ///
    /// # Errors
    /// Fails with the SDK's status when the query still returns other rows after `within`.
    pub async fn wait_for(&mut self, sql: &str, rows: &Value, within: Duration) -> Result<()> {
        let mut last = Vec::new();
        let waited = eventually("the rows in the official SDK", within, async || {
            last = self.query(sql).await?;
            Ok((Value::from(last.clone()) == *rows).then_some(()))
        })
        .await;
        if let Err(error) = waited {
            let status = self.status().await?;
            bail!("{error:#}: '{sql}' returns {last:?} and not {rows}; status {status}");
        }
        Ok(())
    }

    async fn send(&mut self, mut command: Value) -> Result<Value> {
        self.commands += 1;
        let number = self.commands;
        command["number"] = number.into();
        writeln!(self.stdin, "{command}").context("the driver has exited")?;

        let process = &mut self.process;
        let reply = eventually("a reply of the driver", COMMAND_TIMEOUT, async || {
            let has_exited = process.try_wait()?.is_some();
            let replies = process.stdout()?;
            let complete = replies.rfind('\n').map_or("", |end| &replies[..end]);
            let line = complete.lines().nth(number - 1).map(str::to_owned);
            Ok(if line.is_none() && has_exited { Some(None) } else { line.map(Some) })
        })
        .await?;
        process.must_run()?;

        let reply: Value = serde_json::from_str(&reply.context("the driver has exited")?)?;
        ensure!(reply["number"] == number, "the reply belongs to another command: {reply}");
        if let Some(error) = reply.get("error") {
            bail!("the official SDK failed: {error}");
        }
        Ok(reply["result"].clone())
    }
}

/// Returns the packages that `./test` has installed from the current lock file.
fn installed() -> Result<PathBuf> {
    let lock = fs::read(Path::new(SOURCE).join("package-lock.json"))?;
    let cache = Settings::from_env()?.cache;
    let folders = fs::read_dir(&cache).into_iter().flatten().flatten().map(|entry| entry.path());
    let installed = folders.filter(|folder| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        // A folder with a dot in its name is still being installed.
        name.starts_with("official-sdk-") && !name.contains('.')
    });

    let up_to_date = installed.filter(|folder| {
        fs::read(folder.join("package-lock.json")).is_ok_and(|installed| installed == lock)
    });
    let found = up_to_date.max().with_context(|| {
        format!(
            "the official SDK is not installed below {}: run `./test`, or `./test --sdk` once",
            cache.display()
        )
    })?;
    Ok(found.join("node_modules"))
}
