//! PowerSync's own client of the admin API, which its command line uses, in Node.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::official_sdk::{SOURCE, installed};
use crate::process::{Lodging, Process, Scratch, Signal};

const PROGRAM: &str = "admin.mjs";

/// Timeout of all calls together.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Asks for diagnostics, the schema, the validation of a sync config, and a copy of all tables. Returns the
/// answers by these names.
///
/// # Errors
/// Fails when the client is not installed, or a call fails.
pub async fn admin_calls(url: &str, token: &str, sync_config: &str) -> Result<Value> {
    // Node searches packages beside the program's file and in the folders above it.
    let folder = Scratch::new()?;
    fs::copy(Path::new(SOURCE).join(PROGRAM), folder.path().join(PROGRAM))?;
    std::os::unix::fs::symlink(installed()?, folder.path().join("node_modules"))?;

    let mut command = Command::new("node");
    command.args([PROGRAM, url, token, sync_config]).current_dir(folder.path());
    let lodging = Lodging { name: "admin-client", logs: folder.path(), end: Signal::Kill };
    let output = Process::spawn(&mut command, lodging)?.wait(TIMEOUT).await?;
    ensure!(output.code == Some(0), "PowerSync's client failed:\n{}", output.stderr);
    serde_json::from_str(&output.stdout).context("its answer is not JSON")
}
