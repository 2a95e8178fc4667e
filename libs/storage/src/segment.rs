//! Segments: immutable runs of operations of one bucket.

use bytes::Bytes;
use tidewater_protocol::{Body, Checksum, OpId, Operation, RowKey, leb128};

use crate::BucketKey;

/// A run of operations of one bucket, stored under its last op id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The bucket.
    pub bucket: BucketKey,
    /// The last operation of the segment.
    pub last: OpId,
    /// The last operation of the previous committed segment; zero in the first segment.
    pub prev: OpId,
    /// The checksum of all earlier operations of the bucket.
    pub sum_before: Checksum,
    /// The checksum of its own operations.
    pub sum: Checksum,
    /// The number of operations.
    pub count: u64,
    /// The operations, as [`SegmentWriter`] encodes them.
    pub payload: Bytes,
}

/// A payload that cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored segment is damaged at byte {0}")]
pub struct SegmentError(usize);

const PUT: u8 = 1;
const REMOVE: u8 = 2;
const MOVE: u8 = 3;
const CLEAR: u8 = 4;
/// A bit of the kind: the object type is that of the previous row operation.
const SAME_TYPE: u8 = 0x80;

/// An encoder of operations into a payload, as section 4 of `LAYOUT.md` specifies it.
#[derive(Clone, Debug, Default)]
pub struct SegmentWriter {
    payload: Vec<u8>,
    object_type: String,
    last: OpId,
    sum: Checksum,
    count: u64,
}

impl SegmentWriter {
    /// Appends an operation. Op ids must increase.
    pub fn push(&mut self, operation: &Operation<'_>) {
        debug_assert!(operation.op_id > self.last || self.count == 0, "op ids must rise");
        let distance = operation.op_id.get().abs_diff(self.last.get());
        self.varint(distance);

        let (kind, row, data) = match &operation.body {
            Body::Put { row, data } => (PUT, Some(row), Some(data)),
            Body::Remove { row } => (REMOVE, Some(row), None),
            Body::Move => (MOVE, None, None),
            Body::Clear => (CLEAR, None, None),
        };
        let has_same_type =
            row.is_some_and(|row| self.count > 0 && row.object_type == *self.object_type);
        self.payload.push(if has_same_type { kind | SAME_TYPE } else { kind });
        self.payload.extend_from_slice(&operation.checksum.0.to_le_bytes());

        if let Some(row) = row {
            if !has_same_type {
                self.text(&row.object_type);
                self.object_type.clear();
                self.object_type.push_str(&row.object_type);
            }
            self.text(&row.object_id);
            self.text(&row.subkey);
        }
        if let Some(data) = data {
            self.text(data);
        }

        self.last = operation.op_id;
        self.sum += operation.checksum;
        self.count += 1;
    }

    /// Returns the size of the payload in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.payload.len()
    }

    /// Returns whether the payload contains no operation.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the number of operations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the payload.
    #[must_use]
    pub fn into_payload(self) -> Vec<u8> {
        self.payload
    }

    /// Returns the segment after operation `prev`. `sum_before` is the checksum of all earlier
    /// operations.
    #[must_use]
    pub fn finish(self, bucket: BucketKey, prev: OpId, sum_before: Checksum) -> Segment {
        let Self { payload, last, sum, count, .. } = self;
        Segment { bucket, last, prev, sum_before, sum, count, payload: payload.into() }
    }

    fn varint(&mut self, value: u64) {
        leb128::encode(&mut self.payload, value);
    }

    fn text(&mut self, text: &str) {
        self.varint(text.len() as u64);
        self.payload.extend_from_slice(text.as_bytes());
    }
}

/// A decoder of payloads. It ends after an error.
#[derive(Clone, Debug)]
pub struct SegmentReader<'a> {
    payload: &'a [u8],
    at: usize,
    object_type: &'a str,
    last: OpId,
}

impl<'a> SegmentReader<'a> {
    /// Creates a decoder at the start of a payload.
    #[must_use]
    pub const fn new(payload: &'a [u8]) -> Self {
        Self { payload, at: 0, object_type: "", last: OpId::ZERO }
    }

    fn operation(&mut self) -> Option<Operation<'a>> {
        let distance = i64::try_from(self.varint()?).ok().filter(|&distance| distance > 0)?;
        let op_id = OpId::from_i64(self.last.get().checked_add(distance)?)?;
        self.last = op_id;

        let kind = self.bytes(1)?[0];
        let checksum = Checksum(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?));
        let body = match kind & !SAME_TYPE {
            PUT => {
                let row = self.row(kind)?;
                Body::Put { row, data: self.text()?.into() }
            }
            REMOVE => Body::Remove { row: self.row(kind)? },
            MOVE => Body::Move,
            CLEAR => Body::Clear,
            _ => return None,
        };
        Some(Operation { op_id, checksum, body })
    }

    fn row(&mut self, kind: u8) -> Option<RowKey<'a>> {
        if kind & SAME_TYPE == 0 {
            self.object_type = self.text()?;
        }
        Some(RowKey::new(self.object_type, self.text()?, self.text()?))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.varint()?).ok()?;
        std::str::from_utf8(self.bytes(length)?).ok()
    }

    fn varint(&mut self) -> Option<u64> {
        let mut rest = &self.payload[self.at..];
        let value = leb128::decode(&mut rest).ok()?;
        self.at = self.payload.len() - rest.len();
        Some(value)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let bytes = self.payload.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(bytes)
    }
}

impl<'a> Iterator for SegmentReader<'a> {
    type Item = Result<Operation<'a>, SegmentError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.payload.len() {
            return None;
        }
        let read = self.operation();
        Some(read.ok_or_else(|| {
            let at = std::mem::replace(&mut self.at, self.payload.len());
            SegmentError(at)
        }))
    }
}

#[cfg(test)]
mod tests;
