//! Keys of stored records.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use tidewater_protocol::Epoch;

/// The identity of a stored definition or parameter lookup: six characters for 30 random bits, never
/// used twice. It distinguishes equally named buckets of different deployments and configs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tag(String);

impl Tag {
    const ALPHABET: &'static [u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

    /// Creates the tag from the lowest 30 of these random bits.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        let digits = (0..6).map(|place| (bits >> (5 * place)) as usize & 31);
        Self(digits.map(|digit| char::from(Self::ALPHABET[digit])).collect())
    }

    /// Returns the text of the tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a generation: the epoch that started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GenerationId(pub Epoch);

/// The key of a bucket: the tag of its definition, then its parameters as a canonical JSON array.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketKey(Arc<str>);

impl BucketKey {
    /// Creates the key of a definition's bucket with these parameters (`[]`, `["u1",7]`).
    #[must_use]
    pub fn new(tag: &Tag, params: &str) -> Self {
        let mut name = String::new();
        Self::write_name(tag, params, &mut name);
        Self(name.into())
    }

    /// Replaces the content of `out` with the text of a key.
    pub fn write_name(tag: &Tag, params: &str, out: &mut String) {
        out.clear();
        out.push_str(tag.as_str());
        out.push_str(params);
    }

    /// Creates a key from the result of [`BucketKey::as_str`].
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// Returns the text `tag[params]`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl BucketKey {
    /// Returns a short name for logs: the definition's tag and a hash. The parameters are values of
    /// rows, which do not belong into logs.
    #[must_use]
    pub fn log_label(&self) -> String {
        // FNV-1a: the same label in every process and version.
        let hash = self
            .0
            .bytes()
            .fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let tag = self.0.split('[').next().unwrap_or_default();
        format!("{tag}#{hash:08x}")
    }
}

/// Maps of keys can be searched by text.
impl Borrow<str> for BucketKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of a parameter lookup: the lookup's tag, then the values as a canonical JSON array.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupKey(Arc<str>);

impl LookupKey {
    /// Creates the key of a lookup with these values.
    #[must_use]
    pub fn new(tag: &Tag, values: &str) -> Self {
        Self(format!("{tag}{values}").into())
    }

    /// Returns the text `tag[values]`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The key of a versioned record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKey {
    /// The head of a bucket ([`crate::BucketHead`]).
    Bucket(BucketKey),
    /// The output of one answer of a source row to a parameter lookup: a canonical JSON array. The text
    /// is an [`answer_name`].
    Lookup(LookupKey, Arc<str>),
    /// The state of a source row: its generation, the number of its table, its key.
    SourceRow(GenerationId, u16, Arc<str>),
    /// The progress of a generation's initial copy.
    Copy(GenerationId),
}

/// Returns the name of an answer to a lookup: the number of the row's table, the row's key, and a hash
/// of the output, because one row may have several answers.
#[must_use]
pub fn answer_name(table: u16, row_key: &str, output_hash: u64) -> Arc<str> {
    format!("{table}.{row_key}.{output_hash:x}").into()
}

/// Returns the table number in an answer's name, or `None` if `name` is not one.
#[must_use]
pub fn table_of_answer(name: &str) -> Option<u16> {
    name.split_once('.')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_log_label_tells_buckets_apart_and_names_no_value() {
        let label = |key: &str| BucketKey::from_stored(key).log_label();
        assert!(label(r#"abc123["secret"]"#).starts_with("abc123#"));
        assert!(!label(r#"abc123["secret"]"#).contains("secret"));
        assert_ne!(label(r#"abc123["secret"]"#), label(r#"abc123["other"]"#));
        assert_eq!(label("abc123[]").len(), 15);
    }

    proptest! {
        #[test]
        fn the_table_is_read_back_from_an_answer_name(table in any::<u16>(), key in "\\PC{0,9}", hash in any::<u64>()) {
            prop_assert_eq!(table_of_answer(&answer_name(table, &key, hash)), Some(table));
        }

        #[test]
        fn a_key_round_trips_as_text(bits in any::<u32>(), params in "\\[\\PC{0,30}\\]") {
            let key = BucketKey::new(&Tag::from_bits(bits), &params);
            prop_assert_eq!(BucketKey::from_stored(key.as_str()), key.clone());
            prop_assert_eq!(key.to_string(), key.as_str());
        }

        #[test]
        fn no_two_lookups_have_the_same_key(
            one in (0_u32..3, "\\[[1,\"]{0,4}\\]"),
            other in (0_u32..3, "\\[[1,\"]{0,4}\\]"),
        ) {
            let [one_key, other_key] = [&one, &other]
                .map(|(bits, values)| LookupKey::new(&Tag::from_bits(*bits), values));
            prop_assert_eq!(one_key == other_key, one == other);
        }

        #[test]
        fn no_two_answers_have_the_same_name(
            one in (0_u16..12, "\\[[1.,\"]{0,4}\\]", 0_u64..18),
            other in (0_u16..12, "\\[[1.,\"]{0,4}\\]", 0_u64..18),
        ) {
            let [one_name, other_name] =
                [&one, &other].map(|(table, row, hash)| answer_name(*table, row, *hash));
            prop_assert_eq!(one_name == other_name, one == other);
        }

        #[test]
        fn different_bits_give_different_tags(one in 0_u32..1 << 30, other in 0_u32..1 << 30) {
            prop_assert_eq!(Tag::from_bits(one) == Tag::from_bits(other), one == other);
        }

        #[test]
        fn keys_sort_like_their_texts(
            one in (0_u32..3, "\\[[a\",\u{e9}]{0,4}\\]"),
            other in (0_u32..3, "\\[[a\",\u{e9}]{0,4}\\]"),
        ) {
            let [one, other] = [one, other]
                .map(|(bits, params)| BucketKey::new(&Tag::from_bits(bits), &params));
            prop_assert_eq!(one.cmp(&other), one.as_str().as_bytes().cmp(other.as_str().as_bytes()));
        }
    }

    #[test]
    fn a_tag_is_six_characters_without_lookalikes() {
        let digits: HashSet<char> = (0..32)
            .flat_map(|bits| Tag::from_bits(bits).as_str().chars().collect::<Vec<_>>())
            .collect();
        assert_eq!(digits.len(), 32);
        assert!(digits.is_disjoint(&HashSet::from(['l', 'o', '0', '1', '['])));
        assert_eq!(Tag::from_bits(u32::MAX).as_str().len(), 6);
        // A tag has 30 bits; the others are ignored.
        assert_eq!(Tag::from_bits(1 << 30), Tag::from_bits(0));
    }
}
