//! The table and the row, as the source has them.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tidewater_storage::Lsn;
use tidewater_sync_config::{TableSchema, UnionEvaluator};
use tokio_postgres::Client;

use crate::apply::applier::SyncedTable;
use crate::config::SourceNames;
use crate::source::catalog::{self, SourceTable};
use crate::source::connect::{ConnectError, connect};
use crate::source::connection;
use crate::source::copy_rows::CopyRows;
use crate::source::database::Database;
use crate::source::dsn::Dsn;
use crate::source::error::SourceError;
use crate::source::preflight::Finding;
use crate::source::quote::{quote_identifier, quote_literal};
use crate::source::table_check::table_findings;
use crate::source::table_reader::ReadingError;

/// Time that the queries may take before the connection counts as dead. They read the catalog and one row.
const QUERIES_TIMEOUT: Duration = Duration::from_secs(30);

/// The row as it was asked for.
pub(super) struct RowName<'a> {
    pub(super) table: &'a str,
    pub(super) id: &'a str,
}

/// The source, if it was asked.
pub(super) enum SourceSide {
    NotAsked,
    /// It cannot be read, for this reason.
    Unreadable(String),
    Read(FoundTable),
}

/// The row in the source.
pub(super) enum FoundTable {
    /// There is no such table. These exist with the name in other schemas.
    NoTable(Vec<String>),
    Table(Box<SourceRowFacts>),
}

/// A table with its row.
pub(super) struct SourceRowFacts {
    pub(super) table: SourceTable,
    /// The reasons why the worker cannot read the table.
    pub(super) findings: Vec<Finding>,
    pub(super) row: FoundRow,
}

/// The row in the source.
pub(super) enum FoundRow {
    /// The text of each column.
    Row(Vec<Option<String>>),
    /// There is none. The columns by which it was looked for.
    NoRow(String),
    /// More than one row has the id.
    Several(String),
    /// The row cannot be named so, or not be read: why.
    NotAsked(String),
}

impl SourceSide {
    /// Returns the table, if the source has it.
    pub(super) fn table(&self) -> Option<&SourceRowFacts> {
        match self {
            Self::Read(FoundTable::Table(facts)) => Some(facts),
            Self::Read(FoundTable::NoTable(_)) | Self::NotAsked | Self::Unreadable(_) => None,
        }
    }

    /// Returns the id of the table in `pg_class`.
    pub(super) fn oid(&self) -> Option<u32> {
        self.table().map(|facts| facts.table.oid)
    }

    /// Returns the row with the schema of its table.
    pub(super) fn row(&self) -> Option<(&TableSchema, &[Option<String>])> {
        let facts = self.table()?;
        match &facts.row {
            FoundRow::Row(values) => Some((&facts.table.schema, values)),
            FoundRow::NoRow(_) | FoundRow::Several(_) | FoundRow::NotAsked(_) => None,
        }
    }

    /// Returns the name of the row's record, given the number of its table.
    pub(super) fn row_key(&self, number: u16) -> Option<Arc<str>> {
        let facts = self.table()?;
        let (_, values) = self.row()?;
        let table = SyncedTable {
            number,
            table: facts.table.clone(),
            evaluator: UnionEvaluator::default(),
            copied_after: Lsn(0),
            has_former_rows: false,
            is_extended: false,
        };
        let values: Vec<_> = values.iter().map(Option::as_deref).collect();
        Some(table.row_key(&values))
    }
}

/// Returns whether a table has a name: `schema.table`, or `table` in the schema `public`.
pub(super) fn is_named(schema: &str, table: &str, name: &str) -> bool {
    name == format!("{schema}.{table}") || (schema == "public" && name == table)
}

/// Reads the table and the row.
pub(super) async fn read(
    database: &Database,
    publication: &str,
    name: &RowName<'_>,
) -> Result<FoundTable, ReadingError> {
    let dsn = Dsn::of(database).map_err(ConnectError::from)?;
    let client = connect(&dsn).await?;
    let questions = ask(&client, publication, name);
    let answer = tokio::time::timeout(QUERIES_TIMEOUT, questions).await;
    Ok(answer.map_err(|_| SourceError::Silent(QUERIES_TIMEOUT))??)
}

