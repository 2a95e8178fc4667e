//! Keys of items. No other file builds or parses them.
//!
//! DynamoDB limits partition keys to 2,048 bytes and sort keys to 1,024. Bucket parameters may be
//! longer. [`truncate_with_hash`] replaces a text that does not fit by its prefix and a hash of the full
//! text. Where items are listed, the full text is an attribute.

use std::borrow::Cow;
use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use sha2::{Digest, Sha256};
use tidewater_protocol::{Epoch, OpId};
use tidewater_storage::{BucketKey, ClientKey, GenerationId, LookupKey, RecordKey, Tag};

use crate::attributes::{PARTITION, SORT};
use crate::tables::{KeyType, Table, TableSchema};

/// Maximum length of a partition key in bytes: DynamoDB's limit.
pub(crate) const PARTITION_BYTES_MAX: usize = 2_048;

/// Maximum length of a sort key in bytes: DynamoDB's limit.
pub(crate) const SORT_BYTES_MAX: usize = 1_024;

/// Maximum length in bytes of a lookup's values in a sort key. The source row has the rest.
const VALUES_BYTES_MAX: usize = 424;

/// Maximum length in bytes of a source row's name in the sort key of a lookup, beside the length of the
/// values and a colon.
const SOURCE_BYTES_MAX: usize = SORT_BYTES_MAX - VALUES_BYTES_MAX - 4;

/// Maximum length in bytes of a source row's key in a sort key, after the number of its table and a
/// slash.
const ROW_BYTES_MAX: usize = SORT_BYTES_MAX - 6;

/// Number of partitions over which the rows of a generation and the answers to a lookup are spread. One
/// partition takes 1,000 writes a second, which would limit an initial copy. A deletion queries each.
pub(crate) const SHARDS: u8 = 64;

/// Number of partitions over which a tag's registered buckets and the compaction tasks are spread.
pub(crate) const LIST_SHARDS: u8 = 16;

/// The separator of a truncated text and its hash. It is the greatest character, so a truncated text
/// sorts after all full texts with the same prefix.
const CUT: char = '\u{10FFFF}';

/// Length in bytes of [`CUT`] and the hash.
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
            // The maximum: each of two digits takes a byte.
            Self::Number(_) => 12,
        }
    }
}

impl ItemKey {
    fn new(table: Table, partition: KeyPart, sort: Option<KeyPart>) -> Self {
        Self { table, partition, sort }
    }

    /// Returns the key of the control record.
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

    /// Returns a key under which no item is ever stored.
    pub(crate) fn never_stored(table: Table) -> Self {
        let key_part = |key_type| match key_type {
            KeyType::Text => KeyPart::Text("never-stored".into()),
            KeyType::Number => KeyPart::Number(-1),
        };
        let TableSchema { partition, sort, .. } = table.schema();
        Self::new(table, key_part(partition), sort.map(key_part))
    }

    /// Returns the key of the ticket counter.
    pub(crate) fn ticket_counter() -> Self {
        Self::new(Table::WriteCheckpoints, KeyPart::Text("bell".into()), None)
    }

    pub(crate) fn write_requests(client: &ClientKey) -> Self {
        // A JSON array separates the two texts, whatever they contain.
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
        let name = truncate_with_hash(row, ROW_BYTES_MAX);
        let sort = KeyPart::Text(source_rows_prefix(table) + &name);
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

    /// Returns the key in an item that was read.
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

    /// Returns the maximum size of the key in its item in bytes.
    pub(crate) fn len(&self) -> usize {
        2 + self.partition.len() + self.sort.as_ref().map_or(0, KeyPart::len)
    }

    /// Returns the first two parts of the names of the item's objects. Different keys have different
    /// names.
    pub(crate) fn object_folder(&self) -> String {
        let mut hash = Sha256::new();
        for part in [Some(&self.partition), self.sort.as_ref()].into_iter().flatten() {
            match part {
                KeyPart::Text(text) => hash.update(text),
                KeyPart::Number(number) => hash.update(number.to_string()),
            }
            // Neither UTF-8 nor a number contains this byte, so parts cannot run into each other.
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

/// Returns the prefix of the sort keys of a table's source rows.
pub(crate) fn source_rows_prefix(table: u16) -> String {
    format!("{table}/")
}

pub(crate) fn registry_partition(tag: &str, shard: u8) -> KeyPart {
    KeyPart::Text(format!("{tag}/{shard:02}"))
}

pub(crate) fn work_list_partition(shard: u8) -> KeyPart {
    KeyPart::Number(shard.into())
}

/// Returns the text if a sort key truncates it: then it is stored as an attribute.
pub(crate) fn full_key_if_truncated(text: &str) -> Option<&str> {
    is_truncated(text, SORT_BYTES_MAX).then_some(text)
}

/// Returns the name of a lookup's source row if the sort key truncates it.
pub(crate) fn source_if_truncated(source: &str) -> Option<&str> {
    is_truncated(source, SOURCE_BYTES_MAX).then_some(source)
}

/// Returns the name of a source row if the sort key truncates it.
pub(crate) fn row_if_truncated(row: &str) -> Option<&str> {
    is_truncated(row, ROW_BYTES_MAX).then_some(row)
}

/// Returns whether a name in the sort key of a source row is truncated.
pub(crate) fn is_row_truncated(name: &str) -> bool {
    is_truncated(name, ROW_BYTES_MAX)
}

/// Returns a lower limit of the sort keys of all buckets after this text. The text itself may be above
/// it, and so may lower texts that are truncated at the same place.
pub(crate) fn first_after(text: &str) -> String {
    group(&truncate_with_hash(text, SORT_BYTES_MAX)).to_owned()
}

/// Returns the group of a sort key. Texts that are truncated at the same place form a group. Within it,
/// sort keys are not in the order of their texts; groups are.
pub(crate) fn group(sort: &str) -> &str {
    let end = sort.len().saturating_sub(CUT_BYTES - CUT.len_utf8());
    match sort.get(..end) {
        Some(prefix) if sort.len() > SORT_BYTES_MAX - CUT_BYTES => prefix,
        _ => sort,
    }
}

pub(crate) fn tag_text(tag: &Tag) -> &str {
    tag.as_str()
}

/// Returns the tag of a bucket or lookup: the first six bytes of its key.
fn tag_of(text: &str) -> &str {
    text.get(..6).unwrap_or(text)
}

fn partition_text(text: &str) -> KeyPart {
    KeyPart::Text(truncate_with_hash(text, PARTITION_BYTES_MAX).into_owned())
}

fn is_truncated(text: &str, bytes_max: usize) -> bool {
    text.len() > bytes_max - CUT_BYTES
}

/// Returns the text if it leaves room for a hash, else its prefix and a hash of the full text.
///
/// Different texts have different results: a truncated text is longer than every text that is not.
fn truncate_with_hash(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if !is_truncated(text, bytes_max) {
        return Cow::Borrowed(text);
    }
    let prefix = &text[..text.floor_char_boundary(bytes_max - CUT_BYTES)];
    Cow::Owned(format!("{prefix}{CUT}{}", hex::encode(Sha256::digest(text))))
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
