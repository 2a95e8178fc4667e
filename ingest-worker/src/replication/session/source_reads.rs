//! The reads of the source between the stream's transactions: chunks of the copy, and single rows.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt;
use tidewater_storage::{Lsn, Storage};

use super::{OnProgress, ReplicationSession};
use crate::apply::batch::RowRequest;
use crate::config::Progress;
use crate::initial_copy::chunk::{Chunk, copy_chunk};
use crate::initial_copy::removal::remove_missing;
use crate::initial_copy::state::ChunkRange;
use crate::metrics;
use crate::replication::copy_report::estimated_rows;
use crate::replication::error::SessionError;
use crate::replication::events::{ChunkOutcome, ChunkRequest, Event};
use crate::replication::wal_message::WalMessage;
use crate::source::catalog::SourceTable;
use crate::source::connection::SnapshotAttempt;
use crate::source::copy_rows::CopyRows;
use crate::source::pg_snapshot::PgSnapshot;
use crate::source::table_queries::row_query;

/// Longest wait for a snapshot in which a chunk may be read. A commit becomes visible within a
/// millisecond. What takes longer is a transaction that is open, and the stream must not wait for it.
const CHUNK_SNAPSHOT_WAIT_MAX: Duration = Duration::from_millis(100);

/// A row that was read because the stream left out a value.
pub(super) struct ReadRow {
    /// The values in the text form of COPY; `None` if the row no longer exists.
    pub(super) row: Option<CopyRows>,
    pub(super) snapshot: PgSnapshot,
    /// A position of the source after the read.
    pub(super) source_position: Lsn,
}

impl<S: Storage> ReplicationSession<S> {
    /// Reads a row as it is now, from a snapshot that contains everything applied so far.
    pub(super) async fn read_row(&self, request: &RowRequest) -> Result<ReadRow, SessionError> {
        let synced = &self.applier.tables[request.table];
        let query = row_query(synced, &request.key);

        // A snapshot that lacks an applied transaction would bring back what that has removed.
        let snapshot = self.source.begin_snapshot(self.assembler.not_yet_visible_xids()).await?;
        let rows = self.source.copy_out(&synced.table, &query).await?;
        let rows: Vec<_> = rows.collect().await;
        self.source.end_snapshot().await?;
        let source_position = self.source.insert_lsn().await?;

        let row = rows.into_iter().next().transpose()?.map(|row| {
            let mut copied = CopyRows::default();
            copied.push(&row);
            copied
        });
        Ok(ReadRow { row, snapshot, source_position })
    }

    /// Copies a chunk of a table. Nothing of the stream is applied meanwhile.
    pub(super) async fn copy_chunk(
        &mut self,
        request: ChunkRequest,
        events: &mut VecDeque<Event>,
        on_progress: OnProgress<'_>,
    ) -> Result<(), SessionError> {
        let ChunkRequest { table, range, rows_max } = request;
        let must_see = self.assembler.not_yet_visible_xids();
        let attempt = self.source.begin_snapshot_within(must_see, CHUNK_SNAPSHOT_WAIT_MAX).await?;
        let snapshot = match attempt {
            SnapshotAttempt::Begun(snapshot) => snapshot,
            SnapshotAttempt::Lacking(snapshot) => {
                let table = &self.applier.tables[table].table;
                if self.copy_report.is_new_wait(table) {
                    on_progress(Progress::Waiting(waiting_for_transactions(table)));
                }
                events.push_back(Event::ChunkPostponed(snapshot));
                return Ok(());
            }
        };

        let Chunk { rows, end, snapshot } = match range {
            ChunkRange::After(key) => {
                self.copy_rows(table, snapshot, key.as_deref(), rows_max, on_progress).await?
            }
            ChunkRange::Stored(place) => {
                let place = place.as_deref();
                remove_missing(&self.source, snapshot, &mut self.applier, table, place, rows_max)
                    .await?
            }
        };
        // After the read: every transaction that the chunk may contain lies below this position.
        let source_position = if self.applier.tables[table].is_keyless() {
            self.source.durable_lsn(&WalMessage::Barrier.content(&self.watch.slot)).await?
        } else {
            self.source.insert_lsn().await?
        };

        let writer = self.writer_state();
        let outcome = ChunkOutcome { rows, end, snapshot, source_position, writer };
        events.push_back(Event::ChunkApplied(outcome));
        Ok(())
    }

    /// Copies rows of a table after a key.
    async fn copy_rows(
        &mut self,
        table: usize,
        snapshot: PgSnapshot,
        after: Option<&[String]>,
        rows_max: usize,
        on_progress: OnProgress<'_>,
    ) -> Result<Chunk, SessionError> {
        let synced = &self.applier.tables[table].table;
        let name = synced.display_name();
        let estimated = estimated_rows(synced);
        let copy_report = &mut self.copy_report;
        let mut on_rows = |rows: usize| {
            let rows = copy_report.count(table, rows);
            metrics::record_copy(&name, rows, estimated);
            on_progress(Progress::Copying { table: name.clone(), rows, estimated });
        };

        let chunk = copy_chunk(
            &self.source,
            snapshot,
            &mut self.applier,
            table,
            after,
            rows_max,
            &mut on_rows,
        )
        .await?;
        Ok(chunk)
    }
}

/// Returns the report of a chunk that waits.
fn waiting_for_transactions(table: &SourceTable) -> String {
    format!(
        "the copy of table {} waits for transactions that are open on the source; tables that are copied \
         already are followed meanwhile",
        table.display_name()
    )
}
