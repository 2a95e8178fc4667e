//! Output of a row, in buffers that are reused from row to row.

use std::collections::HashMap;
use std::ops::Range;

/// Number of entries from which duplicates are found by hashing. For fewer, comparing is faster.
const HASH_FROM: usize = 16;
/// Capacity of the text buffer that is kept between rows, in bytes. A larger one, after an
/// unusually large row, is shrunk.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Output of a row: buckets, answers to lookups, and errors. Reuse one value from row to row.
#[derive(Clone, Debug, Default)]
pub struct RowOutput {
    pub(crate) text: String,
    pub(crate) buckets: Vec<BucketEntry>,
    pub(crate) lookups: Vec<LookupEntry>,
    pub(crate) errors: Vec<String>,
    /// Output of each projection for this row, if any query needed it.
    pub(crate) projected: Vec<Option<Projected>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Projected {
    pub(crate) object_type: Range<usize>,
    pub(crate) object_id: Range<usize>,
    pub(crate) data: Range<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct BucketEntry {
    pub(crate) definition: usize,
    pub(crate) params: Range<usize>,
    pub(crate) projected: Projected,
}

#[derive(Clone, Debug)]
pub(crate) struct LookupEntry {
    pub(crate) lookup: usize,
    pub(crate) key: Range<usize>,
    pub(crate) output: Range<usize>,
}

/// Row in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketRow<'a> {
    /// Index into [`SyncConfig::definitions`](crate::SyncConfig::definitions).
    pub definition: usize,
    /// Parameters of the bucket: a canonical JSON array.
    pub params: &'a str,
    /// Name of the table on devices.
    pub object_type: &'a str,
    /// Text of the output column `id`.
    pub object_id: &'a str,
    /// Output columns as a JSON object.
    pub data: &'a str,
}

/// Answer of a row to a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupRow<'a> {
    /// Index into [`SyncConfig::lookups`](crate::SyncConfig::lookups).
    pub lookup: usize,
    /// Key of the question that the row answers: a canonical JSON array.
    pub key: &'a str,
    /// Output for the key: a canonical JSON array.
    pub output: &'a str,
}

impl RowOutput {
    /// Returns the buckets that contain the row.
    pub fn buckets(&self) -> impl Iterator<Item = BucketRow<'_>> {
        self.buckets.iter().map(|entry| self.bucket(entry))
    }

    /// Returns the row's answers to lookups.
    pub fn lookups(&self) -> impl Iterator<Item = LookupRow<'_>> {
        self.lookups.iter().map(|entry| self.lookup(entry))
    }

    /// Returns the errors of queries that could not be evaluated for this row. It is not in the
    /// buckets of those queries. The messages contain no values and may be logged.
    #[must_use]
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// Takes the row out of the buckets for which `is_left` holds. Its answers to lookups stay.
    pub fn leave_buckets(&mut self, is_left: impl Fn(&BucketRow<'_>) -> bool) {
        let mut buckets = std::mem::take(&mut self.buckets);
        buckets.retain(|entry| !is_left(&self.bucket(entry)));
        self.buckets = buckets;
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(KEPT_BYTES_MAX);
        self.buckets.clear();
        self.lookups.clear();
        self.errors.clear();
        self.projected.clear();
    }

    fn bucket(&self, entry: &BucketEntry) -> BucketRow<'_> {
        let Projected { object_type, object_id, data } = &entry.projected;
        BucketRow {
            definition: entry.definition,
            params: &self.text[entry.params.clone()],
            object_type: &self.text[object_type.clone()],
            object_id: &self.text[object_id.clone()],
            data: &self.text[data.clone()],
        }
    }

    fn lookup(&self, entry: &LookupEntry) -> LookupRow<'_> {
        LookupRow {
            lookup: entry.lookup,
            key: &self.text[entry.key.clone()],
            output: &self.text[entry.output.clone()],
        }
    }

    /// Removes duplicates. Equal objects in a bucket keep the data of the last one, at the place of
    /// the first.
    pub(crate) fn deduplicate(&mut self) {
        let mut buckets = std::mem::take(&mut self.buckets);
        let text = &self.text;

        unique(
            &mut buckets,
            |entry| {
                let Projected { object_type, object_id, data: _ } = &entry.projected;
                let object = (&text[object_type.clone()], &text[object_id.clone()]);
                (entry.definition, &text[entry.params.clone()], object)
            },
            |first, last| first.projected = last.projected,
        );

        self.buckets = buckets;

        let mut lookups = std::mem::take(&mut self.lookups);
        let text = &self.text;

        unique(
            &mut lookups,
            |entry| (entry.lookup, &text[entry.key.clone()], &text[entry.output.clone()]),
            |_, _| {},
        );

        self.lookups = lookups;
    }
}

/// Merges each entry into the first one with an equal key.
fn unique<T, K: Eq + std::hash::Hash>(
    entries: &mut Vec<T>,
    key: impl Fn(&T) -> K,
    merge: impl Fn(&mut T, T),
) {
    if entries.len() < 2 {
        return;
    }

    let mut kept: Vec<T> = Vec::with_capacity(entries.len());
    let mut index_of = HashMap::new();
    let hashed = entries.len() >= HASH_FROM;

    for entry in entries.drain(..) {
        let entry_key = key(&entry);
        let known = if hashed {
            index_of.get(&entry_key).copied()
        } else {
            kept.iter().position(|known| key(known) == entry_key)
        };

        match known {
            Some(index) => merge(&mut kept[index], entry),
            None => {
                if hashed {
                    index_of.insert(entry_key, kept.len());
                }
                kept.push(entry);
            }
        }
    }

    *entries = kept;
}
