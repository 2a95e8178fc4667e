//! Scripts of events, with the actions that each must cause.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tidewater_protocol::{
    Body, BucketDescription, Checkpoint, CheckpointComplete, CheckpointDiff, Checksum, DataLine,
    OpId, Operation, Priority, RowKey, SyncLine,
};

use super::*;
use crate::connector::UploadOutcome;
use crate::status::ProblemKind;

mod snapshots;
mod uploads;

/// Feeds events to a core and compares the actions in short form.
struct Script(Core);

fn no_token() -> Problem {
    Problem::new(ProblemKind::Credentials, "offline")
}

fn op(id: i64) -> OpId {
    OpId::from_i64(id).unwrap()
}

fn put(id: i64, row: &'static str) -> Operation<'static> {
    let body = Body::Put { row: RowKey::new("t", row, "k"), data: "{}".into() };
    Operation { op_id: op(id), checksum: body.checksum().unwrap(), body }
}

fn sum(operations: &[Operation<'_>]) -> Checksum {
    operations.iter().map(|operation| operation.checksum).sum()
}

fn described(bucket: &str, checksum: Checksum) -> BucketDescription {
    BucketDescription {
        bucket: bucket.into(),
        checksum,
        count: 2,
        priority: Priority::default(),
        subscriptions: vec![],
    }
}

fn checkpoint(last: i64, buckets: Vec<BucketDescription>) -> SyncLine<'static> {
    SyncLine::Checkpoint(Checkpoint {
        last_op_id: op(last),
        write_checkpoint: None,
        buckets,
        streams: vec![],
    })
}

fn diff(last: i64, updated: Vec<BucketDescription>, removed: &[&str]) -> SyncLine<'static> {
    SyncLine::CheckpointDiff(CheckpointDiff {
        last_op_id: op(last),
        write_checkpoint: Some(op(1)),
        updated_buckets: updated,
        removed_buckets: removed.iter().map(|&name| name.to_owned()).collect(),
    })
}

fn data(bucket: &str, operations: &[Operation<'static>]) -> SyncLine<'static> {
    SyncLine::Data(DataLine { bucket: bucket.into(), operations: operations.to_vec() })
}

fn complete(last: i64) -> SyncLine<'static> {
    SyncLine::CheckpointComplete(CheckpointComplete { last_op_id: op(last) })
}

fn published(last: i64) -> Event<'static> {
    Event::PublishFinished(PublishOutcome::Published(op(last)))
}

fn queue_empty(pending: PendingUploads, queue_version: i64) -> Event<'static> {
    Event::QueueEmpty { pending, queue_version }
}

fn write_checkpoint(queue_version: i64, number: i64) -> Event<'static> {
    Event::WriteCheckpoint { queue_version, answer: Ok(op(number)) }
}

fn short(action: &Action<'_>) -> String {
    match action {
        Action::FetchToken => "token".into(),
        Action::LoadBuckets => "load".into(),

        Action::Open { connection, token, request } => {
            let positions: Vec<_> =
                request.buckets.iter().map(|b| format!("{}@{}", b.name, b.after)).collect();
            format!("open {connection} {token} [{}]", positions.join(" "))
        }
        Action::Close => "close".into(),

        Action::Stage { line, bucket } => {
            format!("stage {} {}@{}", line.operations.len(), line.bucket, bucket.position)
        }

        Action::FetchSnapshot { connection, line } => {
            format!("fetch {connection} {} {}", line.bucket, line.id)
        }
        Action::StageSnapshot { line, bucket } => {
            format!("snapshot {}@{}", line.bucket, bucket.position)
        }
        Action::ResetBuckets { buckets } => format!("reset {}", buckets.join(" ")),

        Action::Publish(checkpoint) => {
            let number = checkpoint.write_checkpoint.map_or(String::new(), |n| format!(" w{n}"));
            let names = checkpoint.buckets.iter().map(|bucket| bucket.bucket.as_str());
            let names = names.collect::<Vec<_>>().join(" ");
            format!("publish {}{number} [{names}]", checkpoint.last_op_id)
        }

        Action::UploadNext => "upload".into(),
        Action::FinishUpload { transaction_id, rejected } => {
            format!("finish {transaction_id}{}", if rejected.is_some() { " rejected" } else { "" })
        }

        Action::RequestWriteCheckpoint { token, queue_version } => {
            format!("write checkpoint {token} {queue_version}")
        }
        Action::StoreWriteCheckpoint { queue_version, write_checkpoint } => {
            format!("store {queue_version} {write_checkpoint}")
        }

        Action::SetTimer { timer, after } => format!("{timer:?} {}", full(*after)),
    }
}

