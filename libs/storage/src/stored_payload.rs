//! The stored form of a segment's payload: compressed where that saves space.
//!
//! In memory a payload is always as [`SegmentWriter`](crate::SegmentWriter) has written it. A store
//! writes what [`PayloadCompressor::compress`] returns, and reads it with [`read_payload`]. Payloads
//! that an earlier version stored are read as they are.

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use crate::error::{BoxError, StorageError};

/// The first byte of a compressed payload, before the zstd frame. Another payload begins with the
/// distance of its first operation from zero, which is never 0.
const COMPRESSED: u8 = 0;

/// The zstd level. The worker compresses whatever it stores, so this is the fastest one.
const LEVEL: i32 = 1;

/// Length in bytes below which a payload is stored as it is: one with a row or two has too little
/// repetition to be worth the time.
const COMPRESSED_BYTES_MIN: usize = 1_024;

/// The maximum length of a payload that is read: a segment of 1 MiB, and one more value of the longest
/// that PostgreSQL has.
const PAYLOAD_BYTES_MAX: usize = (1 << 30) + (2 << 20);

/// A compressor of payloads, for many of them one after another.
#[derive(Default)]
#[allow(missing_debug_implementations, reason = "zstd's compressor has none")]
pub struct PayloadCompressor {
    /// Made for the first payload that is compressed.
    compressor: Option<Compressor<'static>>,
    stored: Vec<u8>,
}

impl PayloadCompressor {
    /// Returns the stored form of a payload.
    ///
    /// # Errors
    /// `Unavailable` if there is not enough memory.
    pub fn compress<'p>(&'p mut self, payload: &'p [u8]) -> Result<&'p [u8], StorageError> {
        if payload.len() < COMPRESSED_BYTES_MIN {
            return Ok(payload);
        }
        let unavailable = |cause: std::io::Error| StorageError::Unavailable(cause.into());
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            None => self.compressor.insert(Compressor::new(LEVEL).map_err(unavailable)?),
        };

        self.stored.clear();
        self.stored.resize(1 + zstd_safe::compress_bound(payload.len()), COMPRESSED);
        let length =
            compressor.compress_to_buffer(payload, &mut self.stored[1..]).map_err(unavailable)?;
        // What zstd cannot make shorter would only cost readers time.
        let is_shorter = length + 1 < payload.len();
        Ok(if is_shorter { &self.stored[..=length] } else { payload })
    }
}

/// Returns the length of a payload, given its stored form.
///
/// # Errors
/// `Damaged` if the stored form is not one of a payload.
pub fn payload_len(stored: &[u8]) -> Result<usize, StorageError> {
    let Some(frame) = stored.strip_prefix(&[COMPRESSED]) else { return Ok(stored.len()) };
    let length = zstd_safe::get_frame_content_size(frame).ok().flatten();
    length
        .and_then(|length| usize::try_from(length).ok())
        .filter(|&length| length <= PAYLOAD_BYTES_MAX)
        .ok_or_else(|| damaged("it does not begin as a compressed payload does".into()))
}

/// Returns a payload, given its stored form.
///
/// # Errors
/// `Damaged` if the stored form is not one of a payload.
pub fn read_payload(stored: Bytes) -> Result<Bytes, StorageError> {
    let length = payload_len(&stored)?;
    let Some(frame) = stored.strip_prefix(&[COMPRESSED]) else { return Ok(stored) };

    let payload = Decompressor::new()
        .and_then(|mut decompressor| decompressor.decompress(frame, length))
        .map_err(|cause| damaged(cause.into()))?;
    if payload.len() != length {
        return Err(damaged("it is shorter than it says".into()));
    }
    Ok(payload.into())
}

fn damaged(cause: BoxError) -> StorageError {
    StorageError::Damaged("payload of a segment", cause)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidewater_protocol::{Body, Checksum, Epoch, OpId, Operation, RowKey};

    use super::*;
    use crate::SegmentWriter;

    fn stored(payload: &[u8]) -> Bytes {
        let mut compressor = PayloadCompressor::default();
        Bytes::copy_from_slice(compressor.compress(payload).unwrap())
    }

    /// The payload of a segment with this many similar rows.
    fn rows(count: u64) -> Vec<u8> {
        let mut writer = SegmentWriter::default();
        for number in 1..=count {
            let id = number.to_string();
            let data = format!("{{\"id\":\"{id}\",\"text\":\"Buy milk and bread\"}}");
            let row = RowKey::new("todos", &id, "0");
            writer.push(&Operation {
                op_id: OpId::new(Epoch::ZERO.next().unwrap(), number),
                checksum: Checksum(u32::try_from(number).unwrap().wrapping_mul(0x9e37_79b9)),
                body: Body::Put { row, data: data.into() },
            });
        }
        writer.into_payload()
    }

    proptest! {
        #[test]
        fn a_payload_is_read_as_it_was(
            first in 1_u8..,
            rest in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'a')], 0..5_000),
        ) {
            let payload = [vec![first], rest].concat();
            let stored = stored(&payload);
            prop_assert!(stored.len() <= payload.len());
            prop_assert_eq!(payload_len(&stored).unwrap(), payload.len());
            prop_assert_eq!(read_payload(stored).unwrap(), payload);
        }

        #[test]
        fn damage_is_an_error_or_another_payload(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let bytes = [vec![COMPRESSED], bytes].concat();
            let _ = read_payload(bytes.into());
        }
    }

    #[test]
    fn many_rows_take_less_than_half_of_their_length_and_one_row_is_stored_as_it_is() {
        let many = rows(100);
        assert!(stored(&many).len() < many.len() / 2, "{} bytes", stored(&many).len());
        let one = rows(1);
        assert_eq!(stored(&one), one);
    }

    #[test]
    fn one_compressor_serves_payloads_of_any_length() {
        let mut compressor = PayloadCompressor::default();
        for count in [300, 1, 40, 2_000, 40] {
            let payload = rows(count);
            let stored = Bytes::copy_from_slice(compressor.compress(&payload).unwrap());
            assert_eq!(read_payload(stored).unwrap(), payload);
        }
    }

    #[test]
    fn a_payload_that_is_cut_or_too_long_is_damaged() {
        let stored = stored(&rows(100));
        for length in [1, 2, 8, stored.len() - 1] {
            let read = read_payload(stored.slice(..length));
            assert!(matches!(read, Err(StorageError::Damaged(..))), "{length} bytes");
        }

        // A frame of one repeated byte whose header says a length that nobody can have stored.
        let mut frame = vec![COMPRESSED, 0x28, 0xb5, 0x2f, 0xfd, 0xe0];
        frame.extend_from_slice(&(PAYLOAD_BYTES_MAX as u64 + 1).to_le_bytes());
        assert!(matches!(read_payload(frame.into()), Err(StorageError::Damaged(..))));
    }
}
