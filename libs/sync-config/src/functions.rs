//! The functions of expressions.

use std::borrow::Cow;

use base64::Engine as _;
use serde::Serialize;
use serde_json::Value as Json;

use crate::expression::{EvaluationError, PathSplit};
use crate::json;
use crate::number;
use crate::value::{Number, Value};

/// A function that yields one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Function {
    Upper,
    Lower,
    Length,
    Hex,
    Base64,
    Typeof,
    IfNull,
    Iif,
    Instr,
    Substring,
    JsonExtract,
    JsonArrayLength,
    JsonKeys,
}

/// Name, function, and least and most arguments.
const FUNCTIONS: [(&str, Function, usize, usize); 14] = [
    ("upper", Function::Upper, 1, 1),
    ("lower", Function::Lower, 1, 1),
    ("length", Function::Length, 1, 1),
    ("hex", Function::Hex, 1, 1),
    ("base64", Function::Base64, 1, 1),
    ("typeof", Function::Typeof, 1, 1),
    ("ifnull", Function::IfNull, 2, 2),
    ("iif", Function::Iif, 3, 3),
    ("instr", Function::Instr, 2, 2),
    ("substring", Function::Substring, 2, 3),
    ("substr", Function::Substring, 2, 3),
    ("json_extract", Function::JsonExtract, 2, 2),
    ("json_array_length", Function::JsonArrayLength, 1, 2),
    ("json_keys", Function::JsonKeys, 1, 1),
];

impl Function {
    /// The function of this name, with the least and most arguments it takes.
    pub(crate) fn find(name: &str) -> Option<(Self, usize, usize)> {
        let found = FUNCTIONS.iter().find(|(known, ..)| *known == name)?;
        Some((found.1, found.2, found.3))
    }

    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        FUNCTIONS.iter().map(|(name, ..)| *name)
    }

    /// Its value. The number of arguments was checked when it was compiled.
    pub(crate) fn call(self, arguments: Vec<Value<'_>>) -> Result<Value<'_>, EvaluationError> {
        let mut arguments = arguments.into_iter();
        let mut next = || arguments.next().unwrap_or(Value::Null);
        let first = next();
        Ok(match self {
            Self::Upper => map_text(first, |text| text.to_uppercase()),
            Self::Lower => map_text(first, |text| text.to_lowercase()),
            Self::Length => length(first),
            Self::Hex => Value::text(hex(&to_bytes(first).unwrap_or_default())),
            Self::Base64 => {
                let bytes = to_bytes(first).unwrap_or_default();
                Value::text(base64::engine::general_purpose::STANDARD.encode(bytes))
            }
            Self::Typeof => Value::text(first.type_name()),
            Self::IfNull => {
                let second = next();
                if first.is_null() { second } else { first }
            }
            Self::Iif => {
                let (second, third) = (next(), next());
                if first.is_true() { second } else { third }
            }
            Self::Instr => instr(first, next()),
            Self::Substring => {
                let start = next();
                substring(first, &start, arguments.next().as_ref())
            }
            Self::JsonExtract => json_extract(&first, &next())?,
            Self::JsonArrayLength => json_array_length(&first, arguments.next().as_ref())?,
            Self::JsonKeys => json_keys(&first)?,
        })
    }
}

fn map_text<'v>(value: Value<'_>, map: impl Fn(&str) -> String) -> Value<'v> {
    value.into_text().map_or(Value::Null, |text| Value::text(map(&text)))
}

/// In UTF-16 units, as JavaScript counts; a blob's in bytes.
fn length<'v>(value: Value<'_>) -> Value<'v> {
    let length = match value {
        Value::Null => return Value::Null,
        Value::Blob(blob) => blob.len(),
        value @ (Value::Integer(_) | Value::Real(_) | Value::Text(_)) => {
            value.into_text().map_or(0, |text| text.encode_utf16().count())
        }
    };
    to_integer(length)
}

fn to_integer<'v>(length: usize) -> Value<'v> {
    Value::Integer(i64::try_from(length).unwrap_or(i64::MAX))
}

fn to_bytes(value: Value<'_>) -> Option<Cow<'_, [u8]>> {
    match value {
        Value::Blob(blob) => Some(blob),
        value @ (Value::Null | Value::Integer(_) | Value::Real(_) | Value::Text(_)) => {
            value.into_text().map(|text| match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            })
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// From 1, in UTF-16 units; in bytes when both are blobs; 0 when it is not there.
fn instr<'v>(value: Value<'_>, part: Value<'_>) -> Value<'v> {
    if let (Value::Blob(value), Value::Blob(part)) = (&value, &part) {
        let found = if part.is_empty() {
            Some(0)
        } else {
            value.windows(part.len()).position(|window| window == part.as_ref())
        };
        return to_integer(found.map_or(0, |index| index + 1));
    }
    let (Some(value), Some(part)) = (value.into_text(), part.into_text()) else {
        return Value::Null;
    };
    let found = value.find(part.as_ref());
    to_integer(found.map_or(0, |index| value[..index].encode_utf16().count() + 1))
}

/// SQLite's rules for start and length, in UTF-16 units.
fn substring<'v>(value: Value<'_>, start: &Value<'_>, length: Option<&Value<'_>>) -> Value<'v> {
    let Some(text) = value.into_text() else { return Value::Null };
    let integer = |value: &Value<'_>| match value.to_integer() {
        Value::Integer(integer) => Some(i128::from(integer)),
        Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => None,
    };
    let Some(start) = integer(start) else { return Value::Null };
    let length = match length.map(integer) {
        None => i128::MAX >> 1,
        Some(Some(length)) => length,
        Some(None) => return Value::Null,
    };
    let units: Vec<u16> = text.encode_utf16().collect();
    let count = i128::try_from(units.len()).unwrap_or(i128::MAX >> 2);
    // From 0; a negative start counts from the end; 0 is the place before the first.
    let from = if start > 0 {
        start - 1
    } else if start < 0 {
        count + start
    } else {
        -1
    };
    let to = if length >= 0 { from.saturating_add(length) } else { from };
    let from = if length >= 0 { from } else { from.saturating_add(length) };
    let clamp = |index: i128| usize::try_from(index.clamp(0, count)).unwrap_or(0);
    let (from, to) = (clamp(from), clamp(to));
    Value::text(String::from_utf16_lossy(&units[from..to.max(from)]))
}

