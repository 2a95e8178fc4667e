//! Conversion of dates and times from PostgreSQL's ISO output.

use super::options::ValueOptions;

/// Maximum number of digits after the second: PostgreSQL's precision is a microsecond.
const DIGITS_MAX: usize = 6;
const ZEROS: &str = "000000";
/// Replacements of `-infinity` and `infinity`, in PostgreSQL's format.
const FIRST: &str = "0000-01-01 00:00:00";
const LAST: &str = "9999-12-31 23:59:59";

/// Writes a `date`.
pub(crate) fn push_date(text: &str, out: &mut String) {
    out.push_str(match text {
        "infinity" => "9999-12-31",
        "-infinity" => "0000-01-01",
        other => other,
    });
}

/// Writes a `time`.
pub(crate) fn push_time(text: &str, options: &ValueOptions, out: &mut String) {
    if options.timestamps_iso8601 {
        push_with_fraction(text, options.fraction_digits, out);
    } else {
        out.push_str(text);
    }
}

/// Writes a `timestamp`. Returns `false` and writes nothing for a year BC, which is NULL.
pub(crate) fn push_timestamp(text: &str, options: &ValueOptions, out: &mut String) -> bool {
    let text = match text {
        "infinity" => LAST,
        "-infinity" => FIRST,
        other => other,
    };

    if text.ends_with(" BC") {
        return false;
    }

    match text.split_once(' ') {
        Some((date, time)) if options.timestamps_iso8601 => {
            out.push_str(date);
            out.push('T');
            push_with_fraction(time, options.fraction_digits, out);
        }
        Some(_) | None => out.push_str(text),
    }

    true
}

/// Truncates or pads the digits after the second.
fn push_with_fraction(text: &str, digits: usize, out: &mut String) {
    let digits = digits.min(DIGITS_MAX);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    out.push_str(whole);
    if digits > 0 {
        out.push('.');
        let kept = fraction.get(..digits).unwrap_or(fraction);
        out.push_str(kept);
        out.push_str(&ZEROS[..digits - kept.len()]);
    }
}

/// Writes a `timestamptz` in UTC. Returns `false` and writes nothing outside of the years 0 to
/// 9999, which is NULL.
pub(crate) fn push_timestamptz(text: &str, options: &ValueOptions, out: &mut String) -> bool {
    if matches!(text, "infinity" | "-infinity") {
        push_timestamp(text, options, out);
        out.push('Z');
        return true;
    }

    let Some(instant) = ZonedTimestamp::parse(text) else { return false };
    let Some(utc) = instant.utc() else { return false };
    push_padded(utc.year, 4, out);

    for (separator, part) in [('-', utc.month), ('-', utc.day)] {
        out.push(separator);
        push_padded(part, 2, out);
    }

    out.push(if options.timestamps_iso8601 { 'T' } else { ' ' });
    push_padded(utc.hour, 2, out);

    for part in [utc.minute, utc.second] {
        out.push(':');
        push_padded(part, 2, out);
    }

    if options.timestamps_iso8601 {
        push_with_fraction(instant.fraction, options.fraction_digits, out);
    } else {
        out.push_str(instant.fraction);
    }

    out.push('Z');
    true
}

pub(crate) fn push_padded(number: i64, width: usize, out: &mut String) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(number);
    out.push_str(ZEROS.get(..width.saturating_sub(text.len())).unwrap_or(""));
    out.push_str(text);
}

/// Parsed `timestamptz`.
struct ZonedTimestamp<'t> {
    clock: CivilTime,
    /// Fraction of the second: empty, or `.` and digits.
    fraction: &'t str,
    /// Offset from UTC, positive to the east.
    offset_seconds: i64,
}

#[derive(Clone, Copy)]
struct CivilTime {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

impl<'t> ZonedTimestamp<'t> {
    /// Parses `2023-03-06 15:47:00.5+02`. The offset may have minutes and seconds.
    fn parse(text: &'t str) -> Option<Self> {
        let (date, rest) = text.split_once(' ')?;
        let mut date = date.splitn(3, '-');
        let year = number(date.next()?)?;
        let month = number(date.next()?)?;
        let day = date.next()?;
        let sign_at = rest.rfind(['+', '-'])?;
        let (time, offset) = rest.split_at(sign_at);
        let (whole, fraction) = match time.find('.') {
            Some(dot) => time.split_at(dot),
            None => (time, ""),
        };

        if !fraction.bytes().skip(1).all(|byte| byte.is_ascii_digit()) {
            return None;
        }

        let mut time = whole.splitn(3, ':');
        let clock = CivilTime {
            year,
            month,
            day: number(day)?,
            hour: number(time.next()?)?,
            minute: number(time.next()?)?,
            second: number(time.next()?)?,
        };

        let mut seconds = 0;
        let mut unit = 3600;
        for part in offset[1..].splitn(3, ':') {
            seconds += number(part)? * unit;
            unit /= 60;
        }

        let offset_seconds = if offset.starts_with('-') { -seconds } else { seconds };
        Some(Self { clock, fraction, offset_seconds })
    }

    fn utc(&self) -> Option<CivilTime> {
        let CivilTime { year, month, day, hour, minute, second } = self.clock;
        if year > 9999 || !(1..=12).contains(&month) {
            return None;
        }

        let seconds = days_from_civil(year, month, day) * 86_400
            + (hour * 3600 + minute * 60 + second - self.offset_seconds);
        let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
        let second = seconds.rem_euclid(86_400);

        let clock = CivilTime {
            year,
            month,
            day,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        };

        (0..=9999).contains(&year).then_some(clock)
    }
}

/// Parses up to seven digits: so few that no arithmetic on them overflows.
fn number(text: &str) -> Option<i64> {
    let valid = (1..=7).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if valid { text.parse().ok() } else { None }
}

/// Returns the days since 1970-01-01 in the Gregorian calendar. Years are counted from March, so
/// that a leap day is the last day of its year.
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Returns year, month and day: the inverse of [`days_from_civil`].
pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}
