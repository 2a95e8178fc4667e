//! An official SDK, unmodified, controlled through a program in `official-sdk`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::process::{Lodging, Process, Scratch, Signal};
use crate::sdk_client::{Platform, SdkClient};
use crate::settings::{Browser, Settings};
use crate::wait::eventually;

pub(crate) const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/official-sdk");

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

/// The programs of the drivers.
const PROGRAMS: [&str; 4] = ["client.mjs", "node.mjs", "browser.mjs", "page.mjs"];

/// A process with one database of an SDK.
pub struct OfficialSdk {
    client: SdkClient,
    stdin: ChildStdin,
    process: Process,
    commands: usize,
    folder: Scratch,
}

impl OfficialSdk {
    /// Starts Node or a browser with an SDK, and opens an empty database.
    ///
    /// `tables` has the columns of each table with their types: `{"todos": {"done": "integer"}}`.
    ///
    /// # Errors
    /// Fails when the SDK or the browser is not installed.
    pub async fn open(client: SdkClient, tables: &Value, endpoints: &Endpoints) -> Result<Self> {
        // Node searches packages beside the program's file and in the folders above it.
        let folder = Scratch::new()?;
        for program in PROGRAMS {
            fs::copy(Path::new(SOURCE).join(program), folder.path().join(program))?;
        }
        let modules = installed()?;
        std::os::unix::fs::symlink(modules, folder.path().join("node_modules"))?;

        let mut command = Command::new("node");
        match client.sdk.platform {
            Platform::Node => command.args(["node.mjs", client.sdk.package]),
            Platform::Browser(file_system) => {
                command.args(["browser.mjs", client.sdk.package, file_system]).arg(chromium()?)
            }
        };
        command.current_dir(folder.path()).stdin(Stdio::piped());
        // A driver that receives SIGTERM stops its browser.
        let lodging = Lodging { name: "official-sdk", logs: folder.path(), end: Signal::Term };
        let mut process = Process::spawn(&mut command, lodging)?;
        let stdin = process.take_stdin().context("Node has no standard input")?;

        let mut sdk = Self { client, stdin, process, commands: 0, folder };
        let file = sdk.folder.path().join("app.sqlite");
        let Endpoints { sync, backend, token } = endpoints;
        let open = json!({"open": {
            "file": file, "tables": tables, "sync": sync, "backend": backend, "token": token,
        }});
        sdk.send(open).await?;
        Ok(sdk)
    }

    /// Returns the client that the process runs.
    #[must_use]
    pub fn client(&self) -> &SdkClient {
        &self.client
    }

    /// Connects. The SDK reconnects until [`OfficialSdk::disconnect`].
    ///
    /// # Errors
    /// Fails when the SDK fails.
    pub async fn connect(&mut self) -> Result<()> {
        self.connect_with(json!({})).await
    }

    /// Connects with more options of the SDK.
    ///
    /// # Errors
    /// Fails when the SDK fails.
    pub async fn connect_with(&mut self, options: Value) -> Result<()> {
        let mut all = self.client.connection_options();
        for (name, value) in options.as_object().context("options are an object")? {
            all[name] = value.clone();
        }
        self.send(json!({"connect": all})).await.map(drop)
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

    /// Returns the status, as [`OfficialSdk::statuses`] does, with the length of the upload queue
    /// (`queued`), and how often the SDK has asked for credentials (`fetches`) and the backend has
    /// rejected a transaction (`rejected`).
    ///
    /// # Errors
    /// Fails when the process has exited.
    pub async fn status(&mut self) -> Result<Value> {
        self.send(json!({"status": {}})).await
    }

    /// Returns the statuses since the last call: `connected`, `hasSynced`, `downloadError`,
    /// `uploadError`, `progress` (`[downloaded, total]` or null) and `priorities`.
    ///
    /// # Errors
    /// Fails when the process has exited.
    pub async fn statuses(&mut self) -> Result<Vec<Value>> {
        let reply = self.send(json!({"statuses": {}})).await?;
        Ok(reply.as_array().context("the driver's reply is no list of statuses")?.clone())
    }

    /// Sets the token that the app returns the next time that the SDK asks for it.
    ///
    /// # Errors
    /// Fails when the process has exited.
    pub async fn set_token(&mut self, token: &str) -> Result<()> {
        self.send(json!({"token": {"token": token}})).await.map(drop)
    }

    /// Subscribes to a stream. When nothing is subscribed any longer, the rows stay for a time.
    ///
    /// # Errors
    /// Fails when the SDK cannot subscribe.
    pub async fn subscribe(
        &mut self,
        stream: &str,
        parameters: &Value,
        rows_stay: Duration,
    ) -> Result<()> {
        let ttl = rows_stay.as_secs();
        let subscribe = json!({"stream": stream, "parameters": parameters, "ttl": ttl});
        self.send(json!({"subscribe": subscribe})).await.map(drop)
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// Fails when there is none.
    pub async fn unsubscribe(&mut self, stream: &str, parameters: &Value) -> Result<()> {
        let unsubscribe = json!({"stream": stream, "parameters": parameters});
        self.send(json!({"unsubscribe": unsubscribe})).await.map(drop)
    }

    /// Verifies that the SDK has logged no mismatch of a checksum, after which it would have
    /// downloaded the bucket again.
    ///
    /// # Errors
    /// Fails with the log when there was one.
    pub fn verify_checksums(&self) -> Result<()> {
        let log = self.process.stderr()?;
        ensure!(!log.contains("Checksums "), "{}: {log}", self.client.name());
        Ok(())
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
            let name = self.client.name();
            bail!("{name}: {error:#}: '{sql}' returns {last:?} and not {rows}; status {status}");
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
            bail!("{} failed: {error}", self.client.name());
        }
        Ok(reply["result"].clone())
    }
}

/// Returns the program of Chromium.
fn chromium() -> Result<PathBuf> {
    match Settings::from_env()?.browser {
        Browser::Program(program) => Ok(program),
        Browser::Missing | Browser::LeftOut => bail!(
            "Chromium is missing: install it (Debian: apt-get install chromium), name its program in \
             TIDEWATER_TEST_CHROMIUM, or leave the web SDK out with TIDEWATER_TEST_CHROMIUM=none"
        ),
    }
}

/// Returns the packages that `./test` has installed from the current lock file.
pub(crate) fn installed() -> Result<PathBuf> {
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
