//! What the latest commits changed for readers, by hashes of names: part of the control record.
//!
//! A reader that knows a revision of the control record asks the ring of a later one what has changed in
//! between. A hash that two names share makes the reader look in vain. A change is never left out: where
//! the ring does not know, it says so.

use std::collections::VecDeque;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::keys::{BucketKey, LookupKey, RecordKey};

/// Size in bytes of the largest ring before its base64. The control record of a deployment, with the most
/// closed epochs that it can have, and this ring fit into one DynamoDB write unit (1 KB).
const RING_BYTES_MAX: usize = 224;

/// Number of names that one commit lists at most. A commit with more names leaves an empty ring.
const NAMES_MAX: usize = 48;

/// Bytes of a name in the ring.
const NAME_BYTES: usize = 4;

/// The first byte of a ring. Readers of another version find no ring, and so know no changes.
const VERSION: u8 = 1;

/// The seeds that keep a bucket and a lookup with the same text apart.
const BUCKET_SEED: u64 = 1;
const LOOKUP_SEED: u64 = 2;

/// A hash of the name of something that readers depend on: a bucket or a parameter lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeName(u32);

impl ChangeName {
    /// Returns the name of a bucket.
    #[must_use]
    pub fn of_bucket(key: &BucketKey) -> Self {
        Self::hash(key.as_str(), BUCKET_SEED)
    }

    /// Returns the name of a lookup.
    #[must_use]
    pub fn of_lookup(key: &LookupKey) -> Self {
        Self::hash(key.as_str(), LOOKUP_SEED)
    }

    /// Returns the name of a record that readers depend on; `None` for those that only a worker reads.
    #[must_use]
    pub fn of_record(key: &RecordKey) -> Option<Self> {
        match key {
            RecordKey::Bucket(bucket) => Some(Self::of_bucket(bucket)),
            RecordKey::Lookup(lookup, _) => Some(Self::of_lookup(lookup)),
            RecordKey::SourceRow(..) | RecordKey::Copy(_) => None,
        }
    }

    fn hash(text: &str, seed: u64) -> Self {
        let [a, b, c, d, ..] = xxh3_64_with_seed(text.as_bytes(), seed).to_le_bytes();
        Self(u32::from_le_bytes([a, b, c, d]))
    }
}

/// The names that one commit changes, as they are gathered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangedNames {
    /// These names, in ascending order and each once.
    Listed(Vec<ChangeName>),
    /// More names than a ring lists.
    Many,
}

impl Default for ChangedNames {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl ChangedNames {
    /// Adds a name.
    pub fn insert(&mut self, name: ChangeName) {
        let Self::Listed(names) = self else { return };
        let Err(place) = names.binary_search(&name) else { return };
        if names.len() == NAMES_MAX {
            *self = Self::Many;
        } else {
            names.insert(place, name);
        }
    }
}

/// The changes of the latest revisions of the control record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct ChangeRing {
    /// The revision whose changes are first in `revisions`. A ring that was copied into a later record
    /// says nothing there.
    newest: u64,
    /// The names that each revision changed, newest first, without gaps.
    revisions: VecDeque<Vec<ChangeName>>,
}

impl ChangeRing {
    /// Returns whether the ring knows nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.revisions.is_empty()
    }

    /// Returns the ring after another revision, which changed these names for readers. The oldest
    /// revisions leave it once it is full.
    #[must_use]
    pub fn with(&self, revision: u64, names: &ChangedNames) -> Self {
        let ChangedNames::Listed(names) = names else { return Self::default() };
        let mut revisions = if revision.checked_sub(1) == Some(self.newest) {
            self.revisions.clone()
        } else {
            VecDeque::new()
        };

        revisions.push_front(names.clone());
        let mut ring = Self { newest: revision, revisions };
        while ring.encoded_len() > RING_BYTES_MAX {
            ring.revisions.pop_back();
        }
        ring
    }

    /// Returns what the revisions after `seen` up to `revision` have changed, oldest first; `None` if this
    /// ring, of the record with that revision, does not know.
    #[must_use]
    pub fn between(&self, seen: u64, revision: u64) -> Option<Vec<&[ChangeName]>> {
        let count = usize::try_from(revision.checked_sub(seen)?).ok()?;
        if count > 0 && (self.newest != revision || count > self.revisions.len()) {
            return None;
        }
        Some(self.revisions.iter().take(count).rev().map(Vec::as_slice).collect())
    }

    fn encoded_len(&self) -> usize {
        let names: usize = self.revisions.iter().map(|names| 1 + names.len() * NAME_BYTES).sum();
        1 + size_of::<u64>() + names
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        bytes.push(VERSION);
        bytes.extend(self.newest.to_le_bytes());
        for names in &self.revisions {
            bytes.push(u8::try_from(names.len()).expect("a revision has at most NAMES_MAX names"));
            for name in names {
                bytes.extend(name.0.to_le_bytes());
            }
        }
        bytes
    }

    /// Decodes a ring; `None` if the bytes are none of this version.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, rest) = bytes.split_first()?;
        let (newest, mut rest) = rest.split_first_chunk()?;
        if version != VERSION {
            return None;
        }

        let mut revisions = VecDeque::new();
        while let Some((&count, names)) = rest.split_first() {
            let (names, others) = names.split_at_checked(usize::from(count) * NAME_BYTES)?;
            let (names, _) = names.as_chunks();
            revisions.push_back(
                names.iter().map(|name| ChangeName(u32::from_le_bytes(*name))).collect(),
            );
            rest = others;
        }
        Some(Self { newest: u64::from_le_bytes(*newest), revisions })
    }
}

impl From<ChangeRing> for String {
    fn from(ring: ChangeRing) -> Self {
        STANDARD_NO_PAD.encode(ring.encode())
    }
}

impl From<String> for ChangeRing {
    /// Decodes a ring. What cannot be read is a ring that knows nothing: readers then look at
    /// everything, which is always right.
    fn from(text: String) -> Self {
        let bytes = STANDARD_NO_PAD.decode(text).ok();
        bytes.and_then(|bytes| Self::decode(&bytes)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
