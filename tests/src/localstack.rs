//! AWS on this machine, and what is deployed there.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::postgres::profile_folder;
use crate::process::{Lodging, Process, Scratch, Signal};
use crate::settings::Settings;
use crate::tidewater::Tidewater;
use crate::token::{AUDIENCE, SigningKey};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// LocalStack: that of `./test`, which all tests share, or else one of this test.
pub struct LocalStack {
    endpoint: String,
    _own: Option<Started>,
}

/// Ends when its standard input does, however this process ends.
struct Started {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl LocalStack {
    /// Finds it, or starts it and waits until it is ready. The first start on a machine installs
    /// it, which takes minutes.
    ///
    /// # Errors
    /// When it does not start; it says why on standard error.
    pub fn start() -> Result<Self> {
        if let Some(endpoint) = Settings::from_env()?.localstack {
            return Ok(Self { endpoint, _own: None });
        }
        let mut child = Command::new(format!("{ROOT}/localstack/start"))
            .args(["--json", "--until-stdin-closes"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run localstack/start")?;
        let stdout = child.stdout.take().context("it has a standard output")?;
        let own = Started { stdin: child.stdin.take(), child };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let variables: Value = serde_json::from_str(&line).context("LocalStack did not start")?;
        let endpoint = variables["AWS_ENDPOINT_URL"].as_str().context("an endpoint")?;
        Ok(Self { endpoint: endpoint.to_owned(), _own: Some(own) })
    }

    /// Lets a program speak to it as it would to AWS.
    pub fn reach_from(&self, command: &mut Command) {
        command.envs([
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ]);
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It may have ended by itself.
        let _ = self.child.wait();
    }
}

/// Rows from which on a bucket gets a snapshot.
const SNAPSHOT_THRESHOLD: &str = "100";

/// The deployment template, deployed with functions of this build.
pub struct Stack {
    localstack: LocalStack,
    key: SigningKey,
    outputs: Value,
    folder: Scratch,
}

impl Stack {
    /// Deploys it under a name of its own; buckets get snapshots from 100 rows on.
    ///
    /// # Errors
    /// When a function has not been built, or the deployment fails: then with its reasons.
    pub fn deploy(localstack: LocalStack) -> Result<Self> {
        let folder = Scratch::new()?;
        let key = SigningKey::random("test");
        let keys = std::fs::read_to_string(key.write_jwk_set(folder.path())?)?;
        let dist = folder.path().join("dist");
        let mut build = Command::new(format!("{ROOT}/infra/build"));
        build.arg("--from").arg(profile_folder()?).arg("--out").arg(&dist);
        run(&mut build)?;

        let name = format!("test-{:08x}", rand::random::<u32>());
        let mut deploy = Command::new(format!("{ROOT}/localstack/deploy"));
        localstack.reach_from(&mut deploy);
        deploy.args(["--stack", &name, "--dist"]).arg(&dist).args([
            format!("TablePrefix={name}"),
            format!("Jwks={keys}"),
            format!("Audience={AUDIENCE}"),
            format!("SnapshotThreshold={SNAPSHOT_THRESHOLD}"),
        ]);
        let output = run(&mut deploy)?;
        let outputs = serde_json::from_slice(&output.stdout).context("the stack's outputs")?;
        Ok(Self { localstack, key, outputs, folder })
    }

    fn output(&self, name: &str) -> Result<&str> {
        self.outputs[name].as_str().with_context(|| format!("the stack has no output {name}"))
    }

    /// Where the sync API answers, for resolvers that do not know the function's name.
    ///
    /// # Errors
    /// When the stack does not say.
    pub fn url(&self) -> Result<&str> {
        self.output("UrlHere")
    }

    /// A token of a user, valid for an hour.
    ///
    /// # Errors
    /// Never in practice.
    pub fn token(&self, user: &str) -> Result<String> {
        self.key.token(user).sign()
    }

    /// Starts `tidewater ingest` into the stack.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn ingest(&self, database_url: &str, sync_config: &str) -> Result<Process> {
        let file = self.folder.path().join("sync-config.yaml");
        std::fs::write(&file, sync_config)?;
        let mut command = Tidewater::command()?;
        self.localstack.reach_from(&mut command);
        command
            .arg("ingest")
            .env("TIDEWATER_STORE", "aws")
            .env("TIDEWATER_TABLE_PREFIX", self.output("TablePrefix")?)
            .env("TIDEWATER_BUCKET", self.output("Bucket")?)
            .env("TIDEWATER_SNAPSHOT_THRESHOLD", SNAPSHOT_THRESHOLD)
            .env("TIDEWATER_DATABASE_URL", database_url)
            .env("TIDEWATER_SYNC_CONFIG", file);
        let lodging = Lodging { name: "ingest", logs: self.logs(), end: Signal::Term };
        Process::spawn(&mut command, lodging)
    }

    fn logs(&self) -> &Path {
        self.folder.path()
    }
}

fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let program = PathBuf::from(command.get_program());
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed: {errors}", program.display());
    Ok(output)
}
