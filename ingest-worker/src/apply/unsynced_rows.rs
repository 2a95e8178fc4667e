//! The rows that are not synced, because they exceed a limit or cannot be evaluated.
//!
//! The list is a record of the generation, so it outlives the worker: as long as a row is missing on
//! devices, the metrics say so.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidewater_storage::{GenerationId, RecordKey};

/// Rows that are listed. The whole list is written with each change, so this bounds the cost of many
/// such rows. Rows beyond it are logged and counted, and not listed.
const LISTED_MAX: usize = 1_000;
/// The table number under which the list is stored. Tables are numbered from 0 on.
const LIST_TABLE: u16 = u16::MAX;

/// The rows that are not synced, or not by all queries.
#[derive(Debug, Default)]
pub(crate) struct UnsyncedRows {
    /// Table numbers, and the keys of the rows' records.
    rows: BTreeSet<(u16, Arc<str>)>,
    /// True if the list is other than the one stored.
    is_changed: bool,
}

impl UnsyncedRows {
    /// Returns the key of the record that holds the list of a generation.
    pub(crate) fn record_key(generation: GenerationId) -> RecordKey {
        RecordKey::SourceRow(generation, LIST_TABLE, "unsynced".into())
    }

    /// Returns the stored form: a JSON array of pairs of table number and key.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let rows: Vec<_> = self.rows.iter().map(|(table, key)| (table, &**key)).collect();
        serde_json::to_vec(&rows).expect("numbers and texts have a JSON form")
    }

    /// Reads the stored form.
    pub(crate) fn decode(stored: &[u8]) -> Result<Self, serde_json::Error> {
        let rows: Vec<(u16, String)> = serde_json::from_slice(stored)?;
        let rows = rows.into_iter().map(|(table, key)| (table, key.into())).collect();
        Ok(Self { rows, is_changed: false })
    }

    /// Adds a row. Returns whether it is new in the list.
    pub(crate) fn insert(&mut self, table: u16, key: &Arc<str>) -> bool {
        let is_new = self.rows.len() < LISTED_MAX && self.rows.insert((table, Arc::clone(key)));
        self.is_changed |= is_new;
        is_new
    }

    /// Removes a row. Returns whether it was in the list.
    pub(crate) fn remove(&mut self, table: u16, key: &Arc<str>) -> bool {
        // Most deployments have no such row, so most rows cost nothing here.
        let was_listed = !self.rows.is_empty() && self.rows.remove(&(table, Arc::clone(key)));
        self.is_changed |= was_listed;
        was_listed
    }

    /// Removes the rows of a table.
    pub(crate) fn remove_table(&mut self, table: u16) {
        let before = self.rows.len();
        self.rows.retain(|(of, _)| *of != table);
        self.is_changed |= self.rows.len() != before;
    }

    /// Returns whether a row is in the list.
    pub(crate) fn contains(&self, table: u16, key: &Arc<str>) -> bool {
        self.rows.contains(&(table, Arc::clone(key)))
    }

    /// Returns the number of rows of a table in the list.
    pub(crate) fn count(&self, table: u16) -> usize {
        self.rows.iter().filter(|(of, _)| *of == table).count()
    }

    /// Returns the number of rows in the list.
    pub(crate) fn total(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether the list must be stored, and takes it for stored.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Arc<str> {
        format!("key {number}").into()
    }

    #[test]
    fn the_list_is_read_as_it_was_written() {
        let mut rows = UnsyncedRows::default();
        assert!(!rows.take_changed());
        for (table, number) in [(0, 1), (1, 1), (1, 2)] {
            assert!(rows.insert(table, &key(number)));
            assert!(!rows.insert(table, &key(number)), "it is listed");
        }
        assert!(rows.take_changed());

        let mut read = UnsyncedRows::decode(&rows.encode()).unwrap();
        assert_eq!(read.rows, rows.rows);
        assert_eq!((read.count(0), read.count(1), read.count(2)), (1, 2, 0));
        assert!(!read.take_changed(), "it is as stored");
        assert!(UnsyncedRows::decode(b"[[1]]").is_err());
    }

    #[test]
    fn a_row_that_is_synced_again_leaves_the_list() {
        let mut rows = UnsyncedRows::default();
        assert!(!rows.remove(0, &key(1)));
        rows.insert(0, &key(1));
        rows.insert(1, &key(1));
        rows.insert(1, &key(2));
        assert!(rows.take_changed());
        assert!(rows.remove(0, &key(1)));
        assert!(rows.take_changed());
        rows.remove_table(0);
        assert!(!rows.take_changed(), "it has no rows");
        rows.remove_table(1);
        assert!(rows.take_changed());
        assert_eq!(rows.encode(), b"[]");
    }

    #[test]
    fn the_list_is_bounded() {
        let mut rows = UnsyncedRows::default();
        for number in 0..LISTED_MAX {
            assert!(rows.insert(0, &key(number)));
        }
        assert!(!rows.insert(0, &key(LISTED_MAX)));
        assert!(rows.remove(0, &key(7)));
        assert!(rows.insert(0, &key(LISTED_MAX)));
    }
}
