//! The initial copy's part of the assembler: which chunk comes next, and what a chunk completes.

use tidewater_storage::Lsn;

use crate::apply::applier::SyncedTable;
use crate::initial_copy::state::{ChunkEnd, ChunkRange, CopyState, TableCopy, WholeSnapshot};
use crate::replication::events::{ChunkOutcome, ChunkRequest};

/// The progress of the initial copy, while it is not visible.
#[derive(Debug)]
pub(super) struct CopyTracker {
    copy: Option<CopyState>,
    /// Rows of a chunk.
    chunk_rows: usize,
}

/// The parts of a copy that a chunk has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkProgress {
    pub(super) is_table_done: bool,
    /// True if no table is left to copy.
    pub(super) is_copy_done: bool,
}

impl CopyTracker {
    pub(super) fn new(copy: Option<CopyState>, chunk_rows: usize) -> Self {
        Self { copy, chunk_rows }
    }

    /// Returns whether the record of the copy is stored with each commit.
    pub(super) fn is_recorded(&self) -> bool {
        self.copy.is_some()
    }

    /// Returns whether chunks are left to copy.
    pub(super) fn has_next(&self) -> bool {
        self.copy.as_ref().is_some_and(|copy| copy.next().is_some())
    }

    /// Returns whether all tables are copied and the record of the copy is still kept.
    pub(super) fn is_complete(&self) -> bool {
        self.is_recorded() && !self.has_next()
    }

    /// Returns whether a transaction's changes of a table are in the copy, and must not be applied
    /// from the stream.
    ///
    /// Applying a change twice is harmless for a row with a key. Equal rows of a table without one
    /// are counted, so each of its changes is either in the copy's one snapshot or in the stream.
    pub(super) fn contains_change(&self, table: &SyncedTable, xid: u32, commit: Lsn) -> bool {
        table.is_keyless()
            && self
                .copy
                .as_ref()
                .is_some_and(|copy| copy.contains_keyless_change(table.number, xid, commit))
    }

    /// Returns the next chunk to copy.
    ///
    /// # Panics
    /// When nothing is left to copy, or `tables` lacks a table of the copy.
    pub(super) fn next_chunk(&self, tables: &[SyncedTable]) -> ChunkRequest {
        let next = self.copy.as_ref().and_then(CopyState::next);
        let (number, progress) = next.expect("a chunk is wanted");
        let range = match progress {
            TableCopy::After(key) => ChunkRange::After(Some(key.clone())),
            TableCopy::Removing(place) => ChunkRange::Stored(place.clone()),
            TableCopy::Todo | TableCopy::Done | TableCopy::Whole(_) => ChunkRange::After(None),
        };
        let table = tables.iter().position(|table| table.number == number);
        let table = table.expect("each table in the copy's record is one of the run");
        ChunkRequest { table, range, rows_max: self.chunk_rows }
    }

    /// Notes a chunk of a table that was read and applied.
    ///
    /// # Panics
    /// When there is no copy.
    pub(super) fn note_chunk(&mut self, table: &SyncedTable, chunk: ChunkOutcome) -> ChunkProgress {
        let copy = self.copy.as_mut().expect("chunks are copied while there is a copy");
        let progress = match chunk.end {
            ChunkEnd::Place(Some(place)) => TableCopy::Removing(Some(place)),
            ChunkEnd::Place(None) => TableCopy::Done,
            ChunkEnd::Key(_) if copy.is_extended(table.number) && table.is_keyless() => {
                TableCopy::Done
            }
            ChunkEnd::Key(_) if table.is_keyless() => {
                TableCopy::Whole(WholeSnapshot::new(&chunk.snapshot, chunk.source_position))
            }
            // A chunk with fewer rows than asked for is the last one.
            ChunkEnd::Key(Some(key)) if chunk.rows >= self.chunk_rows => TableCopy::After(key),
            ChunkEnd::Key(_) if copy.has_former_rows(table.number) => TableCopy::Removing(None),
            ChunkEnd::Key(_) => TableCopy::Done,
        };
        let is_table_done = !matches!(progress, TableCopy::After(_) | TableCopy::Removing(_));
        copy.advance(table.number, progress);
        ChunkProgress { is_table_done, is_copy_done: copy.next().is_none() }
    }

    /// Returns the record to store with a commit, with the transactions that may not be visible to
    /// new snapshots yet.
    pub(super) fn record(&mut self, not_yet_visible_xids: &[u32]) -> Option<CopyState> {
        let copy = self.copy.as_mut()?;
        copy.not_yet_visible_xids = not_yet_visible_xids.to_vec();
        Some(copy.clone())
    }

