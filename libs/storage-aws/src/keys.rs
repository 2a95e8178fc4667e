//! Keys of items: built and parsed here alone.
//!
//! DynamoDB takes partition keys of up to 2,048 bytes and sort keys of up to 1,024, and bucket
//! parameters may be longer. A text that does not fit is [`fitted`]: its beginning, then a hash of
//! all of it. Where items are listed, the whole text is an attribute besides.

use std::borrow::Cow;
use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use sha2::{Digest, Sha256};
use tidewater_protocol::{Epoch, OpId};
use tidewater_storage::{BucketKey, ClientKey, GenerationId, LookupKey, RecordKey, Tag};

use crate::attributes::{PARTITION, SORT};
use crate::tables::Table;

/// Bytes of a partition key at most: DynamoDB's limit.
pub(crate) const PARTITION_BYTES_MAX: usize = 2_048;

/// Bytes of a sort key at most: DynamoDB's limit.
pub(crate) const SORT_BYTES_MAX: usize = 1_024;

/// Bytes that a lookup's values may take in a sort key: the rest is the source row's.
const VALUES_BYTES_MAX: usize = 424;

/// Bytes that a source row's name may take in the sort key of a lookup.
const SOURCE_BYTES_MAX: usize = SORT_BYTES_MAX - VALUES_BYTES_MAX - 4;

/// Bytes that a source row's key may take in a sort key, after the number of its table.
const ROW_BYTES_MAX: usize = SORT_BYTES_MAX - 6;

/// Partitions over which the rows of a generation, and the answers of a lookup, are spread, so that
/// a copy is not bound to the 1,000 writes a second of one. A deletion asks each of them.
pub(crate) const SHARDS: u8 = 64;

/// Partitions over which a tag's registered buckets are spread, and all of the work list.
pub(crate) const LIST_SHARDS: u8 = 16;

/// Between the beginning of a text and its hash: the greatest character there is, so that a text
/// which was cut comes after all those that are not and begin like it.
const CUT: char = '\u{10FFFF}';

/// Bytes of [`CUT`] and the hash.
const CUT_BYTES: usize = 4 + 64;

/// An item: attributes by name.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// The value of one attribute of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum KeyPart {
    Text(String),
    Number(i64),
}

/// The key of an item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ItemKey {
    pub(crate) table: Table,
    pub(crate) partition: KeyPart,
    pub(crate) sort: Option<KeyPart>,
}

impl KeyPart {
    pub(crate) fn attribute(&self) -> AttributeValue {
        match self {
            Self::Text(text) => AttributeValue::S(text.clone()),
            Self::Number(number) => AttributeValue::N(number.to_string()),
        }
    }

    fn of_attribute(value: &AttributeValue) -> Option<Self> {
        if let Ok(text) = value.as_s() {
            return Some(Self::Text(text.clone()));
        }
        Some(Self::Number(value.as_n().ok()?.parse().ok()?))
    }

    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            // At most: a digit and a sign are half a byte each.
            Self::Number(_) => 12,
        }
    }
}

impl ItemKey {
    fn new(table: Table, partition: KeyPart, sort: Option<KeyPart>) -> Self {
        Self { table, partition, sort }
    }

    /// The one control record.
    pub(crate) fn control() -> Self {
        Self::new(Table::Control, control_partition(), Some(KeyPart::Number(0)))
    }

    pub(crate) fn closed_epoch(epoch: Epoch) -> Self {
        let sort = Some(KeyPart::Number(epoch.number().into()));
        Self::new(Table::Control, closed_epochs_partition(), sort)
    }

    pub(crate) fn generation(id: GenerationId) -> Self {
        let sort = Some(KeyPart::Number(id.0.number().into()));
        Self::new(Table::Control, generations_partition(), sort)
    }

    /// The one counter of tickets.
    pub(crate) fn ticket_counter() -> Self {
        Self::new(Table::WriteCheckpoints, KeyPart::Text("bell".into()), None)
    }

    pub(crate) fn write_requests(client: &ClientKey) -> Self {
        // A JSON array says where one text ends and the other begins.
        let client = serde_json::json!([client.user_id, client.client_id]).to_string();
        Self::new(Table::WriteCheckpoints, partition_text(&client), None)
    }

