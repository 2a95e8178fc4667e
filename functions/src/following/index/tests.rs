use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use proptest::collection::vec;
use proptest::prelude::*;
use tidewater_protocol::{Epoch, OpId};
use tidewater_storage::{BucketKey, GenerationId, Ticket};

use super::*;
use crate::checkpoint::Run;

/// Records whether a stream was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn name(number: u8) -> ChangeName {
    ChangeName::of_bucket(&BucketKey::from_stored(&format!("aaaaaa[{number}]")))
}

fn names(numbers: &[u8]) -> Vec<ChangeName> {
    numbers.iter().copied().map(name).collect()
}

fn at(owner: u64, revision: u64, ticket: u64) -> CheckpointId {
    let epoch = Epoch::new(1).unwrap();
    CheckpointId {
        run: Run { epoch, owner },
        revision,
        op: OpId::new(epoch, revision),
        ticket: Ticket(ticket),
        generation: GenerationId(epoch),
    }
}

/// Returns what is pending for a stream, if it is not asked to wait.
fn pending(index: &mut StreamIndex<u64>, id: StreamId) -> Option<Changed> {
    index.pending(id, Waker::noop()).map(|(_, changed)| changed)
}

/// Waits with a stream, and returns the flag that its waker sets.
fn wait(index: &mut StreamIndex<u64>, id: StreamId) -> Arc<Flag> {
    let flag = Arc::new(Flag::default());
    assert!(index.pending(id, &Arc::clone(&flag).into()).is_none());
    flag
}

fn is_woken(flag: &Flag) -> bool {
    flag.0.load(Ordering::Relaxed)
}

fn advance(index: &mut StreamIndex<u64>, id: CheckpointId, changes: Option<&[&[u8]]>) {
    let changes: Option<Vec<Vec<ChangeName>>> =
        changes.map(|revisions| revisions.iter().map(|numbers| names(numbers)).collect());
    let changes = changes.as_ref().map(|revisions| revisions.iter().map(Vec::as_slice).collect());
    for waker in index.advance(id, id.revision, changes) {
        waker.wake();
    }
}

#[test]
fn a_commit_wakes_the_streams_that_depend_on_what_it_changed() {
    let mut index = StreamIndex::new();
    let one = index.insert(names(&[1, 2]), at(1, 5, 0), &5);
    let other = index.insert(names(&[2, 3]), at(1, 5, 0), &5);
    let (one_flag, other_flag) = (wait(&mut index, one), wait(&mut index, other));

    advance(&mut index, at(1, 6, 0), Some(&[&[1]]));
    assert!(is_woken(&one_flag) && !is_woken(&other_flag));
    assert_eq!(pending(&mut index, one), Some(Changed::Names(names(&[1]))));
    index.note_seen(one, at(1, 6, 0));
    assert_eq!(pending(&mut index, one), None);

    advance(&mut index, at(1, 9, 0), Some(&[&[], &[4], &[2]]));
    assert!(is_woken(&other_flag));
    for id in [one, other] {
        assert_eq!(pending(&mut index, id), Some(Changed::Names(names(&[2]))));
    }
}

#[test]
fn unknown_changes_another_run_and_another_generation_wake_all_streams() {
    let generation = GenerationId(Epoch::new(2).unwrap());
    for (id, changes) in [
        (at(1, 6, 0), None),
        (at(2, 6, 0), Some(&[&[9][..]][..])),
        (CheckpointId { generation, ..at(1, 6, 0) }, Some(&[&[9][..]][..])),
    ] {
        let mut index = StreamIndex::new();
        let stream = index.insert(names(&[1]), at(1, 5, 0), &5);
        let flag = wait(&mut index, stream);
        advance(&mut index, id, changes);
        assert!(is_woken(&flag), "{id:?}");
        assert_eq!(pending(&mut index, stream), Some(Changed::Everything));
        index.note_seen(stream, id);
        assert_eq!(pending(&mut index, stream), None);
    }
}

