use std::collections::BTreeMap;

use proptest::prelude::*;
use tidewater_protocol::{BucketDescription, Checksum, Epoch, Priority};
use tidewater_storage::{Base, BucketHead, BucketKey, Catalog, GenerationId, SegmentChain, Ticket};

use super::super::bucket_cursor::{LogPosition, Position};
use super::*;
use crate::checkpoint::Run;

const GENERATION: GenerationId = GenerationId(Epoch::ZERO);

fn op(sequence: u64) -> OpId {
    OpId::new(Epoch::new(1).unwrap(), sequence)
}

fn id(sequence: u64, ticket: u64) -> CheckpointId {
    let op = if sequence == 0 { OpId::ZERO } else { op(sequence) };
    let run = Run { epoch: Epoch::new(1).unwrap(), owner: 1 };
    CheckpointId { run, revision: sequence, op, ticket: Ticket(ticket), generation: GENERATION }
}

fn committed_ops() -> Arc<CommittedOps> {
    Arc::new(CommittedOps::new(Epoch::new(1).unwrap(), op(1_000_000), Vec::new()))
}

/// A bucket whose last operation is `last`, and whose content is known by `content`.
fn bucket(name: &str, priority: u8, last: u64, content: u32) -> ReadableBucket {
    let last = if last == 0 { OpId::ZERO } else { op(last) };
    ReadableBucket {
        name: name.to_owned(),
        key: BucketKey::from_stored(name),
        priority: Priority::new(priority).unwrap(),
        subscriptions: Vec::new(),
        head: BucketHead { last, sum: Checksum(content), count: content.into() },
        catalog: Arc::new(Catalog::default()),
    }
}

fn state(at: CheckpointId, buckets: Vec<ReadableBucket>) -> CheckpointState {
    let requests = WriteRequests::default();
    CheckpointState::new(at, &committed_ops(), buckets, HashMap::new(), &requests)
}

/// Plays the part of the I/O: the client has received the whole bucket. Returns its name.
fn send_whole_bucket(state: &mut CheckpointState) -> Option<String> {
    let (_, bucket) = state.next_to_send()?;
    let chain = SegmentChain::at_segment_end(bucket.head.last, bucket.head.sum);
    bucket.position = Position::Log(LogPosition { chain, clear: false });
    Some(bucket.name.clone())
}

/// Sends everything, and returns the names of buckets and the kinds of the lines between them.
fn send_all(state: &mut CheckpointState) -> Vec<String> {
    let mut sent = Vec::new();
    while let Some(name) = send_whole_bucket(state) {
        sent.push(name);
        if let Some(SyncLine::PartialCheckpointComplete(line)) = state.finish_bucket() {
            sent.push(format!("up to priority {}", line.priority.get()));
        }
    }
    assert!(matches!(state.complete(), SyncLine::CheckpointComplete(_)));
    assert!(!state.is_sending());
    sent
}

fn diff_line(line: Option<SyncLine<'_>>) -> CheckpointDiff {
    match line {
        Some(SyncLine::CheckpointDiff(diff)) => diff,
        other => panic!("{other:?}"),
    }
}

fn names(descriptions: &[BucketDescription]) -> Vec<&str> {
    descriptions.iter().map(|description| description.bucket.as_str()).collect()
}

#[test]
fn buckets_are_sent_by_priority_and_then_by_name() {
    let buckets = vec![
        bucket("d", 3, 9, 1),
        bucket("c", 1, 9, 1),
        bucket("a", 3, 9, 1),
        bucket("b", 1, 9, 1),
        bucket("empty", 0, 0, 0),
    ];
    let mut state = state(id(9, 0), buckets);
    let line = state.announce_first(Vec::new(), &committed_ops());
    let SyncLine::Checkpoint(line) = line else { panic!("{line:?}") };
    assert_eq!(names(&line.buckets), ["a", "b", "c", "d", "empty"]);
    assert_eq!(send_all(&mut state), ["b", "c", "up to priority 1", "a", "d"]);
}

