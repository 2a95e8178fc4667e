//! What is known of rows while a new generation is copied for the first time.

use std::collections::HashSet;

use foldhash::fast::RandomState;
use tidewater_storage::RecordKey;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Rows of the stream that are remembered; with more, all rows are looked up.
const ROWS_MAX: usize = 200_000;

/// The rows that the stream has brought since the generation began, all of them by this run.
#[derive(Debug, Default)]
pub(crate) struct SeenRows {
    /// Hashes of table and key: a row that is taken for another is only looked up for nothing.
    rows: HashSet<u64, RandomState>,
}

impl SeenRows {
    /// The stream has brought the row of this record.
    pub(crate) fn note(&mut self, record: &RecordKey) {
        self.rows.extend(hash(record));
    }

    /// Whether nothing can be stored of the row of this record, which the copy reads only once.
    pub(crate) fn is_new(&self, record: &RecordKey) -> bool {
        hash(record).is_some_and(|row| !self.rows.contains(&row))
    }

    /// Whether it takes too much memory.
    pub(crate) fn is_too_large(&self) -> bool {
        self.rows.len() > ROWS_MAX
    }
}

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

    #[test]
    fn only_a_row_that_the_stream_did_not_bring_is_new() {
        let generation = GenerationId(Epoch::ZERO.next().unwrap());
        let row = |table, key: &str| RecordKey::SourceRow(generation, table, key.into());
        let mut copy = SeenRows::default();
        copy.note(&row(1, "a"));
        assert!(!copy.is_new(&row(1, "a")));
        assert!(copy.is_new(&row(1, "b")) && copy.is_new(&row(2, "a")));
        assert!(!copy.is_new(&RecordKey::Copy(generation)), "not the record of a row");
    }
}
