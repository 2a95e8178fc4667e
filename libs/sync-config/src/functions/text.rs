//! Functions of texts and blobs.

use std::borrow::Cow;

use crate::value::{Engine, EvaluationError, VALUE_BYTES_MAX, Value};

/// Maps a text for `upper` and `lower`, which know all letters in both engines.
pub(super) fn map<'v>(value: Value<'_>, map: impl Fn(&str) -> String) -> Value<'v> {
    value.into_text(Engine::JavaScript).map_or(Value::Null, |text| Value::text(map(&text)))
}

/// Evaluates `length`: in units of the engine for texts, in bytes for blobs.
pub(super) fn length<'v>(value: Value<'_>, engine: Engine) -> Value<'v> {
    match value {
        Value::Null => Value::Null,
        Value::Blob(blob) => count(blob.len()),
        value @ (Value::Integer(_) | Value::Real(_) | Value::Text(_)) => {
            count(value.into_text(engine).map_or(0, |text| engine.length(&text)))
        }
    }
}

pub(super) fn count<'v>(length: usize) -> Value<'v> {
    Value::Integer(i64::try_from(length).unwrap_or(i64::MAX))
}

pub(super) fn to_bytes(value: Value<'_>, engine: Engine) -> Option<Cow<'_, [u8]>> {
    match value {
        Value::Blob(blob) => Some(blob),
        value @ (Value::Null | Value::Integer(_) | Value::Real(_) | Value::Text(_)) => {
            value.into_text(engine).map(|text| match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            })
        }
    }
}

pub(crate) fn to_blob(value: Value<'_>, engine: Engine) -> Value<'_> {
    to_bytes(value, engine).map_or(Value::Null, Value::Blob)
}

/// Evaluates `instr`: the position from 1 in units, or in bytes if both are blobs; 0 if not found.
pub(super) fn instr<'v>(value: Value<'_>, part: Value<'_>, engine: Engine) -> Value<'v> {
    if let (Value::Blob(value), Value::Blob(part)) = (&value, &part) {
        // Searched as characters, because `str::find` takes linear time. Slices lack such a search.
        return position(&latin1(value), &latin1(part), Engine::Sqlite);
    }
    let (Some(value), Some(part)) = (value.into_text(engine), part.into_text(engine)) else {
        return Value::Null;
    };
    position(&value, &part, engine)
}

/// Decodes each byte as the character with that code.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn position<'v>(value: &str, part: &str, engine: Engine) -> Value<'v> {
    count(value.find(part).map_or(0, |index| engine.units_before(value, index) + 1))
}

/// Evaluates `substring` by SQLite's rules for start and length, both in units of the engine.
pub(super) fn substring<'v>(
    value: Value<'v>,
    start: &Value<'_>,
    length: Option<&Value<'_>>,
    engine: Engine,
) -> Value<'v> {
    if value.is_null() {
        return Value::Null;
    }

    let Some(start) = start.integer(engine) else { return Value::Null };
    let length = match length.map(|length| length.integer(engine)) {
        None => i64::MAX,
        Some(Some(length)) => length,
        Some(None) => return Value::Null,
    };

    match value {
        // SQLite returns NULL for a part of an empty blob.
        Value::Blob(blob) if engine.distinguishes_types() && blob.is_empty() => Value::Null,
        Value::Blob(blob) if engine.distinguishes_types() => {
            let (from, to) = range(start, length, blob.len(), engine);
            Value::Blob(match blob {
                Cow::Borrowed(blob) => Cow::Borrowed(&blob[from..to]),
                Cow::Owned(blob) => Cow::Owned(blob[from..to].to_owned()),
            })
        }
        value @ (Value::Null
        | Value::Integer(_)
        | Value::Real(_)
        | Value::Text(_)
        | Value::Blob(_)) => value.into_text(engine).map_or(Value::Null, |text| {
            let units = engine.units_before(&text, text.len());
            let (from, to) = range(start, length, units, engine);
            Value::Text(engine.slice(text, from, to))
        }),
    }
}

