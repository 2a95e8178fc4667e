//! The worker and the API of `tidewater dev`, in this process.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tidewater_functions::{Authenticator, Settings};
use tidewater_snapshot_builder::{Options, Report};
use tidewater_storage::Embedded;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::process::clock::unix_seconds;
use crate::services::api::Api;
use crate::services::config_file::ConfigFile;
use crate::services::ingest_worker::{SourceArgs, Worker};
use crate::services::limits::LimitArgs;
use crate::services::store;
use crate::terminal::failure::Failure;

/// Interval between two requests to the readiness probe.
const READY_POLL: Duration = Duration::from_millis(20);

/// An ingest worker and a sync API on one store. Snapshots are built on request, so that the demo can
/// time them.
pub(crate) struct Pipeline {
    /// URL of the sync API.
    pub(crate) endpoint: String,
    shutdown: CancellationToken,
    store: Embedded,
    worker: JoinHandle<Result<(), Failure>>,
    api: JoinHandle<()>,
}

impl Pipeline {
    /// Starts the worker and the API on a store in `dir`, which exists.
    pub(crate) async fn start(
        source: SourceArgs,
        file: ConfigFile,
        auth: Authenticator,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let shutdown = CancellationToken::new();
        let storage = store::open(dir)?;
        let api = Api::bind("127.0.0.1:0", &LimitArgs::default()).await?;
        let endpoint = format!("http://{}", api.address());
        let api = tokio::spawn(api.serve(
            storage.clone(),
            Settings { shutdown: shutdown.clone(), ..Settings::new(auth) },
        ));

        let worker = {
            let shutdown = shutdown.clone();
            let storage = storage.clone();
            let place = dir.display().to_string();
            tokio::spawn(async move {
                let worker = Worker::ending_with_its_error();
                source.run_worker(&file, storage, &place, &worker, &shutdown).await
            })
        };
        let store = storage;
        Ok(Self { endpoint, shutdown, store, worker, api })
    }

    /// Waits until the first checkpoint is visible.
    ///
    /// # Errors
    /// Fails as soon as the worker or the API ends, with its error.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        let probe = format!("{}/probes/readiness", self.endpoint);
        let client = reqwest::Client::new();
        loop {
            // The ends are looked at first: an API that has ended also refuses the request, but only its
            // error says why.
            let answer = tokio::select! {
                biased;
                ended = &mut self.worker => return Err(end_of_worker(ended)),
                ended = &mut self.api => return Err(end_of_api(ended)),
                answer = client.get(&probe).send() => answer,
            };
            if answer.context("the sync API does not answer")?.status().is_success() {
                return Ok(());
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    /// Builds the snapshots that are due.
    pub(crate) async fn build_snapshots(&self) -> anyhow::Result<Report> {
        let options = Options::default();
        let pass =
            tidewater_snapshot_builder::run_pass(&self.store, &options, unix_seconds()?, None);
        let report = pass.await.context("the snapshot builder failed")?;
        if report.failed > 0 {
            return Err(anyhow!("{} snapshots could not be built", report.failed));
        }
        Ok(report)
    }

    /// Shuts down the worker and the API at once, and waits until both have ended.
    ///
    /// # Errors
    /// Fails if one of them failed. If both did, the worker's error is returned.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();

        // Both are awaited before an error is returned: the caller deletes the store afterwards.
        let worked = self.worker.await.context("the ingest worker panicked");
        let served = self.api.await.context("the sync API panicked");

        worked?.map_err(Failure::into_error)?;
        served
    }
}

/// Returns the reason why the worker ended although nobody stopped it.
fn end_of_worker(ended: Result<Result<(), Failure>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow!("the ingest worker stopped unexpectedly"),
        Ok(Err(failure)) => failure.into_error(),
        Err(error) => anyhow!(error).context("the ingest worker panicked"),
    }
}

/// Returns the reason why the API ended although nobody stopped it.
fn end_of_api(ended: Result<(), tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(()) => anyhow!("the sync API stopped unexpectedly"),
        Err(error) => anyhow!(error).context("the sync API panicked"),
    }
}
