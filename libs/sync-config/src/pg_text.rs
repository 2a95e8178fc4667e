//! PostgreSQL's text output of a column to a SQLite value, or straight to JSON.

use std::borrow::Cow;

use crate::expression::EvaluationError;
use crate::json;
use crate::number;
use crate::options::ValueOptions;
use crate::pg_array;
use crate::pg_range;
use crate::pg_type::{Converter, Element, Scalar};
use crate::timestamp;
use crate::value::Value;

/// The value of a column.
pub(crate) fn to_value<'t>(
    converter: Converter,
    options: &ValueOptions,
    text: &'t str,
) -> Result<Value<'t>, EvaluationError> {
    let scalar = match converter {
        Converter::Scalar(scalar) => scalar,
        Converter::Array { .. } | Converter::Range(_) | Converter::Multirange(_) => {
            let mut json = String::new();
            push_structure(converter, options, text, &mut json)?;
            return Ok(Value::text(json));
        }
    };
    let mut buffer = String::new();
    match scalar {
        Scalar::Boolean => Ok(Value::Integer(i64::from(boolean(text)?))),
        Scalar::Integer => Ok(Value::Integer(integer(text)?)),
        Scalar::Real => real(text).map(Value::real),
        Scalar::Text | Scalar::Json => Ok(Value::text(text)),
        Scalar::Bytes => bytes(text).map(|bytes| Value::Blob(Cow::Owned(bytes))),
        Scalar::Date | Scalar::Time | Scalar::Timestamp | Scalar::TimestampTz | Scalar::Lsn => {
            let is_some = push_rewritten(scalar, options, text, &mut buffer);
            Ok(if is_some { Value::text(buffer) } else { Value::Null })
        }
    }
}

/// Writes the JSON of a column; `Ok(false)`, and nothing written, for bytes, which rows cannot hold.
pub(crate) fn push_json(
    converter: Converter,
    options: &ValueOptions,
    text: &str,
    out: &mut String,
) -> Result<bool, EvaluationError> {
    match converter {
        Converter::Scalar(Scalar::Bytes) => return Ok(false),
        Converter::Scalar(Scalar::Json) => json::push_string(text, out),
        Converter::Scalar(scalar) => push_element(Element::Scalar(scalar), options, text, out)?,
        Converter::Array { .. } | Converter::Range(_) | Converter::Multirange(_) => {
            let mut inner = String::new();
            push_structure(converter, options, text, &mut inner)?;
            json::push_string(&inner, out);
        }
    }
    Ok(true)
}

/// Writes the JSON of an array or range, not yet as a string.
fn push_structure(
    converter: Converter,
    options: &ValueOptions,
    text: &str,
    out: &mut String,
) -> Result<(), EvaluationError> {
    match converter {
        Converter::Array { element, delimiter } => {
            pg_array::push_json(text, delimiter, out, &mut |text, out| {
                push_element(element, options, text, out)
            })
        }
        Converter::Range(bound) => push_element(Element::Range(bound), options, text, out),
        Converter::Multirange(bound) => {
            push_element(Element::Multirange(bound), options, text, out)
        }
        Converter::Scalar(scalar) => push_element(Element::Scalar(scalar), options, text, out),
    }
}

/// Writes the JSON of an array's element or a range's bound.
pub(crate) fn push_element(
    element: Element,
    options: &ValueOptions,
    text: &str,
    out: &mut String,
) -> Result<(), EvaluationError> {
    let scalar = match element {
        Element::Scalar(scalar) => scalar,
        Element::Range(bound) => {
            return pg_range::push_range(text, out, &mut |text, out| {
                push_element(Element::Scalar(bound), options, text, out)
            });
        }
        Element::Multirange(bound) => {
            return pg_range::push_multirange(text, out, &mut |text, out| {
                push_element(Element::Scalar(bound), options, text, out)
            });
        }
    };
    match scalar {
        Scalar::Boolean => out.push_str(if boolean(text)? { "1" } else { "0" }),
        Scalar::Integer => number::push_integer(integer(text)?, out),
        Scalar::Real => number::push_real_json(real(text)?, out),
        Scalar::Text | Scalar::Bytes => json::push_string(text, out),
        Scalar::Json => out.push_str(text),
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
    Ok(())
}

/// Writes what is text, but not as printed. Nothing in it needs an escape in JSON unless the input
/// is not of its type, for which see [`is_plain`]. `false`, and nothing written, for NULL.
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

/// `0/16B3748` with each half padded to eight digits, so that text order is the order.
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

/// `\x` and hexadecimal digits.
fn bytes(text: &str) -> Result<Vec<u8>, EvaluationError> {
    let digits = text.strip_prefix("\\x").ok_or(EvaluationError::BadText)?.as_bytes();
    if digits.len() % 2 != 0 {
        return Err(EvaluationError::BadText);
    }
    digits
        .chunks_exact(2)
        .map(|pair| Some(hex_digit(pair[0])? << 4 | hex_digit(pair[1])?))
        .collect::<Option<_>>()
        .ok_or(EvaluationError::BadText)
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
