//! A synced table: from a row's JSON text to its typed columns, and back.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use tidewater_snapshot::ColumnValue;

use crate::schema::{Column, Table};

/// A synced table, prepared for filling it.
#[derive(Debug)]
pub(crate) struct TablePlan {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    /// The index of each column in `columns`.
    places: HashMap<String, usize>,
}

/// The synced tables by the number of their row type. A type that is not here has no table.
pub(crate) type TablePlans = BTreeMap<i64, TablePlan>;

/// The values of a row in the table's order; `None` where the row does not name the column.
pub(crate) type ColumnValues<'a> = Vec<Option<ColumnValue<'a>>>;

impl TablePlan {
    pub(crate) fn new(table: &Table) -> Self {
        let columns = table.columns.clone();
        let places = columns.iter().enumerate().map(|(at, c)| (c.name.clone(), at)).collect();
        Self { name: table.name.clone(), columns, places }
    }

    /// Reads a row's JSON object. Ignores members that are no column.
    pub(crate) fn read<'a>(&self, data: &'a str) -> Result<ColumnValues<'a>, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(data);
        let values = deserializer.deserialize_map(RowVisitor(self))?;
        deserializer.end()?;
        Ok(values)
    }

    /// Inserts the row or replaces all of its columns. Columns that `values` does not name get
    /// their default.
    ///
    /// Does not use REPLACE: that would delete the row first, and with it what refers to the row.
    pub(crate) fn upsert(
        &self,
        connection: &Connection,
        id: &str,
        values: &ColumnValues<'_>,
    ) -> rusqlite::Result<()> {
        let mut statement = self.upsert_statement(connection, values)?;
        statement.raw_bind_parameter(1, id)?;
        for (at, value) in values.iter().flatten().enumerate() {
            statement.raw_bind_parameter(at + 2, value)?;
        }
        statement.raw_execute().map(|_| ())
    }

    fn upsert_statement<'c>(
        &self,
        connection: &'c Connection,
        values: &ColumnValues<'_>,
    ) -> rusqlite::Result<CachedStatement<'c>> {
        let mut names = String::new();
        let mut parameters = String::new();
        let mut sets = String::new();

        for (column, value) in self.columns.iter().zip(values) {
            let name = quote(&column.name);
            let separator = if sets.is_empty() { "" } else { ", " };
            if value.is_some() {
                push(&mut names, format_args!(", {name}"));
                parameters.push_str(", ?");
                push(&mut sets, format_args!("{separator}{name} = excluded.{name}"));
            } else {
                let default = column.default.as_deref().unwrap_or("NULL");
                push(&mut sets, format_args!("{separator}{name} = ({default})"));
            }
        }

        let table = quote(&self.name);
        let update =
            if sets.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {sets}") };
        // OR ABORT: a constraint's own ON CONFLICT clause must not delete other rows.
        connection.prepare_cached(&format!(
            "INSERT OR ABORT INTO {table} (id{names}) VALUES (?{parameters}) \
             ON CONFLICT (id) DO {update}"
        ))
    }

    /// Deletes the row, if it is there.
    pub(crate) fn delete(&self, connection: &Connection, id: &str) -> rusqlite::Result<()> {
        let sql = format!("DELETE FROM {} WHERE id = ?1", quote(&self.name));
        connection.prepare_cached(&sql)?.execute([id]).map(|_| ())
    }

    /// Returns the row as JSON, if it is there.
    pub(crate) fn image(
        &self,
        connection: &Connection,
        id: &str,
    ) -> rusqlite::Result<Option<String>> {
        let sql = format!("SELECT {} FROM {} WHERE id = ?1", self.image_sql(""), quote(&self.name));
        connection.prepare_cached(&sql)?.query_row(params![id], |row| row.get(0)).optional()
    }

    /// Returns an SQL expression for all columns as a JSON object. `prefix` is `NEW.`, `OLD.` or
    /// nothing.
    pub(crate) fn image_sql(&self, prefix: &str) -> String {
        let members = self.columns.iter().map(|column| {
            format!("',' || {} || json_quote({prefix}{})", key_sql(column), quote(&column.name))
        });
        object_sql(members)
    }

    /// Returns an SQL condition that is true if a column contains a blob. JSON has no blobs, so it
    /// could not be sent.
    pub(crate) fn has_blob_sql(&self, prefix: &str) -> String {
        let types: Vec<_> = self
            .columns
            .iter()
            .map(|column| format!("typeof({prefix}{})", quote(&column.name)))
            .collect();

        if types.is_empty() { "0".to_owned() } else { format!("'blob' IN ({})", types.join(", ")) }
    }

    /// Returns an SQL expression for the whole row as it is uploaded. For an insert trigger.
    pub(crate) fn upload_sql(&self) -> String {
        let members = self.columns.iter().map(|column| {
            format!("',' || {} || {}", key_sql(column), upload_value_sql(&quote(&column.name)))
        });
        object_sql(members)
    }

    /// Returns an SQL expression for the columns of the row that are not NULL, as they are uploaded.
    /// For an insert trigger.
    pub(crate) fn upload_without_nulls_sql(&self) -> String {
        let members = self.columns.iter().map(|column| {
            let name = quote(&column.name);
            format!(
                "CASE WHEN NEW.{name} IS NULL THEN '' ELSE ',' || {} || {} END",
                key_sql(column),
                upload_value_sql(&name)
            )
        });
        object_sql(members)
    }

    /// Returns an SQL expression for the changed columns as they are uploaded. For an update
    /// trigger.
    pub(crate) fn changes_sql(&self) -> String {
        let members = self.columns.iter().map(|column| {
            let key = key_sql(column);
            let name = quote(&column.name);
            let value = upload_value_sql(&name);
            format!(
                "CASE WHEN NEW.{name} IS NOT OLD.{name} COLLATE BINARY \
                 THEN ',' || {key} || {value} ELSE '' END"
            )
        });
        object_sql(members)
    }
}

