//! Converts PostgreSQL's text output of a column to a SQLite value, or directly to JSON.

use std::borrow::Cow;

use super::builtin_types::Scalar;
use super::converter::{Converter, Converters, Structure};
use super::{array, composite, range};
use crate::value::{EvaluationError, Value, ValueOptions, json, number, timestamp};

impl Converters {
    /// Converts the text of a column to a value.
    pub(crate) fn to_value<'t>(
        &self,
        column: usize,
        text: &'t str,
    ) -> Result<Value<'t>, EvaluationError> {
        match self.columns[column] {
            Converter::Scalar(scalar) => to_value(scalar, &self.options, text),

            Converter::Structure(structure) if self.is_empty_range(structure, text) => {
                Ok(Value::text(text))
            }

            Converter::Structure(structure) => {
                let mut json = String::new();
                self.push_structure(structure, text, 0, &mut json)?;
                Ok(Value::text(json))
            }
        }
    }

    /// Writes the JSON of a column. Returns `Ok(false)` and writes nothing for `bytea`, which rows
    /// cannot contain.
    pub(crate) fn push_json(
        &self,
        column: usize,
        text: &str,
        out: &mut String,
    ) -> Result<bool, EvaluationError> {
        match self.columns[column] {
            Converter::Scalar(Scalar::Json) => json::push_string(text, out),
            Converter::Scalar(scalar) => return push_scalar(scalar, &self.options, text, out),
            Converter::Structure(structure) if self.is_empty_range(structure, text) => {
                json::push_string(text, out);
            }
            Converter::Structure(structure) => {
                let mut inner = String::new();
                self.push_structure(structure, text, 0, &mut inner)?;
                json::push_string(&inner, out);
            }
        }

        Ok(true)
    }

    /// Returns whether the value is an empty range, the only structure that is not written as JSON.
    fn is_empty_range(&self, structure: usize, text: &str) -> bool {
        text == range::EMPTY && matches!(self.structures[structure], Structure::Range(_))
    }

    /// Writes the JSON of a structure that is within `depth` others, not escaped as a string.
    fn push_structure(
        &self,
        structure: usize,
        text: &str,
        depth: usize,
        out: &mut String,
    ) -> Result<(), EvaluationError> {
        match &self.structures[structure] {
            Structure::Array { element, delimiter } => {
                array::push_json(text, *delimiter, depth, out, &mut |text, depth, out| {
                    if !self.push_part(*element, text, depth, out)? {
                        out.push_str("null");
                    }
                    Ok(())
                })
            }

            Structure::Composite(members) => {
                composite::push_json(text, members, out, &mut |converter, text, out| {
                    self.push_part(converter, text, depth + 1, out)
                })
            }

            Structure::Range(bound) => range::push_range(text, out, &mut |text, out| {
                self.push_part(*bound, text, depth + 1, out)
            }),
            Structure::Multirange(bound) => range::push_multirange(text, out, &mut |text, out| {
                self.push_part(*bound, text, depth + 2, out)
            }),
        }
    }

    /// Writes the JSON of a value within `depth` structures; `None` is NULL. Returns `Ok(false)`
    /// and writes nothing for `bytea`, which JSON lacks.
    fn push_part(
        &self,
        converter: Converter,
        text: Option<&str>,
        depth: usize,
        out: &mut String,
    ) -> Result<bool, EvaluationError> {
        array::check_depth(depth)?;

        match (text, converter) {
            (None, _) => out.push_str("null"),
            (Some(text), Converter::Scalar(scalar)) => {
                return push_scalar(scalar, &self.options, text, out);
            }
            (Some(text), Converter::Structure(structure)) => {
                self.push_structure(structure, text, depth, out)?;
            }
        }

        Ok(true)
    }
}

