//! Operations: the entries of a bucket.

use std::borrow::Cow;

use xxhash_rust::xxh3::Xxh3;

use crate::{Checksum, OpId};

/// One entry of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<'a> {
    /// Its position.
    pub op_id: OpId,
    /// What it adds to the bucket's checksum. For PUT and REMOVE it is [`Body::checksum`].
    pub checksum: Checksum,
    /// What it does.
    pub body: Body<'a>,
}

/// What an operation does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// The row now has this value.
    Put {
        /// Which row.
        row: RowKey<'a>,
        /// Its columns: a JSON object of text, numbers and null.
        data: Cow<'a, str>,
    },
    /// The row is no longer in the bucket.
    Remove {
        /// Which row.
        row: RowKey<'a>,
    },
    /// Nothing: it stands for operations that later ones superseded, and carries their sum.
    Move,
    /// Everything before it in the bucket is void; the checksum counts from here.
    Clear,
}

/// Identity of a row within a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey<'a> {
    /// Name of the table on the client.
    pub object_type: Cow<'a, str>,
    /// The row's `id` column as text.
    pub object_id: Cow<'a, str>,
    /// Tells source rows apart that have the same type and id in one bucket. Opaque, and the same
    /// for every operation of one source row.
    pub subkey: Cow<'a, str>,
}

impl<'a> RowKey<'a> {
    /// A key that borrows its parts.
    #[must_use]
    pub const fn new(object_type: &'a str, object_id: &'a str, subkey: &'a str) -> Self {
        Self {
            object_type: Cow::Borrowed(object_type),
            object_id: Cow::Borrowed(object_id),
            subkey: Cow::Borrowed(subkey),
        }
    }

    /// The same key, owning its parts.
    #[must_use]
    pub fn into_owned(self) -> RowKey<'static> {
        RowKey {
            object_type: self.object_type.into_owned().into(),
            object_id: self.object_id.into_owned().into(),
            subkey: self.subkey.into_owned().into(),
        }
    }
}

impl Body<'_> {
    /// Checksum of a PUT or REMOVE: the low half of XXH3-64 over its kind and its parts, each
    /// preceded by its length, so that no two contents read alike. `None` for the others, whose
    /// checksum is the sum of what they stand for.
    #[must_use]
    pub fn checksum(&self) -> Option<Checksum> {
        match self {
            Self::Put { row, data } => Some(hash(1, row, data)),
            Self::Remove { row } => Some(hash(2, row, "")),
            Self::Move | Self::Clear => None,
        }
    }
}

fn hash(kind: u8, row: &RowKey<'_>, data: &str) -> Checksum {
    let parts = [&*row.object_type, &*row.object_id, &*row.subkey, data];
    let mut lengths = [0_u8; 33];
    lengths[0] = kind;
    for (part, slot) in parts.iter().zip(lengths[1..].chunks_exact_mut(8)) {
        slot.copy_from_slice(&(part.len() as u64).to_le_bytes());
    }
    let mut hasher = Xxh3::new();
    hasher.update(&lengths);
    for part in parts {
        hasher.update(part.as_bytes());
    }
    let [a, b, c, d, ..] = hasher.digest().to_le_bytes();
    Checksum(u32::from_le_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(object_type: &str, object_id: &str, subkey: &str, data: &str) -> Checksum {
        let row = RowKey::new(object_type, object_id, subkey);
        Body::Put { row, data: data.into() }.checksum().unwrap()
    }

    #[test]
    fn each_part_counts() {
        let base = put("todos", "1", "s", "{}");
        for other in [
            put("todo", "1", "s", "{}"),
            put("todos", "2", "s", "{}"),
            put("todos", "1", "t", "{}"),
            put("todos", "1", "s", "{ }"),
            put("todos1", "", "s", "{}"),
            put("todos", "1s", "", "{}"),
            Body::Remove { row: RowKey::new("todos", "1", "s") }.checksum().unwrap(),
        ] {
            assert_ne!(base, other);
        }
    }

    /// Stored buckets and devices hold these sums: a change of the hash is a new protocol version.
    #[test]
    fn the_hash_is_fixed() {
        assert_eq!(crate::PROTOCOL_VERSION, 2, "version 2 kept the hash of version 1");
        assert_eq!(put("todos", "t1", "k", r#"{"id":"t1"}"#), Checksum(1_886_762_851));
    }
}
