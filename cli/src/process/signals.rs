//! SIGINT and SIGTERM: the first begins a graceful shutdown, the second ends the process at once.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The signals that ask a process to end.
pub(crate) struct Interruption {
    terminate: Signal,
    interrupt: Signal,
}

impl Interruption {
    /// Takes over the signals from now on.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?,
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Returns a token that the first signal cancels.
pub(crate) fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    let mut interruption = Interruption::listen()?;
    let shutdown = CancellationToken::new();
    let requested = shutdown.clone();

    tokio::spawn(async move {
        interruption.wait().await;
        tracing::info!("shutting down: finishing work in flight; a second signal exits at once");
        requested.cancel();

        interruption.wait().await;
        std::process::exit(1);
    });
    Ok(shutdown)
}