/// Returns an SQL expression for a new value as JSON. JSON has no infinite numbers, and these are
/// PostgreSQL's names for them.
fn upload_value_sql(name: &str) -> String {
    format!(
        "CASE NEW.{name} WHEN 9e999 THEN '\"Infinity\"' WHEN -9e999 THEN '\"-Infinity\"' \
         ELSE json_quote(NEW.{name}) END"
    )
}

/// Returns an SQL expression for a JSON object. Each member brings a leading comma or is empty.
fn object_sql(members: impl Iterator<Item = String>) -> String {
    /// The number of members in a group. SQLite limits the depth of an expression to 1,000, and a
    /// chain of `||` is as deep as it is long: groups keep it flat.
    const GROUP: usize = 40;

    let members: Vec<_> = members.collect();
    let groups: Vec<_> =
        members.chunks(GROUP).map(|group| format!("({})", group.join(" || "))).collect();

    if groups.is_empty() {
        return "'{}'".to_owned();
    }
    format!("'{{' || substr({}, 2) || '}}'", groups.join(" || "))
}

/// Returns an SQL literal of a column's name as a JSON key with its colon.
fn key_sql(column: &Column) -> String {
    let key = serde_json::Value::from(column.name.as_str()).to_string();
    format!("'{}:'", key.replace('\'', "''"))
}

fn push(sql: &mut String, part: fmt::Arguments<'_>) {
    sql.write_fmt(part).expect("a String takes every write");
}

/// Returns a name as a quoted SQL identifier.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Reads the members of an object into the places of their columns.
struct RowVisitor<'p>(&'p TablePlan);

impl<'de> Visitor<'de> for RowVisitor<'_> {
    type Value = ColumnValues<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<ColumnValues<'de>, A::Error> {
        let mut values = vec![None; self.0.columns.len()];

        while let Some(key) = members.next_key::<Cow<'_, str>>()? {
            let raw = members.next_value::<&'de RawValue>()?;
            if let Some(&place) = self.0.places.get(&*key) {
                values[place] = Some(value(raw.get()).map_err(A::Error::custom)?);
            }
        }

        Ok(values)
    }
}

/// Converts a JSON value as SQLite would: booleans to 0 and 1, arrays and objects to their text.
fn value(raw: &str) -> Result<ColumnValue<'_>, serde_json::Error> {
    Ok(match raw.as_bytes().first() {
        Some(b'n') => ColumnValue::Null,
        Some(b't') => ColumnValue::Integer(1),
        Some(b'f') => ColumnValue::Integer(0),

        // Most texts have no escapes, and are borrowed.
        Some(b'"') => match raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) {
            Some(plain) if !plain.contains('\\') => ColumnValue::Text(plain.into()),
            _ => ColumnValue::Text(serde_json::from_str::<String>(raw)?.into()),
        },

        Some(b'{' | b'[') => ColumnValue::Text(raw.into()),
        _ => match raw.parse() {
            Ok(number) => ColumnValue::Integer(number),
            // Rust reads `9e999` as infinity. A JSON parser would refuse it.
            Err(_) => ColumnValue::Real(raw.parse().map_err(serde_json::Error::custom)?),
        },
    })
}

#[cfg(test)]
mod tests;
