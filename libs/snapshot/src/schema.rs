//! The tables of a file: their names, columns and SQL. The writer creates them by this module and
//! the reader compares with it, so that a file can hold nothing else.

use std::collections::HashSet;

use rusqlite::Connection;

use crate::row_text::Member;
use crate::value::ColumnValue;

/// SQLite's application id of the file: `TWsn` in ASCII.
pub(crate) const APPLICATION_ID: i32 = 0x5457_736e;
/// Version of the format, kept as SQLite's user version.
pub(crate) const FORMAT: i64 = 1;
/// Page size of the database in bytes.
pub(crate) const PAGE_BYTES: u64 = 4096;
/// Prefix of the format's own names. A row with such a column is stored as text.
const PREFIX: &str = "_tw_";
/// Maximum number of a row's columns in a typed table; a row with more is stored as text. SQLite
/// allows 2,000 columns a table, and the format adds up to four of its own.
const COLUMNS_MAX: usize = 1_000;

/// Names and SQL of the tables that every file has.
pub(crate) const META_SQL: [(&str, &str); 4] = [
    ("_tw_snapshot", "CREATE TABLE \"_tw_snapshot\" (\"bucket\", \"to\", \"checksum\", \"rows\")"),
    ("_tw_types", "CREATE TABLE \"_tw_types\" (\"name\", \"rows\", \"ids_are_unique\")"),
    (
        "_tw_tables",
        "CREATE TABLE \"_tw_tables\" (\"name\", \"type\", \"columns\", \"id_column\", \"rows\")",
    ),
    (
        "_tw_texts",
        "CREATE TABLE \"_tw_texts\" (\"_tw_type\", \"_tw_id\", \"_tw_subkey\", \"_tw_op\", \
         \"_tw_checksum\", \"_tw_data\")",
    ),
];

/// The column that holds the ids of a table's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdColumn {
    /// The rows' own column `id`, by its index. Each row's `id` is a text that equals its object id.
    Data(usize),
    /// A column `_tw_id` of the format, since a row's `id` is a number, absent or another text.
    Own,
}

/// A table of rows of one type that have the same columns in the same order: a *shape* of the type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedTable {
    /// Name of the table in the file.
    pub name: String,
    /// Type of the rows.
    pub object_type: String,
    /// Columns of the rows in the order of their JSON.
    pub columns: Vec<String>,
    /// Column that holds the ids.
    pub id_column: IdColumn,
    /// Number of rows.
    pub rows: u64,
}

