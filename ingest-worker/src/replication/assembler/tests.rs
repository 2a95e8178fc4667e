mod driver;
mod properties;

use super::*;
use crate::initial_copy::state::{ChunkRange, TableCopy, TableReaders, WholeSnapshot};
use crate::source::pg_snapshot::PgSnapshot;
use crate::source::pgoutput::Datum;
use crate::source::pgoutput::encode::{self, OldTuple};
use crate::source::shape::TableShape;
use crate::test_support::{NOTES, TODOS, insert_message, oid, relation_message};
use driver::{Driver, SLOT};

const IDLE: Duration = Duration::from_secs(11);

fn position(lsn: u64, ticket: u64) -> StreamPosition {
    StreamPosition { lsn: Lsn(lsn), ticket: Ticket(ticket) }
}

fn small_limits() -> AssemblerLimits {
    AssemblerLimits { buffered_changes_max: 3, ..AssemblerLimits::default() }
}

/// The progress of a table without a key that was read in a snapshot, before a position.
fn whole(snapshot: &str, end: Lsn) -> TableCopy {
    TableCopy::Whole(WholeSnapshot::new(&PgSnapshot::parse(snapshot).unwrap(), end))
}

/// The progress of a copy of both tables.
fn copy(todos: TableCopy, notes: TableCopy) -> CopyState {
    let mut copy = CopyState::default();
    for (shape, progress) in [("todos", todos), ("notes", notes)] {
        copy.tables.push(Some(crate::initial_copy::state::CopiedTable {
            oid: 0,
            shape: TableShape::from_text(shape),
            has_lookups: false,
            readers: TableReaders::default(),
            settled: None,
            progress,
            copied_after: Lsn(0),
            has_former_rows: false,
            can_compare: false,
        }));
    }
    copy
}

fn snapshot(text: &str) -> PgSnapshot {
    PgSnapshot::parse(text).unwrap()
}

#[test]
fn a_lone_transaction_is_committed_as_soon_as_the_stream_pauses() {
    let mut driver = Driver::new();
    driver.transaction(110, &["a", "b"]);
    assert_eq!(driver.applied, 0, "more may follow at once");
    driver.feed(Event::Drained);
    assert_eq!((driver.applied, driver.commit_positions()), (2, vec![position(110, 0)]));
}

#[test]
fn what_arrives_during_a_write_becomes_one_unit() {
    let mut driver = Driver::new();
    driver.transaction(110, &["a"]);
    driver.feed(Event::Drained);
    for (end, id) in [(120, "b"), (130, "c")] {
        driver.transaction(end, &[id]);
        driver.feed(Event::Drained);
    }
    assert_eq!(driver.applied, 3, "it is applied while the write is in flight");
    assert_eq!(driver.commit_positions(), [position(110, 0)]);
    driver.land();
    assert_eq!(driver.commit_positions(), [position(110, 0), position(130, 0)]);
}

#[test]
fn a_position_is_confirmed_only_after_its_commit_has_landed() {
    let mut driver = Driver::new();
    assert_eq!(driver.confirmed, [Lsn(100)], "the former run may not have confirmed it");
    driver.transaction(110, &["a"]);
    driver.feed(Event::Drained);
    assert_eq!(driver.confirmed, [Lsn(100)]);
    driver.land();
    assert_eq!(driver.confirmed, [Lsn(100), Lsn(110)]);
}

#[test]
fn a_commit_that_lands_behind_a_flush_is_confirmed_too() {
    let mut driver = Driver::new();
    driver.transaction(110, &["a"]);
    driver.feed(Event::Drained);
    // Applying the next unit waits for the write, and starts none of its own.
    driver.transaction(120, &["b"]);
    driver.is_writing = false;
    driver.feed(Event::Drained);
    assert_eq!(driver.confirmed, [Lsn(100), Lsn(110)]);
    assert_eq!(driver.commit_positions().last(), Some(&position(120, 0)));
}