/// Returns a wait without its jitter.
fn full(wait: Duration) -> String {
    let seconds = wait.as_secs_f64();
    let steps = [1, 2, 4, 8, 16, 32, 60];
    match steps.into_iter().find(|&step| seconds <= f64::from(step)) {
        Some(step) => format!("{step}s"),
        None if (90.0..=110.0).contains(&seconds) => "poll".into(),
        None => format!("{seconds}s"),
    }
}

impl Script {
    fn new() -> Self {
        Self::with(true)
    }

    fn with(has_connector: bool) -> Self {
        Self(Core::new(Settings {
            request: StreamRequest::default(),
            verify_operations: true,
            has_connector,
            poll_interval: Duration::from_secs(100),
            seed: 7,
        }))
    }

    #[track_caller]
    fn event(&mut self, event: Event<'static>, expected: &[&str]) {
        let actions: Vec<_> = self.0.on_event(event).iter().map(short).collect();
        assert_eq!(actions, expected);
    }

    /// Feeds a line of the current stream.
    #[track_caller]
    fn line(&mut self, line: SyncLine<'static>, expected: &[&str]) {
        let connection = self.0.connection();
        self.event(Event::Line { connection, line: Ok(line) }, expected);
    }

    #[track_caller]
    fn closed(&mut self, reason: Closed, expected: &[&str]) {
        let connection = self.0.connection();
        self.event(Event::Closed { connection, reason }, expected);
    }

    /// Returns a core whose first stream is open and whose queue is empty.
    fn connected() -> Self {
        let mut script = Self::new();
        script.event(Event::Start, &["token", "upload"]);
        script.event(queue_empty(PendingUploads::None, 1), &[]);
        script.event(Event::Token(Ok("t1".into())), &["load"]);
        script.event(Event::BucketsLoaded(BTreeMap::new()), &["open 1 t1 []"]);
        script.event(Event::Opened { connection: 1 }, &[]);
        script
    }

    fn problem(&self) -> Option<ProblemKind> {
        self.0.status().download_problem.map(|problem| problem.kind)
    }
}

fn refused(status: u16) -> Closed {
    Closed::Refused(failed(status))
}

fn failed(status: u16) -> RequestFailed {
    RequestFailed { status: Some(status), retry_after: None, message: "no".into() }
}

#[test]
fn a_complete_checkpoint_is_staged_verified_and_published() {
    let mut script = Script::connected();
    let a = [put(1, "r"), put(2, "s")];
    let b = [put(3, "r")];
    let buckets = vec![described("a", sum(&a)), described("b", sum(&b))];
    script.line(checkpoint(9, buckets), &[]);
    assert_eq!(script.0.status().progress, Some(Progress { downloaded: 0, total: 4 }));

    script.line(data("a", &a), &["stage 2 a@2"]);
    assert_eq!(script.0.status().progress, Some(Progress { downloaded: 2, total: 4 }));
    script.line(data("b", &b), &["stage 1 b@3"]);
    script.line(complete(9), &["publish 9 [a b]"]);
    script.event(published(9), &[]);
    assert_eq!(script.0.status().progress, None);

    let c = [put(11, "u")];
    script.line(diff(12, vec![described("a", sum(&a) + sum(&c))], &["b"]), &["reset b"]);
    script.line(data("a", &c), &["stage 1 a@11"]);
    script.line(complete(12), &["publish 12 w1 [a]"]);
}