#[test]
fn a_diff_names_new_changed_and_lost_buckets_only() {
    let buckets =
        vec![bucket("same", 3, 5, 1), bucket("changed", 3, 5, 1), bucket("lost", 3, 5, 1)];
    let mut state = state(id(9, 0), buckets);
    state.announce_first(Vec::new(), &committed_ops());
    send_all(&mut state);

    let readable =
        vec![bucket("new", 3, 11, 4), bucket("changed", 3, 12, 2), bucket("same", 3, 5, 1)];
    let diff = state.replace_buckets(readable);
    let line = diff_line(state.announce(id(12, 0), diff, None, &committed_ops()));
    assert_eq!(line.last_op_id, op(12));
    assert_eq!(names(&line.updated_buckets), ["changed", "new"]);
    assert_eq!(line.removed_buckets, ["lost"]);
    assert_eq!(send_all(&mut state), ["changed", "new"]);
}

#[test]
fn a_checkpoint_without_news_is_not_announced_to_an_up_to_date_client() {
    let mut state = state(id(9, 0), vec![bucket("a", 3, 5, 1)]);
    state.announce_first(Vec::new(), &committed_ops());
    send_all(&mut state);

    let diff = state.replace_buckets(vec![bucket("a", 3, 5, 1)]);
    assert!(state.announce(id(12, 0), diff, None, &committed_ops()).is_none());
    assert!(!state.is_sending());
    assert_eq!(state.announced().op, op(12), "the checkpoint is known all the same");
}

#[test]
fn a_client_that_is_behind_gets_a_line_for_every_newer_checkpoint() {
    let mut state = state(id(9, 0), vec![bucket("a", 3, 5, 1)]);
    state.announce_first(Vec::new(), &committed_ops());

    let diff = state.replace_buckets(vec![bucket("a", 3, 5, 1)]);
    let line = diff_line(state.announce(id(12, 0), diff, None, &committed_ops()));
    assert_eq!((line.last_op_id, line.updated_buckets.len()), (op(12), 0));
    assert_eq!(send_all(&mut state), ["a"]);
}

#[test]
fn a_bucket_that_returns_is_sent_from_its_start() {
    let mut state = state(id(9, 0), vec![bucket("a", 3, 5, 1)]);
    state.announce_first(Vec::new(), &committed_ops());
    send_all(&mut state);
    for (at, readable) in [(10, Vec::new()), (11, vec![bucket("a", 3, 5, 1)])] {
        let diff = state.replace_buckets(readable);
        diff_line(state.announce(id(at, 0), diff, None, &committed_ops()));
    }
    let (_, cursor) = state.next_to_send().unwrap();
    assert_eq!(cursor.log_position(), OpId::ZERO);
}

#[test]
fn each_movement_is_recognised() {
    let state = state(id(9, 4), Vec::new());
    let announced = id(9, 4);
    let other_generation = GenerationId(Epoch::new(7).unwrap());

    for (newer, expected) in [
        (announced, Movement::None),
        (CheckpointId { revision: 100, ..announced }, Movement::None),
        (id(9, 5), Movement::Ticket),
        (id(10, 4), Movement::Operations),
        (id(10, 5), Movement::Operations),
        (id(8, 5), Movement::Replaced),
        (CheckpointId { generation: other_generation, ..id(10, 4) }, Movement::Replaced),
    ] {
        assert_eq!(state.movement_to(newer), expected, "{newer:?}");
    }
}

/// Announces a checkpoint whose buckets are unchanged.
fn announce_unchanged(
    state: &mut CheckpointState,
    at: CheckpointId,
    requests: &WriteRequests,
) -> Option<SyncLine<'static>> {
    state.announce(at, BucketDiff::default(), Some(requests), &committed_ops())
}

