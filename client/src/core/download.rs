//! The download machine: from the stream's lines to stored operations and checkpoints.
//!
//! ```text
//! Stopped ── FetchingToken ── LoadingBuckets ── Opening ── Streaming ──┐
//!                  ▲                                                   │ end, failure
//!                  └────────────────── Waiting ◄───────────────────────┘
//! ```
//!
//! Each stream begins with the stored positions. A stream may therefore be closed at any point: the
//! next one continues where the stored operations end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::Rng;
use tidewater_protocol::{
    Body, BucketPosition, Checkpoint, CheckpointDiff, Checksum, DataLine, ErrorChain, LineError,
    SyncLine,
};

use super::Core;
use super::action::Action;
use super::download_state::{DownloadState, StreamState};
use super::event::{Closed, LocalBucket, PublishOutcome, RequestFailed, Timer};
use crate::status::{Problem, ProblemKind};

/// The remaining life of a token, in seconds, below which it is renewed while the old stream goes
/// on. It covers a token request of several seconds on a poor network.
const RENEW_BEFORE_SECONDS: i64 = 30;

impl Core {
    /// Connects at once, unless a connection is open or being opened. Cuts a back-off short.
    pub(super) fn connect_now(&mut self, actions: &mut Vec<Action<'_>>) {
        if matches!(self.download.state, DownloadState::Stopped | DownloadState::Waiting { .. }) {
            self.connect(actions);
        }
    }

    /// Connects at once if the client is between two polls. Leaves a back-off alone.
    pub(super) fn poll_now(&mut self, actions: &mut Vec<Action<'_>>) {
        if self.download.state == (DownloadState::Waiting { polling: true }) {
            self.connect(actions);
        }
    }

    pub(super) fn on_reconnect_timer(&mut self, actions: &mut Vec<Action<'_>>) {
        if matches!(self.download.state, DownloadState::Waiting { .. }) {
            self.connect(actions);
        }
    }

    pub(super) fn connect(&mut self, actions: &mut Vec<Action<'_>>) {
        self.download.announced = None;
        self.download.fetch = None;

        if self.token.get(actions).is_some() {
            self.download.state = DownloadState::LoadingBuckets;
            actions.push(Action::LoadBuckets);
        } else {
            self.download.state = DownloadState::FetchingToken;
        }
    }

    pub(super) fn download_with_token(&mut self, actions: &mut Vec<Action<'_>>) {
        match self.download.state {
            DownloadState::FetchingToken => self.connect(actions),

            // Closing the stream would stop the fetch. The end of the fetch renews the stream.
            DownloadState::Streaming(_) if self.is_fetching() => {}
            DownloadState::Streaming(stream) if stream.is_renewing && stream.is_useful() => {
                actions.push(Action::Close);
                self.connect(actions);
            }
            DownloadState::Streaming(stream) if stream.is_renewing => {
                self.abandon(tokens_expire_too_early(), actions);
            }
            DownloadState::Streaming(_)
            | DownloadState::Stopped
            | DownloadState::Waiting { .. }
            | DownloadState::LoadingBuckets
            | DownloadState::Opening => {}
        }
    }

    pub(super) fn download_without_token(
        &mut self,
        problem: Problem,
        actions: &mut Vec<Action<'_>>,
    ) {
        match self.download.state {
            DownloadState::FetchingToken => self.fail(problem, None, actions),

            // The old stream continues. The server ends it when the old token expires.
            DownloadState::Streaming(StreamState { is_renewing: true, .. }) => {
                self.download.problem = Some(problem);
            }
            DownloadState::Streaming(_)
            | DownloadState::Stopped
            | DownloadState::Waiting { .. }
            | DownloadState::LoadingBuckets
            | DownloadState::Opening => {}
        }
    }

    pub(super) fn on_buckets_loaded(
        &mut self,
        buckets: BTreeMap<String, LocalBucket>,
        actions: &mut Vec<Action<'_>>,
    ) {
        // The answer belongs to an attempt that has ended.
        if self.download.state != DownloadState::LoadingBuckets {
            return;
        }
        // The upload machine may have discarded the token in the meantime.
        let Some(token) = self.token.token.clone() else { return self.connect(actions) };

        let mut request = self.settings.request.clone();
        request.buckets = buckets
            .iter()
            .map(|(name, local)| BucketPosition { name: name.clone(), after: local.position })
            .collect();

        self.download.buckets = buckets;
        // Events name their connection, so late ones of an earlier stream are recognised.
        self.download.connection += 1;
        self.download.state = DownloadState::Opening;
        let connection = self.download.connection;
        actions.push(Action::Open { connection, token, request: Box::new(request) });
    }

