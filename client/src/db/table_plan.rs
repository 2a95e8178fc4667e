//! A row between its JSON text and its typed table.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::{self, Write as _};

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use tidewater_snapshot::Value;

use crate::schema::{Column, Table};

/// What the store needs to know to fill a table.
#[derive(Debug)]
pub(crate) struct TablePlan {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    places: HashMap<String, usize>,
}

/// The columns of a row, in the table's order; `None` where the row does not name the column.
pub(crate) type Slots<'a> = Vec<Option<Value<'a>>>;

impl TablePlan {
    pub(crate) fn new(table: &Table) -> Self {
        let columns = table.columns.clone();
        let places = columns.iter().enumerate().map(|(at, c)| (c.name.clone(), at)).collect();
        Self { name: table.name.clone(), columns, places }
    }

    /// Reads a row's JSON object. Members that are no column are left out.
    pub(crate) fn read<'a>(&self, data: &'a str) -> Result<Slots<'a>, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(data);
        let slots = deserializer.deserialize_map(RowVisitor(self))?;
        deserializer.end()?;
        Ok(slots)
    }

    /// Makes the row's content the given one, without REPLACE: that would delete the row first and
    /// take along what refers to it. Columns that the content does not name get their default.
    pub(crate) fn upsert(
        &self,
        connection: &Connection,
        id: &str,
        slots: &Slots<'_>,
    ) -> rusqlite::Result<()> {
        let mut statement = self.upsert_statement(connection, slots)?;
        statement.raw_bind_parameter(1, id)?;
        for (at, value) in slots.iter().flatten().enumerate() {
            statement.raw_bind_parameter(at + 2, value)?;
        }
        statement.raw_execute().map(|_| ())
    }

    fn upsert_statement<'c>(
        &self,
        connection: &'c Connection,
        slots: &Slots<'_>,
    ) -> rusqlite::Result<CachedStatement<'c>> {
        let (mut names, mut values, mut sets) = (String::new(), String::new(), String::new());
        for (column, slot) in self.columns.iter().zip(slots) {
            let name = quote(&column.name);
            let separator = if sets.is_empty() { "" } else { ", " };
            if slot.is_some() {
                push(&mut names, format_args!(", {name}"));
                values.push_str(", ?");
                push(&mut sets, format_args!("{separator}{name} = excluded.{name}"));
            } else {
                let default = column.default.as_deref().unwrap_or("NULL");
                push(&mut sets, format_args!("{separator}{name} = ({default})"));
            }
        }
        let table = quote(&self.name);
        let update =
            if sets.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {sets}") };
        connection.prepare_cached(&format!(
            "INSERT OR ABORT INTO {table} (id{names}) VALUES (?{values}) ON CONFLICT (id) DO {update}"
        ))
    }

    pub(crate) fn delete(&self, connection: &Connection, id: &str) -> rusqlite::Result<()> {
        let sql = format!("DELETE FROM {} WHERE id = ?1", quote(&self.name));
        connection.prepare_cached(&sql)?.execute([id]).map(|_| ())
    }

    /// The row as JSON, if it is there.
    pub(crate) fn image(
        &self,
        connection: &Connection,
        id: &str,
    ) -> rusqlite::Result<Option<String>> {
        let (image, table) = (self.image_sql(""), quote(&self.name));
        let sql = format!("SELECT {image} FROM {table} WHERE id = ?1");
        connection.prepare_cached(&sql)?.query_row(params![id], |row| row.get(0)).optional()
    }

    /// SQL expression for all columns as a JSON object; `prefix` is `NEW.`, `OLD.` or nothing.
    pub(crate) fn image_sql(&self, prefix: &str) -> String {
        let members = self.columns.iter().map(|column| {
            format!("',' || {} || json_quote({prefix}{})", key_sql(column), quote(&column.name))
        });
        object_sql(members)
    }

    /// SQL condition: a column holds a blob, which nobody could be sent.
    pub(crate) fn has_blob_sql(&self, prefix: &str) -> String {
        let types =
            self.columns.iter().map(|column| format!("typeof({prefix}{})", quote(&column.name)));
        let types: Vec<_> = types.collect();
        if types.is_empty() { "0".to_owned() } else { format!("'blob' IN ({})", types.join(", ")) }
    }

    /// SQL expression, within an insert trigger, for the whole row as it is sent.
    pub(crate) fn upload_sql(&self) -> String {
        let members = self.columns.iter().map(|column| {
            format!("',' || {} || {}", key_sql(column), upload_value_sql(&quote(&column.name)))
        });
        object_sql(members)
    }

    /// SQL expression, within an update trigger, for the columns that changed as they are sent.
    pub(crate) fn changes_sql(&self) -> String {
        let members = self.columns.iter().map(|column| {
            let (key, name) = (key_sql(column), quote(&column.name));
            let value = upload_value_sql(&name);
            format!(
                "CASE WHEN NEW.{name} IS NOT OLD.{name} COLLATE BINARY \
                 THEN ',' || {key} || {value} ELSE '' END"
            )
        });
        object_sql(members)
    }
}