#[test]
fn a_clear_restarts_the_checksum() {
    let mut script = Script::connected();
    let clear = Operation { op_id: op(5), checksum: Checksum(77), body: Body::Clear };
    let moved = Operation { op_id: op(6), checksum: Checksum(3), body: Body::Move };
    let line = [put(1, "r"), clear, moved, put(7, "s")];
    let total = Checksum(80) + sum(&line[3..]);
    script.line(checkpoint(9, vec![described("a", total)]), &[]);
    script.line(data("a", &line), &["stage 4 a@7"]);
    script.line(complete(9), &["publish 9 [a]"]);
}

#[test]
fn buckets_missing_from_the_checkpoint_are_reset() {
    let mut script = Script::new();
    script.event(Event::Start, &["token", "upload"]);
    script.event(Event::Token(Ok("t1".into())), &["load"]);
    let stored = LocalBucket { position: op(4), sum: Checksum(1), ..LocalBucket::default() };
    let local = BTreeMap::from([("a".into(), stored), ("b".into(), stored)]);
    script.event(Event::BucketsLoaded(local), &["open 1 t1 [a@4 b@4]"]);
    script.event(Event::Opened { connection: 1 }, &[]);
    script.line(checkpoint(9, vec![described("b", Checksum(1))]), &["reset a"]);
    script.line(complete(9), &["publish 9 [b]"]);
}

#[test]
fn a_wrong_checksum_resets_only_its_bucket_and_the_back_off_grows() {
    let mut script = Script::connected();
    let a = [put(1, "r")];
    for (round, pause) in [(1, "1s"), (2, "2s"), (3, "4s"), (4, "8s")] {
        let good = described("b", if round == 1 { Checksum(0) } else { sum(&a) });
        script.line(checkpoint(9, vec![described("a", Checksum(1)), good]), &[]);
        if round == 1 {
            script.line(data("a", &a), &["stage 1 a@1"]);
        } else {
            script.line(data("b", &a), &["stage 1 b@1"]);
        }

        let connection = script.0.connection();
        let actions = script.0.on_event(Event::Line { connection, line: Ok(complete(9)) });
        let actions: Vec<_> = actions.iter().map(short).collect();
        assert_eq!(actions, ["reset a", "close", &format!("Reconnect {pause}")]);
        assert_eq!(script.problem(), Some(ProblemKind::Checksum));
        assert_eq!(script.0.status().checksum_mismatches, round);

        script.event(Event::Timer(Timer::Reconnect), &["load"]);
        let opened = format!("open {} t1 []", round + 1);
        script.event(Event::BucketsLoaded(BTreeMap::new()), &[&opened]);
        script.event(Event::Opened { connection: round + 1 }, &[]);
    }
}

#[test]
fn an_altered_operation_closes_the_stream_unless_verification_is_off() {
    let mut altered = put(1, "r");
    altered.checksum += Checksum(1);

    let mut script = Script::connected();
    script.line(checkpoint(9, vec![described("a", altered.checksum)]), &[]);
    script.line(data("a", &[altered.clone()]), &["close", "Reconnect 1s"]);
    assert_eq!(script.problem(), Some(ProblemKind::Protocol));

    let mut script = Script::connected();
    script.0.settings.verify_operations = false;
    script.line(checkpoint(9, vec![described("a", altered.checksum)]), &[]);
    script.line(data("a", &[altered.clone()]), &["stage 1 a@1"]);
}

#[test]
fn lines_out_of_order_close_the_stream() {
    for line in [diff(1, vec![], &[]), complete(1), data("a", &[put(1, "r")])] {
        let mut script = Script::connected();
        script.line(line, &["close", "Reconnect 1s"]);
        assert_eq!(script.problem(), Some(ProblemKind::Protocol));
    }

    let mut script = Script::connected();
    let line = SyncLine::parse(b"{");
    assert!(line.is_err());
    script.event(Event::Line { connection: 1, line }, &["close", "Reconnect 1s"]);

    let mut script = Script::connected();
    script.line(SyncLine::Unknown, &[]);
}

