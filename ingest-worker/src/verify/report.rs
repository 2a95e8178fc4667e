//! The result of a comparison.

use serde_json::{Map, Value};
use tidewater_protocol::OpId;
use tidewater_storage::Lsn;

/// The result of a comparison of the store with its source.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// The position of the source's snapshot. The store was compared at checkpoints that contain it.
    pub position: Lsn,
    /// The checkpoint before the snapshot.
    pub checkpoint: OpId,
    /// The tables that were read.
    pub tables: Vec<VerifiedTable>,
    /// Buckets that were read.
    pub buckets: u64,
    /// Rows in buckets that were compared: a row counts once for each of its buckets.
    pub rows: u64,
    /// Answers to parameter lookups that were compared.
    pub answers: u64,
    /// The differences, in the order of buckets and ids. Each was seen again in a later snapshot.
    pub differences: Vec<Difference>,
    /// Differences beyond those that are listed. They were seen once only.
    pub unlisted: u64,
    /// Places that differed, and that changed too often to be compared, or that a transaction in progress
    /// may explain.
    pub undecided: Vec<Difference>,
    /// Buckets that cannot be read.
    pub damaged: Vec<DamagedBucket>,
    /// The tables that were copied again before this comparison, in this order.
    pub repaired: Vec<RepairedTable>,
}

impl VerifyReport {
    /// Returns whether everything that was compared is equal.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty()
            && self.unlisted == 0
            && self.undecided.is_empty()
            && self.damaged.is_empty()
    }
}

/// A table that was copied again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairedTable {
    /// `schema.table`.
    pub name: String,
    /// True if all rows were stored again. Otherwise only what differed from the stored source rows was.
    pub replaced_rows: bool,
}

/// A table that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedTable {
    /// `schema.table`.
    pub name: String,
    /// The number of rows that were read.
    pub rows: u64,
    /// Those of its rows that are not synced, or not by all queries, as `docs/limits.md` says.
    pub unsynced: u64,
}

/// A bucket that cannot be read. Devices cannot complete it, or will start it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedBucket {
    /// The name as devices have it.
    pub bucket: String,
    /// The contradiction.
    pub problem: String,
}

/// The place of a difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DifferencePlace {
    /// A row in a bucket.
    Row {
        /// The name of the bucket as devices have it.
        bucket: String,
        /// The table on devices.
        object_type: String,
        /// The id on devices.
        object_id: String,
    },
    /// The answer of a row to a parameter lookup, by which the buckets of a request are found.
    Answer {
        /// The stored name of the lookup, with the key that was asked for.
        lookup: String,
    },
}

/// A row or answer that the store and the source do not both have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The place.
    pub place: DifferencePlace,
    /// The table of the source row, as `schema.table`; `None` if the source has no such table.
    pub table: Option<String>,
    /// The key of the source row, if it is known.
    pub key: Option<String>,
    /// The JSON that devices have; `None` if they have none.
    pub store: Option<String>,
    /// The JSON that they should have; `None` if they should have none.
    pub source: Option<String>,
}

/// The kind of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// The source has it, and the store does not.
    Missing,
    /// The store has it, and the source does not.
    Extra,
    /// Both have it, with other data.
    Changed,
}

/// A column whose value differs.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangedColumn {
    /// The name on devices.
    pub name: String,
    /// The value that devices have; `None` if the column is absent.
    pub store: Option<Value>,
    /// The value that they should have; `None` if the column should be absent.
    pub source: Option<Value>,
}

impl Difference {
    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> DifferenceKind {
        match (&self.store, &self.source) {
            (None, _) => DifferenceKind::Missing,
            (Some(_), None) => DifferenceKind::Extra,
            (Some(_), Some(_)) => DifferenceKind::Changed,
        }
    }

    /// Returns the columns whose values differ. The list is empty if the texts differ only in form.
    #[must_use]
    pub fn changed_columns(&self) -> Vec<ChangedColumn> {
        let (Some(store), Some(source)) = (object(&self.store), object(&self.source)) else {
            return Vec::new();
        };

        let mut names: Vec<_> = store.keys().chain(source.keys()).collect();
        names.sort_unstable();
        names.dedup();
        names
            .into_iter()
            .filter(|name| store.get(*name) != source.get(*name))
            .map(|name| ChangedColumn {
                name: name.clone(),
                store: store.get(name).cloned(),
                source: source.get(name).cloned(),
            })
            .collect()
    }
}

fn object(data: &Option<String>) -> Option<Map<String, Value>> {
    serde_json::from_str(data.as_deref()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn difference(store: Option<&str>, source: Option<&str>) -> Difference {
        Difference {
            place: DifferencePlace::Answer { lookup: "aaaaaa[1]".into() },
            table: None,
            key: None,
            store: store.map(str::to_owned),
            source: source.map(str::to_owned),
        }
    }

    #[test]
    fn the_kind_says_which_side_has_the_row() {
        assert_eq!(difference(None, Some("{}")).kind(), DifferenceKind::Missing);
        assert_eq!(difference(Some("{}"), None).kind(), DifferenceKind::Extra);
        assert_eq!(difference(Some("{}"), Some("{ }")).kind(), DifferenceKind::Changed);
    }

    #[test]
    fn only_columns_that_differ_are_listed() {
        let columns = difference(
            Some(r#"{"id":"1","a":1,"gone":null}"#),
            Some(r#"{"id":"1","a":2,"new":"x"}"#),
        )
        .changed_columns();

        let columns: Vec<_> =
            columns.into_iter().map(|column| (column.name, column.store, column.source)).collect();
        assert_eq!(
            columns,
            [
                ("a".to_owned(), Some(json!(1)), Some(json!(2))),
                ("gone".to_owned(), Some(Value::Null), None),
                ("new".to_owned(), None, Some(json!("x"))),
            ]
        );
        assert!(difference(None, Some("{}")).changed_columns().is_empty());
    }

    #[test]
    fn anything_that_was_found_is_not_equal() {
        assert!(VerifyReport::default().is_equal());
        assert!(!VerifyReport { unlisted: 1, ..VerifyReport::default() }.is_equal());
        let undecided = vec![difference(None, Some("{}"))];
        assert!(!VerifyReport { undecided, ..VerifyReport::default() }.is_equal());
        let damaged = vec![DamagedBucket { bucket: String::new(), problem: String::new() }];
        assert!(!VerifyReport { damaged, ..VerifyReport::default() }.is_equal());
    }
}
