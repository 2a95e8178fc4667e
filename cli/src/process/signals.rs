//! SIGINT and SIGTERM: the first begins a graceful shutdown, the second ends the process at once.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Returns a token that the first signal cancels.
pub(crate) fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let shutdown = CancellationToken::new();
    let requested = shutdown.clone();

    tokio::spawn(async move {
        next_signal(&mut terminate, &mut interrupt).await;
        tracing::info!("shutting down: finishing work in flight; a second signal exits at once");
        requested.cancel();

        next_signal(&mut terminate, &mut interrupt).await;
        std::process::exit(1);
    });
    Ok(shutdown)
}

async fn next_signal(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
