mod properties;

use tidewater_protocol::RowKey;
use tidewater_storage::conformance::{empty_generation, first_control};
use tidewater_storage::{
    BucketKey, ControlStore, Embedded, Faulty, OpLog, RecordStore, SegmentReader, Tag,
};

use super::*;

fn row(key: &str) -> RecordKey {
    RecordKey::SourceRow(first_control().generation, 0, key.into())
}

/// Returns the log of a run that has just begun, with a generation of its own.
async fn begun(storage: &Embedded) -> LogWriter<Embedded> {
    let control = Control { visibility_barrier: Some(Lsn(u64::MAX)), ..first_control() };
    let generation = empty_generation(control.generation);
    LogWriter::take_over(storage.clone(), None, control, Vec::new(), Some(&generation))
        .await
        .unwrap()
}

fn put(writer: &mut LogWriter<Embedded>, id: &str) {
    let row = RowKey::new("t", id, "0");
    writer.append("aaaaaa[]", Body::Put { row, data: "{}".into() });
}

fn hidden_below(visibility_barrier: u64) -> CommitOptions {
    CommitOptions { visibility_barrier: Some(Lsn(visibility_barrier)), ..CommitOptions::default() }
}

#[tokio::test]
async fn the_copy_looks_up_a_row_that_the_stream_has_brought() {
    let storage = Embedded::temporary().unwrap();
    let mut writer = begun(&storage).await;
    let records = writer.load([row("a")]).await.unwrap();
    writer.set(records[0], Some("streamed".into()));
    writer.commit(Lsn(1), Ticket(0), hidden_below(u64::MAX)).await.unwrap();
    writer.trim(0);

    let records = writer.load_copied([row("a"), row("b")]).await.unwrap();
    assert_eq!(writer.get(records[0]).map(|(_, value)| value), Some(&"streamed".into()));
    assert_eq!(writer.get(records[1]), None);
}

#[tokio::test]
async fn the_copy_looks_up_no_other_row_until_it_is_done() {
    let storage = Embedded::temporary().unwrap();
    let mut writer = begun(&storage).await;
    writer.set_at(row("a"), Some("another's".into()));
    writer.commit(Lsn(1), Ticket(0), hidden_below(u64::MAX)).await.unwrap();
    writer.trim(0);
    let records = writer.load_copied([row("a")]).await.unwrap();
    assert_eq!(writer.get(records[0]), None, "it was looked up");

    writer.trim(0);
    // The barrier is passed: the copy is done.
    writer.commit(Lsn(2), Ticket(0), hidden_below(2)).await.unwrap();
    let records = writer.load_copied([row("a")]).await.unwrap();
    assert_eq!(writer.get(records[0]).map(|(_, value)| value), Some(&"another's".into()));
}

#[tokio::test]
async fn a_record_that_is_not_as_this_run_left_it_is_not_overwritten() {
    let storage = Embedded::temporary().unwrap();
    let mut writer = begun(&storage).await;
    writer.set_at(row("a"), Some("first".into()));
    writer.commit(Lsn(1), Ticket(0), hidden_below(u64::MAX)).await.unwrap();
    writer.trim(0);
    let records = writer.load_copied([row("a")]).await.unwrap();
    writer.set(records[0], Some("second".into()));
    let error = writer.commit(Lsn(2), Ticket(0), hidden_below(u64::MAX)).await.unwrap_err();
    assert!(matches!(error, WriteError::Contended), "{error:?}");
    let stored = storage.records(&[row("a")]).await.unwrap();
    let values = &stored[0].as_ref().unwrap().versions;
    assert_eq!(values[0].value, Some("first".into()));
}

#[tokio::test]
async fn the_next_unit_is_assembled_while_a_commit_is_in_flight() {
    let storage = Embedded::temporary().unwrap();
    let mut writer = begun(&storage).await;
    put(&mut writer, "1");
    writer.start_commit(Lsn(1), Ticket(0), hidden_below(1)).await.unwrap();
    let first = writer.latest_control().committed;
    put(&mut writer, "2");
    put(&mut writer, "3");
    assert!(writer.has_uncommitted());
    writer.start_commit(Lsn(2), Ticket(0), hidden_below(2)).await.unwrap();
    // The second has begun only after the first was done.
    let stored = storage.control().await.unwrap().unwrap();
    assert!(stored.committed == first || stored.committed == writer.latest_control().committed);
    writer.finish().await.unwrap();
    assert!(!writer.has_uncommitted() && !writer.is_busy());

    let committed = storage.control().await.unwrap().unwrap().committed;
    assert_eq!((committed, committed.lsn), (writer.control().committed, Lsn(2)));
    let bucket = BucketKey::from_stored("aaaaaa[]");
    let page = storage.segments(&bucket, OpId::ZERO, committed.op, usize::MAX).await.unwrap();
    let lasts: Vec<_> = page.segments.iter().map(|segment| segment.last).collect();
    assert_eq!(lasts[0], first.op);
    assert_eq!(page.segments[1].prev, first.op);
    let counts: Vec<_> =
        page.segments.iter().map(|one| SegmentReader::new(&one.payload).count()).collect();
    assert_eq!(counts, [1, 2]);
}

