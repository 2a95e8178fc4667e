//! Reads a chunk of a table from the source and applies its rows.

use futures::StreamExt;
use tidewater_storage::{ControlStore, RecordStore};

use crate::apply::applier::Applier;
use crate::initial_copy::state::ChunkEnd;
use crate::log::error::WriteError;
use crate::source::connection::SourceConnection;
use crate::source::copy_rows::CopyRows;
use crate::source::error::SourceError;
use crate::source::pg_snapshot::PgSnapshot;
use crate::source::table_queries::rows_query;

/// Rows, and bytes of them, that are read before they are applied. They are applied together, so
/// that one read of the store loads the records of all of them.
const READ_ROWS_MAX: usize = 2_000;
const READ_BYTES_MAX: usize = 2 << 20;

/// A chunk that was read and applied.
pub(crate) struct Chunk {
    pub(crate) rows: usize,
    /// The place up to which it was read.
    pub(crate) end: ChunkEnd,
    /// The snapshot in which the rows were read.
    pub(crate) snapshot: PgSnapshot,
}

/// Error that ends the copy of a chunk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChunkError {
    /// The source database failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The log cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Copies the rows of a table after the key `after`, at most `rows_max` of them, in a snapshot that has
/// begun, and ends it. A table without a key is copied whole.
///
/// The caller applies nothing of the stream meanwhile. So the stream is never ahead of the chunk:
/// what it brings later ends in the state that was read, or comes after it.
pub(crate) async fn copy_chunk<S: ControlStore + RecordStore + Clone + 'static>(
    source: &SourceConnection,
    snapshot: PgSnapshot,
    applier: &mut Applier<S>,
    table: usize,
    after: Option<&[String]>,
    rows_max: usize,
    on_rows: &mut (dyn FnMut(usize) + Send),
) -> Result<Chunk, ChunkError> {
    let synced = &applier.tables[table];
    let query = rows_query(synced, after, rows_max);
    let stream = source.copy_out(&synced.table, &query).await?;
    let mut stream = std::pin::pin!(stream);

    let mut rows = 0;
    let mut last_key = None;
    let mut read = CopyRows::default();
    loop {
        let row = stream.next().await.transpose()?;
        let is_end = row.is_none();
        if let Some(row) = row {
            read.push(&row);
        }

        if is_end || is_batch_full(&read) {
            last_key = applier.apply_copied(table, &read.values()?).await?.or(last_key);
            rows += read.rows();
            on_rows(read.rows());
            read.clear();
        }
        if is_end {
            break;
        }
    }

    source.end_snapshot().await?;
    Ok(Chunk { rows, end: ChunkEnd::Key(last_key), snapshot })
}

/// Returns whether the rows that were read should be applied before more are read.
fn is_batch_full(read: &CopyRows) -> bool {
    read.rows() >= READ_ROWS_MAX || read.bytes() >= READ_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_applied_in_batches_of_bounded_rows_and_bytes() {
        let mut read = CopyRows::default();
        for _ in 1..READ_ROWS_MAX {
            read.push(b"1\ttext\n");
        }
        assert!(!is_batch_full(&read));
        read.push(b"1\ttext\n");
        assert!(is_batch_full(&read));

        read.clear();
        assert!(!is_batch_full(&read));
        read.push(&vec![b'x'; READ_BYTES_MAX]);
        assert!(is_batch_full(&read), "one row may be large");
    }
}
