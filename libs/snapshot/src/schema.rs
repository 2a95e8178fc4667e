//! The tables of a file: their names, columns and SQL. The writer makes them from here and the
//! reader compares with it, so that a file can hold nothing else.

use std::collections::HashSet;
use std::fmt::Write as _;

use rusqlite::Connection;

use crate::row_text::Member;
use crate::value::Value;

/// `TWsn`: what `file` and SQLite show as the application id.
pub(crate) const APPLICATION_ID: i32 = 0x5457_736e;
pub(crate) const FORMAT: i64 = 1;
pub(crate) const PAGE_BYTES: u64 = 4096;
/// Names of ours start with it; rows that have such a column travel as text.
const PREFIX: &str = "_tw_";
/// SQLite takes 2,000 columns; a row of more than this travels as text.
const COLUMNS_MAX: usize = 1_000;

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

/// Where a table holds the ids of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdColumn {
    /// In the data column of this index, which is named `id`: the row names its id itself, as text.
    Data(usize),
    /// In a column of its own, since the row's `id` is a number or absent.
    Own,
}

/// A table of rows of one type that have the same columns in the same order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedTable {
    /// Its name in the file.
    pub name: String,
    /// The type of its rows.
    pub object_type: String,
    /// The rows' own columns, in the order of their JSON.
    pub columns: Vec<String>,
    /// Where the ids are.
    pub id_column: IdColumn,
    /// How many rows.
    pub rows: u64,
}

impl TypedTable {
    /// The table that such a row belongs in, still without a name, if there can be one: columns
    /// that SQLite or this format would read in another way are left to the texts.
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

    /// Whether the row has this table's shape.
    pub(crate) fn takes(&self, row: &[Member<'_>], id: &str) -> bool {
        self.columns.len() == row.len()
            && self.columns.iter().zip(row).all(|(column, member)| *column == member.key)
            && self.id_column == id_column(row, id)
    }

    /// How many columns stand before the rows' own.
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
            push(&mut sql, &quote(column));
        }
        sql.push(')');
        sql
    }

    pub(crate) fn insert_sql(&self) -> String {
        let places = ", ?".repeat(self.own_columns() - 1 + self.columns.len());
        format!("INSERT INTO {} VALUES (?{places})", quote(&self.name))
    }

    /// Id, subkey, op id and checksum of all rows in their order.
    pub(crate) fn select_keys_sql(&self) -> String {
        let (id, name) = (quote(self.id_name()), quote(&self.name));
        format!("SELECT {id}, \"_tw_subkey\", \"_tw_op\", \"_tw_checksum\" FROM {name}")
    }

    /// Name of the column that holds the ids.
    #[must_use]
    pub const fn id_name(&self) -> &'static str {
        match self.id_column {
            IdColumn::Data(_) => "id",
            IdColumn::Own => "_tw_id",
        }
    }

    /// All rows in their order, with all columns.
    pub(crate) fn select_sql(&self) -> String {
        format!("SELECT * FROM {}", quote(&self.name))
    }
}

fn push(sql: &mut String, name: &str) {
    write!(sql, ", {name}").expect("a String takes every write");
}

fn id_column(row: &[Member<'_>], id: &str) -> IdColumn {
    let place = row.iter().position(|member| member.key == "id");
    let is_id = |value: &Value<'_>| matches!(value, Value::Text(text) if text == id);
    match place {
        Some(place) if is_id(&row[place].value) => IdColumn::Data(place),
        _ => IdColumn::Own,
    }
}

/// SQLite's names differ only if they differ by more than case, and a NUL ends its statements.
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

/// A free name for a table: the type itself if it can be one, else with a number.
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
    fn tables_have_names_that_sqlite_tells_apart() {
        let mut taken = HashSet::new();
        let types = ["todos", "todos", "TODOS", "todos_2", "", "sqlite_master", "_TW_x", "a\0b"];
        let names: Vec<_> = types.iter().map(|name| table_name(name, &mut taken)).collect();
        assert_eq!(
            names,
            ["todos", "todos_2", "TODOS_3", "todos_2_2", "data", "data_2", "data_3", "data_4"]
        );
    }

    #[test]
    fn columns_that_sqlite_would_mix_up_are_left_to_the_texts() {
        let usable = |names: &[&str]| {
            are_usable(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
        };
        assert!(usable(&["id", "a b", "\"", "rowid", "é"]));
        for names in [&["a", "A"][..], &["a", "a"], &[""], &["_Tw_op"], &["a\0"]] {
            assert!(!usable(names), "{names:?}");
        }
        let many: Vec<_> = (0..=COLUMNS_MAX).map(|n| n.to_string()).collect();
        assert!(are_usable(&many[1..]) && !are_usable(&many));
    }
}
