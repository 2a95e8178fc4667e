//! Values of SQLite, with its comparisons and conversions.

mod any_json;
mod engine;
mod error;
pub(crate) mod json;
mod kind;
pub(crate) mod number;
mod options;
pub(crate) mod timestamp;

use std::borrow::Cow;
use std::cmp::Ordering;

pub(crate) use engine::Engine;
pub(crate) use error::EvaluationError;
pub(crate) use kind::ValueKind;
pub(crate) use number::Number;
pub(crate) use options::{PathSplit, ValueOptions};

/// Maximum length of a computed text or blob, in bytes. The PowerSync service limits rows to
/// 15 MiB, so no valid row needs more.
pub(crate) const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Value with one of SQLite's storage classes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'v> {
    Null,
    Integer(i64),
    Real(f64),
    Text(Cow<'v, str>),
    Blob(Cow<'v, [u8]>),
}

impl<'v> Value<'v> {
    pub(crate) fn text(text: impl Into<Cow<'v, str>>) -> Self {
        Self::Text(text.into())
    }

    /// Returns a real, or NULL for NaN, as in SQLite.
    pub(crate) fn real(real: f64) -> Self {
        if real.is_nan() { Self::Null } else { Self::Real(real) }
    }

    /// Returns 1, 0 or NULL.
    pub(crate) fn boolean(boolean: Option<bool>) -> Self {
        boolean.map_or(Self::Null, |boolean| Self::Integer(i64::from(boolean)))
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Returns a value that borrows from this one.
    pub(crate) fn reborrow(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Integer(integer) => Value::Integer(*integer),
            Self::Real(real) => Value::Real(*real),
            Self::Text(text) => Value::Text(Cow::Borrowed(text)),
            Self::Blob(blob) => Value::Blob(Cow::Borrowed(blob)),
        }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Integer(_) => "integer",
            Self::Real(_) => "real",
            Self::Text(_) => "text",
            Self::Blob(_) => "blob",
        }
    }

    /// Returns whether the value is true as a condition. NULL is not.
    pub(crate) fn is_true(&self, engine: Engine) -> bool {
        match self {
            Self::Text(text) if engine.text_truth_uses_integer_prefix() => {
                number::integer_prefix(text) != 0
            }
            Self::Blob(_) if engine.text_truth_uses_integer_prefix() => false,
            Self::Null | Self::Integer(_) | Self::Real(_) | Self::Text(_) | Self::Blob(_) => {
                match self.to_numeric() {
                    Number::Null => false,
                    Number::Integer(integer) => integer != 0,
                    Number::Real(real) => real != 0.0,
                }
            }
        }
    }

    /// Returns the truth of the value, or `None` for NULL if the engine has three-valued logic.
    pub(crate) fn truth(&self, engine: Engine) -> Option<bool> {
        if self.is_null() && engine.is_three_valued() { None } else { Some(self.is_true(engine)) }
    }

    /// Returns the number of bytes of a text or blob.
    pub(crate) fn text_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Blob(blob) => blob.len(),
            Self::Null | Self::Integer(_) | Self::Real(_) => 0,
        }
    }

    /// Returns the number of bytes of a text that is not borrowed from the input.
    pub(crate) fn made_bytes(&self) -> usize {
        match self {
            Self::Text(Cow::Owned(text)) => text.len(),
            Self::Blob(Cow::Owned(blob)) => blob.len(),
            Self::Null
            | Self::Integer(_)
            | Self::Real(_)
            | Self::Text(Cow::Borrowed(_))
            | Self::Blob(Cow::Borrowed(_)) => 0,
        }
    }

    /// Fails if a newly built (owned) value exceeds [`VALUE_BYTES_MAX`]. Borrowed slices of the
    /// input are not checked.
    pub(crate) fn check_length(self) -> Result<Self, EvaluationError> {
        if self.made_bytes() > VALUE_BYTES_MAX { Err(EvaluationError::TooLong) } else { Ok(self) }
    }

    /// Compares two values: numbers before texts before blobs. Returns `None` if either is NULL.
    pub(crate) fn compare(&self, other: &Self) -> Option<Ordering> {
        Some(match (self, other) {
            (Self::Null, _) | (_, Self::Null) => return None,
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Real(a), Self::Real(b)) => a.partial_cmp(b)?,
            (Self::Integer(a), Self::Real(b)) => compare_integer_real(*a, *b),
            (Self::Real(a), Self::Integer(b)) => compare_integer_real(*b, *a).reverse(),
            (Self::Integer(_) | Self::Real(_), _) => Ordering::Less,
            (_, Self::Integer(_) | Self::Real(_)) => Ordering::Greater,
            (Self::Text(a), Self::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Self::Text(_), Self::Blob(_)) => Ordering::Less,
            (Self::Blob(_), Self::Text(_)) => Ordering::Greater,
            (Self::Blob(a), Self::Blob(b)) => a.cmp(b),
        })
    }

    /// Converts to a number for arithmetic and truth. A text or blob gives its numeric prefix.
    pub(crate) fn to_numeric(&self) -> Number {
        match self {
            Self::Null => Number::Null,
            Self::Integer(integer) => Number::Integer(*integer),
            Self::Real(real) => Number::Real(*real),
            Self::Text(text) => number::numeric_prefix(text),
            Self::Blob(blob) => number::numeric_prefix(&String::from_utf8_lossy(blob)),
        }
    }

    /// Converts to text, as for `||` and `CAST(.. AS TEXT)`. Returns `None` for NULL.
    pub(crate) fn into_text(self, engine: Engine) -> Option<Cow<'v, str>> {
        match self {
            Self::Null => None,
            Self::Integer(integer) => Some(Cow::Owned(integer.to_string())),

            Self::Real(real) => {
                let mut text = String::new();
                engine.push_real(real, &mut text);
                Some(Cow::Owned(text))
            }

            Self::Text(text) => Some(text),
            Self::Blob(Cow::Borrowed(blob)) => Some(String::from_utf8_lossy(blob)),
            Self::Blob(Cow::Owned(blob)) => {
                Some(Cow::Owned(String::from_utf8_lossy(&blob).into_owned()))
            }
        }
    }

    /// Evaluates `CAST(.. AS INTEGER)`.
    pub(crate) fn to_integer(&self, engine: Engine) -> Self {
        self.integer(engine).map_or(Self::Null, Self::Integer)
    }

    /// Converts to an integer as CAST does. Returns `None` for NULL.
    pub(crate) fn integer(&self, engine: Engine) -> Option<i64> {
        Some(match self {
            Self::Null => return None,
            Self::Integer(integer) => *integer,
            Self::Real(real) => number::saturating_i64(engine.whole(*real)),
            Self::Text(text) => number::integer_prefix(text),
            Self::Blob(blob) => number::integer_prefix(&String::from_utf8_lossy(blob)),
        })
    }

    /// Converts to an integer for integer operators, truncating towards zero in both engines.
    pub(crate) fn truncated(&self) -> Option<i64> {
        self.integer(Engine::Sqlite)
    }

    /// Evaluates `CAST(.. AS REAL)`.
    pub(crate) fn to_real(&self) -> Self {
        match self {
            Self::Null => Self::Null,
            Self::Integer(integer) => Self::Real(number::to_f64(*integer)),
            Self::Real(real) => Self::Real(*real),
            Self::Text(text) => Self::Real(number::real_prefix(text)),
            Self::Blob(blob) => Self::Real(number::real_prefix(&String::from_utf8_lossy(blob))),
        }
    }
}