    pub(super) fn on_opened(&mut self, connection: u64) {
        if connection == self.download.connection && self.download.state == DownloadState::Opening {
            self.download.state = DownloadState::Streaming(StreamState::default());
            self.download.unauthorized = false;
        }
    }

    pub(super) fn on_closed(
        &mut self,
        connection: u64,
        reason: Closed,
        actions: &mut Vec<Action<'_>>,
    ) {
        let stream = match self.download.state {
            DownloadState::Streaming(stream) => stream,
            DownloadState::Opening => StreamState::default(),
            DownloadState::Stopped
            | DownloadState::Waiting { .. }
            | DownloadState::FetchingToken
            | DownloadState::LoadingBuckets => return,
        };
        if connection != self.download.connection {
            return;
        }

        match reason {
            // The server does not keep streams open. Everything was received, so the client polls.
            Closed::Ended if stream.is_complete => {
                let jitter = self.random.random_range(0.9..=1.1);
                let after = self.settings.poll_interval.mul_f64(jitter);
                self.wait(true, after, actions);
            }
            // The server's time limit ended the stream in the middle of a download.
            Closed::Ended if stream.is_useful() => self.connect(actions),
            Closed::Ended => {
                let message = "the server ended the stream before a complete checkpoint";
                self.fail(Problem::new(ProblemKind::Network, message), None, actions);
            }
            Closed::Broken(message) => {
                if stream.has_progressed {
                    self.download.backoff.reset();
                }
                self.fail(Problem::new(ProblemKind::Network, message), None, actions);
            }
            Closed::Refused(refusal) => self.on_refused(&refusal, actions),
        }
    }

    fn on_refused(&mut self, refusal: &RequestFailed, actions: &mut Vec<Action<'_>>) {
        if refusal.status == Some(401) {
            self.token.token = None;

            // The first refusal requests a new token at once. If that one is refused, too, the
            // back-off applies.
            if !std::mem::replace(&mut self.download.unauthorized, true) {
                return self.connect(actions);
            }
        }

        // A server that says when it has room for this client is well. So this is no failure after which a
        // caller who syncs once would give up.
        if refusal.status == Some(429)
            && let Some(after) = refusal.retry_after
        {
            self.download.problem = Some(refusal.problem());
            return self.wait(false, after, actions);
        }

        self.fail(refusal.problem(), refusal.retry_after, actions);
    }

    /// Reports a failure and waits for the back-off.
    pub(super) fn fail(
        &mut self,
        problem: Problem,
        asked: Option<Duration>,
        actions: &mut Vec<Action<'_>>,
    ) {
        self.download.problem = Some(problem);
        let after = Self::delay(&mut self.random, &mut self.download.backoff, asked);
        self.wait(false, after, actions);
    }

    fn wait(&mut self, polling: bool, after: Duration, actions: &mut Vec<Action<'_>>) {
        self.download.announced = None;
        self.download.fetch = None;
        self.download.state = DownloadState::Waiting { polling };
        actions.push(Action::SetTimer { timer: Timer::Reconnect, after });
    }

    /// Closes the stream, reports a failure and waits for the back-off.
    pub(super) fn abandon(&mut self, problem: Problem, actions: &mut Vec<Action<'_>>) {
        actions.push(Action::Close);
        self.fail(problem, None, actions);
    }

    pub(super) fn on_store_failed(&mut self, message: String, actions: &mut Vec<Action<'_>>) {
        let problem = Problem::new(ProblemKind::Storage, message);

        match self.download.state {
            // The bucket states in memory are ahead of the stored ones now. The next stream loads
            // them again.
            DownloadState::LoadingBuckets
            | DownloadState::Opening
            | DownloadState::Streaming(_) => self.abandon(problem, actions),
            DownloadState::Stopped
            | DownloadState::Waiting { .. }
            | DownloadState::FetchingToken => self.download.problem = Some(problem),
        }
    }

