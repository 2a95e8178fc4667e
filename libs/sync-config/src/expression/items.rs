//! Elements of JSON arrays, for `IN`, `&&` and `json_each`.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::{Expression, Leaves};
use crate::value::{Engine, EvaluationError, Value, json};

/// Elements of an array, an object or a scalar.
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

    /// Returns the key of an element: the index from 0 in an array, the name in an object. NULL for
    /// a scalar.
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

/// Evaluates an array expression and returns its elements. NULL has none.
pub(crate) fn items<'v, L, S: Leaves<'v, L>>(
    array: &'v Expression<L>,
    leaves: &S,
) -> Result<Items, EvaluationError> {
    let value = array.evaluate(leaves)?;
    leaves.spend_text(value.text_bytes())?;
    items_of(&value, array.is_each(), leaves.engine())
}

/// Parses the elements of a JSON array; of any JSON with `is_each`, see [`Expression::Each`].
pub(super) fn items_of(
    array: &Value<'_>,
    is_each: bool,
    engine: Engine,
) -> Result<Items, EvaluationError> {
    let text = match array {
        Value::Null => return Ok(Items::Array(Vec::new())),
        Value::Text(text) => Cow::Borrowed(text.as_ref()),
        // SQLite's `json_each` reads a number as JSON, too.
        Value::Integer(_) | Value::Real(_) if is_each && engine.has_sqlite_json_paths() => {
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
