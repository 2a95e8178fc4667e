//! JSON operators and functions of the SQLite engine. Members are returned as they are written,
//! without spaces.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::value::{Engine, EvaluationError, Value, number};

/// Maximum length of a path. Each step reads the text that the previous one found, so the limit
/// bounds the time.
const STEPS_MAX: usize = 128;

/// Step of a JSON path.
#[derive(Debug)]
pub(crate) enum PathStep<'p> {
    Name(&'p str),
    Index(usize),
    /// Index from the end: 1 is the last item, 0 is after it.
    FromEnd(usize),
}

/// Evaluates `->`, and `->>` if `as_value`. `path` is a path, the name of a member or an index.
pub(super) fn get<'v>(
    value: &Value<'_>,
    path: &Value<'_>,
    as_value: bool,
) -> Result<Value<'v>, EvaluationError> {
    let Some(text) = text_of(value) else { return Ok(Value::Null) };
    let Some(path_text) = text_of(path) else { return Ok(Value::Null) };
    let in_brackets = format!("${path_text}");

    let steps = match path {
        Value::Integer(index) => {
            let count = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX);
            vec![if *index < 0 { PathStep::FromEnd(count) } else { PathStep::Index(count) }]
        }
        Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => {
            if path_text.starts_with('$') {
                steps(&path_text).ok_or(EvaluationError::BadPath)?
            } else if path_text.starts_with('[') && path_text.ends_with(']') {
                steps(&in_brackets).ok_or(EvaluationError::BadPath)?
            } else if path_text.is_empty() {
                return Err(EvaluationError::BadPath);
            } else {
                vec![PathStep::Name(&path_text)]
            }
        }
    };

    Ok(match find(&text, &steps)? {
        Some(found) if as_value => to_value(found)?,
        Some(found) => Value::text(without_spaces(found)),
        None => Value::Null,
    })
}

/// Returns the length of an array, and 0 for other values. `None` if there is no value.
pub(super) fn array_length(
    value: &Value<'_>,
    path: &str,
) -> Result<Option<usize>, EvaluationError> {
    let Some(text) = text_of(value) else { return Ok(None) };
    let steps = steps(path).ok_or(EvaluationError::BadPath)?;
    let Some(found) = find(&text, &steps)? else { return Ok(None) };
    Ok(Some(if found.starts_with('[') { items(found)?.len() } else { 0 }))
}

/// Parses a path such as `$.name."other name"[0][#-1]`.
pub(crate) fn steps(path: &str) -> Option<Vec<PathStep<'_>>> {
    let mut rest = path.strip_prefix('$')?;

    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix(".\"") {
            let (name, after) = quoted.split_once('"')?;
            steps.push(PathStep::Name(name));
            rest = after;
        } else if let Some(named) = rest.strip_prefix('.') {
            let (name, after) = named.split_at(named.find(['.', '[']).unwrap_or(named.len()));
            if name.is_empty() {
                return None;
            }
            steps.push(PathStep::Name(name));
            rest = after;
        } else {
            let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
            steps.push(match index.strip_prefix('#') {
                Some("") => PathStep::FromEnd(0),
                Some(back) => PathStep::FromEnd(digits(back.strip_prefix('-')?)?),
                None => PathStep::Index(digits(index)?),
            });
            rest = after;
        }
    }

    Some(steps)
}

fn digits(text: &str) -> Option<usize> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(usize::MAX))
}

/// Returns the text at the end of a path, as it is written.
fn find<'t>(text: &'t str, steps: &[PathStep<'_>]) -> Result<Option<&'t str>, EvaluationError> {
    let mut found = serde_json::from_str::<&RawValue>(text).map_err(not_json)?.get();
    if steps.len() > STEPS_MAX {
        return Err(EvaluationError::NotJson);
    }

    for step in steps {
        let next = match step {
            PathStep::Name(name) if found.starts_with('{') => {
                let mut object = serde_json::Deserializer::from_str(found);
                object.deserialize_map(FirstMember(name)).map_err(not_json)?
            }
            PathStep::Index(index) if found.starts_with('[') => items(found)?.get(*index).copied(),
            PathStep::FromEnd(count) if found.starts_with('[') => {
                let items = items(found)?;
                items.len().checked_sub(*count).and_then(|index| items.get(index)).copied()
            }
            PathStep::Name(_) | PathStep::Index(_) | PathStep::FromEnd(_) => None,
        };

        match next {
            Some(next) => found = next.get(),
            None => return Ok(None),
        }
    }

    Ok(Some(found))
}

fn items(array: &str) -> Result<Vec<&RawValue>, EvaluationError> {
    serde_json::from_str(array).map_err(not_json)
}

/// Visitor that returns the first member with this name.
struct FirstMember<'n>(&'n str);

impl<'de> Visitor<'de> for FirstMember<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            if found.is_none() && name == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

fn to_value<'v>(json: &str) -> Result<Value<'v>, EvaluationError> {
    Ok(match json.as_bytes().first() {
        Some(b'{' | b'[') => Value::text(without_spaces(json)),
        Some(b'"') => Value::text(serde_json::from_str::<String>(json).map_err(not_json)?),
        Some(b'n') | None => Value::Null,
        Some(b't') => Value::Integer(1),
        Some(b'f') => Value::Integer(0),
        Some(_) => number::numeric_prefix(json).into(),
    })
}

fn without_spaces(json: &str) -> String {
    let mut in_string = false;
    let mut is_escaped = false;
    json.chars()
        .filter(|c| {
            let is_kept = in_string || !matches!(c, ' ' | '\t' | '\n' | '\r');
            if *c == '"' && !is_escaped {
                in_string = !in_string;
            }
            is_escaped = *c == '\\' && !is_escaped;
            is_kept
        })
        .collect()
}

fn text_of<'t>(value: &'t Value<'_>) -> Option<Cow<'t, str>> {
    value.reborrow().into_text(Engine::Sqlite)
}

fn not_json(_: serde_json::Error) -> EvaluationError {
    EvaluationError::NotJson
}
