//! The attributes of items besides their keys: their names, encoding and decoding.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidewater_protocol::{Checksum, Epoch, OpId};
use tidewater_storage::{BoxError, BucketKey, ClosedEpoch, CompactionTask, Segment, StorageError};

use crate::keys::{Item, ItemKey, KeyPart};
use crate::tables::{SORT, Table};

/// Revision of a record.
pub(crate) const REVISION: &str = "r";
/// A record as JSON text, or a cell's bytes.
pub(crate) const VALUE: &str = "v";
/// A record as compressed JSON text.
const COMPRESSED: &str = "z";
/// The layout of all that is stored.
pub(crate) const LAYOUT: &str = "y";
/// Top of a cell; the last ticket.
pub(crate) const TOP: &str = "t";
/// Name of the object that holds what would not fit.
pub(crate) const OBJECT: &str = "o";
/// Catalog of a bucket, and its revision.
pub(crate) const CATALOG: &str = "k";
pub(crate) const CATALOG_REVISION: &str = "g";
/// The text that the sort key was cut from.
const FULL_KEY: &str = "k";
/// Op id that made a bucket due, and the time before which it is not.
pub(crate) const AT: &str = "a";
pub(crate) const NOT_BEFORE: &str = "n";
/// The time at which the item expires, in seconds since 1970.
pub(crate) const EXPIRES: &str = "x";
/// Op id up to which a closed epoch counts; bytes of a segment's payload that is an object.
const LIMIT: &str = "l";
const LENGTH: &str = "l";

/// Parts of a segment.
const PREV: &str = "a";
const SUM_BEFORE: &str = "b";
const COUNT: &str = "c";
const SUM: &str = "n";
const PAYLOAD: &str = "d";

/// A longer record is compressed: with its key and revision it would take a second write unit.
const RECORD_BYTES_MAX: usize = 960;

/// Bytes of a record at most, when unpacked.
const UNPACKED_BYTES_MAX: usize = 16 << 20;

/// The location of the bytes of a versioned record or segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PayloadLocation {
    Inline(Bytes),
    /// The object of this name, with its length if that is known.
    Object(String, usize),
}

/// A segment whose payload may not have been read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredSegment {
    /// With an empty payload.
    pub(crate) segment: Segment,
    pub(crate) payload: PayloadLocation,
}