#[test]
fn a_transaction_larger_than_the_buffer_is_applied_in_parts_and_committed_at_its_end() {
    let mut driver = Driver::with_limits(small_limits());
    driver.begin(100);
    driver.rows(&["a", "b", "c"]);
    assert_eq!(driver.applied, 3, "the buffer is full");
    driver.rows(&["d"]);
    driver.feed(Event::Drained);
    assert_eq!((driver.applied, driver.commits.len()), (3, 0), "its end has not come");
    driver.end(150);
    driver.feed(Event::Drained);
    assert_eq!((driver.applied, driver.commit_positions()), (4, vec![position(150, 0)]));
}

#[test]
fn the_transactions_before_a_large_one_are_committed_before_its_first_part() {
    let mut driver = Driver::with_limits(small_limits());
    driver.transaction(110, &["a"]);
    driver.feed(Event::Drained);
    driver.transaction(120, &["b"]);
    driver.feed(Event::Drained);
    assert_eq!(driver.commits.len(), 1, "the first write is still in flight");
    driver.begin(120);
    driver.rows(&["c", "d", "e"]);
    assert_eq!(driver.waits, 1, "the source has to wait for the store");
    assert_eq!(driver.commit_positions(), [position(110, 0), position(120, 0)]);
    assert_eq!((driver.commits[1].applied, driver.applied), (2, 5));
}

#[test]
fn a_buffer_that_is_full_of_complete_transactions_is_applied_without_a_part() {
    let mut driver = Driver::with_limits(small_limits());
    driver.begin(100);
    driver.rows(&["a", "b"]);
    driver.end(110);
    driver.begin(110);
    driver.rows(&["c"]);
    assert_eq!(driver.applied, 2, "the open transaction fits into the buffer now");
    driver.end(120);
    driver.feed(Event::Drained);
    driver.land();
    assert_eq!(driver.commit_positions(), [position(110, 0), position(120, 0)]);
}

#[test]
fn the_bytes_in_the_buffer_are_bounded_too() {
    let limits = AssemblerLimits { buffered_bytes_max: 100, ..AssemblerLimits::default() };
    let mut driver = Driver::with_limits(limits);
    driver.begin(100);
    driver.rows(&[&"x".repeat(60)]);
    assert_eq!(driver.applied, 0);
    driver.rows(&[&"y".repeat(60)]);
    assert_eq!(driver.applied, 2);
}

#[test]
fn transactions_that_an_earlier_run_has_committed_are_skipped() {
    let mut driver = Driver::new();
    driver.begin(90);
    driver.rows(&["a"]);
    driver.feed(Event::Data(encode::truncate(&[oid(TODOS)]).into()));
    driver.wal_message(&format!("{SLOT}:9"));
    driver.end(100);
    driver.feed(Event::Drained);
    assert_eq!((driver.applied, driver.commits.len()), (0, 0));
    assert!(driver.assembler.not_yet_visible_xids().is_empty());

    // The commit record of the next one begins where the stored position ends.
    driver.begin(100);
    driver.rows(&["b"]);
    driver.end(110);
    driver.feed(Event::Drained);
    assert_eq!(driver.commit_positions(), [position(110, 0)]);
}

#[test]
fn tables_that_the_config_does_not_read_are_ignored() {
    let mut driver = Driver::new();
    driver.begin(100);
    driver.feed(Event::Data(encode::insert(7, &[Datum::Text("a")]).into()));
    driver.feed(Event::Data(encode::truncate(&[7, 8]).into()));
    driver.feed(Event::Data(Bytes::from_static(b"Y\0\0")));
    driver.end(110);
    driver.feed(Event::Drained);
    assert_eq!((driver.applied, driver.commits.len()), (0, 0), "there is nothing new to commit");
    assert_eq!(driver.assembler.received(), position(110, 0));
}

