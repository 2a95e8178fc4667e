//! Operations: the entries of a bucket's history.

use std::borrow::Cow;

use xxhash_rust::xxh3::Xxh3;

use crate::checksum::Checksum;
use crate::op_id::OpId;

/// One entry of a bucket's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<'a> {
    /// Position of the operation.
    pub op_id: OpId,
    /// Share of the operation in the bucket's sum. For PUT and REMOVE it is [`Body::checksum`].
    pub checksum: Checksum,
    /// Effect of the operation.
    pub body: Body<'a>,
}

/// The effect of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// Inserts the row, or replaces its value.
    Put {
        /// Identity of the row.
        row: RowKey<'a>,
        /// Columns of the row: a JSON object of text, numbers and null.
        data: Cow<'a, str>,
    },
    /// Removes the row from the bucket.
    Remove {
        /// Identity of the row.
        row: RowKey<'a>,
    },
    /// Changes no row. It stands for superseded operations and carries their sum.
    Move,
    /// Removes all rows of the bucket. The bucket's sum starts again with this operation's checksum.
    Clear,
}

/// The identity of a row within a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey<'a> {
    /// Name of the row's table on the client.
    pub object_type: Cow<'a, str>,
    /// Text of the row's `id` column.
    pub object_id: Cow<'a, str>,
    /// Opaque text that distinguishes source rows with the same type and id in one bucket. It is the
    /// same in every operation of one source row.
    pub subkey: Cow<'a, str>,
}

impl<'a> RowKey<'a> {
    /// Returns a key that borrows its parts.
    #[must_use]
    pub const fn new(object_type: &'a str, object_id: &'a str, subkey: &'a str) -> Self {
        Self {
            object_type: Cow::Borrowed(object_type),
            object_id: Cow::Borrowed(object_id),
            subkey: Cow::Borrowed(subkey),
        }
    }

    /// Returns the same key with owned parts.
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
    /// Returns the checksum of a PUT or REMOVE: the low half of XXH3-64 over the kind, the lengths
    /// of the parts, and the parts.
    ///
    /// The lengths come first, so that no two bodies give the same input to the hash. Returns `None`
    /// for MOVE and CLEAR, whose checksum is the sum of the operations that they stand for.
    #[must_use]
    pub fn checksum(&self) -> Option<Checksum> {
        match self {
            Self::Put { row, data } => Some(Digest::of_put(row, data).checksum()),
            Self::Remove { row } => Some(digest(2, row, "").checksum()),
            Self::Move | Self::Clear => None,
        }
    }
}

/// The XXH3-64 hash of a PUT or REMOVE. Its low half is the operation's checksum.
///
/// A writer that compares contents before it sends them hashes each content only once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(pub u64);

impl Digest {
    /// Returns the digest of a PUT.
    #[must_use]
    pub fn of_put(row: &RowKey<'_>, data: &str) -> Self {
        digest(1, row, data)
    }

    /// Returns the checksum of the operation.
    #[must_use]
    pub const fn checksum(self) -> Checksum {
        let [a, b, c, d, ..] = self.0.to_le_bytes();
        Checksum(u32::from_le_bytes([a, b, c, d]))
    }
}

/// Hashes the kind (1 for PUT, 2 for REMOVE), the lengths of the four parts, and the parts.
fn digest(kind: u8, row: &RowKey<'_>, data: &str) -> Digest {
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

    Digest(hasher.digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(object_type: &str, object_id: &str, subkey: &str, data: &str) -> Checksum {
        let row = RowKey::new(object_type, object_id, subkey);
        Body::Put { row, data: data.into() }.checksum().unwrap()
    }

    #[test]
    fn each_part_changes_the_checksum() {
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

    #[test]
    fn the_checksum_is_the_low_half_of_the_digest() {
        let row = RowKey::new("todos", "t1", "k");
        let digest = Digest::of_put(&row, "{}");
        assert_eq!(Some(digest.checksum()), Body::Put { row, data: "{}".into() }.checksum());
        assert_eq!(u64::from(digest.checksum().0), digest.0 & 0xFFFF_FFFF);
    }

    /// Stored buckets and devices hold these sums, so a change of the hash needs a new protocol
    /// version.
    #[test]
    fn the_hash_is_fixed() {
        assert_eq!(crate::PROTOCOL_VERSION, 2, "version 2 kept the hash of version 1");
        assert_eq!(put("todos", "t1", "k", r#"{"id":"t1"}"#), Checksum(1_886_762_851));
    }
}
