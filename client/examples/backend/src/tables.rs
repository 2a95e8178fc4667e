//! The tables that uploads may write to.
//!
//! Names from an upload reach a statement only if they are found here: this is the protection
//! against SQL injection. Values are always bound.

use std::collections::HashMap;
use std::fmt::Write;

use anyhow::Context;
use serde_json::{Map, Value};
use tokio_postgres::Client;

/// The columns of each allowed table with their types, as in the catalog.
pub(crate) struct Tables(HashMap<String, HashMap<String, String>>);

/// A statement and the texts to bind.
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) texts: Vec<Option<String>>,
}

impl Tables {
    /// Reads the columns of the allowed tables.
    pub(crate) async fn read(client: &Client, names: &[String]) -> anyhow::Result<Self> {
        // The type without its length. A cast to varchar(3) would silently truncate what an
        // assignment refuses.
        let columns = "SELECT attname, format_type(atttypid, -1) FROM pg_attribute
            WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped
              AND attgenerated = ''";
        let mut tables = HashMap::new();

        for name in names {
            let rows = client.query(columns, &[name]).await.context("cannot read the catalog")?;
            let columns: HashMap<String, String> =
                rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            anyhow::ensure!(
                columns.contains_key("id"),
                "there is no table {name} with a column id"
            );
            tables.insert(name.clone(), columns);
        }
        Ok(Self(tables))
    }

    /// Returns a statement that inserts a row, or overwrites the given columns if it exists.
    pub(crate) fn put(
        &self,
        table: &str,
        id: &str,
        data: &Map<String, Value>,
    ) -> Result<Statement, String> {
        let types = self.types(table)?;
        let mut names = quote("id");
        let mut values = cast(1, types, "id")?;
        let mut sets = String::new();
        let mut texts = vec![Some(id.to_owned())];

        for (column, value) in data.iter().filter(|(column, _)| *column != "id") {
            texts.push(text(value));
            let name = quote(column);
            push(&mut values, ", ", &cast(texts.len(), types, column)?);
            push(&mut names, ", ", &name);
            let separator = if sets.is_empty() { "" } else { ", " };
            push(&mut sets, separator, &format!("{name} = excluded.{name}"));
        }

        let action = if sets.is_empty() { "NOTHING".into() } else { format!("UPDATE SET {sets}") };
        let table = quote(table);
        let sql = format!(
            "INSERT INTO {table} ({names}) VALUES ({values}) ON CONFLICT (\"id\") DO {action}"
        );
        Ok(Statement { sql, texts })
    }

    /// Returns a statement that changes the given columns, or none if there are none.
    pub(crate) fn patch(
        &self,
        table: &str,
        id: &str,
        data: &Map<String, Value>,
    ) -> Result<Option<Statement>, String> {
        let types = self.types(table)?;
        let mut sets = String::new();
        let mut texts = vec![Some(id.to_owned())];

        for (column, value) in data {
            texts.push(text(value));
            let separator = if sets.is_empty() { "" } else { ", " };
            let value = cast(texts.len(), types, column)?;
            push(&mut sets, separator, &format!("{} = {value}", quote(column)));
        }

        let table = quote(table);
        let key = cast(1, types, "id")?;
        let sql = format!("UPDATE {table} SET {sets} WHERE \"id\" = {key}");
        Ok((!data.is_empty()).then_some(Statement { sql, texts }))
    }

    /// Returns a statement that deletes a row.
    pub(crate) fn delete(&self, table: &str, id: &str) -> Result<Statement, String> {
        let key = cast(1, self.types(table)?, "id")?;
        let sql = format!("DELETE FROM {} WHERE \"id\" = {key}", quote(table));
        Ok(Statement { sql, texts: vec![Some(id.to_owned())] })
    }

    fn types(&self, table: &str) -> Result<&HashMap<String, String>, String> {
        self.0.get(table).ok_or_else(|| format!("table '{table}' cannot be written to"))
    }
}

/// Returns a parameter with a cast to its column's type.
fn cast(number: usize, types: &HashMap<String, String>, column: &str) -> Result<String, String> {
    let declared = types.get(column).ok_or_else(|| format!("there is no column '{column}'"))?;
    Ok(format!("${number}::text::{declared}"))
}

/// Returns a value as text for PostgreSQL.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Some(value.to_string())
        }
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn push(sql: &mut String, separator: &str, part: &str) {
    write!(sql, "{separator}{part}").expect("a String takes every write");
}
