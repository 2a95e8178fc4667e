use proptest::collection::vec;
use proptest::prelude::*;
use tidewater_protocol::Epoch;

use super::*;
use crate::committed_ops::ClosedEpoch;

/// Minimum number of different answers to recent checkpoints that a record keeps, besides those to the
/// committed and the visible checkpoint.
const RECENT_ANSWERS: usize = VERSIONS_FOR_RECENT - 2;

#[derive(Clone, Debug)]
enum Step {
    /// The transaction unit in work writes a value or a deletion.
    Write { gone: bool },
    /// The transaction unit is committed. The visible checkpoint follows unless it is held.
    Commit,
    /// The visible checkpoint stays.
    Hold,
    /// The visible checkpoint follows from the next commit on.
    LetGo,
    /// This number of the oldest recent checkpoints is forgotten.
    Forget(usize),
    /// The worker crashes, and another run takes over.
    Crash { forgets: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<bool>().prop_map(|gone| Step::Write { gone }),
        6 => Just(Step::Commit),
        1 => Just(Step::Hold),
        2 => Just(Step::LetGo),
        1 => (0_usize..6).prop_map(Step::Forget),
        1 => any::<bool>().prop_map(|forgets| Step::Crash { forgets }),
    ]
}

/// A record, with all versions that were ever written to it.
#[derive(Debug)]
struct Model {
    record: Option<VersionedRecord>,
    history: Vec<Version>,
    epoch: Epoch,
    sequence: u64,
    closed: Vec<ClosedEpoch>,
    committed: OpId,
    visible: Option<OpId>,
    held: bool,
    /// Newest first.
    recent: Vec<OpId>,
    ever_visible: Vec<OpId>,
}

impl Model {
    fn new() -> Self {
        Self {
            record: None,
            history: Vec::new(),
            epoch: Epoch::ZERO.next().unwrap(),
            sequence: 0,
            closed: Vec::new(),
            committed: OpId::ZERO,
            visible: None,
            held: false,
            recent: Vec::new(),
            ever_visible: Vec::new(),
        }
    }

    fn committed_ops(&self) -> CommittedOps {
        CommittedOps::new(self.epoch, self.committed, self.closed.clone())
    }

    fn next_op(&mut self) -> OpId {
        self.sequence += 1;
        OpId::new(self.epoch, self.sequence)
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Write { gone } => self.write(*gone),
            Step::Commit => self.commit(),
            Step::Hold => self.held = true,
            Step::LetGo => self.held = false,
            Step::Forget(count) => {
                self.recent.truncate(self.recent.len().saturating_sub(*count).max(1));
            }
            Step::Crash { forgets } => {
                if self.committed.epoch() == Some(self.epoch) {
                    self.closed
                        .push(ClosedEpoch { epoch: self.epoch, last_committed: self.committed });
                }

                self.epoch = self.epoch.next().unwrap();
                self.sequence = 0;
                if *forgets {
                    self.recent.clear();
                }
            }
        }
    }

    fn write(&mut self, gone: bool) {
        let op = self.next_op();
        let value = (!gone).then(|| Bytes::from(op.to_string()));
        let version = Version { op, value };
        let committed_ops = self.committed_ops();
        let context = WriteContext {
            committed_ops: &committed_ops,
            visible: self.visible,
            recent: &self.recent,
        };
        self.record =
            Some(VersionedRecord::with_version(self.record.as_ref(), version.clone(), &context));
        self.history.push(version);
    }

    fn commit(&mut self) {
        self.committed = self.next_op();
        if !self.held {
            self.visible = Some(self.committed);
            self.recent.insert(0, self.committed);
            self.ever_visible.push(self.committed);
        }
    }

    /// Returns the expected value at a checkpoint: the newest committed one of the whole history.
    fn naive(&self, checkpoint: OpId) -> ReadResult<'_> {
        match self.newest_at(checkpoint) {
            Some(Version { op, value: Some(value) }) => ReadResult::Found(*op, value),
            _ => ReadResult::NotFound,
        }
    }

    /// Returns the newest committed version of the whole history at a checkpoint.
    fn newest_at(&self, checkpoint: OpId) -> Option<&Version> {
        let committed_ops = self.committed_ops();
        let mut newest_first = self.history.iter().rev();
        newest_first
            .find(|version| version.op <= checkpoint && committed_ops.is_committed(version.op))
    }

    fn answer(&self, checkpoint: OpId) -> ReadResult<'_> {
        self.record.as_ref().map_or(ReadResult::NotFound, |record| {
            record.read_at(checkpoint, &self.committed_ops())
        })
    }

    fn check(&self) {
        for checkpoint in [Some(self.committed), self.visible].into_iter().flatten() {
            assert_eq!(self.answer(checkpoint), self.naive(checkpoint), "at {checkpoint}");
        }

        let mut answers: Vec<OpId> = Vec::new();
        for &checkpoint in &self.recent {
            let Some(answer) = self.newest_at(checkpoint) else { continue };
            if !answers.contains(&answer.op) {
                answers.push(answer.op);
            }
            if answers.len() > RECENT_ANSWERS {
                break;
            }
            assert_eq!(self.answer(checkpoint), self.naive(checkpoint), "at recent {checkpoint}");
        }

        for &checkpoint in &self.ever_visible {
            let answer = self.answer(checkpoint);
            if answer != ReadResult::TooOld {
                assert_eq!(answer, self.naive(checkpoint), "at former {checkpoint}");
            }
        }

        let committed_ops = self.committed_ops();
        let latest_for_writer =
            self.record.as_ref().and_then(|record| record.latest_for_writer(&committed_ops));
        let expected = self.history.iter().rfind(|v| {
            committed_ops.is_from_current_epoch(v.op) || committed_ops.is_committed(v.op)
        });
        assert_eq!(latest_for_writer, expected, "the version that the worker reads");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_record_answers_like_its_whole_history(steps in vec(step(), 0..80)) {
        let mut model = Model::new();
        for step in &steps {
            model.take(step);
            model.check();
        }
    }

    #[test]
    fn a_record_stays_small(steps in vec(step(), 0..80)) {
        let mut model = Model::new();
        for step in &steps {
            model.take(step);
            let versions = model.record.as_ref().map_or(0, |record| record.versions.len());
            prop_assert!(versions <= 1 + VERSIONS_FOR_RECENT);
        }
    }

    #[test]
    fn the_stored_form_round_trips(steps in vec(step(), 0..40)) {
        let mut model = Model::new();
        for step in &steps {
            model.take(step);
        }
        if let Some(record) = &model.record {
            let stored = Bytes::from(record.encode());
            prop_assert_eq!(&VersionedRecord::decode(&stored).unwrap(), record);
            // SQL reads the newest op id there.
            prop_assert_eq!(&stored[8..16], &record.newest_op().get().to_le_bytes());
        }
    }

    #[test]
    fn decoding_arbitrary_bytes_does_not_panic(bytes in vec(any::<u8>(), 0..60)) {
        let _ = VersionedRecord::decode(&bytes.into());
    }

    #[test]
    fn a_truncated_stored_form_is_damaged(keep in 0_usize..20, length in 0_usize..40) {
        let value = Some(vec![7; length].into());
        let stored = Bytes::from(VersionedRecord { floor: op(1, 0), versions: vec![Version { op: op(1, 1), value }] }.encode());
        let kept = stored.slice(..keep.min(stored.len() - 1));
        prop_assert!(matches!(VersionedRecord::decode(&kept), Err(StorageError::Damaged("versioned record", _))));
    }
}

