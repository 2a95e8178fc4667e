//! The item of a bucket: its head, and the catalog of its snapshots.

use bytes::Bytes;
use tidewater_protocol::{Checksum, OpId};

use crate::error::{BoxError, StorageError};
use crate::versioned_record::VersionedRecord;

/// A bucket at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketHead {
    /// Its last operation.
    pub last: OpId,
    /// Sum over all of its operations.
    pub sum: Checksum,
    /// How many operations it ever had.
    pub count: u64,
}

impl BucketHead {
    /// The value of a head cell.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = [0; 20];
        out[..8].copy_from_slice(&self.last.get().to_le_bytes());
        out[8..12].copy_from_slice(&self.sum.0.to_le_bytes());
        out[12..].copy_from_slice(&self.count.to_le_bytes());
        Bytes::copy_from_slice(&out)
    }

    /// Reads the value of a head cell.
    ///
    /// # Errors
    /// `Damaged` when it is none.
    pub fn decode(value: &[u8]) -> Result<Self, StorageError> {
        let fields = || {
            let value: &[u8; 20] = value.try_into().ok()?;
            let last = OpId::from_i64(i64::from_le_bytes(value[..8].try_into().ok()?))?;
            let sum = Checksum(u32::from_le_bytes(value[8..12].try_into().ok()?));
            Some(Self { last, sum, count: u64::from_le_bytes(value[12..].try_into().ok()?) })
        };
        fields().ok_or_else(|| {
            let cause: BoxError = format!("{} bytes that are no bucket head", value.len()).into();
            StorageError::Damaged("bucket head", cause)
        })
    }
}

/// What is stored of a bucket, read in one go: head and catalog never come from two moments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketItem {
    /// Versions of its [`Head`].
    pub head: VersionedRecord,
    /// The snapshots it has, in the builder's encoding; empty when it has none.
    pub catalog: Bytes,
    /// Raised by one with every change of the catalog.
    pub catalog_revision: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_head_is_read_back(last in 0..=i64::MAX, sum in any::<u32>(), count in any::<u64>()) {
            let head = BucketHead { last: OpId::from_i64(last).unwrap(), sum: Checksum(sum), count };
            prop_assert_eq!(BucketHead::decode(&head.encode()).unwrap(), head);
        }
    }

    #[test]
    fn what_is_no_head_is_an_error() {
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
