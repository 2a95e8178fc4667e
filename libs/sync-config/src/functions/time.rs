//! The functions `unixepoch` and `datetime`. They read dates as JavaScript does, in UTC.

use crate::value::Value;
use crate::value::number;
use crate::value::timestamp::{civil_from_days, days_from_civil, push_padded};

const DAY_MILLISECONDS: i64 = 86_400_000;
/// Range of JavaScript's `Date`: 100,000,000 days before and after 1970, in milliseconds.
const MILLISECONDS_MAX: f64 = 8.64e15;

/// Modifiers of a time: the texts after the first argument.
#[derive(Default)]
struct TimeModifiers {
    /// Reads numbers as seconds since 1970, not as Julian days.
    is_epoch: bool,
    /// Returns milliseconds, too.
    has_fraction: bool,
}

impl TimeModifiers {
    /// Returns `None` for an unknown modifier or if the modifiers are in the wrong order.
    fn new(first: &Value<'_>, second: &Value<'_>) -> Option<Self> {
        let mut modifiers = Self::default();
        for modifier in [first, second] {
            let Value::Text(text) = modifier else {
                if modifier.is_null() {
                    continue;
                }
                return None;
            };

            match text.as_ref() {
                "unixepoch" if !modifiers.is_epoch && !modifiers.has_fraction => {
                    modifiers.is_epoch = true;
                }
                "subsec" | "subsecond" if !modifiers.has_fraction => modifiers.has_fraction = true,
                _ => return None,
            }
        }

        Some(modifiers)
    }
}

/// Returns whether a text is a valid modifier after the modifier `before`.
pub(crate) fn is_modifier(before: Option<&str>, text: &str) -> bool {
    let before = before.map_or(Value::Null, Value::text);
    TimeModifiers::new(&before, &Value::text(text)).is_some()
}

/// Returns whether a text stands for the current time.
pub(crate) fn is_now(text: &str) -> bool {
    text.trim().eq_ignore_ascii_case("now")
}

pub(super) fn unixepoch<'v>(value: &Value<'_>, first: &Value<'_>, second: &Value<'_>) -> Value<'v> {
    let Some(modifiers) = TimeModifiers::new(first, second) else { return Value::Null };
    match milliseconds(value, modifiers.is_epoch) {
        Some(time) if modifiers.has_fraction => Value::Real(number::to_f64(time) / 1000.0),
        Some(time) => Value::Integer(time.div_euclid(1000)),
        None => Value::Null,
    }
}

pub(super) fn datetime<'v>(value: &Value<'_>, first: &Value<'_>, second: &Value<'_>) -> Value<'v> {
    let Some(modifiers) = TimeModifiers::new(first, second) else { return Value::Null };
    let Some(time) = milliseconds(value, modifiers.is_epoch) else { return Value::Null };
    let (year, month, day) = civil_from_days(time.div_euclid(DAY_MILLISECONDS));
    let time = time.rem_euclid(DAY_MILLISECONDS);

    let mut text = String::with_capacity(24);
    match year {
        0..=9999 => push_padded(year, 4, &mut text),
        10_000.. => {
            text.push('+');
            push_padded(year, 6, &mut text);
        }
        _ => number::push_integer(year, &mut text),
    }

    let parts = [
        ('-', month, 2),
        ('-', day, 2),
        (' ', time / 3_600_000, 2),
        (':', time / 60_000 % 60, 2),
        (':', time / 1000 % 60, 2),
        ('.', time % 1000, 3),
    ];

    for (separator, part, width) in &parts[..if modifiers.has_fraction { 6 } else { 5 }] {
        text.push(*separator);
        push_padded(*part, *width, &mut text);
    }

    Value::text(text)
}

/// Returns the milliseconds since 1970, or `None` if the value is not a time.
fn milliseconds(value: &Value<'_>, is_epoch: bool) -> Option<i64> {
    match value {
        Value::Null | Value::Blob(_) => None,
        Value::Integer(integer) => milliseconds_of_number(number::to_f64(*integer), is_epoch),
        Value::Real(real) => milliseconds_of_number(*real, is_epoch),
        Value::Text(text) => {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            if !whole.is_empty() && [whole, fraction].into_iter().all(is_digits) {
                return milliseconds_of_number(text.parse().ok()?, false);
            }
            milliseconds_of_text(text)
        }
    }
}

/// Converts seconds since 1970, or a Julian day, to milliseconds since 1970.
fn milliseconds_of_number(number: f64, is_epoch: bool) -> Option<i64> {
    const JULIAN_1970: f64 = 2_440_587.5;
    let milliseconds = if is_epoch {
        number * 1000.0
    } else {
        (number - JULIAN_1970) * 24.0 * 60.0 * 60.0 * 1000.0
    };
    let in_range = milliseconds.abs() <= MILLISECONDS_MAX;
    in_range.then(|| number::saturating_i64(milliseconds.trunc()))
}

/// Parses `2023-03-06`, optionally with a time after `T` or a space, and an offset after the time.
fn milliseconds_of_text(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let date = date.as_bytes();
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }

    let year = digits(&date[..4])?;
    let month = digits(&date[5..7])?;
    let day = digits(&date[8..])?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }

    let (time, offset) = split_offset(rest)?;
    let time = match time.strip_prefix(['T', 't', ' ']) {
        Some(time) => time_of_day(time)?,
        None if time.is_empty() => 0,
        None => return None,
    };

    // A day after the end of the month is a day of the next one, as in JavaScript.
    let days = days_from_civil(year, month, 1) + day - 1;
    Some(days * DAY_MILLISECONDS + time - offset)
}

/// Splits off the offset and returns it in milliseconds. Without an offset, the time is UTC.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }

    let Some(at) = text.len().checked_sub(6).filter(|at| text.is_char_boundary(*at)) else {
        return Some((text, 0));
    };
    let (time, offset) = text.split_at(at);
    let offset = offset.as_bytes();
    let sign = match offset[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return Some((text, 0)),
    };
    let hours = digits(&offset[1..3])?;
    let minutes = digits(&offset[4..])?;
    let valid = offset[3] == b':' && hours < 24 && minutes < 60;

    valid.then_some((time, sign * (hours * 60 + minutes) * 60_000))
}

/// Parses `17:42`, optionally with seconds and a fraction, of which three digits are kept.
fn time_of_day(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || !is_digits(fraction) {
        return None;
    }

    let mut milliseconds = 0;
    for index in 0..3 {
        let digit = fraction.as_bytes().get(index).map_or(0, |digit| i64::from(digit - b'0'));
        milliseconds = milliseconds * 10 + digit;
    }

    let clock = clock.as_bytes();
    let (hour, minute, second) = match clock {
        [h1, h2, b':', m1, m2] if !text.contains('.') => {
            (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?, 0)
        }
        [h1, h2, b':', m1, m2, b':', s1, s2] => {
            (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?, digits(&[*s1, *s2])?)
        }
        _ => return None,
    };

    let valid = minute < 60 && second < 60 && hour <= 24;
    let time = ((hour * 60 + minute) * 60 + second) * 1000 + milliseconds;
    (valid && time <= DAY_MILLISECONDS).then_some(time)
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses a short run of decimal digits.
fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
    })
}
