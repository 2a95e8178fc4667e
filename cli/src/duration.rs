//! Lengths of time on the command line: `90s`, `15m`, `12h`, `7d`.

use std::time::Duration;

/// Reads a length of time.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let read = || {
        let number = text.strip_suffix(['s', 'm', 'h', 'd'])?;
        let unit = match text.as_bytes().last()? {
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            _ => 86_400,
        };
        let seconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
        Some(Duration::from_secs(seconds))
    };
    read().ok_or_else(|| "expected a number and a unit: 90s, 15m, 12h, 7d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_a_number_and_a_unit() {
        let check = |text: &str| parse(text).ok().map(|time| time.as_secs());
        assert_eq!(check("0s"), Some(0));
        assert_eq!(check("90s"), Some(90));
        assert_eq!(check("15m"), Some(900));
        assert_eq!(check("12h"), Some(43_200));
        assert_eq!(check("7d"), Some(604_800));
        for bad in ["", "s", "5", "1.5h", "-1s", "5 m", "99999999999999999999s", "1w", "ü"] {
            assert_eq!(check(bad), None, "{bad}");
        }
    }
}