#[test]
fn a_restored_store_makes_everything_uncertain() {
    let mut index = StreamIndex::new();
    let stream = index.insert(names(&[1]), at(1, 5, 0), &5);
    advance(&mut index, at(1, 3, 0), None);
    assert_eq!(pending(&mut index, stream), Some(Changed::Uncertain));
}

#[test]
fn a_stream_that_has_read_a_later_record_is_not_sent_back() {
    let mut index = StreamIndex::new();
    index.insert(names(&[1]), at(1, 5, 0), &5);
    let ahead = index.insert(names(&[1]), at(1, 8, 0), &8);
    advance(&mut index, at(1, 7, 0), Some(&[&[1], &[1]]));
    assert_eq!(pending(&mut index, ahead), None);
    advance(&mut index, at(1, 9, 0), Some(&[&[1], &[]]));
    assert_eq!(pending(&mut index, ahead), Some(Changed::Names(names(&[1]))));
}

#[test]
fn a_stream_gets_what_changed_while_it_read() {
    let mut index = StreamIndex::new();
    let stream = index.insert(names(&[1]), at(1, 5, 0), &5);
    advance(&mut index, at(1, 6, 0), Some(&[&[1]]));
    // While it reads at 6, the bucket that it is about to get changes.
    advance(&mut index, at(1, 7, 0), Some(&[&[2]]));
    index.replace(stream, names(&[1, 2]), at(1, 6, 0));
    assert_eq!(pending(&mut index, stream), Some(Changed::Names(names(&[2]))));

    index.replace(stream, names(&[3]), at(1, 7, 0));
    advance(&mut index, at(1, 8, 0), Some(&[&[1, 2]]));
    assert_eq!(pending(&mut index, stream), None, "it no longer depends on them");
}

#[test]
fn a_stream_that_missed_more_than_is_remembered_reads_everything() {
    let mut index = StreamIndex::new();
    let stream = index.insert(names(&[1]), at(1, 0, 0), &0);
    for revision in 1..=HISTORY_REVISIONS_MAX as u64 + 1 {
        advance(&mut index, at(1, revision, 0), Some(&[&[9]]));
    }
    assert_eq!(pending(&mut index, stream), None);
    index.note_seen(stream, at(1, 1, 0));
    assert_eq!(pending(&mut index, stream), None);
    index.note_seen(stream, at(1, 0, 0));
    assert_eq!(pending(&mut index, stream), Some(Changed::Everything));
}

#[test]
fn an_index_without_streams_is_empty_again() {
    let mut index = StreamIndex::new();
    for round in 0..3 {
        let streams: Vec<_> =
            (0..5).map(|one| index.insert(names(&[one, 7]), at(1, round, 0), &round)).collect();
        for stream in streams {
            assert!(!index.is_empty());
            index.remove(stream);
        }
        assert!(index.is_empty() && index.dependents.is_empty());
        assert_eq!(index.newest(), None);
    }
}