pub(crate) fn to_numeric(value: Value<'_>) -> Value<'_> {
    match value {
        Value::Text(_) | Value::Blob(_) => match value.to_numeric() {
            Number::Null => Value::Null,
            Number::Integer(integer) => Value::Integer(integer),
            Number::Real(real) => number::exact_i64(real).map_or(Value::Real(real), Value::Integer),
        },
        number @ (Value::Null | Value::Integer(_) | Value::Real(_)) => number,
    }
}

pub(crate) fn to_blob(value: Value<'_>) -> Value<'_> {
    to_bytes(value).map_or(Value::Null, Value::Blob)
}

/// `->` and `->>`.
pub(crate) fn json_get<'v>(
    value: &Value<'_>,
    path: &Value<'_>,
    as_value: bool,
    split: PathSplit,
) -> Result<Value<'v>, EvaluationError> {
    if value.is_null() || path.is_null() {
        return Ok(Value::Null);
    }
    let json = parse(value)?;
    Ok(json_at_path(&json, path, as_value, split))
}

/// As [`json_get`], in a value that is JSON already.
pub(crate) fn json_at_path<'v>(
    json: &Json,
    path: &Value<'_>,
    as_value: bool,
    split: PathSplit,
) -> Value<'v> {
    let Some(path) = path.reborrow().into_text() else { return Value::Null };
    let names = path_names(&path, split);
    walk(json, &names).map_or(Value::Null, |found| output(found, as_value))
}

/// The names that a path is made of.
pub(crate) fn path_names(path: &str, split: PathSplit) -> Vec<&str> {
    match (split, path.strip_prefix("$.")) {
        (PathSplit::AfterDollar, Some(rest)) => rest.split('.').collect(),
        (PathSplit::AfterDollar, None) if path == "$" => Vec::new(),
        (PathSplit::AfterDollar, None) => vec![path],
        (PathSplit::Always, rest) => rest.unwrap_or(path).split('.').collect(),
    }
}

/// The member that names lead to.
pub(crate) fn walk<'j>(json: &'j Json, names: &[impl AsRef<str>]) -> Option<&'j Json> {
    let mut json = json;
    for name in names {
        let name = name.as_ref();
        json = match json {
            Json::Object(entries) => entries.get(name)?,
            Json::Array(items) => items.get(array_index(name)?)?,
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => return None,
        };
    }
    Some(json)
}

/// Only the canonical text of an index is one: `0`, not `00`.
fn array_index(name: &str) -> Option<usize> {
    let index: usize = name.parse().ok()?;
    (index.to_string() == name).then_some(index)
}

/// What `->`, or `->>`, makes of a member.
pub(crate) fn output<'v>(json: &Json, as_value: bool) -> Value<'v> {
    if !as_value {
        return Value::text(json::to_text(json));
    }
    match json::to_value(json) {
        Value::Null => Value::Null,
        Value::Integer(integer) => Value::Integer(integer),
        Value::Real(real) => Value::Real(real),
        Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
        Value::Blob(blob) => Value::Blob(Cow::Owned(blob.into_owned())),
    }
}

fn parse(value: &Value<'_>) -> Result<Json, EvaluationError> {
    let text = value.reborrow().into_text().ok_or(EvaluationError::NotJson)?;
    json::parse(&text).ok_or(EvaluationError::NotJson)
}

fn json_extract<'v>(value: &Value<'_>, path: &Value<'_>) -> Result<Value<'v>, EvaluationError> {
    match path {
        Value::Text(text) if text.starts_with('$') => {
            json_get(value, path, true, PathSplit::AfterDollar)
        }
        Value::Null => Ok(Value::Null),
        Value::Text(_) | Value::Integer(_) | Value::Real(_) | Value::Blob(_) => {
            Err(EvaluationError::BadPath)
        }
    }
}

fn json_array_length<'v>(
    value: &Value<'_>,
    path: Option<&Value<'_>>,
) -> Result<Value<'v>, EvaluationError> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    let json = parse(value)?;
    let json = match path {
        None => json,
        Some(path) => {
            let text = json_at_path(&json, path, false, PathSplit::AfterDollar);
            if text.is_null() {
                return Ok(Value::Null);
            }
            parse(&text)?
        }
    };
    Ok(to_integer(json.as_array().map_or(0, Vec::len)))
}

fn json_keys<'v>(value: &Value<'_>) -> Result<Value<'v>, EvaluationError> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    match parse(value)? {
        Json::Object(entries) => {
            let keys = entries.into_iter().map(|(key, _)| Json::String(key)).collect();
            Ok(Value::text(json::to_text(&Json::Array(keys))))
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => {
            Err(EvaluationError::NotJson)
        }
    }
}
