//! How a command prints its result.

use clap::ValueEnum;

/// Who reads the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// People.
    #[default]
    Text,
    /// Programs.
    Json,
}
