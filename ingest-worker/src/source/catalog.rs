//! Tables of the source database, as PostgreSQL's catalog describes them.

use tidewater_sync_config::{Column, TableSchema};
use tokio_postgres::{Client, Row};

use crate::source::column_types;
use crate::source::error::{SourceError, TableChanged};
use crate::source::publication;
use crate::source::quote::quote_identifier;

/// Attempts to read the catalog while it is being changed. A drop between two lines of the query
/// fails it; that this happens three times in a row takes a database that does little else.
const READ_ATTEMPTS: usize = 3;

/// A table of the source database.
#[derive(Clone, Debug)]
pub struct SourceTable {
    /// The table's id in `pg_class`.
    pub oid: u32,
    /// Name and columns: those that the replication stream carries, so no generated or unpublished
    /// ones.
    pub schema: TableSchema,
    /// SQL type of each column, for casts.
    pub column_types: Vec<String>,
    /// `relkind`: `r` for an ordinary table, `p` for a partitioned one, and so on.
    pub kind: char,
    /// `relreplident`: `d` for the primary key, `n` for nothing, `f` for the full row, `i` for an
    /// index.
    pub replica_identity: char,
    /// Columns that identify a row in the stream; empty when only the full row does.
    pub key: Vec<usize>,
    /// Our role may read the table.
    pub may_select: bool,
    /// Row security applies to our role: the copy would miss rows which the stream has.
    pub row_security: bool,
    /// The publication contains the table.
    pub is_published: bool,
    /// The publication filters rows of the table.
    pub has_row_filter: bool,
    /// Number of rows by the planner's estimate; negative when it has none.
    pub estimated_rows: f32,
    /// Facts that only the table's shape contains.
    pub facts: ShapeFacts,
}

/// Facts of the catalog about a table that only its shape contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShapeFacts {
    /// `relfilenode`, which every rewrite replaces, and `relpersistence`.
    pub storage: String,
    /// Number, type modifier and collation of each column.
    pub columns: String,
    /// `pg_index` entry of the replica identity.
    pub identity_index: String,
    /// Definitions of the enums, domains, composites and ranges in its columns.
    pub types: String,
    /// Entries of the catalog that put the table into the publication.
    pub membership: String,
    /// Row filter of the publication.
    pub row_filter: String,
    /// Columns that the publication names.
    pub column_list: String,
    /// Version of the publication's own entry.
    pub publication: String,
}

/// Lists the tables that sessions may read.
///
/// Functions see the catalog as it is now, not as of the snapshot: of a table that was dropped
/// since, `has_table_privilege` says NULL, and the others fail. `OFFSET 0` keeps the planner from
/// evaluating the privilege more than once.
const TABLES: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relreplident::text,
       s.may_select, row_security_active(c.oid), c.reltuples,
       p.tablename IS NOT NULL,
       COALESCE(to_jsonb(p) ->> 'rowfilter', '') <> '',
       ARRAY(SELECT jsonb_array_elements_text(to_jsonb(p) -> 'attnames')),
       COALESCE((SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1] FROM pg_index i
                 WHERE i.indrelid = c.oid AND i.indisvalid
                   AND CASE c.relreplident WHEN 'i' THEN i.indisreplident
                                           WHEN 'n' THEN false ELSE i.indisprimary END),
                '{}'),
       c.relfilenode::text || ' ' || c.relpersistence::text,
       COALESCE((SELECT string_agg(i.indexrelid::text, ' ' ORDER BY i.indexrelid) FROM pg_index i
                 WHERE i.indrelid = c.oid AND i.indisvalid
                   AND CASE c.relreplident WHEN 'i' THEN i.indisreplident
                                           WHEN 'd' THEN i.indisprimary ELSE false END), ''),
       COALESCE(to_jsonb(p) ->> 'rowfilter', '')
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT has_table_privilege(c.oid, 'SELECT') AS may_select OFFSET 0) AS s
LEFT JOIN pg_publication_tables p
  ON p.pubname = $1 AND p.schemaname = n.nspname AND p.tablename = c.relname
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%'
  AND s.may_select IS NOT NULL
ORDER BY 2, 3";

const COLUMNS: &str = "
SELECT a.attrelid, a.attnum, a.attname::text, a.atttypid, format_type(a.atttypid, a.atttypmod),
       a.attcollation