#[test]
fn updates_deletes_and_truncations_are_applied_in_their_order() {
    let mut driver = Driver::new();
    driver.begin(100);
    driver.feed(Event::Data(relation_message(NOTES)));
    let row = [Datum::Text("1"), Datum::Text("x")];
    let key = [Datum::Text("1"), Datum::Null];

    driver.feed(Event::Data(encode::update(oid(TODOS), None, &row).into()));
    driver.feed(Event::Data(encode::truncate(&[oid(NOTES), 7, oid(TODOS)]).into()));
    driver.feed(Event::Data(encode::delete(oid(TODOS), OldTuple::Key, &key).into()));
    driver.end(110);
    driver.feed(Event::Drained);

    let kinds: Vec<_> = driver
        .changes
        .iter()
        .map(|change| match change {
            Change::Row(row) => (row.old.is_some(), row.new.is_some(), vec![row.table]),
            Change::Truncate(tables) => (false, false, tables.clone()),
        })
        .collect();
    assert_eq!(
        kinds,
        [
            (false, true, vec![TODOS]),
            (false, false, vec![NOTES, TODOS]),
            (true, false, vec![TODOS])
        ]
    );
}

#[test]
fn a_ticket_counts_from_the_end_of_its_messages_transaction() {
    let mut driver = Driver::new();
    driver.transaction(110, &["a"]);
    driver.begin(110);
    driver.wal_message(&format!("{SLOT}:7"));
    driver.feed(Event::Drained);
    assert_eq!(driver.commit_positions(), [position(110, 0)]);
    driver.end(120);
    driver.land();
    driver.feed(Event::Drained);
    assert_eq!(driver.commit_positions()[1..], [position(120, 7)]);
}

#[test]
fn messages_of_others_are_no_tickets() {
    let mut driver = Driver::new();
    driver.begin(100);
    driver.wal_message("another:7");
    driver.wal_message("gate");
    for (is_transactional, prefix) in [(false, "tidewater"), (true, "app")] {
        let content = format!("{SLOT}:7").into();
        let prefix = prefix.into();
        driver.feed(Event::LogicalMessage { is_transactional, prefix, content });
    }
    driver.end(110);
    driver.feed(Event::Drained);
    assert_eq!(driver.assembler.received(), position(110, 0));
}

#[test]
fn a_message_is_emitted_once_for_each_ticket() {
    let mut driver = Driver::new();
    for ticket in [3, 3, 2, 5] {
        driver.feed(Event::TicketTaken(Ticket(ticket)));
    }
    let tickets = [3, 5].map(|ticket| WalMessage::Ticket(Ticket(ticket)));
    assert_eq!(driver.emitted, tickets);
    assert_eq!(driver.assembler.last_emitted_ticket(), Ticket(5));
}

#[test]
fn a_position_alone_is_committed_when_the_source_has_been_idle() {
    let mut driver = Driver::new();
    driver.transaction(110, &[]);
    driver.feed(Event::Drained);
    assert!(driver.commits.is_empty(), "nobody waits for it");
    driver.now += IDLE;
    driver.feed(Event::Drained);
    assert_eq!(driver.commit_positions(), [position(110, 0)]);
}

fn keepalive(wal_end: u64) -> Event {
    Event::Keepalive { wal_end: Lsn(wal_end) }
}

#[test]
fn a_keepalive_moves_an_idle_run_only() {
    let mut driver = Driver::new();
    driver.feed(keepalive(150));
    let confirmed = [position(100, 0)];
    assert_eq!(driver.commit_positions(), confirmed, "a new run confirms where it begins");
    driver.land();
    driver.feed(keepalive(150));
    assert_eq!(driver.commit_positions(), confirmed, "it was active a moment ago");

    driver.now += IDLE;
    driver.begin(160);
    driver.feed(keepalive(170));
    assert_eq!(driver.commit_positions(), confirmed, "a transaction is open");
    driver.end(180);
    driver.feed(Event::Drained);
    driver.land();

    driver.now += IDLE;
    driver.feed(keepalive(200));
    assert_eq!(driver.commit_positions().last(), Some(&position(200, 0)));
}

#[test]
fn a_keepalive_during_a_write_is_committed_when_the_write_has_landed() {
    let mut driver = Driver::new();
    driver.transaction(110, &["a"]);
    driver.feed(Event::Drained);
    driver.now += IDLE;
    driver.feed(Event::Keepalive { wal_end: Lsn(150) });
    assert_eq!(driver.commit_positions(), [position(110, 0)]);
    driver.land();
    assert_eq!(driver.commit_positions(), [position(110, 0), position(150, 0)]);
}

