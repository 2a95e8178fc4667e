//! Type affinity in comparisons of the SQLite engine.
//!
//! Columns have no affinity here: expressions get their values, like bound parameters in SQLite.
//! Only CAST gives its operand an affinity.

use super::{CastType, Expression};
use crate::value::{Engine, Value, number};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Affinity {
    Numeric,
    Text,
    Blob,
}

impl<L> Expression<L> {
    pub(super) fn affinity(&self) -> Option<Affinity> {
        let Self::Cast { to, .. } = self else { return None };
        Some(match to {
            CastType::Integer | CastType::Real | CastType::Numeric => Affinity::Numeric,
            CastType::Text => Affinity::Text,
            CastType::Blob => Affinity::Blob,
        })
    }
}

impl Affinity {
    /// Returns the affinity that a comparison applies, given those of its operands.
    pub(super) fn of_both(left: Option<Self>, right: Option<Self>) -> Option<Self> {
        match (left, right) {
            (Some(Self::Numeric), Some(_)) | (Some(_), Some(Self::Numeric)) => Some(Self::Numeric),
            (Some(_), Some(_)) => Some(Self::Blob),
            (one, None) | (None, one) => one,
        }
    }

    /// Applies the affinity to the operands of a comparison.
    pub(super) fn apply(self, left: &mut Value<'_>, right: &mut Value<'_>) {
        match self {
            Self::Numeric => {
                become_number(left);
                become_number(right);
            }
            Self::Text => match (&left, &right) {
                (Value::Text(_), _) => become_text(right),
                (_, Value::Text(_)) => become_text(left),
                _ => {}
            },
            Self::Blob => {}
        }
    }
}

/// Converts a text to a number if all of it is one.
fn become_number(value: &mut Value<'_>) {
    if let Value::Text(text) = value
        && let Some(number) = number::whole_text(text)
    {
        *value = number.into();
    }
}

fn become_text(value: &mut Value<'_>) {
    if let Value::Integer(_) | Value::Real(_) = value {
        *value = value
            .reborrow()
            .into_text(Engine::Sqlite)
            .map_or(Value::Null, |text| Value::text(text.into_owned()));
    }
}
