use tidewater_protocol::RowKey;
use tidewater_storage::conformance::{empty_generation, first_control};
use tidewater_storage::{ControlStore, Embedded, Faulty, OpLog, RecordStore, SegmentReader, Tag};

use super::*;

fn row(key: &str) -> RecordKey {
    RecordKey::SourceRow(first_control().generation, 0, key.into())
}

/// A run that has just begun, with a generation of its own.
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

fn hold(visibility_barrier: u64) -> CommitOptions {
    CommitOptions { visibility_barrier: Some(Lsn(visibility_barrier)), truncated: Vec::new() }
}

#[tokio::test]
async fn a_copied_row_that_the_stream_brought_before_is_looked_up() {
    let storage = Embedded::temporary().unwrap();
    let mut writer = begun(&storage).await;
    let records = writer.load([row("a")]).await.unwrap();
    writer.set(records[0], Some("streamed".into()));
    writer.commit(Lsn(1), Ticket(0), hold(u64::MAX)).await.unwrap();
    writer.trim(0);

    let records = writer.load_copied([row("a"), row("b")]).await.unwrap();
    assert_eq!(writer.get(records[0]).map(|(_, value)| value), Some(&"streamed".into()));
    assert_eq!(writer.get(records[1]), None);
}

#[tokio::test]
async fn a_row_that_only_the_copy_can_have_brought_is_not_looked_up_until_the_copy_is_done() {
    let storage = Embedded::temporary().unwrap();
    let mut writer = begun(&storage).await;
    writer.set_at(row("a"), Some("another's".into()));
    writer.commit(Lsn(1), Ticket(0), hold(u64::MAX)).await.unwrap();
    writer.trim(0);
    let records = writer.load_copied([row("a")]).await.unwrap();
    assert_eq!(writer.get(records[0]), None, "it was looked up");

    writer.trim(0);
    // The visibility barrier opens: the copy is done.
    writer.commit(Lsn(2), Ticket(0), hold(2)).await.unwrap();
    let records = writer.load_copied([row("a")]).await.unwrap();
    assert_eq!(writer.get(records[0]).map(|(_, value)| value), Some(&"another's".into()));
}

#[tokio::test]
async fn a_cell_that_is_not_as_this_run_left_it_is_not_written_over() {
    let storage = Embedded::temporary().unwrap();
    let mut writer = begun(&storage).await;
    writer.set_at(row("a"), Some("first".into()));
    writer.commit(Lsn(1), Ticket(0), hold(u64::MAX)).await.unwrap();
    writer.trim(0);
    let records = writer.load_copied([row("a")]).await.unwrap();
    writer.set(records[0], Some("second".into()));
    let error = writer.commit(Lsn(2), Ticket(0), hold(u64::MAX)).await.unwrap_err();
    assert!(matches!(error, WriteError::Contended), "{error:?}");
    let stored = storage.records(&[row("a")]).await.unwrap();
    let values = &stored[0].as_ref().unwrap().versions;
    assert_eq!(values[0].value, Some("first".into()));
}

#[tokio::test]
async fn the_next_unit_is_written_while_a_commit_is_on_its_way() {
    let storage = Embedded::temporary().unwrap();
    let mut writer = begun(&storage).await;
    put(&mut writer, "1");
    writer.start_commit(Lsn(1), Ticket(0), hold(1)).await.unwrap();
    let first = writer.latest_control().committed;
    put(&mut writer, "2");
    put(&mut writer, "3");
    assert!(writer.has_uncommitted());
    writer.start_commit(Lsn(2), Ticket(0), hold(2)).await.unwrap();
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
    let count = |at: usize| SegmentReader::new(&page.segments[at].payload).count();
    assert_eq!((lasts.len(), count(0), count(1)), (2, 1, 2));
}

/// How a run takes over from the one that wrote this record.
fn after_takeover(former: &Control) -> (Control, Vec<ClosedEpoch>) {
    former.after_takeover(nonce().unwrap()).unwrap()
}

/// The run that is at work after so many have ended, each of which committed something.
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
async fn a_bucket_goes_on_from_an_epoch_that_is_archived() {
    let storage = Embedded::temporary().unwrap();
    let mut writer = begun(&storage).await;
    put(&mut writer, "1");
    writer.commit(Lsn(1), Ticket(0), hold(1)).await.unwrap();
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
async fn the_control_record_drops_no_epoch_that_could_not_be_archived() {
    let storage = Embedded::temporary().unwrap();
    let mut writer = followed(begun(&storage).await, 16).await;
    put(&mut writer, "1");
    writer.commit(Lsn(1), Ticket(0), CommitOptions::default()).await.unwrap();
    let former = writer.control().clone();
    let (next, archived) = after_takeover(&former);
    assert_eq!(archived, former.recent[..1]);

    let full = Faulty::new(storage.clone(), "archive_epochs:1:full".parse().unwrap());
    let result = LogWriter::take_over(full, Some(former.clone()), next, archived, None).await;
    assert!(matches!(result, Err(WriteError::Storage(StorageError::Full(_)))));
    assert_eq!(storage.control().await.unwrap(), Some(former));
}

#[tokio::test]
async fn of_two_runs_that_begin_at_once_the_generation_of_the_one_that_works_is_stored() {
    let storage = Embedded::temporary().unwrap();
    let next = first_control();
    let generation = |tag| Generation {
        definitions: vec![Tag::from_bits(tag)],
        ..empty_generation(first_control().generation)
    };
    // Neither has found a record.
    let begin = async |nonce: &str, tag| {
        let next = Control { owner: Nonce(nonce.to_owned()), ..next.clone() };
        let generation = generation(tag);
        LogWriter::take_over(storage.clone(), None, next, Vec::new(), Some(&generation)).await
    };
    begin("first", 1).await.unwrap();
    let error = begin("second", 2).await.unwrap_err();
    assert!(matches!(error, WriteError::Fenced), "{error:?}");
    let stored = storage.generation(next.generation).await.unwrap();
    assert_eq!(stored, Some(generation(1)));
}