pub(crate) fn number(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(crate) fn binary(bytes: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

/// The item of a key with these attributes.
pub(crate) fn item<const N: usize>(key: &ItemKey, rest: [(&str, AttributeValue); N]) -> Item {
    let mut item = key.attributes();
    item.extend(rest.map(|(name, value)| (name.to_owned(), value)));
    item
}

/// The attribute of a record: JSON, compressed if it is long.
pub(crate) fn json_attribute(record: &impl Serialize) -> (&'static str, AttributeValue) {
    let text =
        serde_json::to_string(record).expect("a record of texts, numbers and lists is valid JSON");
    if text.len() <= RECORD_BYTES_MAX {
        return (VALUE, AttributeValue::S(text));
    }
    let packed = zstd::bulk::compress(text.as_bytes(), 3).expect("memory can be compressed");
    (COMPRESSED, binary(packed))
}

/// Reads a record.
pub(crate) fn read_json<T: DeserializeOwned>(
    what: &'static str,
    item: &Item,
) -> Result<T, StorageError> {
    let damaged = |cause: BoxError| StorageError::Damaged(what, cause);
    if let Some(AttributeValue::S(text)) = item.get(VALUE) {
        return serde_json::from_str(text).map_err(|error| damaged(error.into()));
    }
    let Some(AttributeValue::B(packed)) = item.get(COMPRESSED) else {
        return Err(damaged("no record".into()));
    };
    let text = zstd::bulk::decompress(packed.as_ref(), UNPACKED_BYTES_MAX)
        .map_err(|error| damaged(error.into()))?;
    serde_json::from_slice(&text).map_err(|error| damaged(error.into()))
}

pub(crate) fn closed_epoch(closed: &ClosedEpoch) -> Item {
    let key = ItemKey::closed_epoch(closed.epoch);
    item(&key, [(LIMIT, number(closed.last_committed.get()))])
}

pub(crate) fn read_closed_epoch(item: &Item) -> Result<ClosedEpoch, StorageError> {
    let read = || {
        let epoch = Epoch::new(u32::try_from(whole_number(item, SORT)?).ok()?)?;
        Some(ClosedEpoch { epoch, last_committed: op_id(item, LIMIT)? })
    };
    read().ok_or_else(|| damaged("closed epoch", item))
}

/// The item of a segment whose payload is stored so.
pub(crate) fn segment(segment: &Segment, payload: &PayloadLocation) -> Item {
    let key = ItemKey::segment(&segment.bucket, segment.last);
    let mut item = item(
        &key,
        [
            (PREV, number(segment.prev.get())),
            (SUM_BEFORE, number(segment.sum_before.0)),
            (SUM, number(segment.sum.0)),
            (COUNT, number(segment.count)),
        ],
    );
    match payload {
        PayloadLocation::Inline(payload) => {
            item.insert(PAYLOAD.to_owned(), binary(&payload[..]));
        }
        PayloadLocation::Object(name, length) => {
            item.insert(OBJECT.to_owned(), AttributeValue::S(name.clone()));
            item.insert(LENGTH.to_owned(), number(length));
        }
    }
    item
}

pub(crate) fn read_segment(
    bucket: &BucketKey,
    mut item: Item,
) -> Result<StoredSegment, StorageError> {
    let payload = take_bytes(&mut item, PAYLOAD).map(PayloadLocation::Inline);
    let read = || {
        let object =
            || Some(PayloadLocation::Object(text(&item, OBJECT)?, parse_unsigned(&item, LENGTH)?));
        let segment = Segment {
            bucket: bucket.clone(),
            last: op_id(&item, SORT)?,
            prev: op_id(&item, PREV)?,
            sum_before: Checksum(parse_unsigned(&item, SUM_BEFORE)?),
            sum: Checksum(parse_unsigned(&item, SUM)?),
            count: parse_unsigned(&item, COUNT)?,
            payload: Bytes::new(),
        };
        Some(StoredSegment { segment, payload: payload.or_else(object)? })
    };
    read().ok_or_else(|| damaged("segment", &item))
}

/// Takes the location of a versioned record out of an item, if it has one.
pub(crate) fn take_versioned_record(
    table: Table,
    item: &mut Item,
) -> Result<Option<PayloadLocation>, StorageError> {
    if let Some(record) = take_bytes(item, VALUE) {
        return Ok(Some(PayloadLocation::Inline(record)));
    }
    match (text(item, OBJECT), item.contains_key(TOP)) {
        (Some(name), _) => Ok(Some(PayloadLocation::Object(name, 0))),
        (None, false) => Ok(None),
        (None, true) => Err(damaged(table.holds(), item)),
    }
}

/// Bytes and revision of a bucket's catalog.
pub(crate) fn take_catalog(item: &mut Item) -> Result<(Bytes, u64), StorageError> {
    let catalog = take_bytes(item, CATALOG).unwrap_or_default();
    if !item.contains_key(CATALOG_REVISION) {
        return Ok((catalog, 0));
    }
    let revision = parse_unsigned(item, CATALOG_REVISION);
    Ok((catalog, revision.ok_or_else(|| damaged("catalog's revision", item))?))
}

/// The item of a list whose sort key stands for this text, whole or cut.
pub(crate) fn listed<const N: usize>(
    key: &ItemKey,
    whole: Option<&str>,
    rest: [(&str, AttributeValue); N],
) -> Item {
    let mut item = item(key, rest);
    if let Some(whole) = whole {
        item.insert(FULL_KEY.to_owned(), AttributeValue::S(whole.to_owned()));
    }
    item
}

/// The text that the sort key of a listed item stands for.
pub(crate) fn read_listed(what: &'static str, item: &Item) -> Result<String, StorageError> {
    let found = whole_text(item).or_else(|| text(item, SORT));
    found.ok_or_else(|| damaged(what, item))
}

/// The text that the sort key was cut from, if it was.
pub(crate) fn whole_text(item: &Item) -> Option<String> {
    text(item, FULL_KEY)
}

pub(crate) fn read_compaction_task(item: &Item) -> Result<CompactionTask, StorageError> {
    let bucket = BucketKey::from_stored(&read_listed("work list entry", item)?);
    let read = || {
        Some(CompactionTask {
            bucket,
            triggered_by: op_id(item, AT)?,
            not_before: parse_unsigned(item, NOT_BEFORE)?,
        })
    };
    read().ok_or_else(|| damaged("work list entry", item))
}

/// A number that is not negative and fits.
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

fn whole_number(item: &Item, name: &str) -> Option<i64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

fn op_id(item: &Item, name: &str) -> Option<OpId> {
    OpId::from_i64(whole_number(item, name)?)
}

/// Says which attributes there are, but not what they hold.
pub(crate) fn damaged(what: &'static str, item: &Item) -> StorageError {
    let mut names: Vec<_> = item.keys().map(String::as_str).collect();
    names.sort_unstable();
    let cause: BoxError = format!("an item with the attributes {}", names.join(", ")).into();
    StorageError::Damaged(what, cause)
}

/// Bytes of an item by DynamoDB's rules: names and values; a number takes a byte for two digits,
/// and one more.
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
    // We store nothing else but numbers.
    let number = value.as_n().map_or("", String::as_str);
    let digits = number.trim_start_matches('-').trim_matches('0').len();
    digits.div_ceil(2) + 1 + usize::from(number.starts_with('-'))
}

/// The key of a read item.
pub(crate) fn read_key(table: Table, item: &Item) -> Result<ItemKey, StorageError> {
    ItemKey::of_item(table, item).ok_or_else(|| damaged(table.holds(), item))
}

/// The text of a sort key.
pub(crate) fn sort_text(key: &ItemKey) -> Option<&str> {
    match key.sort.as_ref()? {
        KeyPart::Text(text) => Some(text),
        KeyPart::Number(_) => None,
    }
}

#[cfg(test)]
mod tests;
