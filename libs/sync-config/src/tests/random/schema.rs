//! Random tables and their rows.

use rusqlite::types::Value;

use super::super::oid;
use super::Choices;
use crate::{Column, PgTypes, TableSchema};

/// Type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tests) enum Kind {
    Text,
    Integer,
    Real,
    Boolean,
    /// A text in SQLite.
    Numeric,
    Array,
    Object,
    Time,
    Bytes,
}

/// Comparison class: values of one class can be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tests) enum Class {
    Text,
    Number,
}

#[derive(Clone, Debug)]
pub(in crate::tests) struct RandomColumn {
    pub(in crate::tests) name: &'static str,
    pub(in crate::tests) kind: Kind,
}

#[derive(Clone, Debug)]
pub(in crate::tests) struct RandomTable {
    pub(in crate::tests) schema: &'static str,
    pub(in crate::tests) name: &'static str,
    /// The first column is the key, the second a text.
    pub(in crate::tests) columns: Vec<RandomColumn>,
}

#[derive(Clone, Debug)]
pub(in crate::tests) struct Schema {
    pub(in crate::tests) tables: Vec<RandomTable>,
}

/// Row in PostgreSQL's text format.
pub(in crate::tests) type PrintedRow = Vec<Option<&'static str>>;
/// Rows of each table.
pub(in crate::tests) type Rows = Vec<Vec<PrintedRow>>;

const TABLES: [&str; 8] =
    ["todos", "lists", "Users", "we ird", "select", "q\"uote", "é", "per_son2"];
const KEYS: [&str; 4] = ["id", "key", "Id", "id"];
const COLUMNS: [&str; 12] =
    ["owner", "n", "Org", "order", "tags", "a b", "x.y", "value", "_hidden", "q'c", "role", "É"];
const ROWS_MAX: usize = 6;

impl Kind {
    const ALL: [Self; 9] = [
        Self::Text,
        Self::Integer,
        Self::Array,
        Self::Real,
        Self::Boolean,
        Self::Object,
        Self::Numeric,
        Self::Time,
        Self::Bytes,
    ];

    pub(in crate::tests) fn class(self) -> Option<Class> {
        match self {
            Self::Text | Self::Numeric => Some(Class::Text),
            Self::Integer | Self::Real | Self::Boolean => Some(Class::Number),
            Self::Array | Self::Object | Self::Time | Self::Bytes => None,
        }
    }

    fn type_name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "int8",
            Self::Real => "float8",
            Self::Boolean => "bool",
            Self::Numeric => "numeric",
            Self::Array => "jsonb",
            Self::Object => "json",
            Self::Time => "timestamptz",
            Self::Bytes => "bytea",
        }
    }

    /// Returns the possible values. They are few, so that values are often equal.
    fn values(self) -> &'static [&'static str] {
        match self {
            Self::Text => &["a", "b", "u1", "A", "c", "1", "", "中", "it's", "a\"b", "2.0"],
            Self::Integer => &["1", "2", "0", "3", "-1", "9007199254740993"],
            Self::Real => &["1", "2.5", "2", "-0.5", "0", "9007199254740992"],
            Self::Boolean => &["t", "f"],
            Self::Numeric => &["1", "2.50", "1.0", "0"],

            Self::Array => &[
                r#"["a", "b"]"#,
                "[]",
                "[1, 2]",
                r#"["u1"]"#,
                r#"["b", "b", null]"#,
                r#"[1.0, true, "1", 2.5]"#,
                r#"["it's", [1], {"a": 1}, false]"#,
            ],

            Self::Object => &[
                r#"{"a": "b", "n": 1}"#,
                r#"{"a": "u1", "n": 2.0, "in": {"m": "a"}}"#,
                "{}",
                r#"{"a": null, "n": "1", "in": []}"#,
                r#"{"a": ["x"], "n": true}"#,
            ],

            Self::Time => &["2023-03-06 15:47:12.4+02", "2024-01-01 00:00:00+00"],
            Self::Bytes => &["\\x", "\\x61", "\\x00ff"],
        }
    }

    /// Returns the value that SQLite stores.
    fn value(self, printed: &str) -> Value {
        match self {
            Self::Text | Self::Numeric | Self::Array | Self::Object => {
                Value::Text(printed.to_owned())
            }

            Self::Integer => Value::Integer(printed.parse().unwrap()),
            Self::Real => Value::Real(printed.parse().unwrap()),
            Self::Boolean => Value::Integer(i64::from(printed == "t")),
            Self::Time => Value::Text(
                match printed {
                    "2023-03-06 15:47:12.4+02" => "2023-03-06T13:47:12.400000Z",
                    _ => "2024-01-01T00:00:00.000000Z",
                }
                .to_owned(),
            ),

            Self::Bytes => {
                let digits = printed.as_bytes()[2..].chunks(2);
                let bytes = digits.map(|pair| std::str::from_utf8(pair).unwrap());
                Value::Blob(bytes.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect())
            }
        }
    }
}

