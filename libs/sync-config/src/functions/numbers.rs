//! Functions of numbers.

use crate::value::{Engine, EvaluationError, Number, Value, number};

/// Evaluates `CAST(.. AS NUMERIC)`.
pub(crate) fn to_numeric(value: Value<'_>, engine: Engine) -> Value<'_> {
    match value {
        Value::Text(_) | Value::Blob(_) => match value.to_numeric() {
            Number::Real(real) if real.abs() > engine.numeric_cast_integer_max() => {
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

/// Rounds to this many digits after the decimal point, 30 at most. Halves round away from zero.
pub(super) fn round<'v>(value: &Value<'_>, digits: Option<&Value<'_>>) -> Value<'v> {
    /// All reals beyond this are integers.
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

/// Rounds the 18 or 19 leading decimal digits, as SQLite does. Multiplying by a power of ten would
/// change the digits.
fn round_decimal(real: f64, digits: usize) -> f64 {
    /// Mask that keeps the exponent of an `f64`: the power of two below the number.
    const POWER_OF_TWO: u64 = 0x7ff0_0000_0000_0000;

    /// Smaller reals round to 0, as at most 30 digits are kept.
    const LEAST: f64 = 1e-40;

    if real < LEAST {
        return 0.0;
    }

    // SQLite uses the decimal exponent of the power of two below, which may give one digit more.
    let below = exponent(f64::from_bits(real.to_bits() & POWER_OF_TWO));
    let precision = if exponent(real) == below { 17 } else { 18 };
    let text = format!("{real:.precision$e}");
    let Some((mantissa, _)) = text.split_once('e') else { return real };
    let significant: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();

    // Kept are the digits before the point, and the requested number after it.
    let kept = exponent(real) + 1 + i64::try_from(digits).unwrap_or(0);
    let Ok(kept) = usize::try_from(kept) else { return 0.0 };
    let Some(next) = significant.get(kept) else { return real };
    let truncated =
        significant[..kept].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    let integer: u64 = truncated + u64::from(*next >= b'5');

    format!("{integer}e-{digits}").parse().unwrap_or(real)
}

/// Returns the exponent of a real in decimal scientific notation.
fn exponent(real: f64) -> i64 {
    let text = format!("{real:e}");
    text.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0)
}
