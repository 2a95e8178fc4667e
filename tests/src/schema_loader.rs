//! Loads a client schema of TypeScript with the official Node SDK.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::official_sdk::{SOURCE, installed};
use crate::process::{Lodging, Process, Scratch, Signal};

const PROGRAM: &str = "schema.mjs";

/// Timeout of the program.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Opens a database with the schema. Returns its tables, each with the types of its columns.
///
/// # Errors
/// Fails when the SDK is not installed, or refuses the schema.
pub async fn load_typescript_schema(schema: &str) -> Result<Value> {
    // Node searches packages beside the program's file and in the folders above it.
    let folder = Scratch::new()?;
    fs::copy(Path::new(SOURCE).join(PROGRAM), folder.path().join(PROGRAM))?;
    std::os::unix::fs::symlink(installed()?, folder.path().join("node_modules"))?;
    fs::write(folder.path().join("schema.ts"), schema)?;

    let mut command = Command::new("node");
    command.args([PROGRAM, "schema.ts"]).current_dir(folder.path());
    let lodging = Lodging { name: "schema", logs: folder.path(), end: Signal::Kill };
    let output = Process::spawn(&mut command, lodging)?.wait(TIMEOUT).await?;
    ensure!(output.code == Some(0), "the SDK refused the schema:\n{}", output.stderr);
    serde_json::from_str(&output.stdout).context("its answer is not JSON")
}
