//! JSON operators and functions of the default engine.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::json_member::{array_index, member};
use super::sqlite_json;
use crate::value::{Engine, EvaluationError, PathSplit, Value, json};

/// Evaluates `->`, and `->>` if `as_value`.
pub(crate) fn json_get<'v>(
    value: &Value<'_>,
    path: &Value<'_>,
    as_value: bool,
    split: PathSplit,
    engine: Engine,
) -> Result<Value<'v>, EvaluationError> {
    if engine.has_sqlite_json_paths() {
        return sqlite_json::get(value, path, as_value);
    }

    if value.is_null() || path.is_null() {
        return Ok(Value::Null);
    }

    let text = text_of(value)?;
    let Some(path) = path.reborrow().into_text(Engine::JavaScript) else { return Ok(Value::Null) };
    let names = path_names(&path, split);
    let found = match member(&text, &names) {
        Ok(found) => found,
        Err(_) => {
            let tree = json::parse(&text).ok_or(EvaluationError::NotJson)?;
            walk(&tree, &names).cloned()
        }
    };

    Ok(match found {
        // JSON null as a whole is NULL.
        Some(Json::Null) if names.is_empty() => Value::Null,
        // Without `fixed_json_extract`, `->>` of a JSON null is the text `null`, and `->` is NULL.
        Some(Json::Null) if split == PathSplit::Always => {
            if as_value {
                Value::text("null")
            } else {
                Value::Null
            }
        }
        Some(found) => output(&found, as_value),
        None => Value::Null,
    })
}

/// Splits a path into names.
pub(crate) fn path_names(path: &str, split: PathSplit) -> Vec<&str> {
    match (split, path.strip_prefix("$.")) {
        (_, None) if path == "$" => Vec::new(),
        (PathSplit::AfterDollar, Some(rest)) => rest.split('.').collect(),
        (PathSplit::AfterDollar, None) => vec![path],
        (PathSplit::Always, rest) => rest.unwrap_or(path).split('.').collect(),
    }
}

/// Returns the member at a path of names.
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

/// Returns the result of `->`, or of `->>` if `as_value`, for a member that was found.
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
    json::parse(&text_of(value)?).ok_or(EvaluationError::NotJson)
}

fn text_of<'t>(value: &'t Value<'_>) -> Result<Cow<'t, str>, EvaluationError> {
    value.reborrow().into_text(Engine::JavaScript).ok_or(EvaluationError::NotJson)
}

pub(super) fn json_extract<'v>(
    value: &Value<'_>,
    path: &Value<'_>,
    engine: Engine,
) -> Result<Value<'v>, EvaluationError> {
    if value.is_null() || whole_path(path)?.is_none() {
        return Ok(Value::Null);
    }
    json_get(value, path, true, PathSplit::AfterDollar, engine)
}

/// Checks that the path of a function begins with `$`. Returns `None` for NULL.
fn whole_path<'p>(path: &'p Value<'_>) -> Result<Option<&'p str>, EvaluationError> {
    match path {
        Value::Null => Ok(None),
        Value::Text(text) if text.starts_with('$') => Ok(Some(text)),
        Value::Text(_) | Value::Integer(_) | Value::Real(_) | Value::Blob(_) => {
            Err(EvaluationError::BadPath)
        }
    }
}

pub(super) fn json_array_length<'v>(
    value: &Value<'_>,
    path: Option<&Value<'_>>,
    engine: Engine,
) -> Result<Value<'v>, EvaluationError> {
    if value.is_null() {
        return Ok(Value::Null);
    }

    let given = path.map(whole_path).transpose()?;
    if engine.has_sqlite_json_paths() {
        let Some(path) = given.unwrap_or(Some("$")) else { return Ok(Value::Null) };
        let length = sqlite_json::array_length(value, path)?;
        return Ok(length.map_or(Value::Null, super::text::count));
    }

    let json = parse(value)?;

    // A NULL path acts like a missing one.
    let Some(path) = given.flatten() else {
        return Ok(super::text::count(json.as_array().map_or(0, Vec::len)));
    };
    let names = path_names(path, PathSplit::AfterDollar);

    Ok(match walk(&json, &names).filter(|found| !found.is_null()) {
        Some(found) => super::text::count(found.as_array().map_or(0, Vec::len)),
        None => Value::Null,
    })
}

pub(super) fn json_keys<'v>(value: &Value<'_>) -> Result<Value<'v>, EvaluationError> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    match parse(value)? {
        Json::Object(entries) => {
            let keys = json::in_order(&entries).into_iter();
            let keys = keys.map(|(key, _)| Json::String(key.clone())).collect();
            Ok(Value::text(json::to_text(&Json::Array(keys))))
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => {
            Err(EvaluationError::NotJson)
        }
    }
}

/// Evaluates `json_valid`. Values that are not texts are converted to text.
pub(super) fn json_valid<'v>(value: Value<'_>, engine: Engine) -> Value<'v> {
    if value.is_null() && engine.distinguishes_types() {
        return Value::Null;
    }
    Value::boolean(Some(value.into_text(engine).is_some_and(|text| json::parse(&text).is_some())))
}
