//! What may be written to: the tables that are allowed, with their columns as the catalogue has
//! them. Names from an upload reach a statement only by being found here.

use std::collections::HashMap;
use std::fmt::Write;

use anyhow::Context;
use serde_json::{Map, Value};
use tokio_postgres::Client;

/// Columns and their types, of each allowed table.
pub(crate) struct Tables(HashMap<String, HashMap<String, String>>);

/// A statement, and the texts to bind.
pub(crate) type Statement = (String, Vec<Option<String>>);

impl Tables {
    pub(crate) async fn read(client: &Client, names: &[String]) -> anyhow::Result<Self> {
        // The type without its length: a cast to varchar(3) would silently cut off what an
        // assignment refuses.
        let columns = "SELECT attname, format_type(atttypid, -1) FROM pg_attribute
            WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped
              AND attgenerated = ''";
        let mut tables = HashMap::new();
        for name in names {
            let rows = client.query(columns, &[name]).await.context("cannot read the catalogue")?;
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

    /// Insert, or overwrite the columns that are given.
    pub(crate) fn put(
        &self,
        table: &str,
        id: &str,
        data: &Map<String, Value>,
    ) -> Result<Statement, String> {
        let types = self.types(table)?;
        let (mut names, mut values) = (quote("id"), cast(1, types, "id")?);
        let (mut sets, mut texts) = (String::new(), vec![Some(id.to_owned())]);
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
        Ok((sql, texts))
    }

    /// Change the columns that are given; none = no statement.
    pub(crate) fn patch(
        &self,
        table: &str,
        id: &str,
        data: &Map<String, Value>,
    ) -> Result<Option<Statement>, String> {
        let types = self.types(table)?;
        let (mut sets, mut texts) = (String::new(), vec![Some(id.to_owned())]);
        for (column, value) in data {
            texts.push(text(value));
            let separator = if sets.is_empty() { "" } else { ", " };
            let value = cast(texts.len(), types, column)?;
            push(&mut sets, separator, &format!("{} = {value}", quote(column)));
        }
        let (table, id) = (quote(table), cast(1, types, "id")?);
        let sql = format!("UPDATE {table} SET {sets} WHERE \"id\" = {id}");
        Ok((!data.is_empty()).then_some((sql, texts)))
    }

    pub(crate) fn delete(&self, table: &str, id: &str) -> Result<Statement, String> {
        let key = cast(1, self.types(table)?, "id")?;
        let sql = format!("DELETE FROM {} WHERE \"id\" = {key}", quote(table));
        Ok((sql, vec![Some(id.to_owned())]))
    }

    fn types(&self, table: &str) -> Result<&HashMap<String, String>, String> {
        self.0.get(table).ok_or_else(|| format!("table '{table}' cannot be written to"))
    }
}

fn cast(number: usize, types: &HashMap<String, String>, column: &str) -> Result<String, String> {
    let declared = types.get(column).ok_or_else(|| format!("there is no column '{column}'"))?;
    Ok(format!("${number}::text::{declared}"))
}

/// The value as PostgreSQL reads it.
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
