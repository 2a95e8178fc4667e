//! The download machine: from the stream's lines to stored operations and checkpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::Rng;
use tidewater_protocol::{
    Body, BucketPosition, Checkpoint, CheckpointDiff, Checksum, DataLine, ErrorChain, LineError,
    SyncLine,
};

use super::backoff::Backoff;
use super::snapshot::Fetching;
use super::{Action, Apply, Closed, Core, LocalBucket, RequestFailed, Timer};
use crate::status::{Connection, Problem, ProblemKind, Progress};

/// A token with less life than this is renewed while the old stream goes on.
const PREFETCH_SECONDS: i64 = 30;

#[derive(Debug, Default)]
pub(super) struct Download {
    pub(super) link: Link,
    /// Number of the stream opened last.
    pub(super) connection: u64,
    pub(super) buckets: BTreeMap<String, LocalBucket>,
    /// The checkpoint last announced on this stream.
    tracked: Option<Checkpoint>,
    /// The last complete checkpoint, until it is published or a newer one is announced: the gate
    /// may keep it back for a while.
    held: Option<Checkpoint>,
    pub(super) backoff: Backoff,
    /// A 401 was answered and no stream opened since.
    unauthorized: bool,
    pub(super) problem: Option<Problem>,
    pub(super) mismatches: u64,
    pub(super) fetching: Option<Fetching>,
}

/// Where the machine stands.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Link {
    #[default]
    Stopped,
    /// Until the timer; `polling` after a clean end of an up-to-date stream.
    Waiting {
        polling: bool,
    },
    Token,
    Loading,
    Opening,
    Streaming(Stream),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stream {
    /// The checkpoint last announced has been completed.
    pub(super) is_complete: bool,
    /// Operations were stored.
    pub(super) has_progressed: bool,
    /// A new token was asked for, with which the stream is to be opened afresh.
    pub(super) is_renewing: bool,
}

impl Stream {
    /// Whether it brought anything. A next one opened at once after one that did not would be a
    /// loop without a pause.
    fn is_useful(self) -> bool {
        self.is_complete || self.has_progressed
    }
}

impl Download {
    pub(super) fn status(&self) -> Connection {
        match &self.link {
            Link::Stopped => Connection::Disconnected,
            Link::Waiting { polling: true } | Link::Streaming(_) => Connection::Connected,
            Link::Waiting { polling: false } => Connection::Waiting,
            Link::Token | Link::Loading | Link::Opening => Connection::Connecting,
        }
    }

    pub(super) fn progress(&self) -> Option<Progress> {
        let Link::Streaming(Stream { is_complete: false, .. }) = &self.link else { return None };
        let (mut total, mut downloaded) = (0, 0);
        for bucket in &self.tracked.as_ref()?.buckets {
            let local = self.buckets.get(&bucket.bucket).copied().unwrap_or_default();
            total += bucket.count.saturating_sub(local.count_at_checkpoint);
            downloaded += local.count_since;
        }
        downloaded += self.fetching.as_ref().map_or(0, Fetching::count);
        Some(Progress { downloaded: downloaded.min(total), total })
    }
}

impl Core {
    /// Connects at once if nothing is under way.
    pub(super) fn download_wake(&mut self, actions: &mut Vec<Action<'_>>) {
        if matches!(self.download.link, Link::Stopped | Link::Waiting { .. }) {
            self.connect(actions);
        }
    }

    /// Like [`Core::download_wake`], but a back-off is waited out.
    pub(super) fn download_poll(&mut self, actions: &mut Vec<Action<'_>>) {
        if self.download.link == (Link::Waiting { polling: true }) {
            self.connect(actions);
        }
    }

    pub(super) fn on_reconnect(&mut self, actions: &mut Vec<Action<'_>>) {
        if matches!(self.download.link, Link::Waiting { .. }) {
            self.connect(actions);
        }
    }

