//! The whole pipeline in this process, as `tidewater dev` runs it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tidewater_functions::Authenticator;
use tidewater_snapshot_builder::{Options, Report};
use tidewater_storage::Embedded;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::failure::Failure;
use crate::store;
use crate::worker::{ConfigFile, SourceArgs};

const READY_POLL: Duration = Duration::from_millis(20);

/// A worker and a sync API on one store; snapshots are built when asked for.
pub(crate) struct Pipeline {
    pub(crate) endpoint: String,
    shutdown: CancellationToken,
    store: Embedded,
    worker: JoinHandle<Result<(), Failure>>,
    api: JoinHandle<anyhow::Result<()>>,
}

impl Pipeline {
    /// Starts both on a store in `dir`, which exists.
    pub(crate) async fn start(
        source: SourceArgs,
        file: ConfigFile,
        auth: Authenticator,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let shutdown = CancellationToken::new();
        let storage = store::open(dir)?;
        let api = Api::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", api.address());
        let api = tokio::spawn(api.serve(storage.clone(), auth, shutdown.clone()));
        let (stop, place) = (shutdown.clone(), dir.display().to_string());
        let store = storage.clone();
        let worker =
            tokio::spawn(async move { source.run_worker(&file, storage, &place, &stop).await });
        Ok(Self { endpoint, shutdown, store, worker, api })
    }

    /// Returns when the first checkpoint is visible.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        let probe = format!("{}/probes/readiness", self.endpoint);
        let client = reqwest::Client::new();
        loop {
            let answer = client.get(&probe).send().await.context("the sync API does not answer")?;
            if answer.status().is_success() {
                return Ok(());
            }
            tokio::select! {
                ended = &mut self.worker => return Err(why_ended(ended)),
                () = tokio::time::sleep(READY_POLL) => {}
            }
        }
    }

    /// Builds the snapshots that are due.
    pub(crate) async fn build_snapshots(&self) -> anyhow::Result<Report> {
        let (options, now) = (Options::default(), crate::builder::now());
        let pass = tidewater_snapshot_builder::run_pass(&self.store, &options, now, None);
        let report = pass.await.context("the snapshot builder failed")?;
        if report.failed > 0 {
            return Err(anyhow!("{} snapshots could not be built", report.failed));
        }
        Ok(report)
    }

    /// Ends both in order.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        self.api.await.context("the sync API broke off")??;
        match self.worker.await.context("the ingest worker broke off")? {
            Ok(()) => Ok(()),
            Err(failure) => Err(failure.into_error()),
        }
    }
}

fn why_ended(ended: Result<Result<(), Failure>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow!("the ingest worker ended by itself"),
        Ok(Err(failure)) => failure.into_error(),
        Err(panic) => anyhow!(panic).context("the ingest worker broke off"),
    }
}
