//! The command line of the benchmark.

use anyhow::{Context, Result, bail, ensure};

/// All measurements, in the order in which they run.
const NAMES: [&str; 9] =
    ["evaluate", "copy", "backlog", "latency", "lines", "bootstrap", "memory", "scale", "fanout"];

const DEFAULT_ROWS: u64 = 500_000;

/// The smallest number of rows: one for each of the 1,000 owners.
const ROWS_MIN: u64 = 1_000;

/// The selected measurements and the size of the table.
#[derive(Clone, Debug)]
pub(crate) struct BenchOptions {
    only: Option<String>,
    /// Rows of the to-do table in measurements of the whole table.
    pub(crate) rows: u64,
}

impl BenchOptions {
    /// Parses `[--only NAME] [--rows N]`.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self { only: None, rows: DEFAULT_ROWS };
        while let Some(argument) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{argument} needs a value"))?;
            match argument.as_str() {
                "--only" => {
                    ensure!(NAMES.contains(&value.as_str()), "--only takes one of {NAMES:?}");
                    options.only = Some(value);
                }
                "--rows" => options.rows = value.parse().context("--rows takes a number")?,
                _ => bail!("unknown argument '{argument}': use --only NAME or --rows N"),
            }
        }

        ensure!(
            options.rows >= ROWS_MIN,
            "--rows must be {ROWS_MIN} or more, one for each of the owners"
        );
        Ok(options)
    }

    /// Returns whether a measurement is selected.
    pub(crate) fn selects(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == name)
    }

    /// Returns the number of rows before a measurement of later changes.
    pub(crate) fn preloaded_rows(&self) -> u64 {
        self.rows.min(20_000)
    }
}