#[test]
fn a_row_that_was_read_ahead_sets_a_barrier_until_the_stream_has_passed_it() {
    let mut driver = Driver::new();
    driver.transaction(110, &["a"]);
    driver.read_ahead_to = Some(Lsn(200));
    driver.feed(Event::Drained);
    assert_eq!(driver.emitted, [WalMessage::Barrier]);
    assert_eq!(driver.commits[0].barrier, Some(Lsn(200)));

    // A nearer barrier does not replace a later one.
    driver.transaction(120, &["b"]);
    driver.read_ahead_to = Some(Lsn(150));
    driver.feed(Event::Drained);
    assert_eq!(driver.has_barrier, [false, true]);
    driver.land();
    assert_eq!(driver.commits[1].barrier, Some(Lsn(200)));

    // Behind a barrier, even an empty transaction is worth a commit.
    driver.transaction(200, &[]);
    driver.land();
    driver.feed(Event::Drained);
    driver.land();
    driver.transaction(210, &["c"]);
    driver.feed(Event::Drained);
    assert_eq!(driver.commits[3].barrier, None, "the commit at 200 has opened it");
}

#[test]
fn a_keepalive_opens_a_barrier_without_delay() {
    let mut driver = Driver::new();
    driver.transaction(110, &["a"]);
    driver.read_ahead_to = Some(Lsn(200));
    driver.feed(Event::Drained);
    driver.land();
    driver.feed(keepalive(220));
    assert_eq!(driver.commit_positions().last(), Some(&position(220, 0)));
}

/// Returns the first table's progress as the last commit has stored it.
fn stored_progress(driver: &Driver) -> TableCopy {
    let copy = driver.commits.last().unwrap().copy.as_ref().unwrap();
    copy.tables[0].as_ref().unwrap().progress.clone()
}

#[test]
fn chunks_are_copied_between_transactions_and_the_stream_has_its_turn() {
    let mut driver = Driver::copying(copy(TableCopy::Todo, TableCopy::Todo));
    driver.chunks = vec![driver.chunk(20_000, Some("k1")), driver.chunk(5, Some("k2"))];
    driver.feed(Event::Drained);
    assert_eq!(driver.chunk_requests, [(TODOS, ChunkRange::After(None))]);
    let after = TableCopy::After(vec!["k1".into()]);
    assert_eq!(stored_progress(&driver), after);

    driver.begin(100);
    driver.feed(Event::Drained);
    assert_eq!(driver.chunk_requests.len(), 1, "a transaction is open");
    driver.rows(&["a"]);
    driver.end(110);
    driver.feed(Event::Drained);
    assert_eq!(driver.chunk_requests[1], (TODOS, ChunkRange::After(Some(vec!["k1".into()]))));
    assert_eq!(stored_progress(&driver), TableCopy::Done);
    assert_eq!(driver.copied, [TODOS]);
}

#[test]
fn a_chunk_is_committed_with_its_cursor_even_if_the_stream_has_not_moved() {
    let mut driver = Driver::copying(copy(TableCopy::Todo, TableCopy::Done));
    driver.chunks = vec![driver.chunk(20_000, Some("k1")), driver.chunk(20_000, Some("k2"))];
    driver.feed(Event::Drained);
    driver.feed(Event::Drained);
    assert_eq!(driver.waits, 1, "the second commit waits for the first");
    assert_eq!(driver.commit_positions(), [position(100, 0); 2]);
}

#[test]
fn the_last_chunk_sets_the_barrier_to_the_position_after_it() {
    let mut driver = Driver::copying(copy(TableCopy::Done, TableCopy::Todo));
    let chunk = driver.chunk(3, None);
    driver.chunks = vec![ChunkOutcome { source_position: Lsn(300), ..chunk }];
    driver.feed(Event::Drained);
    let commit = driver.commits.last().unwrap();
    assert_eq!(commit.barrier, Some(Lsn(300)));
    let notes = &commit.copy.as_ref().unwrap().tables[1].as_ref().unwrap().progress;
    assert_eq!(*notes, whole("50:50:", Lsn(300)), "a keyless table is read in one snapshot");
    assert_eq!(
        (&driver.emitted[..], &driver.copied[..]),
        (&[WalMessage::Barrier][..], &[NOTES][..])
    );

    // When the stream has passed the barrier, the record of the copy is no longer kept.
    driver.land();
    driver.transaction(310, &["a"]);
    driver.feed(Event::Drained);
    driver.land();
    driver.transaction(320, &["b"]);
    driver.feed(Event::Drained);
    assert!(driver.commits.last().unwrap().copy.is_none());
}

