//! Functions of numbers.

use crate::value::{Engine, EvaluationError, Number, Value, number};

/// `CAST(.. AS NUMERIC)`.
pub(crate) fn to_numeric(value: Value<'_>, engine: Engine) -> Value<'_> {
    match value {
        Value::Text(_) | Value::Blob(_) => match value.to_numeric() {
            Number::Real(real) if real.abs() > engine.whole_numeric_max() => Value::Real(real),
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

/// Of 18 decimal digits, or 19, as SQLite does it: a multiplication by a power of ten would change them.
fn round_decimal(real: f64, digits: usize) -> f64 {
    /// Without what is after the binary point of the mantissa.
    const POWER_OF_TWO: u64 = 0x7ff0_0000_0000_0000;
    /// Less is nothing after 30 digits.
    const LEAST: f64 = 1e-40;
    if real < LEAST {
        return 0.0;
    }
    // SQLite takes the exponent of the power of two below, so that there may be a digit more.
    let below = exponent(f64::from_bits(real.to_bits() & POWER_OF_TWO));
    let precision = if exponent(real) == below { 17 } else { 18 };
    let text = format!("{real:.precision$e}");
    let Some((mantissa, _)) = text.split_once('e') else { return real };
    let significant: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    // The number of digits that are kept: those before the point, and those asked for after it.
    let kept = exponent(real) + 1 + i64::try_from(digits).unwrap_or(0);
    let Ok(kept) = usize::try_from(kept) else { return 0.0 };
    let Some(next) = significant.get(kept) else { return real };
    let number = |number: u64, digit: &u8| number * 10 + u64::from(digit - b'0');
    let integer = significant[..kept].iter().fold(0, number) + u64::from(*next >= b'5');
    format!("{integer}e-{digits}").parse().unwrap_or(real)
}

/// Of its decimal form.
fn exponent(real: f64) -> i64 {
    let text = format!("{real:e}");
    text.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0)
}
