//! The demo's measurements as a table.

use std::time::Duration;

/// A table of measurements.
#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<(String, String)>,
}

impl Report {
    /// Adds a measurement.
    pub(crate) fn add(&mut self, what: impl Into<String>, figure: impl Into<String>) {
        self.lines.push((what.into(), figure.into()));
    }

    /// Returns the table as text.
    pub(crate) fn text(&self) -> String {
        let left = self.lines.iter().map(|line| width(&line.0)).max().unwrap_or(0);
        let right = self.lines.iter().map(|line| width(&line.1)).max().unwrap_or(0);
        let rule = "─".repeat(left + right + 5);
        let mut text = format!("{rule}\n");
        for (what, figure) in &self.lines {
            text.push_str(&format!(" {what:left$}   {figure:>right$}\n"));
        }
        text.push_str(&rule);
        text.push('\n');
        text
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Formats a number with separators: `500,000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Formats seconds with two digits.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Formats megabytes (10^6 bytes) with one digit.
pub(crate) fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{} MB", grouped(tenths / 10), tenths % 10)
}

/// Returns a percentile of the samples by nearest rank, or `None` without samples.
pub(crate) fn percentile(samples: &mut [Duration], percent: usize) -> Option<Duration> {
    samples.sort_unstable();
    let rank = (samples.len() * percent).div_ceil(100);
    samples.get(rank.saturating_sub(1)).copied()
}

/// Formats milliseconds with one digit.
pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn figures_are_aligned_to_the_right() {
        let mut report = Report::default();
        report.add("rows copied", grouped(500_000));
        report.add("copy", seconds(Duration::from_millis(4321)));
        report.add("size", megabytes(1_234_567_890));
        expect![[r"
            ──────────────────────────
             rows copied      500,000
             copy              4.32 s
             size          1,234.5 MB
            ──────────────────────────
        "]]
        .assert_eq(&report.text());
    }

    #[test]
    fn thousands_have_separators() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn a_percentile_is_one_of_the_samples() {
        let mut samples: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut samples, 50), Some(Duration::from_millis(100)));
        assert_eq!(percentile(&mut samples, 99), Some(Duration::from_millis(198)));
        assert_eq!(percentile(&mut samples[..1], 99), Some(Duration::from_millis(1)));
        assert_eq!(percentile(&mut [], 50), None);
    }
}