#[test]
fn lines_of_an_earlier_stream_are_ignored() {
    let mut script = Script::connected();
    script.event(Event::Line { connection: 0, line: Ok(complete(1)) }, &[]);
    script.event(Event::Closed { connection: 0, reason: Closed::Ended }, &[]);
    script.line(complete(1), &["close", "Reconnect 1s"]);
    script.event(Event::Line { connection: 1, line: Ok(complete(1)) }, &[]);
    script.event(Event::Closed { connection: 1, reason: Closed::Ended }, &[]);
}

#[test]
fn the_end_of_a_stream_is_a_failure_only_without_progress() {
    // The client is up to date: it polls after a while.
    let mut script = Script::connected();
    script.line(checkpoint(1, vec![]), &[]);
    script.line(complete(1), &["publish 1 []"]);
    script.event(published(1), &[]);
    script.closed(Closed::Ended, &["Reconnect poll"]);

    assert_eq!(script.0.status().connection, Connection::Connected);
    assert_eq!(script.problem(), None);

    // The end comes in the middle of a download: the client reconnects at once.
    let mut script = Script::connected();
    script.line(checkpoint(9, vec![described("a", Checksum(1))]), &[]);
    script.line(data("a", &[put(1, "r")]), &["stage 1 a@1"]);
    script.closed(Closed::Ended, &["load"]);

    // The stream has brought nothing: this is a failure.
    let mut script = Script::connected();
    script.line(checkpoint(9, vec![described("a", Checksum(1))]), &[]);
    script.closed(Closed::Ended, &["Reconnect 1s"]);

    assert_eq!(script.0.status().connection, Connection::Waiting);
    assert_eq!(script.problem(), Some(ProblemKind::Network));
}

#[test]
fn the_back_off_grows_to_a_minute_and_a_published_checkpoint_resets_it() {
    let mut script = Script::connected();
    let mut longest = Duration::ZERO;
    for round in 1..12 {
        let connection = script.0.connection();
        let reason = Closed::Broken("cut".into());
        let actions = script.0.on_event(Event::Closed { connection, reason });
        let Action::SetTimer { timer: Timer::Reconnect, after } = actions[0] else { panic!() };
        let full = Duration::from_secs(1 << (round - 1).min(6)).min(Duration::from_secs(60));
        assert!(after >= full / 2 && after <= full, "round {round}: {after:?}");
        longest = longest.max(after);
        script.event(Event::Timer(Timer::Reconnect), &["load"]);
        drop(script.0.on_event(Event::BucketsLoaded(BTreeMap::new())));
        script.event(Event::Opened { connection: connection + 1 }, &[]);
    }

    assert!(longest > Duration::from_secs(30));
    assert_eq!(script.0.status().failures_in_a_row, 11);
    script.line(checkpoint(1, vec![]), &[]);
    script.line(complete(1), &["publish 1 []"]);
    script.event(published(1), &[]);

    assert_eq!((script.0.status().failures_in_a_row, script.problem()), (0, None));
}

#[test]
fn a_server_that_says_when_it_has_room_is_asked_then_and_has_not_failed() {
    let mut script = Script::connected();
    let mut refusal = failed(429);
    refusal.retry_after = Some(Duration::from_secs(80));
    script.closed(Closed::Refused(refusal), &["Reconnect 80s"]);
    let status = script.0.status();
    assert_eq!((status.failures_in_a_row, script.problem()), (0, Some(ProblemKind::Network)));
}

#[test]
fn a_longer_retry_after_is_obeyed() {
    let mut script = Script::connected();
    let mut refusal = failed(503);
    refusal.retry_after = Some(Duration::from_secs(80));
    script.closed(Closed::Refused(refusal), &["Reconnect 80s"]);
    script.event(Event::NetworkUp, &["load", "upload"]);
}

#[test]
fn a_refused_token_is_replaced_once_then_the_back_off_applies() {
    let mut script = Script::connected();
    script.closed(refused(401), &["token"]);
    script.event(Event::Token(Ok("t2".into())), &["load"]);
    script.event(Event::BucketsLoaded(BTreeMap::new()), &["open 2 t2 []"]);
    script.closed(refused(401), &["Reconnect 1s"]);

    assert_eq!(script.problem(), Some(ProblemKind::Credentials));

    // The next attempt begins with a new token. A stream that opens resets the count.
    script.event(Event::Timer(Timer::Reconnect), &["token"]);
    script.event(Event::Token(Err(no_token())), &["Reconnect 2s"]);
    script.event(Event::Timer(Timer::Reconnect), &["token"]);
    script.event(Event::Token(Ok("t3".into())), &["load"]);
    script.event(Event::BucketsLoaded(BTreeMap::new()), &["open 3 t3 []"]);
    script.event(Event::Opened { connection: 3 }, &[]);
    script.closed(refused(401), &["token"]);
}

