//! Operators on values.

use super::{Arithmetic, CastType, Comparison};
use crate::functions;
use crate::value::{Engine, Number, Value};

impl Comparison {
    /// Compares two values. Returns `None` if either is NULL.
    pub(super) fn compare(self, left: &Value<'_>, right: &Value<'_>) -> Option<bool> {
        let ordering = left.compare(right)?;
        Some(match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        })
    }
}

impl Arithmetic {
    pub(super) fn apply<'v>(self, left: &Value<'_>, right: &Value<'_>) -> Value<'v> {
        match self {
            Self::Add => numbers(left, right, i64::checked_add, |left, right| left + right),
            Self::Subtract => numbers(left, right, i64::checked_sub, |left, right| left - right),
            Self::Multiply => numbers(left, right, i64::checked_mul, |left, right| left * right),
            Self::Divide => divide(left, right),
            Self::Remainder => remainder(left, right),
            Self::BitAnd => integers(left, right, |left, right| left & right),
            Self::BitOr => integers(left, right, |left, right| left | right),
            Self::ShiftLeft => integers(left, right, shift_left),
            Self::ShiftRight => {
                integers(left, right, |left, right| shift_left(left, right.saturating_neg()))
            }
        }
    }
}

/// Applies an operator. The result of integers is an integer if it fits in 64 bits, else a real.
fn numbers<'v>(
    left: &Value<'_>,
    right: &Value<'_>,
    of_integers: fn(i64, i64) -> Option<i64>,
    of_reals: fn(f64, f64) -> f64,
) -> Value<'v> {
    let left = left.to_numeric();
    let right = right.to_numeric();
    if let (Number::Integer(left), Number::Integer(right)) = (left, right)
        && let Some(integer) = of_integers(left, right)
    {
        return Value::Integer(integer);
    }

    match (left.to_f64(), right.to_f64()) {
        (Some(left), Some(right)) => Value::real(of_reals(left, right)),
        (None, _) | (_, None) => Value::Null,
    }
}

/// Divides. Returns NULL for a division by zero.
fn divide<'v>(left: &Value<'_>, right: &Value<'_>) -> Value<'v> {
    if right.to_numeric().to_f64() == Some(0.0) {
        return Value::Null;
    }
    numbers(left, right, i64::checked_div, |left, right| left / right)
}

fn integers<'v>(left: &Value<'_>, right: &Value<'_>, operator: fn(i64, i64) -> i64) -> Value<'v> {
    match (left.truncated(), right.truncated()) {
        (Some(left), Some(right)) => Value::Integer(operator(left, right)),
        (None, _) | (_, None) => Value::Null,
    }
}

/// Returns the remainder of the operands as integers. It is a real if either operand is.
fn remainder<'v>(left: &Value<'_>, right: &Value<'_>) -> Value<'v> {
    let (Some(dividend), Some(divisor)) = (left.truncated(), right.truncated()) else {
        return Value::Null;
    };
    if divisor == 0 {
        return Value::Null;
    }
    let rest = dividend.wrapping_rem(divisor);
    match (left.to_numeric(), right.to_numeric()) {
        (Number::Integer(_), Number::Integer(_)) => Value::Integer(rest),
        _ => Value::Real(crate::value::number::to_f64(rest)),
    }
}

/// Shifts to the left, or arithmetically to the right if `places` is negative.
fn shift_left(integer: i64, places: i64) -> i64 {
    let count = u32::try_from(places.unsigned_abs()).unwrap_or(u32::MAX);
    if places >= 0 { integer.checked_shl(count).unwrap_or(0) } else { integer >> count.min(63) }
}

impl CastType {
    pub(super) fn apply(self, value: Value<'_>, engine: Engine) -> Value<'_> {
        match self {
            Self::Text => value.into_text(engine).map_or(Value::Null, Value::Text),
            Self::Integer => value.to_integer(engine),
            Self::Real => value.to_real(),
            Self::Numeric => functions::to_numeric(value, engine),
            Self::Blob => functions::to_blob(value, engine),
        }
    }
}
