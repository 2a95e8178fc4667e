//! Syncing once, for background tasks and tools.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidewater_protocol::OpId;
use tokio::sync::watch;

use crate::api::client::Client;
use crate::connector::{Connector, Credentials};
use crate::db::queue;
use crate::error::ClientError;
use crate::status::{ProblemKind, Status};
use crate::sync::sync_thread::Meter;

/// How a bucket's rows came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// As operations in lines of the stream, or not at all: it was there already.
    Lines,
    /// As a snapshot's files, whose rows were copied into the app's tables.
    SnapshotMerged,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lines => "lines",
            Self::SnapshotMerged => "snapshot merged",
        })
    }
}

/// What [`Client::sync_once`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncReport {
    /// The checkpoint that is visible now.
    pub checkpoint: OpId,
    /// Rows that were looked at when it was made visible.
    pub rows: u64,
    /// Operations received, rows of snapshots included.
    pub operations: u64,
    /// Bytes of the stream, uncompressed, and of snapshots, compressed.
    pub bytes: u64,
    /// The buckets, and how each came.
    pub buckets: BTreeMap<String, Method>,
    /// From the call to the server's first answer.
    pub connect: Duration,
    /// Receiving and storing lines and snapshots.
    pub download: Duration,
    /// Making the checkpoint visible.
    pub apply: Duration,
    /// All of it.
    pub total: Duration,
}

impl Client {
    /// Connects, sends what waits, takes in the first checkpoint that contains it, and disconnects.
    /// For background tasks and tools. With a `deadline` of none it takes the time it needs.
    ///
    /// # Errors
    /// [`ClientError::Deadline`]; [`ClientError::Sync`] for trouble that trying again does not
    /// mend, and after [`crate::Options::failures_max`] failures in a row. What was received is kept.
    pub async fn sync_once(
        &self,
        endpoint: &str,
        credentials: Arc<dyn Credentials>,
        connector: Option<Arc<dyn Connector>>,
        deadline: Option<Duration>,
    ) -> Result<SyncReport, ClientError> {
        let mut status = self.status();
        let before = status.borrow_and_update().published;
        let awaits_upload = |status: &Status| {
            Ok::<_, ClientError>(status.queue_length > 0 || !self.read(queue::gate_is_open)?)
        };
        if connector.is_none() && awaits_upload(&status.borrow())? {
            let reason = "local writes wait, but there is no connector";
            return Err(ClientError::Sync(reason.to_owned()));
        }
        self.connect(endpoint, credentials, connector)?;
        let published = self.until_published(&mut status, before);
        let outcome = match deadline {
            Some(deadline) => tokio::time::timeout(deadline, published)
                .await
                .unwrap_or(Err(ClientError::Deadline)),
            None => published.await,
        };
        let meter = self.end_session().await;
        outcome?;
        meter.map(report).ok_or_else(|| ClientError::Sync("the worker failed".to_owned()))
    }

    async fn until_published(
        &self,
        status: &mut watch::Receiver<Status>,
        before: u64,
    ) -> Result<(), ClientError> {
        let failures_max = self.options().failures_max;
        let decided = status.wait_for(|status| {
            status.published > before || gives_up(status, failures_max).is_some()
        });
        let decided = decided.await.map_err(|_| ClientError::Sync("closed".to_owned()))?;
        if decided.published > before {
            return Ok(());
        }
        let reason = gives_up(&decided, failures_max).unwrap_or_default();
        Err(ClientError::Sync(reason))
    }
}

/// Why it makes no sense to go on waiting, if so.
fn gives_up(status: &Status, failures_max: u32) -> Option<String> {
    let problem = status.download_problem.as_ref().or(status.upload_problem.as_ref())?;
    let is_final = match problem.kind {
        ProblemKind::Network | ProblemKind::Checksum | ProblemKind::Upload => false,
        ProblemKind::Credentials
        | ProblemKind::Protocol
        | ProblemKind::Schema
        | ProblemKind::Storage => true,
    };
    (is_final || status.failures_in_a_row >= failures_max).then(|| problem.message.clone())
}

fn report(meter: Meter) -> SyncReport {
    let total = meter.total();
    let connect = meter.connect.unwrap_or_default();
    SyncReport {
        checkpoint: meter.checkpoint,
        rows: meter.rows,
        operations: meter.operations,
        bytes: meter.bytes,
        buckets: meter.buckets,
        connect,
        download: total.saturating_sub(connect + meter.apply),
        apply: meter.apply,
        total,
    }
}
