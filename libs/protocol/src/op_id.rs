//! Op ids and epochs: the one order of everything that is stored.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bits of an op id that count within an epoch.
const SEQUENCE_BITS: u32 = 40;
/// Bits of a marker that tell its snapshot.
const MARKER_BITS: u32 = 30;

/// Position of an operation; strictly increasing over the whole deployment, never reused.
///
/// `epoch << 40 | sequence`, always below 2^62, so that ids from 2^62 on can mark a place inside a
/// snapshot. `OpId::ZERO` is "before the first". On the wire it is a decimal string: JSON numbers
/// lose precision above 2^53.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(i64);

/// One run of the ingest worker on the replication slot. Epochs start at 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(u32);

/// No further epoch fits into an op id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochError;

impl fmt::Display for EpochError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deployment has used up all of its epochs")
    }
}

impl std::error::Error for EpochError {}

impl Epoch {
    /// The first epoch is one above it.
    pub const ZERO: Self = Self(0);
    /// Epochs stay below 2^22, so that op ids stay below 2^62.
    pub const MAX: Self = Self((1 << 22) - 1);

    /// An epoch by its number, if it is in range.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The epoch after this one.
    ///
    /// # Errors
    /// When there is none left: after four million runs a deployment has to start afresh.
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
    /// Before the first operation.
    pub const ZERO: Self = Self(0);
    /// The greatest op id there can be.
    pub const MAX: Self = Self((1 << 62) - 1);

    /// The id of the `sequence`th operation of an epoch.
    ///
    /// # Panics
    /// When the sequence does not fit into 40 bits: at a million operations a second that takes
    /// twelve days without one reconnect, and the worker starts a new epoch long before.
    #[must_use]
    pub fn new(epoch: Epoch, sequence: u64) -> Self {
        assert!(sequence < 1 << SEQUENCE_BITS, "an epoch holds at most 2^40 operations");
        Self(i64::from(epoch.0) << SEQUENCE_BITS | sequence.cast_signed())
    }

    /// An op id by its number, which is any non-negative 64-bit integer: positions that clients
    /// send may lie above [`OpId::MAX`].
    #[must_use]
    pub const fn from_i64(id: i64) -> Option<Self> {
        if id >= 0 { Some(Self(id)) } else { None }
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The marker for a place inside a snapshot: `rows` of its rows are there. `snapshot` is any
    /// number that tells it apart from the bucket's other snapshots; 30 bits of it count.
    #[must_use]
    pub const fn marker(snapshot: u32, rows: u32) -> Self {
        let [a, b, c, d] = rows.to_le_bytes();
        let [e, f, g, h] = (snapshot & ((1 << MARKER_BITS) - 1)).to_le_bytes();
        Self(1 << 62 | i64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }

    /// The snapshot (30 bits) and the number of rows that a marker stands for; `None` when it is
    /// an operation's id.
    #[must_use]
    pub const fn as_marker(self) -> Option<(u32, u32)> {
        if self.0 <= Self::MAX.0 {
            return None;
        }
        let [a, b, c, d, e, f, g, h] = self.0.to_le_bytes();
        let snapshot = u32::from_le_bytes([e, f, g, h]) & ((1 << MARKER_BITS) - 1);
        Some((snapshot, u32::from_le_bytes([a, b, c, d])))
    }

    /// The epoch it was given in; `None` for a marker (2^62 and above).
    #[must_use]
    pub fn epoch(self) -> Option<Epoch> {
        u32::try_from(self.0 >> SEQUENCE_BITS).ok().and_then(Epoch::new)
    }

    /// Its place within its epoch.
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
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().ok().and_then(Self::from_i64).ok_or_else(|| {
            format!("'{text}' is not an op id (a decimal string from 0 to {})", i64::MAX)
        })
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
    fn a_marker_is_no_op_id_and_says_what_it_marks() {
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
    fn an_op_id_is_epoch_and_sequence() {
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
    fn on_the_wire_it_is_a_string() {
        let id = OpId::from_i64(9_007_199_254_740_993).unwrap();
        let text = serde_json::to_string(&id).unwrap();
        assert_eq!(text, "\"9007199254740993\"");
        assert_eq!(serde_json::from_str::<OpId>(&text).unwrap(), id);
        for bad in ["7", "\"-1\"", "\"\"", "\"1.0\"", "\"9223372036854775808\""] {
            assert!(serde_json::from_str::<OpId>(bad).is_err(), "{bad}");
        }
    }
}