    pub(super) fn connect(&mut self, actions: &mut Vec<Action<'_>>) {
        self.download.tracked = None;
        self.download.fetching = None;
        if self.token.get(actions).is_some() {
            self.download.link = Link::Loading;
            actions.push(Action::LoadBuckets);
        } else {
            self.download.link = Link::Token;
        }
    }

    pub(super) fn download_on_token(&mut self, actions: &mut Vec<Action<'_>>) {
        match self.download.link {
            Link::Token => self.connect(actions),
            // The old stream has to last: what is being fetched would be taken up again, but later.
            Link::Streaming(_) if self.is_fetching() => {}
            Link::Streaming(stream) if stream.is_renewing && stream.is_useful() => {
                actions.push(Action::Close);
                self.connect(actions);
            }
            Link::Streaming(stream) if stream.is_renewing => self.abandon(expired(), actions),
            Link::Streaming(_)
            | Link::Stopped
            | Link::Waiting { .. }
            | Link::Loading
            | Link::Opening => {}
        }
    }

    pub(super) fn download_without_token(
        &mut self,
        problem: Problem,
        actions: &mut Vec<Action<'_>>,
    ) {
        match self.download.link {
            Link::Token => self.fail(problem, None, actions),
            // The old stream goes on; the server ends it when the old token does.
            Link::Streaming(Stream { is_renewing: true, .. }) => {
                self.download.problem = Some(problem);
            }
            Link::Streaming(_)
            | Link::Stopped
            | Link::Waiting { .. }
            | Link::Loading
            | Link::Opening => {}
        }
    }

    pub(super) fn on_loaded(
        &mut self,
        buckets: BTreeMap<String, LocalBucket>,
        actions: &mut Vec<Action<'_>>,
    ) {
        if self.download.link != Link::Loading {
            return;
        }
        let Some(token) = self.token.token.clone() else { return self.connect(actions) };
        let mut request = self.settings.request.clone();
        request.buckets = buckets
            .iter()
            .map(|(name, local)| BucketPosition { name: name.clone(), after: local.position })
            .collect();
        self.download.buckets = buckets;
        self.download.connection += 1;
        self.download.link = Link::Opening;
        let connection = self.download.connection;
        actions.push(Action::Open { connection, token, request: Box::new(request) });
    }

    pub(super) fn on_opened(&mut self, connection: u64) {
        if connection == self.download.connection && self.download.link == Link::Opening {
            self.download.link = Link::Streaming(Stream::default());
            self.download.unauthorized = false;
        }
    }

    pub(super) fn on_closed(
        &mut self,
        connection: u64,
        reason: Closed,
        actions: &mut Vec<Action<'_>>,
    ) {
        let stream = match self.download.link {
            Link::Streaming(stream) => stream,
            Link::Opening => Stream::default(),
            Link::Stopped | Link::Waiting { .. } | Link::Token | Link::Loading => return,
        };
        if connection != self.download.connection {
            return;
        }
        match reason {
            Closed::Ended if stream.is_complete => {
                let pause = self.random.random_range(0.9..=1.1);
                let after = self.settings.poll_interval.mul_f64(pause);
                self.wait(true, after, actions);
            }
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
            Closed::Refused(refusal) => self.on_refused(refusal, actions),
        }
    }

