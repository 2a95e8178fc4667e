//! Finds rows whose text is not UTF-8. Only a database with the encoding SQL_ASCII can hold any.
//!
//! PostgreSQL refuses to send such a row, and does not say which one it is. So the server is asked for
//! the bytes.

use futures::TryStreamExt;
use tokio_postgres::Client;

use crate::source::catalog::SourceTable;
use crate::source::error::SourceError;
use crate::source::preflight::Finding;
use crate::source::quote::quote_identifier;

/// Returns a finding for each of these tables that has a row with text that is not UTF-8: the first one
/// that is found. It reads the tables whole.
pub(crate) async fn find_other_text(
    client: &Client,
    tables: &[&SourceTable],
) -> Result<Vec<Finding>, SourceError> {
    let mut findings = Vec::new();
    for table in tables {
        if let Some(key) = find_row(client, table).await? {
            findings.push(finding(table, &key));
        }
    }
    Ok(findings)
}

/// Returns the key of a row with text that is not UTF-8.
async fn find_row(
    client: &Client,
    table: &SourceTable,
) -> Result<Option<Vec<Vec<u8>>>, SourceError> {
    if table.schema.columns.is_empty() {
        return Ok(None);
    }
    let none: [&str; 0] = [];
    let rows = client.query_raw(&other_text_query(table), none).await?;
    let mut rows = std::pin::pin!(rows);
    while let Some(row) = rows.try_next().await? {
        if std::str::from_utf8(row.get(0)).is_err() {
            return Ok(Some(row.get(1)));
        }
    }
    Ok(None)
}

/// Returns the query for the bytes and the key of each row that has a byte above 127.
fn other_text_query(table: &SourceTable) -> String {
    let columns = &table.schema.columns;
    let all: Vec<_> = columns.iter().map(|column| quote_identifier(&column.name)).collect();
    let key: Vec<_> = key_names(table)
        .iter()
        .map(|column| format!("convert_to({column}::text, 'SQL_ASCII')"))
        .collect();
    let row = format!("ROW({})::text", all.join(", "));
    format!(
        "SELECT convert_to({row}, 'SQL_ASCII'), ARRAY[{}] FROM ONLY {} WHERE {row} ~ '[^\\u0001-\\u007F]'",
        key.join(", "),
        table.sql_name()
    )
}

/// Returns the SQL names of what identifies a row: its key, or else its place in the table.
fn key_names(table: &SourceTable) -> Vec<String> {
    if table.key.is_empty() {
        return vec!["ctid".to_owned()];
    }
    let columns = &table.schema.columns;
    table.key.iter().map(|&at| quote_identifier(&columns[at].name)).collect()
}

fn finding(table: &SourceTable, key: &[Vec<u8>]) -> Finding {
    let values: Vec<_> = key
        .iter()
        .map(|value| format!("'{}'", String::from_utf8_lossy(value).replace('\'', "''")))
        .collect();
    let condition = format!("({}) = ({})", key_names(table).join(", "), values.join(", "));
    Finding::fatal(
        format!(
            "table {} has text that is not UTF-8, in the row WHERE {condition}",
            table.display_name()
        ),
        format!("UPDATE {} SET ... WHERE {condition}; (with the text in UTF-8)", table.sql_name()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::catalog::tests::source_table;

    #[test]
    fn rows_are_found_by_their_bytes_and_named_by_their_key() {
        assert_eq!(
            other_text_query(&source_table(1, "lists")),
            r#"SELECT convert_to(ROW("id")::text, 'SQL_ASCII'), ARRAY[convert_to("id"::text, "#
                .to_owned()
                + r#"'SQL_ASCII')] FROM ONLY "public"."lists" WHERE ROW("id")::text ~ "#
                + r"'[^\u0001-\u007F]'"
        );
        let found = finding(&source_table(1, "lists"), &[b"it's \xff".to_vec()]);
        let row = "table public.lists has text that is not UTF-8, in the row WHERE (\"id\") = ('it''s \u{fffd}')";
        assert_eq!(found.problem, row);
    }

    #[test]
    fn a_row_without_a_key_is_named_by_its_place() {
        let mut table = source_table(1, "lists");
        table.key.clear();
        assert!(other_text_query(&table).contains("ARRAY[convert_to(ctid::text, 'SQL_ASCII')]"));
        assert!(finding(&table, &[b"(0,1)".to_vec()]).fix.contains("WHERE (ctid) = ('(0,1)')"));
    }
}
