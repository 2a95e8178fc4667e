//! What a row yields, in buffers that are reused from row to row.

use std::collections::HashMap;
use std::ops::Range;

/// From here on duplicates are found by hashing.
const HASH_FROM: usize = 16;
/// What is kept of the text's buffer after a row that needed more.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// What a row yields; reused from row to row.
#[derive(Clone, Debug, Default)]
pub struct RowOutput {
    pub(crate) text: String,
    pub(crate) buckets: Vec<BucketEntry>,
    pub(crate) lookups: Vec<LookupEntry>,
    pub(crate) errors: Vec<String>,
    /// By projection: what this row's came out as.
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

/// One row in one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketRow<'a> {
    /// Index into [`SyncConfig::definitions`](crate::SyncConfig::definitions).
    pub definition: usize,
    /// The bucket's parameters: a canonical JSON array.
    pub params: &'a str,
    /// The output table.
    pub object_type: &'a str,
    /// The text of the output column `id`.
    pub object_id: &'a str,
    /// The JSON object.
    pub data: &'a str,
}

/// One row's answer to one lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupRow<'a> {
    /// Index into [`SyncConfig::lookups`](crate::SyncConfig::lookups).
    pub lookup: usize,
    /// What must be asked: a canonical JSON array.
    pub key: &'a str,
    /// The answer: a canonical JSON array.
    pub output: &'a str,
}

impl RowOutput {
    /// The buckets that hold the row.
    pub fn buckets(&self) -> impl Iterator<Item = BucketRow<'_>> {
        self.buckets.iter().map(|entry| self.bucket(entry))
    }

    /// What the row answers to lookups.
    pub fn lookups(&self) -> impl Iterator<Item = LookupRow<'_>> {
        self.lookups.iter().map(|entry| self.lookup(entry))
    }

    /// Queries that could not be evaluated for this row, so that it is not in their buckets: to be
    /// logged, never with values.
    #[must_use]
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    pub(crate) fn clear(&mut self, projection_count: usize) {
        self.text.clear();
        self.text.shrink_to(KEPT_BYTES_MAX);
        self.buckets.clear();
        self.lookups.clear();
        self.errors.clear();
        self.projected.clear();
        self.projected.resize(projection_count, None);
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

    /// Of equal buckets and objects keeps the data of the last, at the place of the first; of equal
    /// answers the first.
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

/// Merges each entry into the first of its key.
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
