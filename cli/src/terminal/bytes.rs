//! Sizes on the command line, as PostgreSQL writes them: `512MB`, `10GB`, `1TB`.

/// The units, each with the power of two that it stands for.
const UNITS: [(&str, u32); 4] = [("kB", 10), ("MB", 20), ("GB", 30), ("TB", 40)];

/// Parses a number with a unit, but not zero. As in PostgreSQL, a unit is 1,024 times the one before.
pub(crate) fn parse_positive(text: &str) -> Result<u64, String> {
    match parse(text) {
        Some(0) => Err("expected at least 1kB".to_owned()),
        Some(bytes) => Ok(bytes),
        None => Err("expected a number and a unit: 512MB, 10GB, 1TB".to_owned()),
    }
}

/// Formats a size as PostgreSQL's `pg_size_pretty` does: in the largest unit of which there are ten.
pub(crate) fn format(bytes: u64) -> String {
    let fits = |(_, power): &&(&str, u32)| bytes >> power >= 10;
    let (unit, power) = UNITS.iter().rev().find(fits).unwrap_or(&UNITS[0]);
    let rounded = bytes.saturating_add(1 << (power - 1)) >> power;
    format!("{rounded} {unit}")
}

fn parse(text: &str) -> Option<u64> {
    let (number, power) =
        UNITS.iter().find_map(|(unit, power)| Some((text.strip_suffix(unit)?, power)))?;
    number.parse::<u64>().ok()?.checked_mul(1 << power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_shown_in_the_largest_unit_of_which_there_are_ten() {
        for (bytes, text) in [
            (0, "0 kB"),
            (511, "0 kB"),
            (512, "1 kB"),
            (10 << 20, "10 MB"),
            ((10 << 20) - 1, "10240 kB"),
            (50 << 30, "50 GB"),
            (1 << 50, "1024 TB"),
        ] {
            assert_eq!(format(bytes), text);
        }
        assert!(format(u64::MAX).ends_with(" TB"), "nothing overflows");
    }

    #[test]
    fn a_size_is_a_number_and_a_unit() {
        for (text, bytes) in
            [("1kB", 1 << 10), ("512MB", 512 << 20), ("10GB", 10 << 30), ("2TB", 2 << 40)]
        {
            assert_eq!(parse_positive(text), Ok(bytes), "{text}");
        }
        for bad in ["", "GB", "5", "1.5GB", "-1GB", "5 GB", "0GB", "99999999999TB", "1gb", "ü"] {
            assert!(parse_positive(bad).is_err(), "{bad}");
        }
    }
}
