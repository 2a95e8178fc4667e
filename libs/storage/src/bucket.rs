//! The stored item of a bucket: its head and its catalog.

use bytes::Bytes;
use tidewater_protocol::{Checksum, OpId};

use crate::error::{BoxError, StorageError};
use crate::versioned_record::VersionedRecord;

/// The end of a bucket's log at one checkpoint: the value of its versioned record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketHead {
    /// The last operation.
    pub last: OpId,
    /// The checksum of all operations.
    pub sum: Checksum,
    /// The number of operations ever written.
    pub count: u64,
}

impl BucketHead {
    /// Returns the stored form, as section 3 of `LAYOUT.md` specifies it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = [0; 20];
        out[..8].copy_from_slice(&self.last.get().to_le_bytes());
        out[8..12].copy_from_slice(&self.sum.0.to_le_bytes());
        out[12..].copy_from_slice(&self.count.to_le_bytes());
        Bytes::copy_from_slice(&out)
    }

    /// Decodes the stored form.
    ///
    /// # Errors
    /// `Damaged` if `value` is not a bucket head.
    pub fn decode(value: &[u8]) -> Result<Self, StorageError> {
        Self::parse(value).ok_or_else(|| {
            let cause: BoxError = format!("{} bytes are not a bucket head", value.len()).into();
            StorageError::Damaged("bucket head", cause)
        })
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let value: &[u8; 20] = value.try_into().ok()?;
        Some(Self {
            last: OpId::from_i64(i64::from_le_bytes(value[..8].try_into().ok()?))?,
            sum: Checksum(u32::from_le_bytes(value[8..12].try_into().ok()?)),
            count: u64::from_le_bytes(value[12..].try_into().ok()?),
        })
    }
}

/// A bucket's head and catalog. They are read atomically, so both are from the same moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketItem {
    /// Versions of its [`BucketHead`].
    pub head: VersionedRecord,
    /// The encoded [`Catalog`](crate::Catalog); empty if the bucket has none.
    pub catalog: Bytes,
    /// The revision of the catalog; each change increments it.
    pub catalog_revision: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_head_round_trips(last in 0..=i64::MAX, sum in any::<u32>(), count in any::<u64>()) {
            let head = BucketHead { last: OpId::from_i64(last).unwrap(), sum: Checksum(sum), count };
            prop_assert_eq!(BucketHead::decode(&head.encode()).unwrap(), head);
        }
    }

    #[test]
    fn a_value_that_is_not_a_head_is_damaged() {
        let head = BucketHead::default().encode();
        let negative = [&[0xFF; 8][..], &head[8..]].concat();
        for bad in [&head[..19], &[&head[..], &[0]].concat(), &negative, &[]] {
            assert!(matches!(
                BucketHead::decode(bad),
                Err(StorageError::Damaged("bucket head", _))
            ));
        }
    }
}