FROM pg_attribute a
WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY 1, 2";

/// A column as the catalog describes it.
#[derive(Clone, Debug)]
struct CatalogColumn {
    table_oid: u32,
    /// Its number in the table. Numbers of dropped columns are not used again.
    number: i16,
    name: String,
    type_oid: u32,
    /// The SQL type, for casts.
    sql_type: String,
    /// Its `pg_collation` entry; 0 for a type without collation.
    collation: u32,
}

impl CatalogColumn {
    fn from_row(row: &Row) -> Self {
        Self {
            table_oid: row.get(0),
            number: row.get(1),
            name: row.get(2),
            type_oid: row.get(3),
            sql_type: row.get(4),
            collation: row.get(5),
        }
    }
}

/// Reads all tables of the database as of one moment. `publication` decides which columns count; the
/// empty name is that of no publication, and then all do.
pub(crate) async fn read_tables(
    client: &Client,
    publication: &str,
) -> Result<Vec<SourceTable>, SourceError> {
    let mut attempt = 1;
    loop {
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let tables = read_tables_in_transaction(client, publication).await;
        client.batch_execute("ROLLBACK").await?;

        // A refusal may come from a function that was called for a table just dropped.
        if attempt == READ_ATTEMPTS || !matches!(tables, Err(SourceError::Refused(_))) {
            return tables;
        }
        attempt += 1;
    }
}

/// Reads all tables as [`read_tables`] does, within a transaction of the caller.
pub(crate) async fn read_tables_in_transaction(
    client: &Client,
    publication: &str,
) -> Result<Vec<SourceTable>, SourceError> {
    let rows = client.query(TABLES, &[&publication]).await?;
    let oids: Vec<u32> = rows.iter().map(|row| row.get(0)).collect();
    let columns = client.query(COLUMNS, &[&oids]).await?;
    let columns: Vec<_> = columns.iter().map(CatalogColumn::from_row).collect();
    let types =
        column_types::read_types(client, columns.iter().map(|column| column.type_oid)).await?;
    let published = publication::read_versions(client, publication, &oids).await?;

    let mut tables = Vec::with_capacity(rows.len());
    for row in &rows {
        let oid = row.get(0);
        let named: Vec<String> = row.get(10);
        let index: Vec<i16> = row.get(11);
        let columns = published_columns(&columns, oid, &named);
        let type_oids = || columns.iter().map(|column| column.type_oid);
        tables.push(SourceTable {
            oid,
            schema: TableSchema {
                schema: row.get(1),
                name: row.get(2),
                columns: columns
                    .iter()
                    .map(|column| Column { name: column.name.clone(), type_oid: column.type_oid })
                    .collect(),
                types: types.structures.used_by(type_oids()),
            },
            column_types: columns.iter().map(|column| column.sql_type.clone()).collect(),
            kind: first_letter(row.get(3)),
            replica_identity: first_letter(row.get(4)),
            key: key_columns(&index, &columns),
            may_select: row.get(5),
            row_security: row.get(6),
            estimated_rows: row.get(7),
            is_published: row.get(8),
            has_row_filter: row.get(9),
            facts: ShapeFacts {
                storage: row.get(12),
                columns: column_facts(&columns),
                identity_index: row.get(13),
                types: types.definitions_of(type_oids()),
                membership: published.memberships.get(&oid).cloned().unwrap_or_default(),
                row_filter: row.get(14),
                column_list: named.join(","),
                publication: published.publication.clone(),
            },
        });
    }
    Ok(tables)
}

fn first_letter(text: &str) -> char {
    text.chars().next().unwrap_or(' ')
}

/// Returns the columns of a table that the stream carries. PostgreSQL 15 and later name those that
/// are published; PostgreSQL 14 names none and publishes all.
fn published_columns<'a>(
    columns: &'a [CatalogColumn],
    table_oid: u32,
    published: &[String],
) -> Vec<&'a CatalogColumn> {
    columns
        .iter()
        .filter(|column| column.table_oid == table_oid)
        .filter(|column| published.is_empty() || published.contains(&column.name))
        .collect()
}

/// Returns what a shape contains of columns beside their names and types. A column that was dropped
/// and added again has another number.
fn column_facts(columns: &[&CatalogColumn]) -> String {
    let column = |column: &&CatalogColumn| format!("{}@{}", column.number, column.collation);
    columns.iter().map(column).collect::<Vec<_>>().join(" ")
}

