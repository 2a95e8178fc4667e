//! Removes stored rows that the source no longer has, after a table was copied over former rows.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use tidewater_storage::{ControlStore, RecordStore};

use crate::apply::applier::{Applier, SyncedTable};
use crate::initial_copy::chunk::{Chunk, ChunkError};
use crate::initial_copy::state::ChunkEnd;
use crate::source::connection::SourceConnection;
use crate::source::copy_rows::CopyRows;
use crate::source::error::SourceError;
use crate::source::pg_snapshot::PgSnapshot;
use crate::source::table_queries::keys_query;

/// Rows that the source is asked for in one query.
const ROWS_PER_QUERY: usize = 2_000;

/// Removes those of a table's stored rows from the place `after` on that the source does not have in a
/// snapshot that has begun, and ends it. About `rows_max` stored rows are compared.
///
/// The caller applies nothing of the stream meanwhile. A row that is stored and missing in the snapshot
/// was deleted without a change in the stream, or the stream brings its deletion later. Removing it
/// is right in both cases.
pub(crate) async fn remove_missing<S: ControlStore + RecordStore + Clone + 'static>(
    source: &SourceConnection,
    snapshot: PgSnapshot,
    applier: &mut Applier<S>,
    table: usize,
    after: Option<&str>,
    rows_max: usize,
) -> Result<Chunk, ChunkError> {
    let mut place = after.map(str::to_owned);
    let mut rows = 0;
    loop {
        let page = applier.stored_rows(table, place.as_deref(), ROWS_PER_QUERY).await?;
        rows += page.names.len();

        let existing = existing_rows(source, &applier.tables[table], &page.names).await?;
        let mut missing = page.names;
        missing.retain(|name| !existing.contains(name));
        applier.remove_rows(table, missing).await?;

        place = page.next;
        if place.is_none() || rows >= rows_max {
            break;
        }
    }
    source.end_snapshot().await?;

    Ok(Chunk { rows, end: ChunkEnd::Place(place), snapshot })
}

/// Returns the names of those rows that the source has.
///
/// They are derived from the keys that the source returns: different texts may be equal to it, as 1.0
/// and 1.00 are, and only the present text is the name of a row.
async fn existing_rows(
    source: &SourceConnection,
    table: &SyncedTable,
    names: &[Arc<str>],
) -> Result<HashSet<Arc<str>>, SourceError> {
    let keys: Vec<_> = names.iter().filter_map(|name| table.key_of(name)).collect();
    let mut existing = HashSet::with_capacity(keys.len());
    if keys.is_empty() {
        return Ok(existing);
    }

    let stream = source.copy_out(&table.table, &keys_query(table, &keys)).await?;
    let mut stream = std::pin::pin!(stream);
    let mut read = CopyRows::default();
    while let Some(row) = stream.next().await.transpose()? {
        read.clear();
        read.push(&row);
        existing.insert(table.name_of(&read.values()?));
    }
    Ok(existing)
}
