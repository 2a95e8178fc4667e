//! The rows that the stream has brought while a new generation is copied for the first time.

use std::collections::HashSet;

use foldhash::fast::RandomState;
use tidewater_storage::RecordKey;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Rows that are remembered, 8 bytes each and some overhead: a few MB. With more, the copy looks up
/// every row.
const ROWS_MAX: usize = 200_000;

/// The rows that the stream has brought since the generation began, all of them during this run.
#[derive(Debug, Default)]
pub(crate) struct SeenRows {
    /// Hashes of table and key. A row that collides with another is looked up without need.
    rows: HashSet<u64, RandomState>,
}

impl SeenRows {
    /// Notes that the stream has brought the row of this record.
    pub(crate) fn note(&mut self, record: &RecordKey) {
        self.rows.extend(hash(record));
    }

    /// Returns whether nothing can be stored of the row of this record, which the copy reads once.
    pub(crate) fn is_new(&self, record: &RecordKey) -> bool {
        hash(record).is_some_and(|row| !self.rows.contains(&row))
    }

    /// Returns whether there are more rows than should be remembered.
    pub(crate) fn is_too_large(&self) -> bool {
        self.rows.len() > ROWS_MAX
    }
}

/// Returns the hash of a row's record; `None` if the record is not one of a row.
fn hash(record: &RecordKey) -> Option<u64> {
    match record {
        RecordKey::SourceRow(_, table, row) => {
            Some(xxh3_64_with_seed(row.as_bytes(), u64::from(*table)))
        }
        RecordKey::Bucket(_) | RecordKey::Lookup(..) | RecordKey::Copy(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidewater_protocol::Epoch;
    use tidewater_storage::GenerationId;

    fn generation() -> GenerationId {
        GenerationId(Epoch::ZERO.next().unwrap())
    }

    fn row(table: u16, key: &str) -> RecordKey {
        RecordKey::SourceRow(generation(), table, key.into())
    }

    #[test]
    fn only_rows_that_the_stream_has_not_brought_are_new() {
        let mut copy = SeenRows::default();
        copy.note(&row(1, "a"));
        assert!(!copy.is_new(&row(1, "a")));
        assert!(copy.is_new(&row(1, "b")) && copy.is_new(&row(2, "a")));
        assert!(!copy.is_new(&RecordKey::Copy(generation())), "not the record of a row");
    }

    #[test]
    fn more_rows_than_the_limit_are_too_many() {
        let mut rows = SeenRows::default();
        for number in 0..ROWS_MAX {
            rows.note(&row(1, &number.to_string()));
        }
        assert!(!rows.is_too_large());
        rows.note(&row(2, "0"));
        assert!(rows.is_too_large());
    }
}