    pub(crate) fn segment(bucket: &BucketKey, last: OpId) -> Self {
        let sort = Some(KeyPart::Number(last.get()));
        Self::new(Table::Segments, segments_partition(bucket), sort)
    }

    pub(crate) fn bucket(bucket: &BucketKey) -> Self {
        Self::new(Table::Buckets, partition_text(bucket.as_str()), None)
    }

    fn lookup(lookup: &LookupKey, source: &str) -> Self {
        let (partition, values) = lookup_range(lookup);
        let sort =
            KeyPart::Text(format!("{values}{}", truncate_with_hash(source, SOURCE_BYTES_MAX)));
        Self::new(Table::Lookups, partition, Some(sort))
    }

    fn source_row(generation: GenerationId, table: u16, row: &str) -> Self {
        let partition = source_rows_partition(generation, shard_of(&[&table.to_string(), row]));
        let sort = KeyPart::Text(format!("{table}/{}", truncate_with_hash(row, ROW_BYTES_MAX)));
        Self::new(Table::SourceRows, partition, Some(sort))
    }

    pub(crate) fn copy(generation: GenerationId) -> Self {
        Self::new(Table::Copies, KeyPart::Number(generation.0.number().into()), None)
    }

    pub(crate) fn registered(bucket: &BucketKey) -> Self {
        let text = bucket.as_str();
        let shard = shard_of(&[text]) % LIST_SHARDS;
        let sort = KeyPart::Text(truncate_with_hash(text, SORT_BYTES_MAX).into_owned());
        Self::new(Table::Registry, registry_partition(tag_of(text), shard), Some(sort))
    }

    pub(crate) fn due(bucket: &BucketKey) -> Self {
        let text = bucket.as_str();
        let shard = shard_of(&[text]) % LIST_SHARDS;
        let sort = KeyPart::Text(truncate_with_hash(text, SORT_BYTES_MAX).into_owned());
        Self::new(Table::CompactionQueue, work_list_partition(shard), Some(sort))
    }

    pub(crate) fn record(key: &RecordKey) -> Self {
        match key {
            RecordKey::Bucket(bucket) => Self::bucket(bucket),
            RecordKey::Lookup(lookup, source) => Self::lookup(lookup, source),
            RecordKey::SourceRow(generation, table, row) => {
                Self::source_row(*generation, *table, row)
            }
            RecordKey::Copy(generation) => Self::copy(*generation),
        }
    }

    /// Returns the kind of its item, for errors.
    pub(crate) fn holds(&self) -> &'static str {
        match &self.partition {
            partition if *partition == generations_partition() => "generation",
            partition if *partition == closed_epochs_partition() => "closed epoch",
            _ => self.table.holds(),
        }
    }

    /// The key in an item that was read, or in what was left to do of a batch.
    pub(crate) fn of_item(table: Table, item: &Item) -> Option<Self> {
        let partition = KeyPart::of_attribute(item.get(PARTITION)?)?;
        let sort = match table.schema().sort {
            Some(_) => Some(KeyPart::of_attribute(item.get(SORT)?)?),
            None => None,
        };
        Some(Self { table, partition, sort })
    }

    /// Returns the key as attributes.
    pub(crate) fn attributes(&self) -> Item {
        let partition = (PARTITION.to_owned(), self.partition.attribute());
        let sort = self.sort.as_ref().map(|sort| (SORT.to_owned(), sort.attribute()));
        std::iter::once(partition).chain(sort).collect()
    }

    /// Bytes that it takes in its item, at most.
    pub(crate) fn len(&self) -> usize {
        2 + self.partition.len() + self.sort.as_ref().map_or(0, KeyPart::len)
    }

    /// A name for an object that belongs to the item, in two parts: equal keys have equal names.
    pub(crate) fn object_folder(&self) -> String {
        let mut hash = Sha256::new();
        for part in [Some(&self.partition), self.sort.as_ref()].into_iter().flatten() {
            match part {
                KeyPart::Text(text) => hash.update(text),
                KeyPart::Number(number) => hash.update(number.to_string()),
            }
            // Neither a text in UTF-8 nor a number has this byte.
            hash.update([0xFF]);
        }
        format!("{}/{}", self.table.schema().suffix, hex::encode(&hash.finalize()[..16]))
    }
}