/// Compares exactly, even if no real is equal to the integer.
fn compare_integer_real(integer: i64, real: f64) -> Ordering {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0; // 2^63, which is exact as a real
    if real >= LIMIT {
        return Ordering::Less;
    }
    if real < -LIMIT {
        return Ordering::Greater;
    }
    let whole = real.trunc();
    match integer.cmp(&number::saturating_i64(whole)) {
        Ordering::Equal => whole.partial_cmp(&real).unwrap_or(Ordering::Equal),
        unequal @ (Ordering::Less | Ordering::Greater) => unequal,
    }
}

impl From<Number> for Value<'_> {
    fn from(number: Number) -> Self {
        match number {
            Number::Null => Self::Null,
            Number::Integer(integer) => Self::Integer(integer),
            Number::Real(real) => Self::Real(real),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are in ascending order.
    #[test]
    fn integers_and_reals_have_one_order_and_text_and_blobs_follow() {
        let values = [
            Value::Real(f64::NEG_INFINITY),
            Value::Real(-9_223_372_036_854_777_856.0),
            Value::Integer(i64::MIN),
            Value::Real(-9_223_372_036_854_774_784.0),
            Value::Real(-3.5),
            Value::Integer(-3),
            Value::Real(-2.5),
            Value::Integer(0),
            Value::Real(0.5),
            Value::Integer(1),
            Value::Real(9_007_199_254_740_992.0),
            Value::Integer(9_007_199_254_740_993),
            Value::Integer(i64::MAX),
            Value::Real(9_223_372_036_854_775_808.0),
            Value::Real(f64::INFINITY),
            Value::text(""),
            Value::text("9"),
            Value::text("a"),
            Value::text("é"),
            Value::Blob(Cow::Borrowed(&[])),
            Value::Blob(Cow::Borrowed(&[255])),
        ];

        for (i, a) in values.iter().enumerate() {
            for (j, b) in values.iter().enumerate() {
                assert_eq!(a.compare(b), Some(i.cmp(&j)), "{a:?} {b:?}");
            }
            assert_eq!(a.compare(&Value::Null), None);
            assert_eq!(Value::Null.compare(a), None);
        }

        assert_eq!(Value::Integer(3).compare(&Value::Real(3.0)), Some(Ordering::Equal));
        assert_eq!(Value::Null.compare(&Value::Null), None);
    }
}