async fn ask(
    client: &Client,
    publication: &str,
    name: &RowName<'_>,
) -> Result<FoundTable, SourceError> {
    let tables = catalog::read_tables(client, publication).await?;
    let is_it =
        |table: &&SourceTable| is_named(&table.schema.schema, &table.schema.name, name.table);
    let Some(table) = tables.iter().find(is_it) else {
        let others = tables.iter().filter(|table| table.schema.name == name.table);
        return Ok(FoundTable::NoTable(others.map(SourceTable::display_name).collect()));
    };

    let user: String = client.query_one("SELECT current_user::text", &[]).await?.get(0);
    let names = SourceNames { publication, slot: "" };
    let mut findings = table_findings(table, &user, names);
    findings.retain(|finding| finding.is_fatal);
    let row = if table.may_select && !table.check.lacks_schema_usage {
        row(client, table, name.id).await?
    } else {
        FoundRow::NotAsked("the role may not read the table".to_owned())
    };
    Ok(FoundTable::Table(Box::new(SourceRowFacts { table: table.clone(), findings, row })))
}

/// Reads the row with an id.
async fn row(client: &Client, table: &SourceTable, id: &str) -> Result<FoundRow, SourceError> {
    let columns = match key_columns(table, id) {
        Ok(columns) => columns,
        Err(problem) => return Ok(FoundRow::NotAsked(problem)),
    };
    let all = &table.schema.columns;
    let described: Vec<_> =
        columns.iter().map(|(at, value)| format!("{} = {value}", all[*at].name)).collect();
    let described = described.join(" and ");
    let conditions: Vec<_> = columns
        .iter()
        .map(|(at, value)| {
            // As a value of the column's type, so that an index is used.
            let literal = format!("{}::{}", quote_literal(value), table.column_types[*at]);
            format!("{} = {literal}", quote_identifier(&all[*at].name))
        })
        .collect();
    let names: Vec<_> = all.iter().map(|column| quote_identifier(&column.name)).collect();
    let query = format!(
        "SELECT {} FROM ONLY {} WHERE {} LIMIT 2",
        names.join(", "),
        table.sql_name(),
        conditions.join(" AND ")
    );

    let mut found = CopyRows::default();
    let read = async {
        let mut rows = std::pin::pin!(connection::copy_out(client, &query).await?);
        while let Some(row) = rows.next().await.transpose()? {
            found.push(&row);
        }
        Ok(())
    };
    match read.await {
        Ok(()) => {}
        // Such as a text for a column of numbers.
        Err(SourceError::Refused(refusal)) => {
            return Ok(FoundRow::NotAsked(format!("{described}: {}", refusal.message())));
        }
        Err(error) => return Err(error),
    }

    let values = found.values()?.into_iter().map(|value| value.map(str::to_owned)).collect();
    Ok(match found.rows() {
        0 => FoundRow::NoRow(described),
        1 => FoundRow::Row(values),
        _ => FoundRow::Several(described),
    })
}

/// Returns the columns that an id names, with their values.
fn key_columns(table: &SourceTable, id: &str) -> Result<Vec<(usize, String)>, String> {
    let columns = &table.schema.columns;
    if let [column] = table.key[..] {
        return Ok(vec![(column, id.to_owned())]);
    }

    let array: Option<Vec<serde_json::Value>> = serde_json::from_str(id).ok();
    if let Some(values) = array
        && !values.is_empty()
        && values.len() == table.key.len()
    {
        let text = |value: serde_json::Value| match value.as_str() {
            Some(text) => text.to_owned(),
            None => value.to_string(),
        };
        return Ok(table.key.iter().copied().zip(values.into_iter().map(text)).collect());
    }
    if let Some(column) = columns.iter().position(|column| column.name == "id") {
        return Ok(vec![(column, id.to_owned())]);
    }

    let key: Vec<_> = table.key.iter().map(|&column| columns[column].name.as_str()).collect();
    Err(if key.is_empty() {
        "the table has neither a key nor a column `id`".to_owned()
    } else {
        format!("the key is ({}): give a JSON array with a value for each", key.join(", "))
    })
}
