//! The part of the store that is compared.

use std::collections::HashSet;

use tidewater_storage::BucketKey;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::apply::applier::SyncedTable;
use crate::verify::error::VerifyError;
use crate::verify::place::{Place, PlaceKind};
use crate::verify::subject::Subject;

/// The part of the store to compare. The default is all of it.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Tables: `schema.table`, or `table` in the schema `public`. Empty: all.
    pub tables: Vec<String>,
    /// Buckets: `todos|0["u1"]`, or with the tag as devices name them. Empty: all.
    pub buckets: Vec<String>,
    /// The share of the buckets and lookups, from 0 to 1; `None`: all.
    pub sample: Option<f64>,
    /// A number that chooses the sample.
    pub seed: u64,
}

/// A selection for the tables and definitions of a store.
#[derive(Debug)]
pub(super) struct Scope {
    /// The numbers of the tables; `None` for all, also for those that the source no longer has.
    tables: Option<HashSet<u16>>,
    /// The stored names of the buckets; `None` for all.
    buckets: Option<HashSet<String>>,
    /// The greatest hash of a container in the sample.
    sample_hash_max: u64,
    seed: u64,
}

impl Scope {
    pub(super) fn new(selection: &Selection, subject: &Subject) -> Result<Self, VerifyError> {
        let mut tables = HashSet::new();
        for name in &selection.tables {
            let named = |table: &&SyncedTable| {
                let schema = &table.table.schema;
                *name == format!("{}.{}", schema.schema, schema.name)
                    || (schema.schema == "public" && *name == schema.name)
            };
            let table = subject.tables.iter().find(named).ok_or_else(|| {
                VerifyError::Selection(format!("the sync config reads no table '{name}'"))
            })?;
            tables.insert(table.number);
        }

        let mut buckets = HashSet::new();
        for name in &selection.buckets {
            let found = subject.buckets_named(name);
            if found.is_empty() {
                let problem = format!(
                    "the sync config has no bucket definition for '{name}'; a bucket is named like \
                     todos|0[\"u1\"]"
                );
                return Err(VerifyError::Selection(problem));
            }
            buckets.extend(found.iter().map(|bucket: &BucketKey| bucket.as_str().to_owned()));
        }

        Ok(Self {
            tables: (!selection.tables.is_empty()).then_some(tables),
            buckets: (!selection.buckets.is_empty()).then_some(buckets),
            sample_hash_max: selection.sample.map_or(u64::MAX, hash_max),
            seed: selection.seed,
        })
    }

    /// Returns whether rows of the table with this number are compared.
    pub(super) fn has_table(&self, number: u16) -> bool {
        self.tables.as_ref().is_none_or(|tables| tables.contains(&number))
    }

    /// Returns whether any table is compared that `is_read` holds for.
    pub(super) fn has_any_table(&self, mut is_read: impl FnMut(u16) -> bool) -> bool {
        self.tables.as_ref().is_none_or(|tables| tables.iter().any(|&number| is_read(number)))
    }

    /// Returns whether a bucket is compared, or a lookup.
    pub(super) fn has_container(&self, kind: PlaceKind, container: &str) -> bool {
        let is_named = match (&self.buckets, kind) {
            (None, PlaceKind::Row | PlaceKind::Answer) => true,
            (Some(buckets), PlaceKind::Row) => buckets.contains(container),
            (Some(_), PlaceKind::Answer) => false,
        };
        is_named && xxh3_64_with_seed(container.as_bytes(), self.seed) <= self.sample_hash_max
    }

    /// Returns whether the row or answer of a place is compared.
    pub(super) fn has(&self, place: &Place<'_>) -> bool {
        self.has_container(place.kind, place.container)
            && (self.tables.is_none() || place.table().is_some_and(|number| self.has_table(number)))
    }
}

/// Returns the greatest of the hashes that this share of all has.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
fn hash_max(share: f64) -> u64 {
    (share * u64::MAX as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(share: f64, seed: u64) -> Scope {
        let sample_hash_max = hash_max(share);
        Scope { tables: None, buckets: None, sample_hash_max, seed }
    }

    #[test]
    fn a_sample_has_about_its_share_of_the_buckets_and_another_one_each_time() {
        let sampled = |share, seed| -> Vec<bool> {
            let scope = sample(share, seed);
            let bucket = |number| format!("aaaaaa[{number}]");
            (0..10_000).map(|one| scope.has_container(PlaceKind::Row, &bucket(one))).collect()
        };
        let count = |sampled: &[bool]| sampled.iter().filter(|is_in| **is_in).count();
        assert_eq!(count(&sampled(1.0, 1)), 10_000);
        let tenth = sampled(0.1, 1);
        assert!((800..1_200).contains(&count(&tenth)), "{}", count(&tenth));
        assert_ne!(tenth, sampled(0.1, 2));
        assert_eq!(tenth, sampled(0.1, 1));
    }

    #[test]
    fn a_bucket_that_was_named_excludes_lookups_and_other_buckets() {
        let buckets = Some(HashSet::from(["aaaaaa[1]".to_owned()]));
        let scope = Scope { buckets, ..sample(1.0, 0) };
        assert!(scope.has_container(PlaceKind::Row, "aaaaaa[1]"));
        assert!(!scope.has_container(PlaceKind::Row, "aaaaaa[2]"));
        assert!(!scope.has_container(PlaceKind::Answer, "aaaaaa[1]"));
    }

    #[test]
    fn only_rows_of_a_table_that_was_named_are_compared() {
        let scope = Scope { tables: Some(HashSet::from([3])), ..sample(1.0, 0) };
        let has = |subkey| {
            let kind = PlaceKind::Row;
            scope.has(&Place { kind, container: "a[]", object_type: "t", object_id: "1", subkey })
        };
        assert_eq!([has("3.00"), has("4.00"), has("none")], [true, false, false]);
    }
}