/// Returns the places of an index's columns among `columns`; none if the index is over an expression
/// (number 0) or over a column that the stream does not carry, as it then identifies nothing.
fn key_columns(index: &[i16], columns: &[&CatalogColumn]) -> Vec<usize> {
    let place = |number: &i16| columns.iter().position(|column| column.number == *number);
    index.iter().map(place).collect::<Option<_>>().unwrap_or_default()
}

impl SourceTable {
    /// Returns `schema.name`, for people.
    pub(crate) fn display_name(&self) -> String {
        format!("{}.{}", self.schema.schema, self.schema.name)
    }

    /// Returns `"schema"."name"`, for SQL.
    pub(crate) fn sql_name(&self) -> String {
        let schema = &self.schema;
        format!("{}.{}", quote_identifier(&schema.schema), quote_identifier(&schema.name))
    }

    /// Returns the error that ends a run because this table has changed.
    pub(crate) fn changed(&self, reason: &str) -> SourceError {
        SourceError::TableChanged(TableChanged {
            oid: self.oid,
            table: self.display_name(),
            reason: reason.to_owned(),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tidewater_sync_config::PgTypes;

    /// Returns an ordinary published table `public.NAME` with a text key `id`, without any problem.
    pub(crate) fn source_table(oid: u32, name: &str) -> SourceTable {
        SourceTable {
            oid,
            schema: TableSchema {
                schema: "public".into(),
                name: name.into(),
                columns: vec![Column { name: "id".into(), type_oid: 25 }],
                types: PgTypes::default(),
            },
            column_types: vec!["text".into()],
            kind: 'r',
            replica_identity: 'd',
            key: vec![0],
            may_select: true,
            row_security: false,
            is_published: true,
            has_row_filter: false,
            estimated_rows: -1.0,
            facts: ShapeFacts::default(),
        }
    }

    fn column(table_oid: u32, number: i16, name: &str) -> CatalogColumn {
        CatalogColumn {
            table_oid,
            number,
            name: name.into(),
            type_oid: 25,
            sql_type: "text".into(),
            collation: 100,
        }
    }

    #[test]
    fn names_are_quoted_for_sql_and_plain_for_people() {
        let mut table = source_table(1, "odd\"name");
        table.schema.schema = "My Schema".into();
        assert_eq!(table.display_name(), "My Schema.odd\"name");
        assert_eq!(table.sql_name(), "\"My Schema\".\"odd\"\"name\"");
    }

    #[test]
    fn only_published_columns_are_carried_and_all_where_none_are_named() {
        let columns = [column(1, 1, "id"), column(1, 2, "name"), column(2, 1, "id")];
        let names = |table, published: &[&str]| {
            let published: Vec<_> = published.iter().map(|&name| name.to_owned()).collect();
            let columns = published_columns(&columns, table, &published);
            columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(1, &[]), ["id", "name"]);
        assert_eq!(names(1, &["name"]), ["name"]);
        assert_eq!(names(2, &["id", "name"]), ["id"]);
        assert!(names(3, &[]).is_empty());
    }

    #[test]
    fn a_column_that_was_dropped_and_added_again_has_other_facts() {
        let facts = |number| column_facts(&[&column(1, 1, "id"), &column(1, number, "name")]);
        assert_eq!(facts(2), "1@100 2@100");
        assert_ne!(facts(3), facts(2));
    }

    #[test]
    fn a_key_is_found_by_column_numbers_whatever_was_dropped_before() {
        // Column 2 was dropped, and column 4 is generated.
        let columns = [column(1, 1, "a"), column(1, 3, "b"), column(1, 5, "c")];
        let columns: Vec<_> = columns.iter().collect();
        assert_eq!(key_columns(&[5], &columns), [2]);
        assert_eq!(key_columns(&[3, 1], &columns), [1, 0], "in the order of the index");
        assert_eq!(key_columns(&[], &columns), [0_usize; 0]);
    }

    #[test]
    fn an_index_over_an_expression_or_an_unpublished_column_is_no_key() {
        let columns = [column(1, 1, "a"), column(1, 3, "b")];
        let columns: Vec<_> = columns.iter().collect();
        assert!(key_columns(&[1, 0], &columns).is_empty());
        assert!(key_columns(&[1, 4], &columns).is_empty());
    }
}
