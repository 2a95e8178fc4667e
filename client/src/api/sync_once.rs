//! Syncing once, for background tasks and tools.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidewater_protocol::OpId;
use tokio::sync::watch;

use super::client::Client;
use crate::connector::{Connector, Credentials};
use crate::db::queue;
use crate::error::ClientError;
use crate::status::{ProblemKind, Status};
use crate::sync::stats::{SyncStats, TransferMethod};

/// The result of [`Client::sync_once`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncReport {
    /// The checkpoint that is visible now.
    pub checkpoint: OpId,
    /// The number of rows that were examined to make it visible.
    pub rows: u64,
    /// The number of operations received, rows of snapshots included.
    pub operations: u64,
    /// The bytes of the stream, uncompressed, and of snapshots, compressed.
    pub bytes: u64,
    /// The buckets, and how each was transferred.
    pub buckets: BTreeMap<String, TransferMethod>,
    /// The time from the call to the server's first answer.
    pub connect: Duration,
    /// The time for receiving and storing lines and snapshots.
    pub download: Duration,
    /// The time for making the checkpoint visible.
    pub apply: Duration,
    /// The time of the whole call.
    pub total: Duration,
}

impl From<SyncStats> for SyncReport {
    fn from(stats: SyncStats) -> Self {
        let total = stats.elapsed();
        let connect = stats.connect.unwrap_or_default();

        Self {
            checkpoint: stats.checkpoint,
            rows: stats.rows,
            operations: stats.operations,
            bytes: stats.bytes,
            buckets: stats.buckets,
            connect,
            download: total.saturating_sub(connect + stats.publish),
            apply: stats.publish,
            total,
        }
    }
}

impl Client {
    /// Connects, uploads the queue, publishes the first checkpoint that contains these writes, and
    /// disconnects. Without a `deadline` there is no time limit.
    ///
    /// # Errors
    /// Fails with [`ClientError::Deadline`], or with [`ClientError::Sync`] for a problem that a
    /// retry does not solve and after [`crate::Options::failures_max`] failures in a row. A server that
    /// answers 429 and when to ask again has not failed: the call waits. The received operations are
    /// kept.
    pub async fn sync_once(
        &self,
        endpoint: &str,
        credentials: Arc<dyn Credentials>,
        connector: Option<Arc<dyn Connector>>,
        deadline: Option<Duration>,
    ) -> Result<SyncReport, ClientError> {
        let mut status = self.status();
        let published_before = status.borrow_and_update().published;

        // Without a connector a checkpoint with the local writes would never come.
        if connector.is_none() && self.has_uploads()? {
            let reason = "local writes wait, but there is no connector";
            return Err(ClientError::Sync(reason.to_owned()));
        }

        self.connect(endpoint, credentials, connector)?;
        let published = self.wait_until_published(&mut status, published_before);
        let outcome = match deadline {
            Some(deadline) => tokio::time::timeout(deadline, published)
                .await
                .unwrap_or(Err(ClientError::Deadline)),
            None => published.await,
        };

        let stats = self.end_session().await;
        outcome?;
        stats
            .map(SyncReport::from)
            .ok_or_else(|| ClientError::Sync("the sync thread panicked".to_owned()))
    }

    fn has_uploads(&self) -> Result<bool, ClientError> {
        let is_queued = self.status().borrow().queue_length > 0;
        Ok(is_queued || self.read(queue::has_pending_uploads)?)
    }

    async fn wait_until_published(
        &self,
        status: &mut watch::Receiver<Status>,
        published_before: u64,
    ) -> Result<(), ClientError> {
        let failures_max = self.options().failures_max;
        let decided = status
            .wait_for(|status| {
                status.published > published_before
                    || reason_to_give_up(status, failures_max).is_some()
            })
            .await
            .map_err(|_| ClientError::Sync("the client was closed".to_owned()))?;

        if decided.published > published_before {
            return Ok(());
        }
        let reason = reason_to_give_up(&decided, failures_max).unwrap_or_default();
        Err(ClientError::Sync(reason))
    }
}

/// Returns the reason why a longer wait would not help, if there is one.
fn reason_to_give_up(status: &Status, failures_max: u32) -> Option<String> {
    let problem = status.download_problem.as_ref().or(status.upload_problem.as_ref())?;
    let is_final = match problem.kind {
        ProblemKind::Network | ProblemKind::Checksum | ProblemKind::Upload => false,
        ProblemKind::Credentials
        | ProblemKind::OtherUser
        | ProblemKind::Protocol
        | ProblemKind::Schema
        | ProblemKind::Storage => true,
    };

    (is_final || status.failures_in_a_row >= failures_max).then(|| problem.message.clone())
}