fn to_value<'t>(
    scalar: Scalar,
    options: &ValueOptions,
    text: &'t str,
) -> Result<Value<'t>, EvaluationError> {
    match scalar {
        Scalar::Boolean => Ok(Value::Integer(i64::from(boolean(text)?))),
        Scalar::Integer => Ok(Value::Integer(integer(text)?)),
        Scalar::Real => real(text).map(Value::real),
        Scalar::Text | Scalar::Json => Ok(Value::text(text)),
        Scalar::Bytes => bytes(text).map(|bytes| Value::Blob(Cow::Owned(bytes))),

        Scalar::Date | Scalar::Time | Scalar::Timestamp | Scalar::TimestampTz | Scalar::Lsn => {
            let mut buffer = String::new();
            let is_some = push_rewritten(scalar, options, text, &mut buffer);
            Ok(if is_some { Value::text(buffer) } else { Value::Null })
        }
    }
}

/// Writes the JSON of a scalar; JSON is embedded unchanged. Returns `Ok(false)` and writes nothing
/// for `bytea`.
fn push_scalar(
    scalar: Scalar,
    options: &ValueOptions,
    text: &str,
    out: &mut String,
) -> Result<bool, EvaluationError> {
    match scalar {
        Scalar::Boolean => out.push_str(if boolean(text)? { "1" } else { "0" }),
        Scalar::Integer => number::push_integer(integer(text)?, out),
        Scalar::Real => number::push_real_json(real(text)?, out),
        Scalar::Text => json::push_string(text, out),
        Scalar::Json => out.push_str(text),
        Scalar::Bytes => return Ok(false),
        Scalar::Date | Scalar::Time | Scalar::Timestamp | Scalar::TimestampTz | Scalar::Lsn => {
            let start = out.len();
            out.push('"');
            if push_rewritten(scalar, options, text, out) {
                out.push('"');
            } else {
                out.truncate(start);
                out.push_str("null");
            }
        }
    }

    Ok(true)
}

/// Writes a scalar whose text is rewritten. A valid text needs no escapes in JSON, and [`is_plain`]
/// rejects others. Returns `false` and writes nothing for NULL.
fn push_rewritten(scalar: Scalar, options: &ValueOptions, text: &str, out: &mut String) -> bool {
    if !is_plain(text) {
        return false;
    }

    match scalar {
        Scalar::Date => timestamp::push_date(text, out),
        Scalar::Time => timestamp::push_time(text, options, out),
        Scalar::Timestamp => return timestamp::push_timestamp(text, options, out),
        Scalar::TimestampTz => return timestamp::push_timestamptz(text, options, out),
        Scalar::Lsn => push_lsn(text, out),
        Scalar::Boolean
        | Scalar::Integer
        | Scalar::Real
        | Scalar::Text
        | Scalar::Json
        | Scalar::Bytes => out.push_str(text),
    }

    true
}

fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\') || byte == b' ')
}

/// Writes an LSN such as `0/16B3748` with each half padded to eight digits, so that texts sort.
fn push_lsn(text: &str, out: &mut String) {
    let Some((high, low)) = text.split_once('/') else {
        out.push_str(text);
        return;
    };
    for (index, half) in [high, low].into_iter().enumerate() {
        if index > 0 {
            out.push('/');
        }
        out.push_str(&"00000000"[..8_usize.saturating_sub(half.len())]);
        out.push_str(half);
    }
}

fn boolean(text: &str) -> Result<bool, EvaluationError> {
    match text {
        "t" => Ok(true),
        "f" => Ok(false),
        _ => Err(EvaluationError::BadText),
    }
}

fn integer(text: &str) -> Result<i64, EvaluationError> {
    text.parse().map_err(|_| EvaluationError::BadText)
}

fn real(text: &str) -> Result<f64, EvaluationError> {
    text.parse().map_err(|_| EvaluationError::BadText)
}

/// Parses `bytea` in the hex format: `\x` and hexadecimal digits.
fn bytes(text: &str) -> Result<Vec<u8>, EvaluationError> {
    let digits = text.strip_prefix("\\x").ok_or(EvaluationError::BadText)?;
    hex::decode(digits).map_err(|_| EvaluationError::BadText)
}
