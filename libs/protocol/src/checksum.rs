//! Checksums: the sums by which server and client find out that they hold the same operations.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A 32-bit hash of an operation, or the sum modulo 2^32 of several.
///
/// A bucket's sum at a checkpoint does not depend on how its operations were sent: as first
/// written, compacted, or resumed from any position. Equal sums therefore prove that no operation
/// is missing.
///
/// On the wire a checksum is an integer. Both the unsigned and the signed form are read, since
/// implementations differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Checksum(pub u32);

impl Checksum {
    /// Sum of no operations.
    pub const ZERO: Self = Self(0);
}

impl Add for Checksum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

impl Sub for Checksum {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }
}

impl AddAssign for Checksum {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Checksum {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Checksum {
    fn sum<I: Iterator<Item = Self>>(sums: I) -> Self {
        sums.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Checksum;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a checksum: a signed or unsigned integer of 32 bits")
            }

            fn visit_u64<E: de::Error>(self, sum: u64) -> Result<Checksum, E> {
                u32::try_from(sum).map(Checksum).map_err(|_| E::custom("checksum above 2^32-1"))
            }

            fn visit_i64<E: de::Error>(self, sum: i64) -> Result<Checksum, E> {
                if let Ok(sum) = u32::try_from(sum) {
                    return Ok(Checksum(sum));
                }
                let signed = i32::try_from(sum).map_err(|_| E::custom("checksum below -2^31"))?;
                Ok(Checksum(signed.cast_unsigned()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_wrap_around() {
        assert_eq!(Checksum(u32::MAX) + Checksum(2), Checksum(1));
        assert_eq!(Checksum(1) - Checksum(2), Checksum(u32::MAX));
        assert_eq!([Checksum(u32::MAX), Checksum(3)].into_iter().sum::<Checksum>(), Checksum(2));
    }

    fn read(text: &str) -> Option<Checksum> {
        serde_json::from_str(text).ok()
    }

    #[test]
    fn signed_and_unsigned_integers_are_read() {
        assert_eq!(read("-1"), Some(Checksum(u32::MAX)));
        assert_eq!(read("4294967295"), Some(Checksum(u32::MAX)));
        assert_eq!(read("-2147483648"), Some(Checksum(1 << 31)));
    }

    #[test]
    fn other_numbers_are_refused() {
        assert_eq!(read("4294967296"), None);
        assert_eq!(read("-2147483649"), None);
        assert_eq!(read("1.5"), None);
    }
}
