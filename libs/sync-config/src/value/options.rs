//! Options of the config that change values.

use serde::Serialize;

use super::engine::Engine;

/// Options that change how values are converted and evaluated. Part of every definition hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ValueOptions {
    /// Converts times to ISO 8601 with a `T` and a fixed number of fractional digits.
    pub(crate) timestamps_iso8601: bool,
    /// Number of digits after the second, with `timestamps_iso8601`.
    pub(crate) fraction_digits: usize,
    /// Splits a path after `->` at dots only if it begins with `$.`.
    pub(crate) fixed_json_extract: bool,
    /// Converts ranges and values of custom types to JSON; see `custom_postgres_types`.
    pub(crate) custom_types: bool,
    #[serde(skip_serializing_if = "Engine::is_default")]
    pub(crate) engine: Engine,
}

/// Rule that splits a path after `->` into names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum PathSplit {
    /// Splits at dots if the path begins with `$.`.
    AfterDollar,
    /// Splits at every dot.
    Always,
}
