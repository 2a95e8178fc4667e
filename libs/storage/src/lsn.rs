//! Positions in PostgreSQL's write-ahead log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A byte position in PostgreSQL's write-ahead log. Its text is two hexadecimal halves:
/// `16/B374D848`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> Self {
        lsn.to_string()
    }
}

impl TryFrom<String> for Lsn {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Lsn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let halves = text.split_once('/').and_then(|(high, low)| {
            let half = |digits| u32::from_str_radix(digits, 16).ok().map(u64::from);
            Some(half(high)? << 32 | half(low)?)
        });
        halves.map(Self).ok_or_else(|| format!("'{text}' is not an LSN"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgresql_s_text_form_round_trips() {
        assert_eq!("16/B374D848".parse(), Ok(Lsn(0x16_B374_D848)));
        assert_eq!(Lsn(0x16_0000_0000).to_string(), "16/0");
        assert!("16B374D848".parse::<Lsn>().is_err());
        assert!(Lsn(0x10_0000_0000) > Lsn(0xF_FFFF_FFFF));
    }
}
