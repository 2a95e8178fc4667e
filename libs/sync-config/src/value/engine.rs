//! The two engines: sets of rules by which expressions are evaluated.

use std::borrow::Cow;

use serde::Serialize;

use super::number;

/// Rules of evaluation where the two implementations of the language differ.
///
/// The methods are all of the differences. Dates, geometries, arrays after IN, `upper` and `lower`
/// are the same. So are the digits of reals in text: the fewest that give the number again, as in
/// JavaScript, since those of SQLite depend on its version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) enum Engine {
    /// The default, and the only engine before edition 3.
    #[default]
    JavaScript,
    Sqlite,
}

impl Engine {
    /// Returns whether this is the default engine. Hashes omit the default, so that they are the
    /// same as before there were two engines.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether AND, OR, NOT and BETWEEN use three-valued logic. Without it, NULL is false
    /// in AND and OR, NOT of NULL is true, and BETWEEN with a NULL is NULL.
    pub(crate) fn is_three_valued(self) -> bool {
        self == Self::Sqlite
    }

    /// Returns whether JSON paths are SQLite's, with `[0]`, and give members as they are written.
    pub(crate) fn has_sqlite_json_paths(self) -> bool {
        self == Self::Sqlite
    }

    /// Returns whether `substring` works on the bytes of a blob, and `json_valid` of NULL is NULL.
    pub(crate) fn distinguishes_types(self) -> bool {
        self == Self::Sqlite
    }

    /// Returns whether `iif` and `ifnull` evaluate only the arguments that they return.
    pub(crate) fn is_lazy(self) -> bool {
        self == Self::Sqlite
    }

    /// Returns whether comparisons convert one operand by the affinity that CAST gives the other.
    pub(crate) fn has_affinity(self) -> bool {
        self == Self::Sqlite
    }

    /// Returns the largest magnitude at which CAST of a text to numeric turns a whole real into an
    /// integer. SQLite keeps larger ones as reals, where not every integer has an exact real.
    pub(crate) fn numeric_cast_integer_max(self) -> f64 {
        match self {
            Self::JavaScript => -1.0,
            Self::Sqlite => 2_251_799_813_685_247.0, // 2^51 - 1
        }
    }

    /// Returns whether the truth of a text is that of its leading integer (`'0.5'` is false) and
    /// blobs are false.
    pub(crate) fn text_truth_uses_integer_prefix(self) -> bool {
        self == Self::JavaScript
    }

    /// Writes a real as text. JavaScript prints a whole one without a fraction.
    pub(crate) fn push_real(self, real: f64, out: &mut String) {
        match self {
            Self::JavaScript => number::push_real_javascript(real, out),
            Self::Sqlite => number::push_real_text(real, out),
        }
    }

    /// Rounds a real as a cast to integer does.
    pub(crate) fn whole(self, real: f64) -> f64 {
        match self {
            Self::JavaScript => real.floor(),
            Self::Sqlite => real.trunc(),
        }
    }

    /// Returns the length of a text in UTF-16 units or in Unicode characters.
    pub(crate) fn length(self, text: &str) -> usize {
        match self {
            Self::JavaScript => text.encode_utf16().count(),
            // SQLite's `length` stops at the first NUL.
            Self::Sqlite => text.chars().take_while(|c| *c != '\0').count(),
        }
    }

    /// Returns the number of units before a byte index.
    pub(crate) fn units_before(self, text: &str, index: usize) -> usize {
        match self {
            Self::JavaScript => text[..index].encode_utf16().count(),
            Self::Sqlite => text[..index].chars().count(),
        }
    }

    /// Returns the start offset of `substr(x, -n)` when `n` exceeds the length: JavaScript clamps
    /// to 0, SQLite keeps it negative.
    pub(crate) fn substring_start(self, place: i128) -> i128 {
        match self {
            Self::JavaScript => place.max(0),
            Self::Sqlite => place,
        }
    }

    /// Returns a range of units. Half a surrogate pair becomes a replacement character.
    pub(crate) fn slice<'t>(self, text: Cow<'t, str>, from: usize, to: usize) -> Cow<'t, str> {
        if self == Self::JavaScript && !text.is_ascii() {
            let units = text.encode_utf16().skip(from).take(to - from);
            let kept = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
            return Cow::Owned(kept.collect());
        }

        let range = byte_of_char(&text, from)..byte_of_char(&text, to);
        match text {
            Cow::Borrowed(text) => Cow::Borrowed(&text[range]),
            Cow::Owned(text) => Cow::Owned(text[range].to_owned()),
        }
    }
}

/// Returns the byte offset of a character, or the length of a shorter text.
fn byte_of_char(text: &str, count: usize) -> usize {
    text.char_indices().nth(count).map_or(text.len(), |(index, _)| index)
}
