//! The printed table: Markdown, to be pasted into `BENCHMARKS.md`.

use std::io::Write;

use anyhow::Result;

/// One line of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    /// What was measured.
    pub(crate) what: String,
    /// Ours.
    pub(crate) figure: String,
    /// The same without us; empty where there is no such thing.
    pub(crate) floor: String,
    /// Ours divided by the floor, in wall time.
    pub(crate) ratio: String,
    /// What it must be.
    pub(crate) bar: &'static str,
    /// User and system time of our process.
    pub(crate) cpu: String,
}

impl Line {
    pub(crate) fn print(&self) -> Result<()> {
        let Self { what, figure, floor, ratio, bar, cpu } = self;
        print(&format!("| {what} | {figure} | {floor} | {ratio} | {bar} | {cpu} |"))
    }
}

/// Prints the head.
pub(crate) fn head() -> Result<()> {
    print("| what | figure | floor | ratio | bar | our CPU s |\n|---|---|---|---|---|---|")
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// `count` things in `seconds`, as a rate without decimals.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52, shown rounded")]
pub(crate) fn rate(count: u64, seconds: f64) -> String {
    format!("{:.0}", count as f64 / seconds)
}

/// Bytes as megabytes (10^6).
#[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52, shown rounded")]
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
