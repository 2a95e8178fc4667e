//! The example backend as a process. It stands for an app's own server.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::postgres::command_ending_with_us;

/// Name of the backend's program.
const PROGRAM: &str = "tidewater-example-backend";
/// Time that the backend has to print its address.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running backend. It is killed when this is dropped.
pub(crate) struct Backend {
    _process: Child,
    /// URL that uploads are posted to.
    pub(crate) uploads: String,
}

impl Backend {
    /// Starts it on a free port.
    pub(crate) async fn start(
        database_url: &str,
        jwks: &Path,
        audience: &str,
        tables: &[&str],
    ) -> anyhow::Result<Self> {
        let program = find_program()?;
        let mut process = Command::from(command_ending_with_us(&program, "KILL"))
            .args(["--database-url", database_url, "--listen", "127.0.0.1:0"])
            .arg("--jwks")
            .arg(jwks)
            .args(["--audience", audience, "--table", &tables.join(",")])
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run '{}'", program.display()))?;

        let stdout = process.stdout.take().context("the backend has no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(START_TIMEOUT, lines.next_line())
            .await
            .context("the example backend did not start in time")??;

        let address = line.as_deref().and_then(|line| line.strip_prefix("listening on "));
        let Some(address) = address else { bail!("the example backend did not start") };
        Ok(Self { uploads: format!("{address}/upload"), _process: process })
    }
}

/// Returns the path of the backend's program, which is built into the directory of ours.
fn find_program() -> anyhow::Result<PathBuf> {
    let ours = std::env::current_exe().context("cannot find our own program")?;
    let program = ours.with_file_name(PROGRAM);
    if program.exists() {
        return Ok(program);
    }
    Err(anyhow!(
        "the example backend is missing at '{}': build it with `cargo build --release -p {PROGRAM}`, or \
         run ./demo, which builds both",
        program.display()
    ))
}
