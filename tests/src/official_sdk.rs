//! The official Node SDK, unmodified, driven through `official-sdk/driver.mjs`.

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

/// For one command of the driver, the loading of the SDK included.
const ANSWER: Duration = Duration::from_secs(60);

/// What the app connects to.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// The sync API.
    pub sync: String,
    /// The app's backend: where uploads are posted to.
    pub backend: String,
    /// The user's token, for both.
    pub token: String,
}

/// A generation of the SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SdkVersion {
    /// The newest.
    Current,
    /// 0.15.2, of 2025: devices keep what apps once shipped.
    Old,
}

impl SdkVersion {
    /// All that are tested.
    pub const ALL: [Self; 2] = [Self::Current, Self::Old];

    /// Its name among the installed packages.
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
    /// When the SDK is not installed.
    pub async fn open(endpoints: &Endpoints) -> Result<Self> {
        Self::open_version(SdkVersion::Current, endpoints).await
    }

    /// The same with a given version.
    ///
    /// # Errors
    /// As [`OfficialSdk::open`].
    pub async fn open_version(version: SdkVersion, endpoints: &Endpoints) -> Result<Self> {
        let folder = Scratch::new()?;
        let source = Path::new(SOURCE).join("driver.mjs");
        // Node looks for packages beside the program's file, and upwards.
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
        let stdin = process.take_stdin().context("a pipe")?;
        let mut sdk = Self { stdin, process, commands: 0, folder };
        let file = sdk.folder.path().join("app.sqlite");
        let Endpoints { sync, backend, token } = endpoints;
        let open =
            json!({"open": {"file": file, "sync": sync, "backend": backend, "token": token}});
        sdk.send(open).await?;
        Ok(sdk)
    }

    /// Connects, and goes on connecting until told otherwise.
    ///
    /// # Errors
    /// Of the SDK.
    pub async fn connect(&mut self) -> Result<()> {
        self.send(json!({"connect": {}})).await.map(drop)
    }

    /// Disconnects; the database stays.
    ///
    /// # Errors
    /// Of the SDK.
    pub async fn disconnect(&mut self) -> Result<()> {
        self.send(json!({"disconnect": {}})).await.map(drop)
    }

    /// The rows of a query.
    ///
    /// # Errors
    /// Of SQLite.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Value>> {
        let answer = self.send(json!({"query": {"sql": sql}})).await?;
        Ok(answer.as_array().context("rows")?.clone())
    }

    /// Local writes, in one transaction.
    ///
    /// # Errors
    /// Of SQLite.
    pub async fn write(&mut self, statements: &[&str]) -> Result<()> {
        self.send(json!({"write": {"statements": statements}})).await.map(drop)
    }

    /// `connected`, `hasSynced`, `downloadError`, `uploadError` and the upload queue's length.
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn status(&mut self) -> Result<Value> {
        self.send(json!({"status": {}})).await
    }

    /// Waits until a query gives these rows.
    ///
    /// # Errors
    /// When it does not, with the status.
    pub async fn wait_for(&mut self, sql: &str, rows: &Value, within: Duration) -> Result<()> {
        let mut last = Vec::new();
        let waited = eventually("the official SDK", within, async || {
            last = self.query(sql).await?;
            Ok((Value::from(last.clone()) == *rows).then_some(()))
        })
        .await;
        if let Err(error) = waited {
            let status = self.status().await?;
            bail!("{error:#}: '{sql}' gives {last:?}, not {rows}; status {status}");
        }
        Ok(())
    }

    async fn send(&mut self, mut command: Value) -> Result<Value> {
        self.commands += 1;
        let number = self.commands;
        command["number"] = number.into();
        writeln!(self.stdin, "{command}").context("the driver is gone")?;
        let process = &mut self.process;
        let answer = eventually("an answer of the driver", ANSWER, async || {
            let ended = process.try_wait()?.is_some();
            let answers = process.stdout()?;
            let complete = answers.rfind('\n').map_or("", |end| &answers[..end]);
            let line = complete.lines().nth(number - 1).map(str::to_owned);
            Ok(if line.is_none() && ended { Some(None) } else { line.map(Some) })
        })
        .await?;
        process.must_run()?;
        let answer: Value = serde_json::from_str(&answer.context("the driver ended")?)?;
        ensure!(answer["number"] == number, "an answer out of turn: {answer}");
        if let Some(error) = answer.get("error") {
            bail!("the official SDK: {error}");
        }
        Ok(answer["result"].clone())
    }
}

/// The packages that `./test` installed from the same lock file as there is now.
fn installed() -> Result<PathBuf> {
    let lock = fs::read(Path::new(SOURCE).join("package-lock.json"))?;
    let cache = Settings::from_env()?.cache;
    let folders = fs::read_dir(&cache).into_iter().flatten().flatten().map(|entry| entry.path());
    let installed = folders.filter(|folder| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        // One that is still being installed has a dot in its name.
        name.starts_with("official-sdk-") && !name.contains('.')
    });
    let same = |folder: &PathBuf| {
        fs::read(folder.join("package-lock.json")).is_ok_and(|installed| installed == lock)
    };
    let found = installed.filter(same).max().with_context(|| {
        format!(
            "the official SDK is not installed below {}: run `./test`, or `./test --sdk` once",
            cache.display()
        )
    })?;
    Ok(found.join("node_modules"))
}
