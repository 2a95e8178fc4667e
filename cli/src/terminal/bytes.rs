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

fn parse(text: &str) -> Option<u64> {
    let (number, power) =
        UNITS.iter().find_map(|(unit, power)| Some((text.strip_suffix(unit)?, power)))?;
    number.parse::<u64>().ok()?.checked_mul(1 << power)
}

#[cfg(test)]
mod tests {
    use super::*;

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
