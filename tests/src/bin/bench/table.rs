//! The printed results: a table in Markdown for `BENCHMARKS.md`.

use std::io::Write;

use anyhow::Result;

/// A line of the table.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResultLine {
    /// Name of the measurement.
    pub(crate) measurement: String,
    /// Result of Tidewater.
    pub(crate) result: String,
    /// Result without Tidewater; empty if there is no such measurement.
    pub(crate) floor: String,
    /// Wall time divided by that of the floor.
    pub(crate) ratio: String,
    /// Value that the result must reach.
    pub(crate) target: &'static str,
    /// User and system time of Tidewater's process, in seconds.
    pub(crate) cpu: String,
}

impl ResultLine {
    pub(crate) fn print(&self) -> Result<()> {
        let Self { measurement, result, floor, ratio, target, cpu } = self;
        print(&format!("| {measurement} | {result} | {floor} | {ratio} | {target} | {cpu} |"))
    }
}

/// Prints the head of the table.
pub(crate) fn print_head() -> Result<()> {
    print("| measurement | result | floor | ratio | target | CPU s |\n|---|---|---|---|---|---|")
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Formats a rate, as a whole number per second.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52, shown rounded")]
pub(crate) fn rate(count: u64, seconds: f64) -> String {
    format!("{:.0}", count as f64 / seconds)
}

/// Formats the time that each takes, in microseconds.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52, shown rounded")]
pub(crate) fn micros_each(count: u64, seconds: f64) -> String {
    format!("{:.1}", seconds * 1e6 / count as f64)
}

/// Formats bytes as megabytes of 10^6 bytes.
#[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52, shown rounded")]
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