/// One step of a random run.
#[derive(Clone, Debug)]
enum Step {
    /// The worker commits a change of these names; `None` leaves no trace in the ring.
    Commit(Option<Vec<u8>>),
    /// The worker ends, and another one begins.
    TakeOver,
    /// The follower reads the newest record.
    Follow,
    /// A stream opens, at the newest record.
    Open(Vec<u8>),
    /// A stream acts on what is pending.
    Act(usize),
    /// A stream acts, and depends on other names from then on.
    ActAndReplace(usize, Vec<u8>),
    /// A stream ends.
    Close(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let some_names = || vec(0_u8..6, 0..4);
    prop_oneof![
        6 => some_names().prop_map(|names| Step::Commit(Some(names))),
        1 => Just(Step::Commit(None)),
        1 => Just(Step::TakeOver),
        5 => Just(Step::Follow),
        2 => some_names().prop_map(Step::Open),
        6 => any::<usize>().prop_map(Step::Act),
        2 => (any::<usize>(), some_names()).prop_map(|(at, names)| Step::ActAndReplace(at, names)),
        1 => any::<usize>().prop_map(Step::Close),
    ]
}

/// A record of the worker: its run, and the names that it changed.
type Record = (u64, Option<Vec<u8>>);

/// A stream of the model.
struct ModelStream {
    id: StreamId,
    names: Vec<u8>,
    seen: u64,
}

/// Returns what the ring of the last record knows of the records after `seen`.
fn ring_since(records: &[Record], seen: usize) -> Option<Vec<Vec<ChangeName>>> {
    let run = records.last()?.0;
    let after = &records[seen + 1..];
    let is_known = |record: &&Record| record.0 == run && record.1.is_some();
    if !after.iter().all(|record| is_known(&record)) {
        return None;
    }
    after.iter().map(|(_, changed)| changed.as_deref().map(names)).collect()
}

proptest! {
    /// In any order of commits, reads and streams, a stream for which nothing is pending has seen
    /// all changes of its names up to the record that the follower has read.
    #[test]
    fn no_change_is_lost(steps in vec(step(), 0..120)) {
        let mut records: Vec<Record> = vec![(1, Some(Vec::new()))];
        let mut index = StreamIndex::new();
        let mut streams: Vec<ModelStream> = Vec::new();
        let id_of = |records: &[Record], revision: u64| {
            at(records[usize::try_from(revision).unwrap()].0, revision, 0)
        };

        for step in steps {
            let newest = records.len() as u64 - 1;
            match step {
                Step::Commit(changed) => records.push((records.last().unwrap().0, changed)),
                Step::TakeOver => records.push((records.last().unwrap().0 + 1, None)),
                Step::Follow => {
                    if let Some(followed) = index.newest() {
                        let seen = usize::try_from(followed.revision).unwrap();
                        let changes = ring_since(&records, seen);
                        let changes = changes.as_ref().map(|all| all.iter().map(Vec::as_slice).collect());
                        index.advance(id_of(&records, newest), newest, changes);
                    }
                }
                Step::Open(numbers) => {
                    let id = index.insert(names(&numbers), id_of(&records, newest), &newest);
                    streams.push(ModelStream { id, names: numbers, seen: newest });
                }
                Step::Act(_) | Step::ActAndReplace(..) | Step::Close(_) if streams.is_empty() => {}
                Step::Act(which) => {
                    let count = streams.len();
                    let stream = &mut streams[which % count];
                    if let Some((view, changed)) = index.pending(stream.id, Waker::noop()) {
                        // A stream that is told names reads these only.
                        if let Changed::Names(told) = &changed {
                            let missed = &records[usize::try_from(stream.seen).unwrap() + 1..=usize::try_from(view).unwrap()];
                            for (_, changed) in missed {
                                let changed = changed.as_deref().expect("it is known");
                                for number in changed.iter().filter(|one| stream.names.contains(one)) {
                                    prop_assert!(told.contains(&name(*number)), "{number} is not told");
                                }
                            }
                        }
                        index.note_seen(stream.id, id_of(&records, view));
                        stream.seen = view;
                    }
                }
                Step::ActAndReplace(which, numbers) => {
                    let count = streams.len();
                    let stream = &mut streams[which % count];
                    if let Some((view, _)) = index.pending(stream.id, Waker::noop()) {
                        index.replace(stream.id, names(&numbers), id_of(&records, view));
                        stream.names = numbers;
                        stream.seen = view;
                    }
                }
                Step::Close(which) => {
                    let stream = streams.remove(which % streams.len());
                    index.remove(stream.id);
                }
            }

            let Some(followed) = index.newest() else { continue };
            for stream in &streams {
                if index.pending(stream.id, Waker::noop()).is_some() || stream.seen >= followed.revision {
                    continue;
                }
                let seen = usize::try_from(stream.seen).unwrap();
                let upto = usize::try_from(followed.revision).unwrap();
                for (_, changed) in &records[seen + 1..=upto] {
                    let changed = changed.as_deref();
                    prop_assert!(changed.is_some(), "a record without names wakes everybody");
                    let is_concerned = changed.into_iter().flatten().any(|one| stream.names.contains(one));
                    prop_assert!(!is_concerned, "a change is lost");
                }
            }
        }
    }
}
