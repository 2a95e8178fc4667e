//! The two sets of results that expressions can have.

use std::borrow::Cow;

use serde::Serialize;

/// Whose results expressions have where the two implementations of the language differ.
///
/// Besides what the methods say, the engines are one: dates, geometries, JSON functions, and the text
/// of reals, which is JavaScript's (the shortest digits that give the number again), as SQLite's
/// depends on its version.
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

    /// Whether CAST to numeric keeps a text's real when it is whole but too large for all such
    /// integers to be reals.
    pub(crate) fn keeps_large_reals(self) -> bool {
        self == Self::Sqlite
    }

    /// The whole number that a cast to integer makes of a real.
    pub(crate) fn whole(self, real: f64) -> f64 {
        match self {
            Self::JavaScript => real.floor(),
            Self::Sqlite => real.trunc(),
        }
    }

    pub(crate) fn upper(self, text: &str) -> String {
        match self {
            Self::JavaScript => text.to_uppercase(),
            Self::Sqlite => text.to_ascii_uppercase(),
        }
    }

    pub(crate) fn lower(self, text: &str) -> String {
        match self {
            Self::JavaScript => text.to_lowercase(),
            Self::Sqlite => text.to_ascii_lowercase(),
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
