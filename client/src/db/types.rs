//! The numbers of row types.

use rusqlite::{Connection, OptionalExtension};

/// Returns the number of a row type, and assigns one when the type is first seen. A type needs no
/// table in the schema.
pub(crate) fn type_id(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    let select = "SELECT id FROM _tw_types WHERE name = ?1";
    let known =
        connection.prepare_cached(select)?.query_row([name], |row| row.get(0)).optional()?;
    if let Some(id) = known {
        return Ok(id);
    }

    connection.prepare_cached("INSERT INTO _tw_types (name) VALUES (?1)")?.insert([name])
}