#[test]
fn an_acknowledged_write_checkpoint_is_never_taken_back() {
    let requests = WriteRequests::default().with(1, Ticket(3)).unwrap();
    let requests = requests.with(2, Ticket(6)).unwrap();
    let mut state = state(id(9, 0), Vec::new());
    state.announce_first(Vec::new(), &committed_ops());
    state.complete();

    let line = diff_line(announce_unchanged(&mut state, id(9, 3), &requests));
    assert_eq!(line.write_checkpoint.map(|number| number.get()), Some(1));
    assert!(state.has_outstanding_request());
    state.complete();

    let line = diff_line(announce_unchanged(&mut state, id(9, 6), &requests));
    assert_eq!(line.write_checkpoint.map(|number| number.get()), Some(2));
    assert!(!state.has_outstanding_request());
    state.complete();

    // The stored record has expired.
    let expired = WriteRequests::default();
    assert!(announce_unchanged(&mut state, id(9, 7), &expired).is_none());
    assert!(!state.has_outstanding_request());
}

#[test]
fn failed_reads_are_counted_until_the_checkpoint_is_complete() {
    let mut state = state(id(9, 0), vec![bucket("a", 3, 5, 1)]);
    assert_eq!(state.count_failed_read(), 0, "nothing is being read");
    state.announce_first(Vec::new(), &committed_ops());
    assert_eq!(state.count_failed_read(), 1);
    state.plan_send(&committed_ops());
    assert_eq!(state.count_failed_read(), 2, "a new plan does not forget them");
    send_all(&mut state);
    state.plan_send(&committed_ops());
    assert_eq!(state.count_failed_read(), 1);
}

/// Returns a bucket with a base that ends at `to`.
fn bucket_with_base(to: u64, marker: u32) -> ReadableBucket {
    let base = Base {
        to: op(to),
        checksum: Checksum::ZERO,
        remainder: Checksum::ZERO,
        rows: 10,
        count: 10,
        name: format!("base-{to}"),
        marker,
        files: 0,
        frames: 1,
    };
    let catalog = Catalog { base: Some(base), ..Catalog::default() };
    ReadableBucket { catalog: Arc::new(catalog), ..bucket("a", 3, 9, 1) }
}

/// Returns the marker of the base that the client receives next.
fn next_base_marker(state: &mut CheckpointState) -> u32 {
    match &state.next_to_send().unwrap().1.position {
        Position::Base(position) => position.base.marker,
        Position::Log(_) => panic!("the client receives a base"),
    }
}

#[test]
fn a_bucket_whose_base_is_gone_restarts_with_the_base_of_the_catalog() {
    let mut state = state(id(9, 0), vec![bucket_with_base(5, 1)]);
    state.announce_first(Vec::new(), &committed_ops());
    assert_eq!(next_base_marker(&mut state), 1);

    state.replace_buckets(vec![bucket_with_base(6, 2)]);
    assert_eq!(next_base_marker(&mut state), 1, "a newer base alone is no reason to restart");
    state.restart_bucket_if_lost("a");
    assert_eq!(next_base_marker(&mut state), 2);
}

/// Returns the count of the only bucket in the first line of a client with this position.
fn announced_count(bucket: ReadableBucket, after: OpId) -> u64 {
    let positions = HashMap::from([("a".to_owned(), after)]);
    let requests = WriteRequests::default();
    let mut state =
        CheckpointState::new(id(9, 0), &committed_ops(), vec![bucket], positions, &requests);
    let line = state.announce_first(Vec::new(), &committed_ops());
    let SyncLine::Checkpoint(line) = line else { panic!("no checkpoint line") };
    line.buckets[0].count
}