    /// Forgets the copy: everything is visible.
    pub(super) fn finish(&mut self) {
        self.copy = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initial_copy::state::{CopiedTable, TableReaders};
    use crate::replication::events::WriterState;
    use crate::source::pg_snapshot::PgSnapshot;
    use crate::source::shape::TableShape;
    use crate::test_support::{NOTES, TODOS, synced_tables};
    use tidewater_storage::Lsn;

    const CHUNK_ROWS: usize = 10;

    /// A tracker of tables with this progress: one with a key, and one without.
    fn tracker(todos: TableCopy, notes: TableCopy) -> CopyTracker {
        let mut copy = CopyState::default();
        for progress in [todos, notes] {
            copy.tables.push(Some(CopiedTable {
                oid: 0,
                shape: TableShape::default(),
                has_lookups: false,
                readers: TableReaders::default(),
                settled: None,
                progress,
                copied_after: Lsn(100),
                has_former_rows: false,
                can_compare: false,
            }));
        }
        CopyTracker::new(Some(copy), CHUNK_ROWS)
    }

    fn key(id: &str) -> Vec<String> {
        vec![id.to_owned()]
    }

    fn chunk(rows: usize, last_key: Option<&str>) -> ChunkOutcome {
        ChunkOutcome {
            rows,
            end: ChunkEnd::Key(last_key.map(key)),
            snapshot: PgSnapshot::parse("50:52:50").unwrap(),
            source_position: Lsn(200),
            writer: WriterState::default(),
        }
    }

    #[test]
    fn a_full_chunk_is_followed_by_one_after_its_last_key() {
        let tables = synced_tables();
        let mut tracker = tracker(TableCopy::Todo, TableCopy::Done);
        assert_eq!(
            tracker.next_chunk(&tables),
            ChunkRequest { table: TODOS, range: ChunkRange::After(None), rows_max: CHUNK_ROWS }
        );

        let progress = tracker.note_chunk(&tables[TODOS], chunk(CHUNK_ROWS, Some("k")));
        assert_eq!(progress, ChunkProgress { is_table_done: false, is_copy_done: false });
        assert_eq!(tracker.next_chunk(&tables).range, ChunkRange::After(Some(key("k"))));
    }

    #[test]
    fn a_table_is_done_with_a_chunk_that_is_not_full() {
        let tables = synced_tables();
        for last in [chunk(CHUNK_ROWS - 1, Some("k")), chunk(0, None)] {
            let mut tracker = tracker(TableCopy::After(key("a")), TableCopy::Todo);
            let progress = tracker.note_chunk(&tables[TODOS], last);
            assert_eq!(progress, ChunkProgress { is_table_done: true, is_copy_done: false });
            assert_eq!(tracker.next_chunk(&tables).table, NOTES);
        }
    }

    #[test]
    fn a_copy_by_difference_ends_with_the_removal_of_missing_rows() {
        let tables = synced_tables();
        let mut tracker = tracker(TableCopy::Todo, TableCopy::Done);
        tracker.copy.as_mut().unwrap().tables[TODOS].as_mut().unwrap().has_former_rows = true;
        let progress = tracker.note_chunk(&tables[TODOS], chunk(1, Some("k")));
        assert_eq!(progress, ChunkProgress { is_table_done: false, is_copy_done: false });

        let removal = |place: Option<&str>| ChunkOutcome {
            end: ChunkEnd::Place(place.map(str::to_owned)),
            ..chunk(2, None)
        };
        assert_eq!(tracker.next_chunk(&tables).range, ChunkRange::Stored(None));
        let progress = tracker.note_chunk(&tables[TODOS], removal(Some("here")));
        assert!(!progress.is_table_done);
        assert_eq!(tracker.next_chunk(&tables).range, ChunkRange::Stored(Some("here".into())));
        let progress = tracker.note_chunk(&tables[TODOS], removal(None));
        assert_eq!(progress, ChunkProgress { is_table_done: true, is_copy_done: true });
    }

    #[test]
    fn a_table_without_a_key_is_done_with_its_first_chunk() {
        let tables = synced_tables();
        let mut tracker = tracker(TableCopy::Done, TableCopy::Todo);
        let progress = tracker.note_chunk(&tables[NOTES], chunk(5 * CHUNK_ROWS, Some("k")));
        assert_eq!(progress, ChunkProgress { is_table_done: true, is_copy_done: true });
        assert!(tracker.is_complete() && !tracker.has_next());
    }

    #[test]
    fn changes_of_a_table_that_is_copied_for_further_readers_are_all_applied() {
        let tables = synced_tables();
        let mut tracker = tracker(TableCopy::Done, TableCopy::Todo);
        let notes = tracker.copy.as_mut().unwrap().tables[NOTES].as_mut().unwrap();
        notes.settled = Some(TableReaders::default());
        assert!(!tracker.contains_change(&tables[NOTES], 51, Lsn(200)));
        let progress = tracker.note_chunk(&tables[NOTES], chunk(1, None));
        assert!(progress.is_copy_done);
        assert!(!tracker.contains_change(&tables[NOTES], 51, Lsn(200)));
    }

    #[test]
    fn a_change_of_a_keyless_table_is_in_the_copy_or_in_the_stream() {
        let tables = synced_tables();
        let mut tracker = tracker(TableCopy::Todo, TableCopy::Todo);
        assert!(tracker.contains_change(&tables[NOTES], 51, Lsn(200)), "the copy is still to come");
        assert!(
            !tracker.contains_change(&tables[TODOS], 51, Lsn(200)),
            "a key makes it idempotent"
        );

        tracker.note_chunk(&tables[NOTES], chunk(1, None));
        assert!(tracker.contains_change(&tables[NOTES], 51, Lsn(200)));
        assert!(
            !tracker.contains_change(&tables[NOTES], 50, Lsn(200)),
            "the snapshot does not see it"
        );
        assert!(
            !tracker.contains_change(&tables[NOTES], 51, Lsn(201)),
            "it is another transaction"
        );

        tracker.finish();
        assert!(!tracker.contains_change(&tables[NOTES], 51, Lsn(200)));
    }

    #[test]
    fn the_record_lists_transactions_that_are_not_visible_yet() {
        let mut tracker = tracker(TableCopy::Done, TableCopy::Todo);
        assert_eq!(tracker.record(&[7, 8]).unwrap().not_yet_visible_xids, [7, 8]);
        assert_eq!(tracker.record(&[]).unwrap().not_yet_visible_xids, [0; 0]);
        tracker.finish();
        assert_eq!(tracker.record(&[7]), None);
    }
}
