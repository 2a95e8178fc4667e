//! The two sets of results that expressions can have.

use std::borrow::Cow;

use serde::Serialize;

use super::number;

/// Whose results expressions have where the two implementations of the language differ.
///
/// Besides what the methods say, the engines are one: dates, geometries, arrays after IN, `upper` and `lower`, and the
/// digits in the text of reals, which are JavaScript's (the fewest that give the number again), as
/// SQLite's depend on its version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) enum Engine {
    /// What the language began with.
    #[default]
    JavaScript,
    Sqlite,
}

impl Engine {
    /// Hashes leave the default out, so that they are what they were before there were two.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether NULL is unknown in AND, OR, NOT and BETWEEN. Else it is false in the first two, NOT
    /// makes it true, and BETWEEN of it is NULL.
    pub(crate) fn is_three_valued(self) -> bool {
        self == Self::Sqlite
    }

    /// Whether paths in JSON are SQLite's, with `[0]`, and what they lead to is as it was written.
    pub(crate) fn has_sqlites_paths(self) -> bool {
        self == Self::Sqlite
    }

    /// Whether `substring` and `json_valid` know what is not text: bytes of a blob, and NULL.
    pub(crate) fn knows_types(self) -> bool {
        self == Self::Sqlite
    }

    /// Whether what is not asked for is not evaluated, and thus no error.
    pub(crate) fn is_lazy(self) -> bool {
        self == Self::Sqlite
    }

    /// Whether CAST gives its operand an affinity, by which comparisons convert the other one.
    pub(crate) fn has_affinity(self) -> bool {
        self == Self::Sqlite
    }

    /// The largest whole real that CAST to numeric makes an integer of when a text says it: SQLite
    /// leaves those that are too large for all such integers to be reals.
    pub(crate) fn whole_numeric_max(self) -> f64 {
        match self {
            Self::JavaScript => -1.0,
            Self::Sqlite => 2_251_799_813_685_247.0, // 2^51 - 1
        }
    }

    /// Whether the truth of a text is that of its whole number, so that `'0.5'` is false, and a blob
    /// never true.
    pub(crate) fn cuts_truth(self) -> bool {
        self == Self::JavaScript
    }

    /// Writes a real as a text. Of a whole one JavaScript does not say that it is a real.
    pub(crate) fn push_real(self, real: f64, out: &mut String) {
        match self {
            Self::JavaScript => number::push_real_javascript(real, out),
            Self::Sqlite => number::push_real_text(real, out),
        }
    }

    /// The whole number that a cast to integer makes of a real.
    pub(crate) fn whole(self, real: f64) -> f64 {
        match self {
            Self::JavaScript => real.floor(),
            Self::Sqlite => real.trunc(),
        }
    }

    /// The length of a text: UTF-16 units, or Unicode characters.
    pub(crate) fn length(self, text: &str) -> usize {
        match self {
            Self::JavaScript => text.encode_utf16().count(),
            // SQLite's texts end at a zero.
            Self::Sqlite => text.chars().take_while(|c| *c != '\0').count(),
        }
    }

    /// How many units are before this place of a text.
    pub(crate) fn units_before(self, text: &str, index: usize) -> usize {
        match self {
            Self::JavaScript => text[..index].encode_utf16().count(),
            Self::Sqlite => text[..index].chars().count(),
        }
    }

    /// Where a text begins that is asked for from further before its end than it is long, in units: there,
    /// or before its start.
    pub(crate) fn first_place(self, place: i128) -> i128 {
        match self {
            Self::JavaScript => place.max(0),
            Self::Sqlite => place,
        }
    }

    /// The units from one place to another; half a surrogate pair becomes a replacement character.
    pub(crate) fn slice<'t>(self, text: Cow<'t, str>, from: usize, to: usize) -> Cow<'t, str> {
        if self == Self::JavaScript && !text.is_ascii() {
            let units = text.encode_utf16().skip(from).take(to - from);
            let kept = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
            return Cow::Owned(kept.collect());
        }
        let byte = |count| text.char_indices().nth(count).map_or(text.len(), |(index, _)| index);
        let range = byte(from)..byte(to);
        match text {
            Cow::Borrowed(text) => Cow::Borrowed(&text[range]),
            Cow::Owned(text) => Cow::Owned(text[range].to_owned()),
        }
    }
}
