//! Durations on the command line: `90s`, `15m`, `12h`, `7d`.

use std::time::Duration;

/// Parses a number with a unit.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    parse_seconds(text)
        .map(Duration::from_secs)
        .ok_or_else(|| "expected a number and a unit: 90s, 15m, 12h, 7d".to_owned())
}

/// Parses a duration as [`parse`] does, but not zero.
pub(crate) fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("expected at least 1s".to_owned()),
        duration => Ok(duration),
    }
}

/// Formats a duration in the largest unit of which there are two: `90 s`, `15 min`, `12 h`, `7 d`.
pub(crate) fn format(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        172_800.. => format!("{} d", seconds / 86_400),
    }
}

fn parse_seconds(text: &str) -> Option<u64> {
    let number = text.strip_suffix(['s', 'm', 'h', 'd'])?;
    let unit_seconds = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3_600,
        _ => 86_400,
    };
    number.parse::<u64>().ok()?.checked_mul(unit_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        parse(text).ok().map(|time| time.as_secs())
    }

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        assert_eq!(seconds("0s"), Some(0));
        assert_eq!(seconds("90s"), Some(90));
        assert_eq!(seconds("15m"), Some(900));
        assert_eq!(seconds("12h"), Some(43_200));
        assert_eq!(seconds("7d"), Some(604_800));
        for bad in ["", "s", "5", "1.5h", "-1s", "5 m", "99999999999999999999s", "1w", "ü"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_duration_is_shown_in_the_largest_unit_of_which_there_are_two() {
        for (seconds, text) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7_199, "119 min"),
            (7_200, "2 h"),
            (172_800, "2 d"),
        ] {
            assert_eq!(format(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn zero_is_no_positive_duration() {
        assert_eq!(parse_positive("1s"), Ok(Duration::from_secs(1)));
        assert!(parse_positive("0m").is_err() && parse_positive("x").is_err());
    }
}
