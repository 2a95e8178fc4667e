//! Functions of numbers.

use std::fmt::Write as _;

use crate::engine::Engine;
use crate::expression::EvaluationError;
use crate::number;
use crate::value::{Number, Value};

/// `CAST(.. AS NUMERIC)`.
pub(crate) fn to_numeric(value: Value<'_>, engine: Engine) -> Value<'_> {
    /// Beyond, SQLite leaves a whole real a real.
    const WHOLE_MAX: f64 = 2_251_799_813_685_248.0; // 2^51
    match value {
        Value::Text(_) | Value::Blob(_) => match value.to_numeric() {
            Number::Real(real) if engine.keeps_large_reals() && real.abs() >= WHOLE_MAX => {
                Value::Real(real)
            }
            Number::Real(real) => number::exact_i64(real).map_or(Value::Real(real), Value::Integer),
            other @ (Number::Null | Number::Integer(_)) => other.into(),
        },
        number @ (Value::Null | Value::Integer(_) | Value::Real(_)) => number,
    }
}

pub(super) fn abs<'v>(value: &Value<'_>) -> Result<Value<'v>, EvaluationError> {
    Ok(match value {
        Value::Null => Value::Null,
        Value::Integer(integer) => {
            Value::Integer(integer.checked_abs().ok_or(EvaluationError::IntegerOverflow)?)
        }
        Value::Real(_) | Value::Text(_) | Value::Blob(_) => {
            let Value::Real(real) = value.to_real() else { return Ok(Value::Null) };
            Value::Real(real.abs())
        }
    })
}

/// A real with at most this many digits after the point, which are 30 at most; half is rounded away
/// from zero.
pub(super) fn round<'v>(value: &Value<'_>, digits: Option<&Value<'_>>) -> Value<'v> {
    /// Beyond there are no halves.
    const WHOLE_MIN: f64 = 4_503_599_627_370_496.0; // 2^52
    let digits = match digits.map(Value::truncated) {
        Some(None) => return Value::Null,
        Some(Some(digits)) => usize::try_from(digits.clamp(0, 30)).unwrap_or(0),
        None => 0,
    };
    let Value::Real(real) = value.to_real() else { return Value::Null };
    if real.abs() > WHOLE_MIN {
        return Value::Real(real);
    }
    if digits == 0 {
        return Value::Real((real + 0.5_f64.copysign(real)).trunc());
    }
    Value::Real(round_decimal(real.abs(), digits).copysign(real))
}

/// Of the decimal digits, which a multiplication by a power of ten would change.
fn round_decimal(real: f64, digits: usize) -> f64 {
    /// All that can tell a half from what is nearly one: more than 30 digits and those of a real.
    const EXACT: usize = 64;
    let mut text = String::new();
    let _ = write!(text, "{real:.EXACT$}");
    let end = text.find('.').map_or(text.len(), |point| point + 1 + digits);
    let is_up = text.as_bytes().get(end).is_some_and(|digit| *digit >= b'5');
    text.truncate(end);
    let mut decimal = text.into_bytes();
    if is_up {
        // From the right, nines become zeros until a digit can be raised.
        let mut carried = true;
        for digit in decimal.iter_mut().rev().filter(|digit| **digit != b'.') {
            if *digit != b'9' {
                *digit += 1;
                carried = false;
                break;
            }
            *digit = b'0';
        }
        if carried {
            decimal.insert(0, b'1');
        }
    }
    std::str::from_utf8(&decimal).ok().and_then(|text| text.parse().ok()).unwrap_or(real)
}
