use tidewater_protocol::{
    Body, BucketDescription, CheckpointComplete, CheckpointDiff, Operation, Priority, RowKey,
};

use super::*;

mod snapshots;

/// Feeds events to a core and compares the actions, in short form.
struct Script(Core);

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

fn short(action: &Action<'_>) -> String {
    match action {
        Action::FetchToken => "token".into(),
        Action::LoadBuckets => "load".into(),
        Action::Open { connection, token, request } => {
            let held = request.buckets.iter().map(|b| format!("{}@{}", b.name, b.after));
            format!("open {connection} {token} [{}]", held.collect::<Vec<_>>().join(" "))
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
        Action::Reset { buckets } => format!("reset {}", buckets.join(" ")),
        Action::Apply(checkpoint) => {
            let number = checkpoint.write_checkpoint.map_or(String::new(), |n| format!(" w{n}"));
            let names = checkpoint.buckets.iter().map(|bucket| bucket.bucket.as_str());
            let names = names.collect::<Vec<_>>().join(" ");
            format!("apply {}{number} [{names}]", checkpoint.last_op_id)
        }
        Action::UploadNext => "upload".into(),
        Action::FinishUpload { transaction_id, rejected } => {
            format!("finish {transaction_id}{}", if rejected.is_some() { " rejected" } else { "" })
        }
        Action::RequestWriteCheckpoint { token, mark } => {
            format!("write checkpoint {token} {mark}")
        }
        Action::SetGate { mark, write_checkpoint } => format!("gate {mark} {write_checkpoint}"),
        Action::SetTimer { timer, after } => format!("{timer:?} {}", full(*after)),
    }
}

/// A wait without its jitter.
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

    /// On the stream of now.
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

    /// A core whose first stream is open, and whose queue is empty.
    fn connected() -> Self {
        let mut script = Self::new();
        script.event(Event::Start, &["token", "upload"]);
        script.event(Event::QueueEmpty { gate: Gate::Open, mark: 1 }, &[]);
        script.event(Event::Token(Ok("t1".into())), &["load"]);
        script.event(Event::Loaded(BTreeMap::new()), &["open 1 t1 []"]);
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
fn a_checkpoint_is_staged_checked_and_applied() {
    let mut script = Script::connected();
    let (a, b) = ([put(1, "r"), put(2, "s")], [put(3, "r")]);
    let buckets = vec![described("a", sum(&a)), described("b", sum(&b))];
    script.line(checkpoint(9, buckets), &[]);
    assert_eq!(script.0.status().progress, Some(Progress { downloaded: 0, total: 4 }));
    script.line(data("a", &a), &["stage 2 a@2"]);
    assert_eq!(script.0.status().progress, Some(Progress { downloaded: 2, total: 4 }));
    script.line(data("b", &b), &["stage 1 b@3"]);
    script.line(complete(9), &["apply 9 [a b]"]);
    script.event(Event::Applied(Apply::Published(op(9))), &[]);
    assert_eq!(script.0.status().progress, None);
    let c = [put(11, "u")];
    script.line(diff(12, vec![described("a", sum(&a) + sum(&c))], &["b"]), &["reset b"]);
    script.line(data("a", &c), &["stage 1 a@11"]);
    script.line(complete(12), &["apply 12 w1 [a]"]);
}

#[test]
fn a_clear_starts_the_sum_anew() {
    let mut script = Script::connected();
    let clear = Operation { op_id: op(5), checksum: Checksum(77), body: Body::Clear };
    let moved = Operation { op_id: op(6), checksum: Checksum(3), body: Body::Move };
    let line = [put(1, "r"), clear, moved, put(7, "s")];
    let total = Checksum(80) + sum(&line[3..]);
    script.line(checkpoint(9, vec![described("a", total)]), &[]);
    script.line(data("a", &line), &["stage 4 a@7"]);
    script.line(complete(9), &["apply 9 [a]"]);
}

#[test]
fn what_the_checkpoint_does_not_name_is_forgotten() {
    let mut script = Script::new();
    script.event(Event::Start, &["token", "upload"]);
    script.event(Event::Token(Ok("t1".into())), &["load"]);
    let held = LocalBucket { position: op(4), sum: Checksum(1), ..LocalBucket::default() };
    let local = BTreeMap::from([("a".into(), held), ("b".into(), held)]);
    script.event(Event::Loaded(local), &["open 1 t1 [a@4 b@4]"]);
    script.event(Event::Opened { connection: 1 }, &[]);
    script.line(checkpoint(9, vec![described("b", Checksum(1))]), &["reset a"]);
    script.line(complete(9), &["apply 9 [b]"]);
}

#[test]
fn a_wrong_sum_resets_only_its_bucket_and_backs_off_more_each_time() {
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
        script.event(Event::Loaded(BTreeMap::new()), &[&opened]);
        script.event(Event::Opened { connection: round + 1 }, &[]);
    }
}

#[test]
fn an_altered_operation_closes_the_stream_unless_told_not_to_look() {
    let mut altered = put(1, "r");
    altered.checksum += Checksum(1);
    let announce = || checkpoint(9, vec![described("a", altered.checksum)]);
    let mut script = Script::connected();
    script.line(announce(), &[]);
    script.line(data("a", &[altered.clone()]), &["close", "Reconnect 1s"]);
    assert_eq!(script.problem(), Some(ProblemKind::Protocol));
    let mut script = Script::connected();
    script.0.settings.verify_operations = false;
    script.line(announce(), &[]);
    script.line(data("a", &[altered.clone()]), &["stage 1 a@1"]);
}

#[test]
fn lines_out_of_place_close_the_stream() {
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
fn lines_of_a_stream_given_up_do_not_count() {
    let mut script = Script::connected();
    script.event(Event::Line { connection: 0, line: Ok(complete(1)) }, &[]);
    script.event(Event::Closed { connection: 0, reason: Closed::Ended }, &[]);
    script.line(complete(1), &["close", "Reconnect 1s"]);
    script.event(Event::Line { connection: 1, line: Ok(complete(1)) }, &[]);
    script.event(Event::Closed { connection: 1, reason: Closed::Ended }, &[]);
}

#[test]
fn an_end_of_the_stream_means_what_came_before_it() {
    // Up to date: polled after a while, and not a failure.
    let mut script = Script::connected();
    script.line(checkpoint(1, vec![]), &[]);
    script.line(complete(1), &["apply 1 []"]);
    script.event(Event::Applied(Apply::Published(op(1))), &[]);
    script.closed(Closed::Ended, &["Reconnect poll"]);
    assert_eq!(script.0.status().connection, Connection::Connected);
    assert_eq!(script.problem(), None);
    // In the middle: at once.
    let mut script = Script::connected();
    script.line(checkpoint(9, vec![described("a", Checksum(1))]), &[]);
    script.line(data("a", &[put(1, "r")]), &["stage 1 a@1"]);
    script.closed(Closed::Ended, &["load"]);
    // Having brought nothing: a failure.
    let mut script = Script::connected();
    script.line(checkpoint(9, vec![described("a", Checksum(1))]), &[]);
    script.closed(Closed::Ended, &["Reconnect 1s"]);
    assert_eq!(script.0.status().connection, Connection::Waiting);
    assert_eq!(script.problem(), Some(ProblemKind::Network));
}

#[test]
fn back_offs_grow_to_a_minute_and_end_with_a_checkpoint() {
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
        drop(script.0.on_event(Event::Loaded(BTreeMap::new())));
        script.event(Event::Opened { connection: connection + 1 }, &[]);
    }
    assert!(longest > Duration::from_secs(30));
    assert_eq!(script.0.status().failures_in_a_row, 11);
    script.line(checkpoint(1, vec![]), &[]);
    script.line(complete(1), &["apply 1 []"]);
    script.event(Event::Applied(Apply::Published(op(1))), &[]);
    assert_eq!((script.0.status().failures_in_a_row, script.problem()), (0, None));
}

#[test]
fn a_server_may_ask_for_a_longer_wait() {
    let mut script = Script::connected();
    let mut refusal = failed(429);
    refusal.retry_after = Some(Duration::from_secs(80));
    script.closed(Closed::Refused(refusal), &["Reconnect 80s"]);
    script.event(Event::NetworkUp, &["load", "upload"]);
}

#[test]
fn a_refused_token_is_replaced_once_then_backed_off() {
    let mut script = Script::connected();
    script.closed(refused(401), &["token"]);
    script.event(Event::Token(Ok("t2".into())), &["load"]);
    script.event(Event::Loaded(BTreeMap::new()), &["open 2 t2 []"]);
    script.closed(refused(401), &["Reconnect 1s"]);
    assert_eq!(script.problem(), Some(ProblemKind::Credentials));
    // The next try begins with a new token; a stream that opens makes up for it.
    script.event(Event::Timer(Timer::Reconnect), &["token"]);
    script.event(Event::Token(Err("offline".into())), &["Reconnect 2s"]);
    script.event(Event::Timer(Timer::Reconnect), &["token"]);
    script.event(Event::Token(Ok("t3".into())), &["load"]);
    script.event(Event::Loaded(BTreeMap::new()), &["open 3 t3 []"]);
    script.event(Event::Opened { connection: 3 }, &[]);
    script.closed(refused(401), &["token"]);
}

#[test]
fn a_token_near_its_end_is_renewed_without_a_gap() {
    let mut script = Script::connected();
    script.line(SyncLine::TokenExpiresIn(3600), &[]);
    script.line(checkpoint(1, vec![]), &[]);
    script.line(complete(1), &["apply 1 []"]);
    script.line(SyncLine::TokenExpiresIn(30), &["token"]);
    script.line(SyncLine::TokenExpiresIn(10), &[]);
    // The old stream is good until the new token is there.
    script.line(diff(2, vec![], &[]), &[]);
    script.line(complete(2), &["apply 2 w1 []"]);
    script.event(Event::Token(Ok("t2".into())), &["close", "load"]);
    script.event(Event::Loaded(BTreeMap::new()), &["open 2 t2 []"]);
    assert_eq!(script.problem(), None);
}

#[test]
fn without_a_new_token_the_old_stream_goes_on() {
    let mut script = Script::connected();
    script.line(checkpoint(1, vec![]), &[]);
    script.line(complete(1), &["apply 1 []"]);
    script.line(SyncLine::TokenExpiresIn(20), &["token"]);
    script.event(Event::Token(Err("offline".into())), &[]);
    assert_eq!(script.problem(), Some(ProblemKind::Credentials));
    script.line(diff(2, vec![], &[]), &[]);
    script.line(complete(2), &["apply 2 w1 []"]);
    script.line(SyncLine::TokenExpiresIn(0), &["close", "token"]);
}

#[test]
fn tokens_that_are_never_good_for_anything_do_not_loop() {
    let mut script = Script::connected();
    script.line(SyncLine::TokenExpiresIn(0), &["close", "Reconnect 1s"]);
    let mut script = Script::connected();
    script.line(SyncLine::TokenExpiresIn(5), &["token"]);
    script.event(Event::Token(Ok("t2".into())), &["close", "Reconnect 1s"]);
    assert_eq!(script.problem(), Some(ProblemKind::Credentials));
}

#[test]
fn a_store_that_fails_closes_the_stream() {
    let mut script = Script::connected();
    script.event(Event::StoreFailed("disk full".into()), &["close", "Reconnect 1s"]);
    assert_eq!(script.problem(), Some(ProblemKind::Storage));
}

#[test]
fn a_queue_that_cannot_be_read_or_written_is_tried_again() {
    let mut script = Script::connected();
    let failed = || Event::QueueFailed("disk full".into());
    script.event(Event::LocalWrite, &["upload"]);
    script.event(failed(), &["Upload 1s"]);
    assert_eq!(script.0.status().upload_problem.unwrap().kind, ProblemKind::Storage);
    // Of the two actions the first may fail while the second goes its way.
    script.event(Event::Timer(Timer::Upload), &["upload"]);
    let applied =
        |transaction_id| Event::Uploaded { transaction_id, outcome: UploadOutcome::Applied };
    script.event(applied(1), &["finish 1", "upload"]);
    script.event(failed(), &["Upload 1s"]);
    script.event(applied(1), &[]);
    script.event(Event::Timer(Timer::Upload), &["upload"]);
    script.event(Event::QueueEmpty { gate: Gate::Unknown, mark: 1 }, &["write checkpoint t1 1"]);
    script.event(Event::WriteCheckpoint { mark: 1, answer: Ok(op(1)) }, &["gate 1 1"]);
    script.event(failed(), &["Upload 1s"]);
}

#[test]
fn the_queue_is_sent_one_by_one_then_the_gate_is_set() {
    let mut script = Script::connected();
    script.event(Event::LocalWrite, &["upload"]);
    script.event(Event::LocalWrite, &[]);
    let applied =
        |transaction_id| Event::Uploaded { transaction_id, outcome: UploadOutcome::Applied };
    script.event(applied(1), &["finish 1", "upload"]);
    let outcome = UploadOutcome::Rejected { reason: "no".into(), body: None };
    let rejected = Event::Uploaded { transaction_id: 2, outcome };
    script.event(rejected, &["finish 2 rejected", "upload"]);
    assert!(script.0.status().uploading);
    script.event(Event::QueueEmpty { gate: Gate::Unknown, mark: 3 }, &["write checkpoint t1 3"]);
    script.event(Event::LocalWrite, &[]);
    script.event(Event::WriteCheckpoint { mark: 3, answer: Ok(op(8)) }, &["gate 3 8"]);
    // The local write came in between: it is sent first.
    script.event(Event::GateSet(false), &["upload"]);
    script.event(applied(3), &["finish 3", "upload"]);
    script.event(Event::QueueEmpty { gate: Gate::Unknown, mark: 4 }, &["write checkpoint t1 4"]);
    script.event(Event::WriteCheckpoint { mark: 4, answer: Ok(op(9)) }, &["gate 4 9"]);
    script.event(Event::GateSet(true), &["Gate 60s"]);
    assert!(!script.0.status().uploading);
}

#[test]
fn a_checkpoint_that_came_before_its_number_is_tried_again() {
    let mut script = Script::connected();
    script.event(Event::LocalWrite, &["upload"]);
    script.event(Event::QueueEmpty { gate: Gate::Unknown, mark: 1 }, &["write checkpoint t1 1"]);
    script.line(checkpoint(5, vec![]), &[]);
    script.line(complete(5), &["apply 5 []"]);
    script.event(Event::Applied(Apply::Held), &[]);
    script.event(Event::WriteCheckpoint { mark: 1, answer: Ok(op(1)) }, &["gate 1 1"]);
    script.event(Event::GateSet(true), &["Gate 60s", "apply 5 []"]);
    script.event(Event::Applied(Apply::Published(op(5))), &[]);
    // Not when a newer one has been announced: what is stored is no longer that checkpoint.
    let mut script = Script::connected();
    script.event(Event::LocalWrite, &["upload"]);
    script.event(Event::QueueEmpty { gate: Gate::Unknown, mark: 1 }, &["write checkpoint t1 1"]);
    script.line(checkpoint(5, vec![]), &[]);
    script.line(complete(5), &["apply 5 []"]);
    script.event(Event::Applied(Apply::Held), &[]);
    script.line(diff(6, vec![], &[]), &[]);
    script.event(Event::WriteCheckpoint { mark: 1, answer: Ok(op(1)) }, &["gate 1 1"]);
    script.event(Event::GateSet(true), &["Gate 60s"]);
    script.line(complete(6), &["apply 6 w1 []"]);
}

#[test]
fn a_polling_client_asks_at_once_for_the_checkpoint_with_its_writes() {
    let mut script = Script::connected();
    script.line(checkpoint(1, vec![]), &[]);
    script.line(complete(1), &["apply 1 []"]);
    script.event(Event::Applied(Apply::Published(op(1))), &[]);
    script.closed(Closed::Ended, &["Reconnect poll"]);
    script.event(Event::LocalWrite, &["upload"]);
    script.event(Event::QueueEmpty { gate: Gate::Unknown, mark: 1 }, &["write checkpoint t1 1"]);
    script.event(Event::WriteCheckpoint { mark: 1, answer: Ok(op(1)) }, &["gate 1 1"]);
    script.event(Event::GateSet(true), &["Gate 60s", "load"]);
}

#[test]
fn an_upload_without_a_verdict_is_repeated_later() {
    let mut script = Script::connected();
    let retry = |after| Event::Uploaded {
        transaction_id: 1,
        outcome: UploadOutcome::Retry { after, reason: "503".into() },
    };
    script.event(Event::LocalWrite, &["upload"]);
    script.event(retry(None), &["Upload 1s"]);
    assert_eq!(script.0.status().upload_problem.unwrap().kind, ProblemKind::Upload);
    // Not for each local write: the head of the queue blocks.
    script.event(Event::LocalWrite, &[]);
    script.event(Event::Timer(Timer::Upload), &["upload"]);
    script.event(retry(Some(Duration::from_secs(70))), &["Upload 70s"]);
    script.event(Event::NetworkUp, &["upload"]);
    let outcome = UploadOutcome::Applied;
    script.event(Event::Uploaded { transaction_id: 1, outcome }, &["finish 1", "upload"]);
    assert_eq!(script.0.status().upload_problem, None);
}

#[test]
fn a_write_checkpoint_is_asked_for_until_it_is_given() {
    let mut script = Script::connected();
    script.event(Event::LocalWrite, &["upload"]);
    let empty = || Event::QueueEmpty { gate: Gate::Unknown, mark: 1 };
    script.event(empty(), &["write checkpoint t1 1"]);
    let refused = |status| Event::WriteCheckpoint { mark: 1, answer: Err(failed(status)) };
    script.event(refused(500), &["Upload 1s"]);
    script.event(Event::Timer(Timer::Upload), &["upload"]);
    script.event(empty(), &["write checkpoint t1 1"]);
    script.event(refused(401), &["token"]);
    script.event(Event::Token(Ok("t2".into())), &["write checkpoint t2 1"]);
    script.event(refused(401), &["Upload 2s"]);
    script.event(Event::Timer(Timer::Upload), &["upload"]);
    script.event(empty(), &["token"]);
    script.event(Event::Token(Err("offline".into())), &["Upload 4s"]);
}

#[test]
fn a_write_checkpoint_that_never_shows_is_replaced() {
    let mut script = Script::connected();
    script.event(Event::LocalWrite, &["upload"]);
    let waits = || Event::QueueEmpty { gate: Gate::At(op(1)), mark: 1 };
    script.event(waits(), &["Gate 60s"]);
    script.event(Event::Timer(Timer::Gate), &["upload"]);
    script.event(waits(), &["write checkpoint t1 1"]);
    script.event(Event::WriteCheckpoint { mark: 1, answer: Ok(op(2)) }, &["gate 1 2"]);
    script.event(Event::GateSet(true), &["Gate 60s"]);
    script.event(Event::Timer(Timer::Gate), &["upload"]);
    script.event(Event::QueueEmpty { gate: Gate::Open, mark: 1 }, &[]);
}

#[test]
fn without_a_connector_nothing_is_sent() {
    let mut script = Script::with(false);
    script.event(Event::Start, &["token"]);
    script.event(Event::LocalWrite, &[]);
    script.event(Event::NetworkUp, &[]);
}

#[test]
fn a_row_that_the_tables_refuse_is_told_and_tried_again() {
    let mut script = Script::connected();
    script.line(checkpoint(1, vec![]), &[]);
    script.line(complete(1), &["apply 1 []"]);
    let refused = Apply::Refused("NOT NULL".into());
    script.event(Event::Applied(refused), &["close", "Reconnect 1s"]);
    assert_eq!(script.problem(), Some(ProblemKind::Schema));
}
