//! The elements of JSON arrays, as `IN`, `&&` and `json_each` take them.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::{Expression, Leaves};
use crate::value::{Engine, EvaluationError, Value, json};

/// What an array has, or what else has elements.
pub(crate) enum Items {
    Array(Vec<Json>),
    /// The members of an object.
    Object(Vec<(String, Json)>),
    Scalar(Json),
}

impl Items {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Array(items) => items.len(),
            Self::Object(members) => members.len(),
            Self::Scalar(_) => 1,
        }
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = Value<'_>> {
        (0..self.len()).map(|place| self.value(place))
    }

    pub(crate) fn value(&self, place: usize) -> Value<'_> {
        let json = match self {
            Self::Array(items) => items.get(place),
            Self::Object(members) => members.get(place).map(|(_, value)| value),
            Self::Scalar(scalar) => Some(scalar),
        };
        json.map_or(Value::Null, json::to_value)
    }

    /// Of an array the index, from 0; of an object the member's name; a scalar has none.
    pub(crate) fn key(&self, place: usize) -> Value<'_> {
        match self {
            Self::Array(_) => i64::try_from(place).map_or(Value::Null, Value::Integer),
            Self::Object(members) => {
                members.get(place).map_or(Value::Null, |(name, _)| Value::text(name.as_str()))
            }
            Self::Scalar(_) => Value::Null,
        }
    }
}

/// The elements of an array; none of NULL.
pub(crate) fn items<'v, L, S: Leaves<'v, L>>(
    array: &'v Expression<L>,
    leaves: &S,
) -> Result<Items, EvaluationError> {
    items_of(&array.evaluate(leaves)?, array.is_each(), leaves.engine())
}

/// The elements of a JSON array in text, or of what else has them for [`Expression::Each`].
pub(super) fn items_of(
    array: &Value<'_>,
    is_each: bool,
    engine: Engine,
) -> Result<Items, EvaluationError> {
    let text = match array {
        Value::Null => return Ok(Items::Array(Vec::new())),
        Value::Text(text) => Cow::Borrowed(text.as_ref()),
        // To SQLite's `json_each` a number is JSON too.
        Value::Integer(_) | Value::Real(_) if is_each && engine.has_sqlites_paths() => {
            array.reborrow().into_text(engine).unwrap_or_default()
        }
        Value::Integer(_) | Value::Real(_) | Value::Blob(_) => {
            return Err(EvaluationError::NotAnArray);
        }
    };
    match json::parse(&text) {
        Some(Json::Array(items)) => Ok(Items::Array(items)),
        Some(Json::Object(members)) if is_each => Ok(Items::Object(members.into_iter().collect())),
        Some(scalar) if is_each => Ok(Items::Scalar(scalar)),
        Some(_) => Err(EvaluationError::NotAnArray),
        None => Err(EvaluationError::NotJson),
    }
}