#[test]
fn a_token_about_to_expire_is_renewed_while_the_stream_continues() {
    let mut script = Script::connected();
    script.line(SyncLine::TokenExpiresIn(3600), &[]);
    script.line(checkpoint(1, vec![]), &[]);
    script.line(complete(1), &["publish 1 []"]);
    script.line(SyncLine::TokenExpiresIn(30), &["token"]);
    script.line(SyncLine::TokenExpiresIn(10), &[]);

    // The old stream is used until the new token is there.
    script.line(diff(2, vec![], &[]), &[]);
    script.line(complete(2), &["publish 2 w1 []"]);
    script.event(Event::Token(Ok("t2".into())), &["close", "load"]);
    script.event(Event::BucketsLoaded(BTreeMap::new()), &["open 2 t2 []"]);

    assert_eq!(script.problem(), None);
}

#[test]
fn the_old_stream_continues_if_its_token_cannot_be_renewed() {
    let mut script = Script::connected();
    script.line(checkpoint(1, vec![]), &[]);
    script.line(complete(1), &["publish 1 []"]);
    script.line(SyncLine::TokenExpiresIn(20), &["token"]);
    script.event(Event::Token(Err(no_token())), &[]);
    assert_eq!(script.problem(), Some(ProblemKind::Credentials));
    script.line(diff(2, vec![], &[]), &[]);
    script.line(complete(2), &["publish 2 w1 []"]);
    script.line(SyncLine::TokenExpiresIn(0), &["close", "token"]);
}

#[test]
fn tokens_that_expire_at_once_do_not_cause_a_loop() {
    let mut script = Script::connected();
    script.line(SyncLine::TokenExpiresIn(0), &["close", "Reconnect 1s"]);

    let mut script = Script::connected();
    script.line(SyncLine::TokenExpiresIn(5), &["token"]);
    script.event(Event::Token(Ok("t2".into())), &["close", "Reconnect 1s"]);
    assert_eq!(script.problem(), Some(ProblemKind::Credentials));
}

#[test]
fn a_failed_store_closes_the_stream() {
    let mut script = Script::connected();
    script.event(Event::StoreFailed("disk full".into()), &["close", "Reconnect 1s"]);
    assert_eq!(script.problem(), Some(ProblemKind::Storage));
}

#[test]
fn no_module_of_the_core_imports_io() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![sources.join("core.rs")];
    for entry in fs::read_dir(sources.join("core")).unwrap() {
        let path = entry.unwrap().path();
        // The tests beside them read these files.
        if path.is_file() && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }

    let io = ["reqwest", "rusqlite", "tokio", "std::fs", "std::net", "std::io", "std::thread"];
    let layers = ["api", "db", "error", "net", "publish", "sync"];
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for line in text.lines().filter(|line| line.trim_start().starts_with("use ")) {
            let path = line.trim_start().trim_start_matches("use ");
            let is_io = io.iter().any(|name| path.starts_with(name));
            let is_layer = layers.iter().any(|name| path.starts_with(&format!("crate::{name}")));
            assert!(!is_io && !is_layer, "{}: {line}", file.display());
        }
    }
}

#[test]
fn a_row_that_the_tables_refuse_is_reported_and_retried() {
    let mut script = Script::connected();
    script.line(checkpoint(1, vec![]), &[]);
    script.line(complete(1), &["publish 1 []"]);
    let refused = PublishOutcome::Refused("NOT NULL".into());
    script.event(Event::PublishFinished(refused), &["close", "Reconnect 1s"]);
    assert_eq!(script.problem(), Some(ProblemKind::Schema));
}
