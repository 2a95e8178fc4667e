//! Evaluation of rows: the buckets that contain a row and its answers to lookups. The compiled
//! config is bound to a table's columns first.

pub(crate) mod bind;
pub(crate) mod columns;
pub(crate) mod evaluate;
pub(crate) mod output;
pub(crate) mod trace;
pub(crate) mod union;
