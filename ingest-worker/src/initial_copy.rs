//! The initial copy of tables: its stored progress, and the chunks it is read in.

pub(crate) mod chunk;
pub(crate) mod removal;
pub(crate) mod state;
pub(crate) mod table_numbers;
