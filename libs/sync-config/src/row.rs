//! Which bucket entries and lookup rows a row makes: the compiled config, bound to a table's columns.

pub(crate) mod bind;
pub(crate) mod evaluate;
pub(crate) mod output;