    pub(super) fn on_line<'a>(
        &mut self,
        connection: u64,
        line: Result<SyncLine<'a>, LineError>,
        actions: &mut Vec<Action<'a>>,
    ) {
        let DownloadState::Streaming(stream) = self.download.state else { return };
        if connection != self.download.connection {
            return;
        }

        match line {
            Ok(SyncLine::Checkpoint(checkpoint)) => self.on_checkpoint(checkpoint, actions),
            Ok(SyncLine::CheckpointDiff(diff)) => self.on_diff(diff, actions),
            Ok(SyncLine::Data(line)) => self.on_data(line, stream, actions),
            Ok(SyncLine::Snapshot(line)) => self.on_snapshot(line, actions),
            Ok(SyncLine::CheckpointComplete(_)) => self.on_complete(stream, actions),
            Ok(SyncLine::TokenExpiresIn(seconds)) => {
                self.on_token_expires(seconds, stream, actions);
            }
            // Only whole checkpoints are published: a part of one waits for the rest.
            Ok(SyncLine::PartialCheckpointComplete(_) | SyncLine::Unknown) => {}
            Err(error) => {
                let message = ErrorChain(&error).to_string();
                self.abandon(Problem::new(ProblemKind::Protocol, message), actions);
            }
        }
    }

    fn on_checkpoint(&mut self, checkpoint: Checkpoint, actions: &mut Vec<Action<'_>>) {
        let named: BTreeSet<_> =
            checkpoint.buckets.iter().map(|bucket| bucket.bucket.as_str()).collect();
        let unlisted = self
            .download
            .buckets
            .iter()
            .filter(|(name, local)| {
                !named.contains(name.as_str()) && **local != LocalBucket::default()
            })
            .map(|(name, _)| name.clone())
            .collect();

        self.reset_buckets(unlisted, actions);
        self.announce(checkpoint);
    }

    fn on_diff(&mut self, diff: CheckpointDiff, actions: &mut Vec<Action<'_>>) {
        let Some(mut checkpoint) = self.download.announced.take() else {
            let message = "checkpoint_diff before any checkpoint";
            return self.abandon(Problem::new(ProblemKind::Protocol, message), actions);
        };

        let mut buckets: BTreeMap<_, _> =
            checkpoint.buckets.into_iter().map(|bucket| (bucket.bucket.clone(), bucket)).collect();
        for name in &diff.removed_buckets {
            buckets.remove(name);
        }
        for bucket in diff.updated_buckets {
            buckets.insert(bucket.bucket.clone(), bucket);
        }

        checkpoint.last_op_id = diff.last_op_id;
        checkpoint.write_checkpoint = diff.write_checkpoint;
        checkpoint.buckets = buckets.into_values().collect();
        self.reset_buckets(diff.removed_buckets, actions);
        self.announce(checkpoint);
    }

    /// Makes this the checkpoint in flight.
    fn announce(&mut self, checkpoint: Checkpoint) {
        // From here on the stored operations may be beyond a deferred checkpoint: publishing it
        // would show a mixture. The new one replaces it.
        self.download.deferred = None;
        self.download.announced = Some(checkpoint);

        if let DownloadState::Streaming(stream) = &mut self.download.state {
            stream.is_complete = false;
        }
    }

    /// Discards the stored operations of these buckets: their checksum is wrong, or the server no
    /// longer lists them.
    pub(super) fn reset_buckets(&mut self, buckets: Vec<String>, actions: &mut Vec<Action<'_>>) {
        if buckets.is_empty() {
            return;
        }

        for name in &buckets {
            self.download.buckets.insert(name.clone(), LocalBucket::default());
        }
        actions.push(Action::ResetBuckets { buckets });
    }

    fn on_data<'a>(
        &mut self,
        line: DataLine<'a>,
        stream: StreamState,
        actions: &mut Vec<Action<'a>>,
    ) {
        let refused = if self.download.is_announced(&line.bucket) {
            self.settings.verify_operations.then(|| first_altered(&line)).flatten()
        } else {
            Some(format!("data of bucket {}, which the checkpoint does not name", line.bucket))
        };
        // Nothing of a refused line is stored, so the stored sums stay right.
        if let Some(message) = refused {
            return self.abandon(Problem::new(ProblemKind::Protocol, message), actions);
        }

        let bucket = self.download.buckets.entry(line.bucket.clone()).or_default();
        add_line(bucket, &line);
        let bucket = *bucket;
        self.download.state =
            DownloadState::Streaming(StreamState { has_progressed: true, ..stream });
        actions.push(Action::Stage { line, bucket });
    }

    /// Compares the checksums of the complete checkpoint with ours, and publishes it if all match.
    fn on_complete(&mut self, stream: StreamState, actions: &mut Vec<Action<'_>>) {
        let Some(checkpoint) = self.download.announced.clone() else {
            let message = "checkpoint_complete before any checkpoint";
            return self.abandon(Problem::new(ProblemKind::Protocol, message), actions);
        };

        let mut wrong = Vec::new();
        for bucket in &checkpoint.buckets {
            let local = self.download.buckets.get(&bucket.bucket);
            if local.map_or(Checksum::ZERO, |local| local.sum) != bucket.checksum {
                wrong.push(bucket.bucket.clone());
            }
        }
        if !wrong.is_empty() {
            self.download.mismatches += wrong.len() as u64;
            let message = format!("checksum mismatch in {}: downloading again", wrong.join(", "));
            self.reset_buckets(wrong, actions);
            return self.abandon(Problem::new(ProblemKind::Checksum, message), actions);
        }

        for bucket in &checkpoint.buckets {
            let local = self.download.buckets.entry(bucket.bucket.clone()).or_default();
            local.position = checkpoint.last_op_id;
            local.count_at_checkpoint = bucket.count;
            local.count_since = 0;
        }
        self.download.state = DownloadState::Streaming(StreamState { is_complete: true, ..stream });
        self.publish(checkpoint, actions);
    }

    pub(super) fn on_publish_finished(
        &mut self,
        outcome: PublishOutcome,
        actions: &mut Vec<Action<'_>>,
    ) {
        match outcome {
            PublishOutcome::Published(_) => {
                self.download.deferred = None;
                self.download.backoff.reset();
                self.download.problem = None;
            }
            // This is no failure: everything was received. The checkpoint stays in `deferred`.
            PublishOutcome::Deferred => {
                self.download.backoff.reset();
                self.download.problem = None;
            }

            // The next stream brings the same rows, or later ones that fit.
            PublishOutcome::Refused(message) => {
                self.download.deferred = None;
                self.abandon(Problem::new(ProblemKind::Schema, message), actions);
            }
            PublishOutcome::SnapshotDamaged { bucket, message } => {
                self.download.deferred = None;
                self.reset_buckets(vec![bucket], actions);
                self.abandon(Problem::new(ProblemKind::Checksum, message), actions);
            }
        }
    }

    /// Tries to publish a deferred checkpoint again, now that the write checkpoint is known.
    pub(super) fn retry_deferred(&mut self, actions: &mut Vec<Action<'_>>) {
        if let Some(checkpoint) = self.download.deferred.take() {
            self.publish(checkpoint, actions);
        }
    }

    fn publish(&mut self, checkpoint: Checkpoint, actions: &mut Vec<Action<'_>>) {
        self.download.deferred = Some(checkpoint.clone());
        actions.push(Action::Publish(Box::new(checkpoint)));
    }

    fn on_token_expires(
        &mut self,
        seconds: i64,
        stream: StreamState,
        actions: &mut Vec<Action<'_>>,
    ) {
        if seconds <= 0 {
            self.token.token = None;
            if !stream.is_useful() {
                return self.abandon(tokens_expire_too_early(), actions);
            }

            actions.push(Action::Close);
            self.connect(actions);
        } else if seconds <= RENEW_BEFORE_SECONDS && !stream.is_renewing {
            self.download.state =
                DownloadState::Streaming(StreamState { is_renewing: true, ..stream });
            self.token.fetch(actions);
        }
    }
}

fn tokens_expire_too_early() -> Problem {
    Problem::new(ProblemKind::Credentials, "tokens expire before anything can be received")
}

/// Adds a line's operations to the bucket's state. A CLEAR replaces everything before it, so the
/// checksum starts again with its own.
fn add_line(bucket: &mut LocalBucket, line: &DataLine<'_>) {
    for operation in &line.operations {
        if operation.body == Body::Clear {
            bucket.sum = operation.checksum;
        } else {
            bucket.sum += operation.checksum;
        }
    }

    if let Some(last) = line.operations.last() {
        bucket.position = last.op_id;
    }
    bucket.count_since += line.operations.len() as u64;
}

/// Returns a message about the first operation whose content does not match its checksum.
fn first_altered(line: &DataLine<'_>) -> Option<String> {
    let altered = line.operations.iter().find(|operation| {
        operation.body.checksum().is_some_and(|checksum| checksum != operation.checksum)
    })?;

    Some(format!("operation {} of bucket {} is altered", altered.op_id, line.bucket))
}