fn op(epoch: u32, sequence: u64) -> OpId {
    OpId::new(Epoch::new(epoch).unwrap(), sequence)
}

fn version(op: OpId) -> Version {
    Version { op, value: Some(op.to_string().into()) }
}

fn ops(record: &VersionedRecord) -> Vec<OpId> {
    record.versions.iter().map(|version| version.op).collect()
}

#[test]
fn the_next_write_drops_an_uncommitted_version_of_a_closed_epoch() {
    let closed = vec![ClosedEpoch { epoch: op(1, 0).epoch().unwrap(), last_committed: op(1, 3) }];
    let committed_ops = CommittedOps::new(op(2, 0).epoch().unwrap(), op(1, 3), closed);
    let stored =
        VersionedRecord { floor: OpId::ZERO, versions: vec![version(op(1, 5)), version(op(1, 2))] };
    assert_eq!(
        stored.read_at(op(1, 3), &committed_ops),
        ReadResult::Found(op(1, 2), &op(1, 2).to_string().into())
    );
    let context = WriteContext { committed_ops: &committed_ops, visible: None, recent: &[] };
    let written = VersionedRecord::with_version(Some(&stored), version(op(2, 1)), &context);
    assert_eq!(ops(&written), [op(2, 1), op(1, 2)]);
    // The dropped version was never committed, so the floor does not rise.
    assert_eq!(written.floor, OpId::ZERO);
}

#[test]
fn a_version_of_the_current_transaction_replaces_the_previous_one() {
    let committed_ops = CommittedOps::new(op(1, 0).epoch().unwrap(), op(1, 1), Vec::new());
    let context =
        WriteContext { committed_ops: &committed_ops, visible: Some(op(1, 1)), recent: &[] };
    let record = VersionedRecord::with_version(None, version(op(1, 1)), &context);
    let record = VersionedRecord::with_version(Some(&record), version(op(1, 2)), &context);
    let record = VersionedRecord::with_version(Some(&record), version(op(1, 3)), &context);
    assert_eq!(ops(&record), [op(1, 3), op(1, 1)]);
}

#[test]
fn a_reader_below_the_dropped_versions_is_too_old() {
    let mut committed_ops = CommittedOps::new(op(1, 0).epoch().unwrap(), op(1, 1), Vec::new());
    let context =
        WriteContext { committed_ops: &committed_ops, visible: Some(op(1, 1)), recent: &[] };
    let record = VersionedRecord::with_version(None, version(op(1, 1)), &context);
    let record = VersionedRecord::with_version(Some(&record), version(op(1, 2)), &context);
    committed_ops.advance(op(1, 2));
    let context =
        WriteContext { committed_ops: &committed_ops, visible: Some(op(1, 2)), recent: &[] };
    let record = VersionedRecord::with_version(Some(&record), version(op(1, 3)), &context);
    assert_eq!(ops(&record), [op(1, 3), op(1, 2)]);
    assert_eq!(record.read_at(op(1, 1), &committed_ops), ReadResult::TooOld);
    assert!(matches!(record.read_at(op(1, 2), &committed_ops), ReadResult::Found(..)));
}

#[test]
fn a_writer_detects_a_newer_epoch() {
    let committed_ops = CommittedOps::new(op(2, 0).epoch().unwrap(), op(1, 1), Vec::new());
    for (newest, is_newer) in [(op(3, 1), true), (op(2, 9), false), (op(1, 9), false)] {
        let record = VersionedRecord { floor: OpId::ZERO, versions: vec![version(newest)] };
        assert_eq!(record.has_newer_epoch(&committed_ops), is_newer, "{newest}");
    }
}