impl Schema {
    pub(in crate::tests) fn new(choices: &mut Choices<'_>) -> Self {
        let names = choices.some_of(&TABLES, 1, 4);
        let tables = names.into_iter().map(|name| {
            let schema = if choices.one_in(6) { "app" } else { "public" };
            let key_kind = choices.pick(&[Kind::Text, Kind::Text, Kind::Integer]);
            let mut columns = vec![RandomColumn { name: choices.pick(&KEYS), kind: key_kind }];
            let names = choices.some_of(&COLUMNS, 1, 5);
            for (index, name) in names.into_iter().enumerate() {
                let kind = if index == 0 { Kind::Text } else { choices.pick(&Kind::ALL) };
                columns.push(RandomColumn { name, kind });
            }
            RandomTable { schema, name, columns }
        });
        Self { tables: tables.collect() }
    }

    /// Returns the tables as the catalog describes them.
    pub(in crate::tests) fn live(&self) -> Vec<TableSchema> {
        self.tables
            .iter()
            .map(|table| TableSchema {
                schema: table.schema.to_owned(),
                name: table.name.to_owned(),
                columns: table.columns.iter().map(RandomColumn::live).collect(),
                types: PgTypes::default(),
            })
            .collect()
    }

    pub(in crate::tests) fn rows(&self, choices: &mut Choices<'_>) -> Rows {
        self.tables
            .iter()
            .map(|table| {
                let keys = choices.some_of(table.columns[0].kind.values(), 0, ROWS_MAX);
                keys.into_iter().map(|key| table.row(key, choices)).collect()
            })
            .collect()
    }

    /// Inserts, updates and deletes some rows, and returns all rows of each table afterwards.
    pub(in crate::tests) fn changes(&self, rows: &Rows, choices: &mut Choices<'_>) -> Rows {
        let mut new = Rows::new();
        for (table, rows) in self.tables.iter().zip(rows) {
            let mut kept = Vec::new();
            for row in rows {
                match choices.below(4) {
                    0 | 1 => kept.push(row.clone()),
                    2 => kept.push(table.row(row[0].unwrap(), choices)),
                    _ => {}
                }
            }

            for key in choices.some_of(table.columns[0].kind.values(), 0, 2) {
                if kept.iter().all(|row| row[0] != Some(key)) {
                    kept.push(table.row(key, choices));
                }
            }

            new.push(kept);
        }

        new
    }
}

impl RandomColumn {
    fn live(&self) -> Column {
        Column { name: self.name.to_owned(), type_oid: oid(self.kind.type_name()) }
    }
}

impl RandomTable {
    fn row(&self, key: &'static str, choices: &mut Choices<'_>) -> PrintedRow {
        // bytea is never NULL: devices get no bytea column, so SQLite's NULL would not be
        // written either.
        std::iter::once(Some(key))
            .chain(self.columns[1..].iter().map(|column| {
                let is_null = choices.one_in(4) && column.kind != Kind::Bytes;
                (!is_null).then(|| choices.pick(column.kind.values()))
            }))
            .collect()
    }

    /// Returns the table's name in SQLite, where it is not in a schema.
    pub(in crate::tests) fn sqlite_name(&self) -> String {
        let name = if self.schema == "public" {
            self.name.to_owned()
        } else {
            format!("{}.{}", self.schema, self.name)
        };
        quoted(&name)
    }

    pub(in crate::tests) fn sqlite_row(&self, row: &PrintedRow) -> Vec<Value> {
        self.columns
            .iter()
            .zip(row)
            .map(|(column, printed)| {
                printed.map_or(Value::Null, |printed| column.kind.value(printed))
            })
            .collect()
    }
}

pub(in crate::tests) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Writes a name as a query may: quoted, or bare where it can be.
pub(in crate::tests) fn write_name(name: &str, choices: &mut Choices<'_>) -> String {
    let is_plain = name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
        && !["order", "select", "group"].contains(&name);
    match choices.below(8) {
        _ if !is_plain => quoted(name),
        6 => quoted(name),
        7 => name.to_ascii_uppercase(),
        _ => name.to_owned(),
    }
}