/// SQL expression for a new value as JSON. JSON has no infinite numbers; PostgreSQL has them by
/// these names.
fn upload_value_sql(name: &str) -> String {
    format!(
        "CASE NEW.{name} WHEN 9e999 THEN '\"Infinity\"' WHEN -9e999 THEN '\"-Infinity\"' \
         ELSE json_quote(NEW.{name}) END"
    )
}

/// `'{' || ... || '}'` of members that each bring a leading comma or nothing.
fn object_sql(members: impl Iterator<Item = String>) -> String {
    // SQLite bounds the depth of an expression: groups keep it flat.
    const GROUP: usize = 40;
    let members: Vec<_> = members.collect();
    let groups: Vec<_> =
        members.chunks(GROUP).map(|group| format!("({})", group.join(" || "))).collect();
    if groups.is_empty() {
        return "'{}'".to_owned();
    }
    format!("'{{' || substr({}, 2) || '}}'", groups.join(" || "))
}

/// SQL literal of a column's name as a JSON key, colon included.
fn key_sql(column: &Column) -> String {
    let key = serde_json::Value::from(column.name.as_str()).to_string();
    format!("'{}:'", key.replace('\'', "''"))
}

fn push(sql: &mut String, part: fmt::Arguments<'_>) {
    sql.write_fmt(part).expect("a String takes every write");
}

/// A name as SQL.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

struct RowVisitor<'p>(&'p TablePlan);

impl<'de> Visitor<'de> for RowVisitor<'_> {
    type Value = Slots<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Slots<'de>, A::Error> {
        let mut slots = vec![None; self.0.columns.len()];
        while let Some(key) = members.next_key::<Cow<'_, str>>()? {
            let raw = members.next_value::<&'de RawValue>()?;
            if let Some(&place) = self.0.places.get(&*key) {
                slots[place] = Some(value(raw.get()).map_err(A::Error::custom)?);
            }
        }
        Ok(slots)
    }
}