#[test]
fn a_run_without_tables_opens_the_barrier_at_once() {
    let driver = Driver::copying(CopyState::default());
    assert_eq!(driver.commits[0].barrier, Some(Lsn(driver::SOURCE_POSITION)));
    assert_eq!(driver.emitted, [WalMessage::Barrier]);
}

#[test]
fn changes_of_keyless_tables_are_in_the_copy_or_in_the_stream() {
    for (progress, applied) in [
        (TableCopy::Todo, 0),
        (whole("500:500:", Lsn(100)), 0),
        (whole("500:500:", Lsn(99)), 1),
        (whole("1:1:", Lsn(100)), 1),
        (TableCopy::Done, 1),
    ] {
        let mut driver = Driver::copying(copy(TableCopy::Done, progress.clone()));
        driver.begin(100);
        driver.feed(Event::Data(relation_message(NOTES)));
        driver.feed(Event::Data(insert_message(NOTES, "1")));
        driver.end(110);

        driver.chunks = vec![driver.chunk(0, None)];
        driver.feed(Event::Drained);
        assert_eq!(driver.applied, applied, "{progress:?}");
    }
}

#[test]
fn transactions_are_listed_until_a_snapshot_sees_them() {
    let mut driver = Driver::with_limits(small_limits());
    driver.transaction(110, &[]);
    assert_eq!(driver.assembler.not_yet_visible_xids(), [1], "its changes may be left to the copy");
    driver.begin(110);
    assert_eq!(driver.assembler.not_yet_visible_xids(), [1]);
    driver.rows(&["a", "b", "c"]);
    assert_eq!(driver.assembler.not_yet_visible_xids(), [1, 2], "a part of it is applied");
    driver.end(120);
    assert_eq!(driver.assembler.not_yet_visible_xids(), [1, 2], "it is listed once");
    driver.feed(Event::SnapshotTaken(snapshot("2:2:")));
    assert_eq!(driver.assembler.not_yet_visible_xids(), [2]);
}

#[test]
fn the_list_of_transactions_is_stored_with_the_copy() {
    let mut driver = Driver::copying(copy(TableCopy::Todo, TableCopy::Done));
    driver.transaction(110, &["a"]);
    driver.chunks = vec![driver.chunk(20_000, Some("k"))];
    driver.feed(Event::Drained);
    let stored: Vec<_> = driver
        .commits
        .iter()
        .map(|commit| commit.copy.clone().unwrap().not_yet_visible_xids)
        .collect();
    assert_eq!(stored, [vec![1], vec![]], "the chunk's snapshot sees all of them");
}

#[test]
fn a_long_list_of_transactions_is_shortened() {
    let mut driver = Driver::new();
    for end in 0..=u64::try_from(not_yet_visible::XIDS_MAX).unwrap() {
        driver.transaction(110 + end, &[]);
    }
    driver.now += IDLE;
    driver.feed(Event::Drained);
    assert_eq!(driver.snapshots, 1);
    assert!(driver.assembler.not_yet_visible_xids().is_empty());
}

#[test]
fn a_shutdown_commits_what_was_received_whole_and_confirms_it() {
    let mut driver = Driver::new();
    driver.transaction(110, &["a"]);
    driver.feed(Event::Drained);
    driver.transaction(120, &["b"]);
    driver.begin(120);
    driver.rows(&["c"]);
    driver.feed(Event::Shutdown);
    assert_eq!(driver.commit_positions(), [position(110, 0), position(120, 0)]);
    assert_eq!((driver.applied, driver.is_closed), (2, true));
    assert_eq!(driver.confirmed.last(), Some(&Lsn(120)));
}