/// Returns the control record of a run that takes over from the one that wrote this record.
fn after_takeover(former: &Control) -> (Control, Vec<ClosedEpoch>) {
    former.after_takeover(nonce().unwrap()).unwrap()
}

/// Returns the log of the last of several runs, each of which has committed something.
async fn followed(mut writer: LogWriter<Embedded>, runs: u32) -> LogWriter<Embedded> {
    for _ in 0..runs {
        writer.set_at(row("a"), None);
        writer.commit(Lsn(1), Ticket(0), CommitOptions::default()).await.unwrap();
        let former = writer.control().clone();
        let (next, archived) = after_takeover(&former);
        let storage = writer.storage().clone();
        let begun = LogWriter::take_over(storage, Some(former), next, archived, None).await;
        writer = begun.unwrap();
    }
    writer
}

#[tokio::test]
async fn the_chain_of_a_bucket_continues_from_an_archived_epoch() {
    let storage = Embedded::temporary().unwrap();
    let mut writer = begun(&storage).await;
    put(&mut writer, "1");
    writer.commit(Lsn(1), Ticket(0), hidden_below(1)).await.unwrap();
    let first = writer.control().committed.op;
    // The control record names sixteen closed epochs.
    let mut writer = followed(writer, 17).await;
    assert!(writer.control().recent.iter().all(|closed| Some(closed.epoch) != first.epoch()));

    put(&mut writer, "2");
    writer.commit(Lsn(1), Ticket(0), CommitOptions::default()).await.unwrap();
    let bucket = BucketKey::from_stored("aaaaaa[]");
    let page = storage.segments(&bucket, OpId::ZERO, OpId::MAX, usize::MAX).await.unwrap();
    let links: Vec<_> = page.segments.iter().map(|segment| (segment.prev, segment.last)).collect();
    assert_eq!(links, [(OpId::ZERO, first), (first, writer.control().committed.op)]);
}

#[tokio::test]
async fn an_epoch_stays_in_the_control_record_if_it_cannot_be_archived() {
    let storage = Embedded::temporary().unwrap();
    let mut writer = followed(begun(&storage).await, 16).await;
    put(&mut writer, "1");
    writer.commit(Lsn(1), Ticket(0), CommitOptions::default()).await.unwrap();
    let former = writer.control().clone();
    let (next, archived) = after_takeover(&former);
    assert_eq!(archived, former.recent[..1]);

    let full = Faulty::new(storage.clone(), "archive_epochs:1:full".parse().unwrap());
    let result = LogWriter::take_over(full, Some(former.clone()), next, archived, None).await;
    assert!(matches!(result, Err(WriteError::StorageFull(_))));
    assert_eq!(storage.control().await.unwrap(), Some(former));
}

#[tokio::test]
async fn of_two_runs_that_take_over_at_once_only_the_winner_stores_its_generation() {
    let storage = Embedded::temporary().unwrap();
    // Neither has found a record.
    begin_first_run(&storage, "first", 1).await.unwrap();
    let error = begin_first_run(&storage, "second", 2).await.unwrap_err();
    assert!(matches!(error, WriteError::Fenced), "{error:?}");

    let stored = storage.generation(first_control().generation).await.unwrap();
    assert_eq!(stored, Some(generation_with(1)));
}

/// Returns a generation whose one definition has a tag of these bits.
fn generation_with(tag: u32) -> Generation {
    let definitions = vec![Tag::from_bits(tag)];
    Generation { definitions, ..empty_generation(first_control().generation) }
}

/// Begins a run that has found an empty store.
async fn begin_first_run(
    storage: &Embedded,
    nonce: &str,
    tag: u32,
) -> Result<LogWriter<Embedded>, WriteError> {
    let next = Control { owner: Nonce(nonce.to_owned()), ..first_control() };
    let generation = generation_with(tag);
    LogWriter::take_over(storage.clone(), None, next, Vec::new(), Some(&generation)).await
}