impl TypedTable {
    /// Returns the table for rows of this shape, without a name. Returns `None` if a table cannot have
    /// these columns; the row is then stored as text.
    pub(crate) fn for_row(object_type: &str, row: &[Member<'_>], id: &str) -> Option<Self> {
        let columns: Vec<_> = row.iter().map(|member| member.key.clone().into_owned()).collect();
        are_usable(&columns).then(|| Self {
            name: String::new(),
            object_type: object_type.to_owned(),
            columns,
            id_column: id_column(row, id),
            rows: 0,
        })
    }

    /// Returns whether the row has this table's shape.
    pub(crate) fn fits(&self, row: &[Member<'_>], id: &str) -> bool {
        self.columns.len() == row.len()
            && self.columns.iter().zip(row).all(|(column, member)| *column == member.key)
            && self.id_column == id_column(row, id)
    }

    /// Returns the number of columns before the rows' own.
    pub(crate) const fn own_columns(&self) -> usize {
        match self.id_column {
            IdColumn::Data(_) => 3,
            IdColumn::Own => 4,
        }
    }

    pub(crate) fn create_sql(&self) -> String {
        let mut sql = format!("CREATE TABLE {} (", quote(&self.name));
        sql.push_str("\"_tw_subkey\", \"_tw_op\", \"_tw_checksum\"");
        if self.id_column == IdColumn::Own {
            sql.push_str(", \"_tw_id\"");
        }
        for column in &self.columns {
            sql.push_str(", ");
            sql.push_str(&quote(column));
        }
        sql.push(')');
        sql
    }

    pub(crate) fn insert_sql(&self) -> String {
        let parameters = ", ?".repeat(self.own_columns() - 1 + self.columns.len());
        format!("INSERT INTO {} VALUES (?{parameters})", quote(&self.name))
    }

    /// Returns the SQL that reads id, subkey, op id and checksum of all rows in the order of the table.
    pub(crate) fn select_keys_sql(&self) -> String {
        let id = quote(self.id_name());
        let name = quote(&self.name);
        format!("SELECT {id}, \"_tw_subkey\", \"_tw_op\", \"_tw_checksum\" FROM {name}")
    }

    /// Returns the name of the column that holds the ids.
    #[must_use]
    pub const fn id_name(&self) -> &'static str {
        match self.id_column {
            IdColumn::Data(_) => "id",
            IdColumn::Own => "_tw_id",
        }
    }

    /// Returns the SQL that reads all columns of all rows in the order of the table.
    pub(crate) fn select_sql(&self) -> String {
        format!("SELECT * FROM {}", quote(&self.name))
    }
}

fn id_column(row: &[Member<'_>], id: &str) -> IdColumn {
    match row.iter().position(|member| member.key == "id") {
        Some(index) if matches!(&row[index].value, ColumnValue::Text(text) if text == id) => {
            IdColumn::Data(index)
        }
        _ => IdColumn::Own,
    }
}

/// Returns whether a table can have these columns. SQLite's names are case-insensitive in ASCII, and
/// a NUL ends its statements.
pub(crate) fn are_usable(columns: &[String]) -> bool {
    let mut seen = HashSet::with_capacity(columns.len());
    columns.len() <= COLUMNS_MAX
        && columns.iter().all(|name| {
            let folded = name.to_ascii_lowercase();
            !name.is_empty()
                && !name.contains('\0')
                && !folded.starts_with(PREFIX)
                && seen.insert(folded)
        })
}

/// Returns an unused name for a table and reserves it: the type's name, with a number if it is taken,
/// or `data` if the type's name cannot be that of a table.
pub(crate) fn table_name(object_type: &str, taken: &mut HashSet<String>) -> String {
    let folded = object_type.to_ascii_lowercase();
    let is_usable = !folded.is_empty()
        && !folded.contains('\0')
        && !folded.starts_with(PREFIX)
        && !folded.starts_with("sqlite_");
    let base = if is_usable { object_type } else { "data" };

    let mut name = base.to_owned();
    let mut number = 1;
    while !taken.insert(name.to_ascii_lowercase()) {
        number += 1;
        name = format!("{base}_{number}");
    }
    name
}

pub(crate) fn create_meta(connection: &Connection) -> rusqlite::Result<()> {
    META_SQL.iter().try_for_each(|(_, sql)| connection.execute_batch(sql))
}

pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tables_differ_by_more_than_case() {
        let mut taken = HashSet::new();
        let types = ["todos", "todos", "TODOS", "todos_2", "", "sqlite_master", "_TW_x", "a\0b"];
        let names: Vec<_> = types.iter().map(|name| table_name(name, &mut taken)).collect();
        assert_eq!(
            names,
            ["todos", "todos_2", "TODOS_3", "todos_2_2", "data", "data_2", "data_3", "data_4"]
        );
    }

    fn usable(names: &[&str]) -> bool {
        are_usable(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn columns_that_sqlite_would_confuse_are_refused() {
        assert!(usable(&["id", "a b", "\"", "rowid", "é"]));
        for names in [&["a", "A"][..], &["a", "a"], &[""], &["_Tw_op"], &["a\0"]] {
            assert!(!usable(names), "{names:?}");
        }
        let many: Vec<_> = (0..=COLUMNS_MAX).map(|n| n.to_string()).collect();
        assert!(are_usable(&many[1..]) && !are_usable(&many));
    }
}
