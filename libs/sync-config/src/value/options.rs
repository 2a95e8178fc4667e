//! Options of the config that change values.

use serde::Serialize;

use super::engine::Engine;

/// How PostgreSQL's values become SQLite's, and what expressions make of them. Part of every hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ValueOptions {
    /// ISO 8601 with a `T` and a fixed number of fractional digits, not as printed.
    pub(crate) timestamps_iso8601: bool,
    /// Digits after the second, when `timestamps_iso8601`.
    pub(crate) fraction_digits: usize,
    /// A path for `->` is split at dots only after `$.`.
    pub(crate) fixed_json_extract: bool,
    /// Ranges and the like are JSON, not as printed.
    pub(crate) custom_types: bool,
    #[serde(skip_serializing_if = "Engine::is_default")]
    pub(crate) engine: Engine,
}

/// Where a path for `->` is split into names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum PathSplit {
    /// At dots when it begins with `$.`.
    AfterDollar,
    /// At every dot.
    Always,
}