#[tokio::test]
async fn a_flushed_part_of_a_unit_is_committed_only_at_its_end() {
    let storage = Embedded::temporary().unwrap();
    let mut writer = begun(&storage).await;
    put(&mut writer, "1");
    let records = writer.load([row("a")]).await.unwrap();
    writer.set(records[0], Some("first".into()));
    writer.flush().await.unwrap();
    writer.finish().await.unwrap();
    assert!(writer.has_uncommitted());
    let committed = storage.control().await.unwrap().unwrap().committed;
    assert_eq!(committed, first_control().committed);
    // The run itself sees what it has flushed, also after the record left the cache.
    writer.trim(0);
    let records = writer.load([row("a")]).await.unwrap();
    assert_eq!(writer.get(records[0]).map(|(_, value)| value), Some(&"first".into()));

    writer.commit(Lsn(3), Ticket(0), hidden_below(3)).await.unwrap();
    assert!(!writer.has_uncommitted());
    let control = storage.control().await.unwrap().unwrap();
    assert_eq!((control.committed.lsn, control.visible.unwrap().at.lsn), (Lsn(3), Lsn(3)));
}

#[tokio::test]
async fn a_position_alone_is_committed_without_an_op_id() {
    let storage = Embedded::temporary().unwrap();
    let mut writer = begun(&storage).await;
    let before = writer.control().committed;
    writer.commit(Lsn(9), Ticket(4), hidden_below(u64::MAX)).await.unwrap();
    let after = storage.control().await.unwrap().unwrap().committed;
    assert_eq!((after.op, after.lsn, after.ticket), (before.op, Lsn(9), Ticket(4)));
}

#[tokio::test]
async fn a_run_that_was_overtaken_is_fenced_at_its_next_commit() {
    let storage = Embedded::temporary().unwrap();
    let mut first = begun(&storage).await;
    let former = first.control().clone();
    let (next, archived) = after_takeover(&former);
    LogWriter::take_over(storage, Some(former), next, archived, None).await.unwrap();

    put(&mut first, "1");
    let error = first.commit(Lsn(1), Ticket(0), hidden_below(1)).await.unwrap_err();
    assert!(matches!(error, WriteError::Fenced), "{error:?}");
}

#[tokio::test]
async fn a_run_that_reads_a_record_of_its_successor_is_fenced() {
    let storage = Embedded::temporary().unwrap();
    let mut first = begun(&storage).await;
    let former = first.control().clone();
    let (next, archived) = after_takeover(&former);
    let second = LogWriter::take_over(storage, Some(former), next, archived, None).await;
    let mut second = second.unwrap();
    second.set_at(row("a"), Some("successor".into()));
    second.flush().await.unwrap();
    second.finish().await.unwrap();

    let error = first.load([row("a")]).await.unwrap_err();
    assert!(matches!(error, WriteError::Fenced), "{error:?}");
}

#[tokio::test]
async fn a_deleted_record_reads_as_none() {
    let storage = Embedded::temporary().unwrap();
    let mut writer = begun(&storage).await;
    let records = writer.load([row("a")]).await.unwrap();
    assert_eq!(writer.get(records[0]), None);
    writer.set(records[0], Some("value".into()));
    assert!(writer.get(records[0]).is_some());
    writer.set(records[0], None);
    assert_eq!(writer.get(records[0]), None);
}

#[test]
fn names_of_owners_are_random_and_of_fixed_length() {
    let one = nonce().unwrap();
    let other = nonce().unwrap();
    assert_ne!(one, other);
    assert_eq!((one.0.len(), other.0.len()), (32, 32));
}

#[tokio::test]
async fn a_commit_names_the_buckets_and_lookups_of_all_its_flushes() {
    let storage = Embedded::temporary().unwrap();
    let mut writer = begun(&storage).await;
    writer.commit(Lsn(1), Ticket(0), hidden_below(1)).await.unwrap();
    let seen = writer.control().revision;

    let bucket = BucketKey::from_stored("aaaaaa[]");
    let lookup = tidewater_storage::LookupKey::new(&Tag::from_bits(7), "[1]");
    put(&mut writer, "1");
    writer.flush().await.unwrap();
    writer.set_at(RecordKey::Lookup(lookup.clone(), "0.a.0".into()), Some("[2]".into()));
    writer.set_at(row("a"), Some("row".into()));
    writer.commit(Lsn(2), Ticket(0), CommitOptions::default()).await.unwrap();

    let mut expected = [ChangeName::of_bucket(&bucket), ChangeName::of_lookup(&lookup)];
    expected.sort_unstable();
    let control = writer.control();
    assert_eq!(control.changes.between(seen, control.revision).unwrap(), [&expected[..]]);

    // The next unit begins with no names.
    writer.commit(Lsn(3), Ticket(0), CommitOptions::default()).await.unwrap();
    let control = storage.control().await.unwrap().unwrap();
    assert_eq!(control.changes.between(seen, control.revision).unwrap(), [&expected[..], &[]]);
}