/// A JSON value as SQLite would hold it: booleans as 0 and 1, lists and objects as their text.
fn value(raw: &str) -> Result<Value<'_>, serde_json::Error> {
    Ok(match raw.as_bytes().first() {
        Some(b'n') => Value::Null,
        Some(b't') => Value::Integer(1),
        Some(b'f') => Value::Integer(0),
        Some(b'"') => match raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) {
            Some(plain) if !plain.contains('\\') => Value::Text(plain.into()),
            _ => Value::Text(serde_json::from_str::<String>(raw)?.into()),
        },
        Some(b'{' | b'[') => Value::Text(raw.into()),
        _ => match raw.parse() {
            Ok(number) => Value::Integer(number),
            // Not read as JSON, which has no infinities: they come as `9e999`.
            Err(_) => Value::Real(raw.parse().map_err(serde_json::Error::custom)?),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;

    fn plan(sql: &str) -> TablePlan {
        TablePlan::new(&Schema::parse(sql).unwrap().tables[0])
    }

    fn stored(columns: &str, data: &str) -> String {
        let sql = format!("CREATE TABLE t (id TEXT PRIMARY KEY, {columns})");
        let (plan, connection) = (plan(&sql), Connection::open_in_memory().unwrap());
        connection.execute_batch(&sql).unwrap();
        plan.upsert(&connection, "1", &plan.read(data).unwrap()).unwrap();
        plan.image(&connection, "1").unwrap().unwrap()
    }

    #[test]
    fn infinities_are_read() {
        let plan = plan("CREATE TABLE t (id TEXT PRIMARY KEY, a REAL, b REAL)");
        let slots = plan.read(r#"{"a":9e999,"b":-9e999}"#).unwrap();
        let infinite = [f64::INFINITY, f64::NEG_INFINITY].map(|x| Some(Value::Real(x)));
        assert_eq!(slots, infinite);
    }

    #[test]
    fn values_keep_their_type_as_far_as_the_column_allows() {
        let any = |json: &str| stored("v", &format!(r#"{{"v":{json}}}"#));
        for same in [
            "null",
            "-9223372036854775808",
            "1.5",
            "2.0",
            "0.30000000000000004",
            "1e300",
            "5e-324",
            "2.2250738585072014e-308",
            "1.7976931348623157e308",
            r#""a\"\n\u00e9""#,
            r#""""#,
        ] {
            let back: serde_json::Value = serde_json::from_str(&any(same)).unwrap();
            let value: serde_json::Value = serde_json::from_str(same).unwrap();
            assert_eq!(back["v"], value, "{same}");
        }
        for infinite in ["9e999", "-9e999"] {
            let image = any(infinite);
            let plan = plan("CREATE TABLE t (id TEXT PRIMARY KEY, v)");
            let read = plan.read(&image).unwrap();
            assert_eq!(read, [Some(Value::Real(infinite.parse().unwrap()))], "{image}");
        }
        assert_eq!(any("true"), r#"{"v":1}"#);
        assert_eq!(any(r#"{"a":[1, 2]}"#), r#"{"v":"{\"a\":[1, 2]}"}"#);
        assert_eq!(any("18446744073709551615"), r#"{"v":1.8446744073709552e+19}"#);
        assert_eq!(stored("v INTEGER", r#"{"v":"12"}"#), r#"{"v":12}"#);
        assert_eq!(stored("v TEXT", r#"{"v":12}"#), r#"{"v":"12"}"#);
        assert_eq!(stored("v REAL", r#"{"v":12}"#), r#"{"v":12.0}"#);
    }

    #[test]
    fn members_without_a_column_are_left_out_and_columns_without_a_member_get_their_default() {
        assert_eq!(stored("a, b DEFAULT (1 + 1)", r#"{"x":1,"a":5}"#), r#"{"a":5,"b":2}"#);
    }

    #[test]
    fn an_upsert_replaces_every_column() {
        let sql = "CREATE TABLE \"t\"\"x\" (id TEXT PRIMARY KEY, \"it's\" TEXT, b INT DEFAULT 7)";
        let (plan, connection) = (plan(sql), Connection::open_in_memory().unwrap());
        connection.execute_batch(sql).unwrap();
        for (data, expected) in [
            (r#"{"it's":"x","b":1}"#, r#"{"it's":"x","b":1}"#),
            (r#"{"it's":"y"}"#, r#"{"it's":"y","b":7}"#),
            ("{}", r#"{"it's":null,"b":7}"#),
        ] {
            plan.upsert(&connection, "1", &plan.read(data).unwrap()).unwrap();
            assert_eq!(plan.image(&connection, "1").unwrap().unwrap(), expected);
        }
        plan.delete(&connection, "1").unwrap();
        assert_eq!(plan.image(&connection, "1").unwrap(), None);
    }

    #[test]
    fn a_table_of_only_keys_works() {
        assert_eq!(stored("b GENERATED ALWAYS AS (1)", "{}"), "{}");
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        let plan = plan("CREATE TABLE t (id TEXT PRIMARY KEY, a)");
        for bad in ["", "[]", "1", "{", r#"{"a":}"#, r#"{"a":1}x"#, r#"{"a":"\ud800"}"#] {
            assert!(plan.read(bad).is_err(), "{bad}");
        }
    }
}