/// Converts a start and a length, as arguments of `substring`, to a range from 0.
fn range(start: i64, length: i64, count: usize, engine: Engine) -> (usize, usize) {
    let start = i128::from(start);
    let length = i128::from(length);
    let count = i128::try_from(count).unwrap_or(i128::MAX >> 2);

    // A negative start counts from the end. 0 is the place before the first unit.
    let from = match start {
        1.. => start - 1,
        0 => -1,
        _ => engine.substring_start(count + start),
    };
    let to = if length >= 0 { from.saturating_add(length) } else { from };
    let from = if length >= 0 { from } else { from.saturating_add(length) };
    let from = usize::try_from(from.clamp(0, count)).unwrap_or(0);
    let to = usize::try_from(to.clamp(0, count)).unwrap_or(0);

    (from, to.max(from))
}

/// Side at which `trim`, `ltrim` or `rtrim` removes characters.
#[derive(Clone, Copy)]
pub(super) enum TrimSide {
    Start,
    End,
    Both,
}

/// Removes the characters of a set, by default the space, from the start, the end or both.
pub(super) fn trim<'v>(
    value: Value<'v>,
    set: Option<&Value<'_>>,
    side: TrimSide,
    engine: Engine,
) -> Value<'v> {
    let Some(text) = value.into_text(engine) else { return Value::Null };
    let members = match set.map(|set| set.reborrow().into_text(engine)) {
        None => None,
        Some(None) => return Value::Null,
        Some(Some(set)) => {
            // Sorted for a binary search: a long set must not be scanned for each character.
            let mut members: Vec<char> = set.chars().collect();
            members.sort_unstable();
            Some(members)
        }
    };

    let is_member = |c: char| match &members {
        Some(members) => members.binary_search(&c).is_ok(),
        None => c == ' ',
    };
    let from = match side {
        TrimSide::Start | TrimSide::Both => text.len() - text.trim_start_matches(is_member).len(),
        TrimSide::End => 0,
    };
    let to = match side {
        TrimSide::End | TrimSide::Both => text.trim_end_matches(is_member).len().max(from),
        TrimSide::Start => text.len(),
    };

    Value::Text(match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[from..to]),
        Cow::Owned(text) => Cow::Owned(text[from..to].to_owned()),
    })
}

/// Replaces each occurrence of a text.
pub(super) fn replace<'v>(
    value: Value<'v>,
    part: Value<'_>,
    with: Value<'_>,
    engine: Engine,
) -> Result<Value<'v>, EvaluationError> {
    let (Some(text), Some(part)) = (value.into_text(engine), part.into_text(engine)) else {
        return Ok(Value::Null);
    };
    if part.is_empty() {
        return Ok(Value::Text(text));
    }

    let Some(with) = with.into_text(engine) else { return Ok(Value::Null) };
    let count = text.matches(part.as_ref()).count();
    if count == 0 {
        return Ok(Value::Text(text));
    }

    // Checks the length of the result before allocating it.
    let length = (text.len() - count * part.len()).saturating_add(count.saturating_mul(with.len()));
    if length > VALUE_BYTES_MAX {
        return Err(EvaluationError::TooLong);
    }

    Ok(Value::text(text.replace(part.as_ref(), &with)))
}

/// Parses a UUID in PostgreSQL's format, in either case, to its 16 bytes.
pub(super) fn uuid_blob<'v>(value: &Value<'_>) -> Result<Value<'v>, EvaluationError> {
    const DASHES: [usize; 4] = [8, 13, 18, 23];

    let text = match value {
        Value::Null => return Ok(Value::Null),
        Value::Text(text) if text.len() == 36 => text.as_bytes(),
        Value::Text(_) | Value::Integer(_) | Value::Real(_) | Value::Blob(_) => {
            return Err(EvaluationError::NotUuid);
        }
    };
    let has_dashes = DASHES.iter().all(|index| text[*index] == b'-');
    let mut digits = text.to_owned();

    digits.retain(|byte| *byte != b'-');

    match hex::decode(digits) {
        Ok(bytes) if has_dashes && bytes.len() == 16 => Ok(Value::Blob(Cow::Owned(bytes))),
        Ok(_) | Err(_) => Err(EvaluationError::NotUuid),
    }
}