    fn on_refused(&mut self, refusal: RequestFailed, actions: &mut Vec<Action<'_>>) {
        if refusal.status == Some(401) {
            self.token.token = None;
            if !std::mem::replace(&mut self.download.unauthorized, true) {
                return self.connect(actions);
            }
        }
        let problem = refusal.problem();
        self.fail(problem, refusal.retry_after, actions);
    }

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
        self.download.tracked = None;
        self.download.fetching = None;
        self.download.link = Link::Waiting { polling };
        actions.push(Action::SetTimer { timer: Timer::Reconnect, after });
    }

    /// Gives the stream up.
    pub(super) fn abandon(&mut self, problem: Problem, actions: &mut Vec<Action<'_>>) {
        actions.push(Action::Close);
        self.fail(problem, None, actions);
    }

    pub(super) fn on_store_failed(&mut self, message: String, actions: &mut Vec<Action<'_>>) {
        let problem = Problem::new(ProblemKind::Storage, message);
        match self.download.link {
            Link::Loading | Link::Opening | Link::Streaming(_) => self.abandon(problem, actions),
            Link::Stopped | Link::Waiting { .. } | Link::Token => {
                self.download.problem = Some(problem);
            }
        }
    }

    pub(super) fn on_line<'a>(
        &mut self,
        connection: u64,
        line: Result<SyncLine<'a>, LineError>,
        actions: &mut Vec<Action<'a>>,
    ) {
        let Link::Streaming(stream) = self.download.link else { return };
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
            // Whole checkpoints only are published: a part of one waits for the rest.
            Ok(SyncLine::PartialCheckpointComplete(_) | SyncLine::Unknown) => {}
            Err(error) => {
                let message = ErrorChain(&error).to_string();
                self.abandon(Problem::new(ProblemKind::Protocol, message), actions);
            }
        }
    }

    fn on_checkpoint(&mut self, checkpoint: Checkpoint, actions: &mut Vec<Action<'_>>) {
        let known: BTreeSet<_> =
            checkpoint.buckets.iter().map(|bucket| bucket.bucket.as_str()).collect();
        let lost = self
            .download
            .buckets
            .iter()
            .filter(|(name, local)| {
                !known.contains(name.as_str()) && **local != LocalBucket::default()
            })
            .map(|(name, _)| name.clone())
            .collect();
        self.reset(lost, actions);
        self.track(checkpoint);
    }

    fn on_diff(&mut self, diff: CheckpointDiff, actions: &mut Vec<Action<'_>>) {
        let Some(mut checkpoint) = self.download.tracked.take() else {
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
        self.reset(diff.removed_buckets, actions);
        self.track(checkpoint);
    }

    fn track(&mut self, checkpoint: Checkpoint) {
        self.download.held = None;
        self.download.tracked = Some(checkpoint);
        if let Link::Streaming(stream) = &mut self.download.link {
            stream.is_complete = false;
        }
    }

    /// The server has forgotten what we hold of these: so do we.
    pub(super) fn reset(&mut self, buckets: Vec<String>, actions: &mut Vec<Action<'_>>) {
        if buckets.is_empty() {
            return;
        }
        for name in &buckets {
            self.download.buckets.insert(name.clone(), LocalBucket::default());
        }
        actions.push(Action::Reset { buckets });
    }

    fn on_data<'a>(&mut self, line: DataLine<'a>, stream: Stream, actions: &mut Vec<Action<'a>>) {
        let refused = if self.is_announced(&line.bucket) {
            self.settings.verify_operations.then(|| first_altered(&line)).flatten()
        } else {
            Some(format!("data of bucket {}, which the checkpoint does not name", line.bucket))
        };
        if let Some(message) = refused {
            return self.abandon(Problem::new(ProblemKind::Protocol, message), actions);
        }
        let bucket = self.download.buckets.entry(line.bucket.clone()).or_default();
        receive(bucket, &line);
        let bucket = *bucket;
        self.download.link = Link::Streaming(Stream { has_progressed: true, ..stream });
        actions.push(Action::Stage { line, bucket });
    }

    /// Whether the checkpoint under way names the bucket.
    pub(super) fn is_announced(&self, name: &str) -> bool {
        let tracked = self.download.tracked.as_ref();
        tracked.is_some_and(|checkpoint| checkpoint.buckets.iter().any(|b| b.bucket == name))
    }

    fn on_complete(&mut self, stream: Stream, actions: &mut Vec<Action<'_>>) {
        let Some(checkpoint) = self.download.tracked.clone() else {
            let message = "checkpoint_complete before any checkpoint";
            return self.abandon(Problem::new(ProblemKind::Protocol, message), actions);
        };
        let sum_of = |name: &str| self.download.buckets.get(name).map_or(Checksum::ZERO, |b| b.sum);
        let wrong: Vec<_> = checkpoint
            .buckets
            .iter()
            .filter(|bucket| sum_of(&bucket.bucket) != bucket.checksum)
            .map(|bucket| bucket.bucket.clone())
            .collect();
        if !wrong.is_empty() {
            self.download.mismatches += wrong.len() as u64;
            let message = format!("checksum mismatch in {}: downloading again", wrong.join(", "));
            self.reset(wrong, actions);
            return self.abandon(Problem::new(ProblemKind::Checksum, message), actions);
        }
        for bucket in &checkpoint.buckets {
            let local = self.download.buckets.entry(bucket.bucket.clone()).or_default();
            local.position = checkpoint.last_op_id;
            local.count_at_checkpoint = bucket.count;
            local.count_since = 0;
        }
        self.download.link = Link::Streaming(Stream { is_complete: true, ..stream });
        self.apply(checkpoint, actions);
    }

    pub(super) fn on_applied(&mut self, outcome: Apply, actions: &mut Vec<Action<'_>>) {
        match outcome {
            Apply::Published(_) => {
                self.download.held = None;
                self.download.backoff.reset();
                self.download.problem = None;
            }
            Apply::Held => {
                self.download.backoff.reset();
                self.download.problem = None;
            }
            Apply::Refused(message) => {
                self.download.held = None;
                self.abandon(Problem::new(ProblemKind::Schema, message), actions);
            }
            Apply::Damaged { bucket, message } => {
                self.download.held = None;
                self.reset(vec![bucket], actions);
                self.abandon(Problem::new(ProblemKind::Checksum, message), actions);
            }
        }
    }

    /// The gate has moved: a checkpoint that was kept back may pass now.
    pub(super) fn retry_held(&mut self, actions: &mut Vec<Action<'_>>) {
        if let Some(checkpoint) = self.download.held.take() {
            self.apply(checkpoint, actions);
        }
    }

    fn apply(&mut self, checkpoint: Checkpoint, actions: &mut Vec<Action<'_>>) {
        self.download.held = Some(checkpoint.clone());
        actions.push(Action::Apply(Box::new(checkpoint)));
    }

    fn on_token_expires(&mut self, seconds: i64, stream: Stream, actions: &mut Vec<Action<'_>>) {
        if seconds <= 0 {
            self.token.token = None;
            if !stream.is_useful() {
                return self.abandon(expired(), actions);
            }
            actions.push(Action::Close);
            self.connect(actions);
        } else if seconds <= PREFETCH_SECONDS && !stream.is_renewing {
            self.download.link = Link::Streaming(Stream { is_renewing: true, ..stream });
            self.token.fetch(actions);
        }
    }
}

impl RequestFailed {
    pub(super) fn problem(&self) -> Problem {
        let kind = match self.status {
            None | Some(408 | 425 | 429 | 500..) => ProblemKind::Network,
            Some(401) => ProblemKind::Credentials,
            Some(_) => ProblemKind::Protocol,
        };
        Problem::new(kind, self.message.clone())
    }
}

fn expired() -> Problem {
    Problem::new(ProblemKind::Credentials, "tokens expire before anything can be received")
}

/// The bucket's state after a line.
fn receive(bucket: &mut LocalBucket, line: &DataLine<'_>) {
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

/// An operation that is not what its checksum was made from.
fn first_altered(line: &DataLine<'_>) -> Option<String> {
    let altered = line.operations.iter().find(|operation| {
        operation.body.checksum().is_some_and(|checksum| checksum != operation.checksum)
    })?;
    Some(format!("operation {} of bucket {} is altered", altered.op_id, line.bucket))
}