fn control_partition() -> KeyPart {
    KeyPart::Text("control".into())
}

pub(crate) fn closed_epochs_partition() -> KeyPart {
    KeyPart::Text("closed-epochs".into())
}

pub(crate) fn generations_partition() -> KeyPart {
    KeyPart::Text("generations".into())
}

pub(crate) fn segments_partition(bucket: &BucketKey) -> KeyPart {
    partition_text(bucket.as_str())
}

/// Returns the partition and the sort key prefix of the answers to a lookup.
pub(crate) fn lookup_range(lookup: &LookupKey) -> (KeyPart, String) {
    let text = lookup.as_str();
    let tag = tag_of(text);
    let partition = lookups_partition(tag, shard_of(&[text]));
    let values = truncate_with_hash(&text[tag.len()..], VALUES_BYTES_MAX);
    // The length says where the values end, whatever they and the source row's name contain.
    (partition, format!("{}:{values}", values.len()))
}

pub(crate) fn lookups_partition(tag: &str, shard: u8) -> KeyPart {
    KeyPart::Text(format!("{tag}/{shard:02}"))
}

pub(crate) fn source_rows_partition(generation: GenerationId, shard: u8) -> KeyPart {
    KeyPart::Text(format!("{}/{shard:02}", generation.0.number()))
}

pub(crate) fn registry_partition(tag: &str, shard: u8) -> KeyPart {
    KeyPart::Text(format!("{tag}/{shard:02}"))
}

pub(crate) fn work_list_partition(shard: u8) -> KeyPart {
    KeyPart::Number(shard.into())
}

/// The whole text, if it was cut for a sort key: then it has to be an attribute.
pub(crate) fn full_key_if_truncated(text: &str) -> Option<&str> {
    is_truncated(text, SORT_BYTES_MAX).then_some(text)
}

/// The name of a lookup's source row, if it was cut for the sort key.
pub(crate) fn source_if_truncated(source: &str) -> Option<&str> {
    is_truncated(source, SOURCE_BYTES_MAX).then_some(source)
}

/// The first sort key that a text after this one can have in a list of buckets. The text itself may
/// come after it, and so may some before it, which were cut at the same place.
pub(crate) fn first_after(text: &str) -> String {
    group(&truncate_with_hash(text, SORT_BYTES_MAX)).to_owned()
}

/// What a sort key has in common with those whose order among each other is not that of their
/// texts, since these were cut at the same place. Groups are in the order of the texts.
pub(crate) fn group(sort: &str) -> &str {
    let end = sort.len().saturating_sub(CUT_BYTES - CUT.len_utf8());
    match sort.get(..end) {
        Some(beginning) if sort.len() > SORT_BYTES_MAX - CUT_BYTES => beginning,
        _ => sort,
    }
}

pub(crate) fn tag_text(tag: &Tag) -> &str {
    tag.as_str()
}

/// The tag that a key begins with: its first six bytes.
fn tag_of(text: &str) -> &str {
    text.get(..6).unwrap_or(text)
}

fn partition_text(text: &str) -> KeyPart {
    KeyPart::Text(truncate_with_hash(text, PARTITION_BYTES_MAX).into_owned())
}

fn is_truncated(text: &str, bytes_max: usize) -> bool {
    text.len() > bytes_max - CUT_BYTES
}

/// The text itself if it leaves room for a hash, else its beginning and a hash of all of it. Other
/// texts come out as others: a text that was cut is longer than any that was not.
fn truncate_with_hash(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if !is_truncated(text, bytes_max) {
        return Cow::Borrowed(text);
    }
    let beginning = &text[..text.floor_char_boundary(bytes_max - CUT_BYTES)];
    Cow::Owned(format!("{beginning}{CUT}{}", hex::encode(Sha256::digest(text))))
}

fn shard_of(texts: &[&str]) -> u8 {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text);
        hash.update([0xFF]);
    }
    hash.finalize()[0] % SHARDS
}

#[cfg(test)]
mod tests;
