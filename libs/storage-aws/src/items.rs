//! Items: their encoding and decoding.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidewater_protocol::{Checksum, Epoch, OpId};
use tidewater_storage::{BoxError, BucketKey, ClosedEpoch, CompactionTask, Segment, StorageError};

use crate::attributes::{
    OBJECT, PARTITION, SORT, bucket, closed_epoch, compaction_task, json_record, listed, segment,
    versioned_record,
};
use crate::keys::{self, Item, ItemKey, KeyPart};
use crate::tables::Table;

/// Length in bytes above which a JSON record is compressed. With its key and revision, a longer text
/// takes a second write unit.
const JSON_BYTES_MAX: usize = 960;

/// Maximum length in bytes of a JSON record after decompression. It bounds the memory that a damaged
/// record can claim, and is far above the longest sync config.
const DECOMPRESSED_BYTES_MAX: usize = 16 << 20;

/// The level of zstd for JSON records: its default.
const COMPRESSION_LEVEL: i32 = 3;

/// Values by the placeholders that an expression names, such as `:expected`.
pub(crate) type Values = Vec<(&'static str, AttributeValue)>;

/// The location of the bytes of a versioned record or payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PayloadLocation {
    Inline(Bytes),
    /// The object of this name, with its length if that is known.
    Object(String, usize),
}

/// A segment whose payload may not have been read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredSegment {
    /// The segment with an empty payload.
    pub(crate) segment: Segment,
    pub(crate) payload: PayloadLocation,
}