#[test]
fn the_count_has_every_operation_that_is_sent() {
    // The base stands for 10 of 12 operations: a CLEAR, 10 rows and a MOVE, and then 2 of the log.
    let bucket = || {
        let bucket = bucket_with_base(5, 1);
        ReadableBucket { head: BucketHead { count: 12, ..bucket.head }, ..bucket }
    };
    assert_eq!(announced_count(bucket(), OpId::ZERO), 1 + 10 + 1 + 2);
    assert_eq!(announced_count(bucket(), OpId::marker(1, 10)), 1 + 10 + 1 + 2, "a resumed base");

    let without_base = || ReadableBucket { catalog: Arc::default(), ..bucket() };
    assert_eq!(announced_count(without_base(), OpId::ZERO), 12);
    assert_eq!(announced_count(without_base(), op(99)), 12 + 1, "a CLEAR precedes the log");
}

#[test]
fn a_newer_base_does_not_change_what_a_client_was_told_to_expect() {
    let mut state = state(id(9, 0), vec![bucket_with_base(5, 1)]);
    state.announce_first(Vec::new(), &committed_ops());

    let newer = bucket_with_base(8, 2);
    let head = BucketHead { count: newer.head.count + 20, sum: Checksum(20), ..newer.head };
    let former = newer.head.count;
    let diff = state.replace_buckets(vec![ReadableBucket { head, ..newer }]);
    let line = diff_line(state.announce(id(10, 0), diff, None, &committed_ops()));
    assert_eq!(line.updated_buckets[0].count, 12 + (former + 20).saturating_sub(10));
}

/// The buckets that a client knows of, from checkpoint lines alone.
type Known = BTreeMap<String, (Checksum, u64)>;

fn known(buckets: &[BucketDescription]) -> Known {
    buckets.iter().map(|bucket| (bucket.bucket.clone(), (bucket.checksum, bucket.count))).collect()
}

/// The buckets readable at one checkpoint, each with priority and content.
fn readable() -> impl Strategy<Value = BTreeMap<u8, (u8, u32)>> {
    prop::collection::btree_map(0..8_u8, (0..4_u8, 0..3_u32), 0..8)
}

fn buckets_at(at: u64, readable: &BTreeMap<u8, (u8, u32)>) -> Vec<ReadableBucket> {
    let each = readable.iter();
    each.map(|(name, (priority, content))| bucket(&name.to_string(), *priority, at, *content))
        .collect()
}

proptest! {
    /// However buckets come, go and change, and however much of each checkpoint is sent, the
    /// announced lines tell the client exactly the newest buckets, and the rest is sent in order.
    #[test]
    fn a_client_that_adds_up_the_lines_knows_the_newest_buckets(
        first in readable(),
        checkpoints in prop::collection::vec((readable(), 0..10_usize), 1..12),
    ) {
        let mut state = state(id(1, 0), buckets_at(1, &first));
        let line = state.announce_first(Vec::new(), &committed_ops());
        let SyncLine::Checkpoint(line) = line else { panic!("{line:?}") };
        let mut client = known(&line.buckets);

        for (at, (readable, sent)) in (2..).zip(checkpoints) {
            for _ in 0..sent {
                if send_whole_bucket(&mut state).is_some() {
                    state.finish_bucket();
                } else if state.is_sending() {
                    state.complete();
                }
            }

            let diff = state.replace_buckets(buckets_at(at, &readable));
            if let Some(line) = state.announce(id(at, 0), diff, None, &committed_ops()) {
                let line = diff_line(Some(line));
                for removed in &line.removed_buckets {
                    prop_assert!(client.remove(removed).is_some(), "{removed} was not announced");
                }
                client.extend(known(&line.updated_buckets));
            }
            let newest = buckets_at(at, &readable);
            let newest: Known = newest
                .into_iter()
                .map(|bucket| (bucket.name, (bucket.head.sum, bucket.head.count)))
                .collect();
            prop_assert_eq!(&client, &newest);
        }

        let mut before = Priority::new(0).unwrap();
        while let Some((_, bucket)) = state.next_to_send() {
            prop_assert!(before <= bucket.priority, "the most urgent bucket is sent first");
            before = bucket.priority;
            send_whole_bucket(&mut state);
            state.finish_bucket();
        }
        if state.is_sending() {
            state.complete();
        }
    }
}
