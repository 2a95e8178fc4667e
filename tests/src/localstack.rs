//! LocalStack, an emulation of AWS on this machine, and the deployed template in it.

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

/// The LocalStack that `./test` has started for all tests, or else one for this test.
pub struct LocalStack {
    endpoint: String,
    _own: Option<StartedLocalStack>,
}

/// A LocalStack of this process.
///
/// It stops when its standard input is closed, so it stops even if this process is killed.
struct StartedLocalStack {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl LocalStack {
    /// Uses the LocalStack of the environment, or starts one and waits until it is ready.
    ///
    /// The first start on a machine installs LocalStack, which takes minutes.
    ///
    /// # Errors
    /// Fails when LocalStack does not start. Its standard error has the reason.
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
        let stdout = child.stdout.take().context("no standard output")?;
        let own = StartedLocalStack { stdin: child.stdin.take(), child };

        // The first line of its standard output tells that it is ready, and where it listens.
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let variables: Value = serde_json::from_str(&line).context("LocalStack did not start")?;
        let endpoint = variables["AWS_ENDPOINT_URL"].as_str().context("no endpoint")?;
        Ok(Self { endpoint: endpoint.to_owned(), _own: Some(own) })
    }

    /// Sets the environment in which a command uses LocalStack as AWS.
    pub fn configure(&self, command: &mut Command) {
        command.envs([
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ]);
    }
}

impl Drop for StartedLocalStack {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It may have exited already.
        let _ = self.child.wait();
    }
}

/// Number of operations after which a bucket gets a snapshot.
const SNAPSHOT_THRESHOLD: &str = "100";

/// The deployed template, with the functions of this build.
pub struct Stack {
    localstack: LocalStack,
    key: SigningKey,
    outputs: Value,
    folder: Scratch,
    name: String,
}

impl Stack {
    /// Deploys the template as a new stack. Its builder makes snapshots of 100 operations or more.
    ///
    /// # Errors
    /// Fails when a function has not been built, or when the deployment fails.
    pub fn deploy(localstack: LocalStack) -> Result<Self> {
        let folder = Scratch::new()?;
        let key = SigningKey::random("test");
        let keys = std::fs::read_to_string(key.write_jwk_set(folder.path())?)?;

        let dist = folder.path().join("dist");
        let mut build = Command::new(format!("{ROOT}/infra/build"));
        build.arg("--from").arg(profile_folder()?).arg("--out").arg(&dist);
        run(&mut build)?;

        let name = format!("test-{:08x}", rand::random::<u32>());
        let mut stack = Self { localstack, key, outputs: Value::Null, folder, name };
        stack.update(&[
            format!("Jwks={keys}"),
            format!("Audience={AUDIENCE}"),
            format!("SnapshotThreshold={SNAPSHOT_THRESHOLD}"),
        ])?;
        Ok(stack)
    }

    /// Deploys the template again, with these parameters and the others as they were.
    ///
    /// # Errors
    /// Fails when the deployment fails.
    pub fn update(&mut self, parameters: &[String]) -> Result<()> {
        let mut deploy = self.deployment();
        deploy.arg("--dist").arg(self.folder.path().join("dist")).args(parameters);
        let output = run(&mut deploy)?;
        self.outputs =
            serde_json::from_slice(&output.stdout).context("the stack's outputs are no JSON")?;
        Ok(())
    }

    /// Deletes the stack with its data.
    ///
    /// # Errors
    /// Fails when there is no such stack, or when it cannot be deleted.
    pub fn destroy(&self) -> Result<()> {
        run(self.deployment().arg("--destroy")).map(drop)
    }

    fn deployment(&self) -> Command {
        let mut command = Command::new(format!("{ROOT}/localstack/deploy"));
        self.localstack.configure(&mut command);
        command.args(["--stack", &self.name]);
        command
    }

    fn output(&self, name: &str) -> Result<&str> {
        self.outputs[name].as_str().with_context(|| format!("the stack has no output {name}"))
    }

    /// Returns the URL of the sync API, for hosts whose resolver lacks the function's host name.
    ///
    /// # Errors
    /// Fails when the stack has no such output.
    pub fn url(&self) -> Result<&str> {
        self.output("UrlHere")
    }

    /// Returns a user's token, valid for an hour.
    ///
    /// # Errors
    /// Fails only when the claims cannot be written as JSON.
    pub fn token(&self, user: &str) -> Result<String> {
        self.key.token(user).sign()
    }

    /// Returns the key whose tokens the functions accept.
    #[must_use]
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Starts `tidewater ingest` with the stack as its store.
    ///
    /// # Errors
    /// Fails when the process cannot be started.
    pub fn ingest(&self, database_url: &str, sync_config: &str) -> Result<Process> {
        self.ingest_as("ingest", database_url, sync_config, &[])
    }

    /// Does what [`Stack::ingest`] does, with a name for the process and more arguments.
    ///
    /// # Errors
    /// Fails when the process cannot be started.
    pub fn ingest_as(
        &self,
        name: &str,
        database_url: &str,
        sync_config: &str,
        arguments: &[&str],
    ) -> Result<Process> {
        // Each worker has its own: another one may be reading its file.
        let file = self.folder.path().join(format!("sync-config-{name}.yaml"));
        std::fs::write(&file, sync_config)?;

        let mut command = Tidewater::command()?;
        self.localstack.configure(&mut command);
        command
            .arg("ingest")
            .args(arguments)
            .env("TIDEWATER_STORE", "aws")
            .env("TIDEWATER_TABLE_PREFIX", self.output("TablePrefix")?)
            .env("TIDEWATER_BUCKET", self.output("Bucket")?)
            .env("TIDEWATER_SNAPSHOT_THRESHOLD", SNAPSHOT_THRESHOLD)
            .env("TIDEWATER_DATABASE_URL", database_url)
            .env("TIDEWATER_SYNC_CONFIG", file);

        let lodging = Lodging { name, logs: self.logs(), end: Signal::Term };
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
