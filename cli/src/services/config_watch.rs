//! Runs the worker with the sync config as its file is now, and with the next one when it changes.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidewater_storage::Storage;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::config_file::ConfigFile;
use super::ingest_worker::{SourceArgs, Worker};
use crate::terminal::failure::Failure;

/// Interval between two looks at the file. A change is taken once two looks have found the same.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Pause before a config is tried again that the source did not fit: somebody may mend the source
/// instead of the file.
const RETRY_PAUSE: Duration = Duration::from_secs(60);

/// A text of the file that is not used.
struct Rejected {
    text: String,
    /// The time at which it is tried again; `None` if it does not compile.
    retry_at: Option<Instant>,
}

/// The reason why a run with one config has ended.
enum RunEnd {
    Ended(Result<(), Failure>),
    /// The file has another config.
    Changed(Box<ConfigFile>),
}

impl SourceArgs {
    /// Runs the worker until `shutdown`, or until it fails. A changed file that compiles replaces the
    /// config; one that does not, or that the source does not fit, leaves the former one running.
    pub(crate) async fn run_watching<S: Storage>(
        &self,
        file: ConfigFile,
        storage: S,
        place: &str,
        worker: &Worker,
        shutdown: &CancellationToken,
    ) -> Result<(), Failure> {
        let mut file = file;
        let mut former = None;
        let mut rejected = None;
        loop {
            worker.has_begun.store(false, Ordering::Relaxed);
            let run = self.run_until_changed(
                &file,
                storage.clone(),
                place,
                worker,
                shutdown,
                &mut rejected,
            );
            let ended = match run.await {
                RunEnd::Changed(next) => {
                    former = Some(std::mem::replace(&mut file, *next));
                    continue;
                }
                RunEnd::Ended(ended) => ended,
            };

            let has_begun = worker.has_begun.load(Ordering::Relaxed);
            match (ended, former.take()) {
                (Err(failure), Some(former)) if !has_begun && !shutdown.is_cancelled() => {
                    failure.report();
                    tracing::warn!("the changed sync config is not used: the former one goes on");
                    let retry_at = Some(Instant::now() + RETRY_PAUSE);
                    rejected = Some(Rejected { text: file.text().to_owned(), retry_at });
                    file = former;
                }
                (ended, _) => return ended,
            }
        }
    }

    /// Runs the worker until it ends, or until the file has changed.
    async fn run_until_changed<S: Storage>(
        &self,
        file: &ConfigFile,
        storage: S,
        place: &str,
        worker: &Worker,
        shutdown: &CancellationToken,
        rejected: &mut Option<Rejected>,
    ) -> RunEnd {
        let replaced = shutdown.child_token();
        let mut run = Box::pin(self.run_worker(file, storage, place, worker, &replaced));
        let next = tokio::select! {
            ended = &mut run => return RunEnd::Ended(ended),
            next = changed(&self.sync_config, file, rejected) => next,
        };

        tracing::info!("the sync config has changed: starting the worker with it");
        // What was received whole is committed, and the slot is free for the next run.
        replaced.cancel();
        if let Err(failure) = run.await {
            failure.report();
        }
        RunEnd::Changed(Box::new(next))
    }
}

/// Waits until the file has another text, which compiles. Reports one that does not.
async fn changed(path: &Path, current: &ConfigFile, rejected: &mut Option<Rejected>) -> ConfigFile {
    let mut last_look = None;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        // A file that is being replaced may not exist for a moment.
        let Ok(text) = tokio::fs::read_to_string(path).await else { continue };
        if text == current.text() {
            *rejected = None;
            continue;
        }
        let is_rejected = rejected.as_ref().is_some_and(|rejected| {
            rejected.text == text && rejected.retry_at.is_none_or(|at| Instant::now() < at)
        });
        if is_rejected || last_look.replace(text.clone()).as_ref() != Some(&text) {
            continue;
        }

        match ConfigFile::compile(path.display().to_string(), text.clone()) {
            Ok(file) => return file,
            Err(_) => {
                tracing::warn!("the changed sync config is not used: the former one goes on");
                *rejected = Some(Rejected { text, retry_at: None });
            }
        }
    }
}
