//! `tidewater probe`: asks a process for its health, for containers without another HTTP client.

use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use reqwest::Url;

use crate::terminal::failure::Failure;

/// Time for an answer. A supervisor asks again.
const TIMEOUT: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  The health check of an ingest worker's container:
    tidewater probe http://127.0.0.1:9462/probes/liveness

  Whether devices can sync:
    tidewater probe http://127.0.0.1:8080/probes/readiness";

/// Ask a process for its health: exit code 0 if it answers with success, else 1
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ProbeArgs {
    /// URL to ask
    url: Url,
}

/// Fails unless the answer is a success.
pub(crate) async fn run(args: &ProbeArgs) -> Result<(), Failure> {
    // The environment may name a proxy, which does not reach this machine.
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build();
    let asked = client.map_err(anyhow::Error::from)?.get(args.url.clone()).send().await;
    let answer = asked.with_context(|| format!("{} does not answer", args.url))?;
    if answer.status().is_success() {
        return Ok(());
    }

    let status = answer.status();
    let body = answer.text().await.unwrap_or_default();
    Err(Failure::Failed(anyhow!("{} answers {status}: {}", args.url, body.trim())))
}