#[test]
fn a_shutdown_within_a_large_transaction_commits_nothing_of_it() {
    let mut driver = Driver::with_limits(small_limits());
    driver.transaction(110, &["a"]);
    driver.begin(110);
    driver.rows(&["b", "c", "d"]);
    driver.feed(Event::Shutdown);
    assert!(driver.is_closed);
    assert_eq!(driver.commit_positions(), [position(110, 0)]);
    assert_eq!(driver.commits[0].applied, 1);
}

#[test]
fn a_shutdown_commits_a_position_that_is_nothing_new() {
    let mut driver = Driver::new();
    driver.transaction(110, &[]);
    driver.feed(Event::Shutdown);
    assert_eq!((driver.commit_positions(), driver.is_closed), (vec![position(110, 0)], true));
}

#[test]
fn a_stream_that_violates_the_protocol_ends_the_run() {
    let begin = |commit_lsn| Event::Begin { xid: 1, commit_lsn: Lsn(commit_lsn), commit_time: 0 };
    let commit = |end_lsn| Event::Commit { end_lsn: Lsn(end_lsn) };
    let cases: [(&str, Vec<Event>); 5] = [
        ("a transaction in another", vec![begin(110), begin(120)]),
        ("a change outside of a transaction", vec![Event::Data(insert_message(TODOS, "a"))]),
        ("a commit without a transaction", vec![commit(110)]),
        ("going back", vec![begin(110), commit(120), begin(105), commit(119)]),
        ("garbage", vec![begin(110), Event::Data(Bytes::from_static(b"?"))]),
    ];
    for (case, events) in cases {
        let mut driver = Driver::new();
        let (last, former) = events.split_last().unwrap();
        for event in former {
            driver.feed(event.clone());
        }
        assert!(driver.assembler.on_event(last.clone(), driver.now).is_err(), "{case}");
    }
}

#[test]
fn a_table_that_has_changed_ends_the_run_before_its_transaction_is_applied() {
    let mut driver = Driver::new();
    driver.begin(110);
    driver.rows(&["a"]);
    let mut relation = crate::test_support::relation(&crate::test_support::tables()[TODOS]);
    relation.columns[1].type_oid = 23;
    let message = Event::Data(encode::relation(&relation).into());
    let result = driver.assembler.on_event(message, driver.now);
    assert!(matches!(result, Err(AssemblyError::TableChanged(_))), "{result:?}");
    assert_eq!(driver.applied, 0);
}

#[test]
#[should_panic(expected = "an outcome must be reported first")]
fn the_stream_waits_for_the_outcome_of_a_batch() {
    let mut driver = Driver::new();
    driver.transaction(110, &["a"]);
    driver.assembler.on_event(Event::Drained, driver.now).unwrap();
    driver.begin(120);
}

#[test]
#[should_panic(expected = "a chunk must contain all that was applied")]
fn a_chunk_from_an_old_snapshot_is_a_bug() {
    let mut driver = Driver::copying(copy(TableCopy::Todo, TableCopy::Done));
    driver.transaction(110, &["a"]);
    let chunk = driver.chunk(1, Some("k"));
    driver.chunks = vec![ChunkOutcome { snapshot: snapshot("1:1:"), ..chunk }];
    driver.feed(Event::Drained);
}

/// A transaction that was open when the run began may stay open for hours.
#[test]
fn the_stream_goes_on_while_a_chunk_waits_for_an_open_transaction() {
    let mut driver = Driver::copying(copy(TableCopy::Todo, TableCopy::Done));
    driver.transaction(110, &["a"]);
    driver.postponements = vec![snapshot("1:1:")];
    driver.chunks = vec![driver.chunk(1, Some("k"))];
    driver.feed(Event::Drained);
    assert_eq!(driver.chunk_requests.len(), 1);
    assert!(!driver.assembler.wants_chunk(), "the next attempt is for later");

    let applied = driver.applied;
    driver.transaction(120, &["b"]);
    driver.feed(Event::Drained);
    assert_eq!((driver.chunk_requests.len(), driver.applied), (1, applied + 1));

    driver.now += CHUNK_RETRY_PAUSE;
    driver.feed(Event::Drained);
    assert_eq!(driver.chunk_requests.len(), 2);
    assert_eq!(driver.chunk_requests[0], driver.chunk_requests[1]);
    assert!(driver.chunks.is_empty());
}
