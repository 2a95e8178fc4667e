//! PostgreSQL's types, and the conversion of their text format to SQLite's values.

mod array;
pub(crate) mod builtin_types;
pub(crate) mod catalog;
mod composite;
pub(crate) mod converter;
mod field;
mod range;
mod text;
