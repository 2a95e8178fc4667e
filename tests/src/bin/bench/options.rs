//! What the command line asks for.

use anyhow::{Context, Result, bail, ensure};

/// All measurements, in the order in which they run.
const NAMES: [&str; 7] = ["evaluate", "copy", "backlog", "latency", "lines", "bootstrap", "memory"];

const ROWS: u64 = 500_000;

/// Which measurements, on how much.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    only: Option<String>,
    /// Rows of the to-do table where a measurement is about all of them.
    pub(crate) rows: u64,
}

impl Options {
    /// `[--only NAME] [--rows N]`.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self { only: None, rows: ROWS };
        while let Some(argument) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{argument} needs a value"))?;
            match argument.as_str() {
                "--only" => {
                    ensure!(NAMES.contains(&value.as_str()), "--only takes one of {NAMES:?}");
                    options.only = Some(value);
                }
                "--rows" => options.rows = value.parse().context("--rows takes a number")?,
                _ => bail!("unknown argument '{argument}': --only NAME and --rows N are known"),
            }
        }
        ensure!(options.rows >= 1_000, "--rows must be 1000 or more: there are 1,000 owners");
        Ok(options)
    }

    /// Whether a measurement is to run.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == name)
    }

    /// Rows that are there before a measurement that is not about them.
    pub(crate) fn preload(&self) -> u64 {
        self.rows.min(20_000)
    }
}