pub(crate) fn number(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(crate) fn binary(bytes: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

/// Returns the item with this key and these attributes.
pub(crate) fn item<const N: usize>(key: &ItemKey, attributes: [(&str, AttributeValue); N]) -> Item {
    let mut item = key.attributes();
    item.extend(attributes.map(|(name, value)| (name.to_owned(), value)));
    item
}

/// Returns the attribute of a JSON record, compressed if it is long.
pub(crate) fn json_attribute(record: &impl Serialize) -> (&'static str, AttributeValue) {
    let text =
        serde_json::to_string(record).expect("a record of texts, numbers and lists is valid JSON");
    if text.len() <= JSON_BYTES_MAX {
        return (json_record::TEXT, AttributeValue::S(text));
    }

    let compressed =
        zstd::bulk::compress(text.as_bytes(), COMPRESSION_LEVEL).expect("memory can be compressed");
    (json_record::COMPRESSED, binary(compressed))
}

/// Reads a JSON record. `kind` names it in errors.
pub(crate) fn read_json<T: DeserializeOwned>(
    kind: &'static str,
    item: &Item,
) -> Result<T, StorageError> {
    parse_json(item).map_err(|cause| StorageError::Damaged(kind, cause))
}

fn parse_json<T: DeserializeOwned>(item: &Item) -> Result<T, BoxError> {
    if let Some(AttributeValue::S(text)) = item.get(json_record::TEXT) {
        return Ok(serde_json::from_str(text)?);
    }
    let Some(AttributeValue::B(compressed)) = item.get(json_record::COMPRESSED) else {
        return Err("the item has no record".into());
    };
    let text = zstd::bulk::decompress(compressed.as_ref(), DECOMPRESSED_BYTES_MAX)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Returns the condition that a JSON record has the expected revision, or that there is no item if
/// none is expected, with the values that it names.
pub(crate) fn revision_condition(expected: Option<u64>) -> (String, Values) {
    match expected {
        None => (format!("attribute_not_exists({PARTITION})"), vec![]),
        Some(expected) => (
            format!("{} = :expected", json_record::REVISION),
            vec![(":expected", number(expected))],
        ),
    }
}

pub(crate) fn closed_epoch(closed: &ClosedEpoch) -> Item {
    let key = ItemKey::closed_epoch(closed.epoch);
    item(&key, [(closed_epoch::LAST_COMMITTED, number(closed.last_committed.get()))])
}

pub(crate) fn read_closed_epoch(item: &Item) -> Result<ClosedEpoch, StorageError> {
    parse_closed_epoch(item).ok_or_else(|| damaged("closed epoch", item))
}

fn parse_closed_epoch(item: &Item) -> Option<ClosedEpoch> {
    Some(ClosedEpoch {
        epoch: Epoch::new(parse_unsigned(item, SORT)?)?,
        last_committed: op_id(item, closed_epoch::LAST_COMMITTED)?,
    })
}

/// Returns the item of a segment whose payload is stored at `payload`.
pub(crate) fn segment(segment: &Segment, payload: &PayloadLocation) -> Item {
    let key = ItemKey::segment(&segment.bucket, segment.last);
    let mut item = item(
        &key,
        [
            (segment::PREV, number(segment.prev.get())),
            (segment::SUM_BEFORE, number(segment.sum_before.0)),
            (segment::SUM, number(segment.sum.0)),
            (segment::COUNT, number(segment.count)),
        ],
    );

    match payload {
        PayloadLocation::Inline(payload) => {
            item.insert(segment::PAYLOAD.to_owned(), binary(&payload[..]));
        }
        PayloadLocation::Object(name, length) => {
            item.insert(OBJECT.to_owned(), AttributeValue::S(name.clone()));
            item.insert(segment::PAYLOAD_BYTES.to_owned(), number(length));
        }
    }
    item
}

pub(crate) fn read_segment(
    bucket: &BucketKey,
    mut item: Item,
) -> Result<StoredSegment, StorageError> {
    let inline = take_bytes(&mut item, segment::PAYLOAD).map(PayloadLocation::Inline);
    parse_segment(bucket, &item, inline).ok_or_else(|| damaged("segment", &item))
}

fn parse_segment(
    bucket: &BucketKey,
    item: &Item,
    inline: Option<PayloadLocation>,
) -> Option<StoredSegment> {
    let payload = match inline {
        Some(inline) => inline,
        None => PayloadLocation::Object(
            text(item, OBJECT)?,
            parse_unsigned(item, segment::PAYLOAD_BYTES)?,
        ),
    };

    let segment = Segment {
        bucket: bucket.clone(),
        last: op_id(item, SORT)?,
        prev: op_id(item, segment::PREV)?,
        sum_before: Checksum(parse_unsigned(item, segment::SUM_BEFORE)?),
        sum: Checksum(parse_unsigned(item, segment::SUM)?),
        count: parse_unsigned(item, segment::COUNT)?,
        payload: Bytes::new(),
    };
    Some(StoredSegment { segment, payload })
}

/// Takes the location of a versioned record out of an item, if it has one.
pub(crate) fn take_versioned_record(
    table: Table,
    item: &mut Item,
) -> Result<Option<PayloadLocation>, StorageError> {
    if let Some(record) = take_bytes(item, versioned_record::RECORD) {
        return Ok(Some(PayloadLocation::Inline(record)));
    }
    match (text(item, OBJECT), item.contains_key(versioned_record::NEWEST_OP)) {
        (Some(name), _) => Ok(Some(PayloadLocation::Object(name, 0))),
        (None, false) => Ok(None),
        (None, true) => Err(damaged(table.holds(), item)),
    }
}

/// Takes the bytes of a bucket's catalog out of its item. Returns them and the catalog's revision.
pub(crate) fn take_catalog(item: &mut Item) -> Result<(Bytes, u64), StorageError> {
    let catalog = take_bytes(item, bucket::CATALOG).unwrap_or_default();
    if !item.contains_key(bucket::CATALOG_REVISION) {
        return Ok((catalog, 0));
    }
    let revision = parse_unsigned(item, bucket::CATALOG_REVISION);
    Ok((catalog, revision.ok_or_else(|| damaged("catalog's revision", item))?))
}

/// Returns a listed item. `full_text` is the text of its sort key if that is truncated.
pub(crate) fn listed<const N: usize>(
    key: &ItemKey,
    full_text: Option<&str>,
    attributes: [(&str, AttributeValue); N],
) -> Item {
    let mut item = item(key, attributes);
    if let Some(full_text) = full_text {
        item.insert(listed::FULL_TEXT.to_owned(), AttributeValue::S(full_text.to_owned()));
    }
    item
}

/// Reads the full text of a listed item's sort key. `kind` names the item in errors.
pub(crate) fn read_listed(kind: &'static str, item: &Item) -> Result<String, StorageError> {
    let found = full_text_if_truncated(item).or_else(|| text(item, SORT));
    found.ok_or_else(|| damaged(kind, item))
}

/// Returns the full text of a listed item's sort key if that is truncated.
pub(crate) fn full_text_if_truncated(item: &Item) -> Option<String> {
    text(item, listed::FULL_TEXT)
}

/// Returns the item of a compaction task.
pub(crate) fn compaction_task(task: &CompactionTask) -> Item {
    listed(
        &ItemKey::due(&task.bucket),
        keys::full_key_if_truncated(task.bucket.as_str()),
        [
            (compaction_task::TRIGGERED_BY, number(task.triggered_by.get())),
            (compaction_task::NOT_BEFORE, number(task.not_before)),
        ],
    )
}

pub(crate) fn read_compaction_task(item: &Item) -> Result<CompactionTask, StorageError> {
    let bucket = BucketKey::from_stored(&read_listed("work list entry", item)?);
    parse_compaction_task(bucket, item).ok_or_else(|| damaged("work list entry", item))
}

fn parse_compaction_task(bucket: BucketKey, item: &Item) -> Option<CompactionTask> {
    Some(CompactionTask {
        bucket,
        triggered_by: op_id(item, compaction_task::TRIGGERED_BY)?,
        not_before: parse_unsigned(item, compaction_task::NOT_BEFORE)?,
    })
}

/// Returns an attribute that is a number, unless it is negative or does not fit.
pub(crate) fn parse_unsigned<T: TryFrom<u64>>(item: &Item, name: &str) -> Option<T> {
    T::try_from(item.get(name)?.as_n().ok()?.parse().ok()?).ok()
}

pub(crate) fn text(item: &Item, name: &str) -> Option<String> {
    Some(item.get(name)?.as_s().ok()?.clone())
}

fn take_bytes(item: &mut Item, name: &str) -> Option<Bytes> {
    let AttributeValue::B(bytes) = item.get_mut(name)? else { return None };
    let bytes = std::mem::replace(bytes, Blob::new([]));
    item.remove(name);
    Some(bytes.into_inner().into())
}

fn op_id(item: &Item, name: &str) -> Option<OpId> {
    OpId::from_i64(item.get(name)?.as_n().ok()?.parse().ok()?)
}

/// Returns an error that names the attributes of an item, but not their values.
pub(crate) fn damaged(kind: &'static str, item: &Item) -> StorageError {
    let mut names: Vec<_> = item.keys().map(String::as_str).collect();
    names.sort_unstable();
    let cause: BoxError = format!("an item with the attributes {}", names.join(", ")).into();
    StorageError::Damaged(kind, cause)
}

/// Returns the size of an item in bytes by DynamoDB's rules: names and values. A number takes a byte
/// for two digits, and one more.
pub(crate) fn size(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + size_of_value(value)).sum()
}

pub(crate) fn size_of_value(value: &AttributeValue) -> usize {
    if let AttributeValue::S(text) = value {
        return text.len();
    }
    if let AttributeValue::B(bytes) = value {
        return bytes.as_ref().len();
    }
    // All other attributes are numbers.
    let number = value.as_n().map_or("", String::as_str);
    let digits = number.trim_start_matches('-').trim_matches('0').len();
    digits.div_ceil(2) + 1 + usize::from(number.starts_with('-'))
}

/// Returns the key of an item that was read.
pub(crate) fn read_key(table: Table, item: &Item) -> Result<ItemKey, StorageError> {
    ItemKey::of_item(table, item).ok_or_else(|| damaged(table.holds(), item))
}

/// Returns the sort key if it is a text.
pub(crate) fn sort_text(key: &ItemKey) -> Option<&str> {
    match key.sort.as_ref()? {
        KeyPart::Text(text) => Some(text),
        KeyPart::Number(_) => None,
    }
}

#[cfg(test)]
mod tests;
