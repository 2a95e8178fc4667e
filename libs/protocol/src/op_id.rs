//! Op ids and epochs: the total order of all operations of a deployment.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Width of the sequence number, the low part of an op id, in bits.
const SEQUENCE_BITS: u32 = 40;
/// Width of the snapshot's number in a marker, in bits. With the tag (2^62) and 32 bits of rows
/// it fills an `i64`.
const MARKER_BITS: u32 = 30;

/// The position of an operation. Ids increase strictly over the whole deployment and are never
/// reused.
///
/// An id is `epoch << 40 | sequence`, always below 2^62. Ids from 2^62 on are markers: positions
/// inside a snapshot, see [`OpId::marker`]. On the wire an id is a decimal string, since JSON
/// numbers lose precision above 2^53.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(i64);

/// One run of the ingest worker on its replication slot. A reconnect begins a new one. Epochs start
/// at 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(u32);

/// The error of a deployment that has used all epochs that fit into an op id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deployment has used all of its epochs")]
pub struct EpochError;

/// The error of a text that is not an op id. It holds the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an op id (a decimal string from 0 to {max})", max = i64::MAX)]
pub struct InvalidOpId(pub String);

impl Epoch {
    /// Epoch before the first one. No run has it.
    pub const ZERO: Self = Self(0);
    /// Greatest epoch: 2^22 - 1, so that op ids stay below 2^62.
    pub const MAX: Self = Self((1 << 22) - 1);

    /// Returns the epoch with this number, or `None` if it exceeds [`Epoch::MAX`].
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// Returns the epoch's number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Returns the epoch after this one.
    ///
    /// # Errors
    /// Fails after [`Epoch::MAX`]. A deployment reaches it after four million runs, and must then
    /// be created again.
    pub fn next(self) -> Result<Self, EpochError> {
        Self::new(self.0 + 1).ok_or(EpochError)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl OpId {
    /// Position before the first operation.
    pub const ZERO: Self = Self(0);
    /// Greatest id of an operation: 2^62 - 1. Greater ids are markers.
    pub const MAX: Self = Self((1 << 62) - 1);

    /// Returns the id of an epoch's operation with this sequence number.
    ///
    /// # Panics
    /// Panics if the sequence number does not fit into 40 bits. At a million operations a second
    /// that takes twelve days without a reconnect, and each reconnect begins a new epoch.
    #[must_use]
    pub fn new(epoch: Epoch, sequence: u64) -> Self {
        assert!(sequence < 1 << SEQUENCE_BITS, "an epoch has at most 2^40 operations");
        Self(i64::from(epoch.0) << SEQUENCE_BITS | sequence.cast_signed())
    }

    /// Returns the op id or marker with this number, or `None` if it is negative.
    #[must_use]
    pub const fn from_i64(id: i64) -> Option<Self> {
        if id >= 0 { Some(Self(id)) } else { None }
    }

    /// Returns the id's number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Returns the marker of the position inside a snapshot behind its first `rows` rows.
    ///
    /// `snapshot` distinguishes the snapshot from others of the same bucket. Only its low 30 bits
    /// are kept.
    #[must_use]
    pub const fn marker(snapshot: u32, rows: u32) -> Self {
        let [a, b, c, d] = rows.to_le_bytes();
        let [e, f, g, h] = (snapshot & ((1 << MARKER_BITS) - 1)).to_le_bytes();
        Self(1 << 62 | i64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }

    /// Returns the snapshot's number (30 bits) and the number of rows that a marker stands for, or
    /// `None` if this is the id of an operation.
    #[must_use]
    pub const fn as_marker(self) -> Option<(u32, u32)> {
        if self.0 <= Self::MAX.0 {
            return None;
        }
        let [a, b, c, d, e, f, g, h] = self.0.to_le_bytes();
        let snapshot = u32::from_le_bytes([e, f, g, h]) & ((1 << MARKER_BITS) - 1);
        Some((snapshot, u32::from_le_bytes([a, b, c, d])))
    }

    /// Returns the epoch in which the id was assigned, or `None` for a marker.
    #[must_use]
    pub fn epoch(self) -> Option<Epoch> {
        u32::try_from(self.0 >> SEQUENCE_BITS).ok().and_then(Epoch::new)
    }

    /// Returns the sequence number within the epoch.
    #[must_use]
    pub const fn sequence(self) -> u64 {
        (self.0 & ((1 << SEQUENCE_BITS) - 1)).cast_unsigned()
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for OpId {
    type Err = InvalidOpId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().ok().and_then(Self::from_i64).ok_or_else(|| InvalidOpId(text.to_owned()))
    }
}

impl Serialize for OpId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(itoa::Buffer::new().format(self.0))
    }
}

impl<'de> Deserialize<'de> for OpId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = OpId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an op id as a decimal string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OpId, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_not_an_op_id_and_returns_its_parts() {
        for (snapshot, rows) in [(0, 0), (7, 600), ((1 << 30) - 1, u32::MAX), (1, u32::MAX)] {
            let marker = OpId::marker(snapshot, rows);
            assert!(marker > OpId::MAX && marker.epoch().is_none());
            assert_eq!(marker.as_marker(), Some((snapshot, rows)));
        }

        assert_eq!(OpId::marker(1 << 30 | 5, 1), OpId::marker(5, 1));
        assert_eq!(OpId::from_i64(i64::MAX).unwrap().as_marker(), Some(((1 << 30) - 1, u32::MAX)));

        for id in [OpId::ZERO, OpId::MAX] {
            assert_eq!(id.as_marker(), None);
        }
    }

    #[test]
    fn an_op_id_consists_of_epoch_and_sequence() {
        let id = OpId::new(Epoch::new(3).unwrap(), 7);
        assert_eq!(id.get(), (3 << 40) + 7);
        assert_eq!((id.epoch(), id.sequence()), (Epoch::new(3), 7));
    }

    #[test]
    fn ids_of_a_later_epoch_are_greater() {
        let last = OpId::new(Epoch::new(1).unwrap(), (1 << 40) - 1);
        assert!(OpId::new(Epoch::new(2).unwrap(), 0) > last);
        assert_eq!(OpId::new(Epoch::MAX, (1 << 40) - 1), OpId::MAX);
        assert_eq!(Epoch::MAX.next(), Err(EpochError));
    }

    #[test]
    fn a_marker_has_no_epoch() {
        assert_eq!(OpId::from_i64(1 << 62).unwrap().epoch(), None);
    }

    #[test]
    fn an_op_id_is_a_string_on_the_wire() {
        let id = OpId::from_i64(9_007_199_254_740_993).unwrap();
        let text = serde_json::to_string(&id).unwrap();
        assert_eq!(text, "\"9007199254740993\"");
        assert_eq!(serde_json::from_str::<OpId>(&text).unwrap(), id);
        for bad in ["7", "\"-1\"", "\"\"", "\"1.0\"", "\"9223372036854775808\""] {
            assert!(serde_json::from_str::<OpId>(bad).is_err(), "{bad}");
        }
    }
}
