//! Unsigned LEB128: the variable-length integers of every binary format of ours.
//!
//! A number is written seven bits a byte, the lowest first. Every byte but the last has its
//! highest bit set. `decode(encode(n)) == n` for every `u64`, and each number has exactly one
//! encoding: [`decode`] refuses a longer one.
//!
//! ```
//! use tidewater_protocol::leb128;
//!
//! let mut out = Vec::new();
//! leb128::encode(&mut out, 300);
//! assert_eq!(out, [0xAC, 0x02]);
//!
//! let mut input = out.as_slice();
//! assert_eq!(leb128::decode(&mut input), Ok(300));
//! assert!(input.is_empty());
//! ```

use std::fmt;

/// Bits of a number that one byte carries.
const BITS_PER_BYTE: u32 = 7;
/// The bit of a byte that announces a further byte.
const CONTINUES: u8 = 0x80;

/// The reason why bytes are not the encoding of a `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The input ends within a number.
    Truncated,
    /// The number is greater than `u64::MAX`.
    Overflow,
    /// The encoding is longer than the number needs: its last byte is zero.
    Overlong,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the input ends within a variable-length integer",
            Self::Overflow => "a variable-length integer exceeds 64 bits",
            Self::Overlong => "a variable-length integer is longer than it needs to be",
        })
    }
}

impl std::error::Error for DecodeError {}

/// Appends the encoding of `number`, which takes one to ten bytes.
pub fn encode(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = number.to_le_bytes()[0] & !CONTINUES;
        number >>= BITS_PER_BYTE;

        if number == 0 {
            return out.push(low);
        }
        out.push(low | CONTINUES);
    }
}

/// Reads a number from the start of `input`, and moves `input` behind it.
///
/// # Errors
/// Fails if `input` does not start with the encoding of a `u64`. Then `input` stays as it was.
pub fn decode(input: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut number = 0;
    let mut shift = 0;

    for (at, &byte) in input.iter().enumerate() {
        let bits = u64::from(byte & !CONTINUES);
        // Bits that the shift pushes out at the top would be lost silently.
        if shift >= u64::BITS || bits << shift >> shift != bits {
            return Err(DecodeError::Overflow);
        }
        number |= bits << shift;
        shift += BITS_PER_BYTE;

        if byte & CONTINUES == 0 {
            if byte == 0 && at > 0 {
                return Err(DecodeError::Overlong);
            }
            *input = &input[at + 1..];
            return Ok(number);
        }
    }
    Err(DecodeError::Truncated)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, number);
        out
    }

    #[test]
    fn the_encoding_is_fixed() {
        assert_eq!(encoded(0), [0]);
        assert_eq!(encoded(127), [0x7F]);
        assert_eq!(encoded(128), [0x80, 0x01]);
        assert_eq!(encoded(624_485), [0xE5, 0x8E, 0x26]);
        assert_eq!(encoded(u64::MAX), [[0xFF; 9].as_slice(), &[0x01]].concat());
    }

    fn check(mut input: &[u8], expected: DecodeError) {
        let before = input;
        assert_eq!(decode(&mut input), Err(expected), "{before:?}");
        assert_eq!(input, before, "a refused input is not consumed");
    }

    #[test]
    fn malformed_encodings_are_refused() {
        check(&[], DecodeError::Truncated);
        check(&[0xFF, 0x80], DecodeError::Truncated);
        check(&[0x80, 0x00], DecodeError::Overlong);
        check(&[0xFF, 0x80, 0x00], DecodeError::Overlong);
        check(&[[0xFF; 9].as_slice(), &[0x02]].concat(), DecodeError::Overflow);
        check(&[[0x80; 10].as_slice(), &[0x01]].concat(), DecodeError::Overflow);
        check(&[0x80; 11], DecodeError::Overflow);
    }

    proptest! {
        #[test]
        fn every_number_is_read_as_it_was_written(
            number in any::<u64>(),
            shift in 0..64_u32,
            behind in proptest::collection::vec(any::<u8>(), 0..4),
        ) {
            // The shift makes numbers of every length equally likely.
            let number = number >> shift;
            let bytes = [encoded(number), behind.clone()].concat();
            let mut input = bytes.as_slice();
            prop_assert_eq!(decode(&mut input), Ok(number));
            prop_assert_eq!(input, behind);
        }

        #[test]
        fn a_number_has_one_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut input = bytes.as_slice();
            if let Ok(number) = decode(&mut input) {
                let length = bytes.len() - input.len();
                prop_assert_eq!(encoded(number), &bytes[..length]);
            }
        }
    }
}
