//! What PostgreSQL's catalog says of the tables that the sync config reads.

use sha2::{Digest, Sha256};
use tidewater_sync_config::{Column, TableSchema};
use tokio_postgres::Client;

use crate::source::column_types;
use crate::source::connect::quote_identifier;

/// A table of the source.
#[derive(Clone, Debug)]
pub struct SourceTable {
    /// Its id in `pg_class`.
    pub oid: u32,
    /// The columns that the stream carries: no generated ones, only published ones.
    pub schema: TableSchema,
    /// The SQL type of each column, for casts.
    pub column_types: Vec<String>,
    /// `r` for an ordinary table, `p` for a partitioned one, and so on.
    pub kind: char,
    /// `d`, `n`, `f` or `i`.
    pub replica_identity: char,
    /// Columns that identify a row in the stream; empty when only the whole row does.
    pub key: Vec<usize>,
    /// Our role may read it.
    pub may_select: bool,
    /// Row security applies to our role, so that the copy would miss rows which the stream has.
    pub row_security: bool,
    /// It is in the publication.
    pub is_published: bool,
    /// The publication filters its rows.
    pub has_row_filter: bool,
    /// The planner's estimate; below zero when it has none.
    pub estimated_rows: f32,
}

/// Functions see the catalog as it is now: of a table that has just been dropped they know nothing.
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
                '{}')
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
SELECT a.attrelid, a.attnum, a.attname::text, a.atttypid, format_type(a.atttypid, a.atttypmod)
FROM pg_attribute a
WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY 1, 2";

/// Attempts to read the catalog while it is being changed.
const ATTEMPTS: usize = 3;

/// All tables of the database as of one moment, as far as `publication` publishes them.
pub(crate) async fn read_tables(
    client: &Client,
    publication: &str,
) -> Result<Vec<SourceTable>, tokio_postgres::Error> {
    let mut attempt = 1;
    loop {
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let tables = tables(client, publication).await;
        client.batch_execute("ROLLBACK").await?;
        // A function may have been asked of what has just been dropped.
        if attempt == ATTEMPTS || tables.as_ref().err().is_none_or(|error| error.code().is_none()) {
            return tables;
        }
        attempt += 1;
    }
}

/// The same within a transaction.
pub(crate) async fn tables(
    client: &Client,
    publication: &str,
) -> Result<Vec<SourceTable>, tokio_postgres::Error> {
    let rows = client.query(TABLES, &[&publication]).await?;
    let oids: Vec<u32> = rows.iter().map(|row| row.get(0)).collect();
    let columns = client.query(COLUMNS, &[&oids]).await?;
    let types = column_types::read(client, columns.iter().map(|column| column.get(3))).await?;
    let table = |row: &tokio_postgres::Row| {
        let oid: u32 = row.get(0);
        // PostgreSQL 15 lists the published columns of each table, 14 has no such thing.
        let published: Vec<String> = row.get(10);
        let columns: Vec<_> = columns
            .iter()
            .filter(|column| column.get::<_, u32>(0) == oid)
            .filter(|column| published.is_empty() || published.contains(&column.get(2)))
            .collect();
        let index: Vec<i16> = row.get(11);
        let place = |number| columns.iter().position(|c| c.get::<_, i16>(1) == number);
        // An index over an expression or an unpublished column identifies nothing for us.
        let key: Option<Vec<_>> = index.into_iter().map(place).collect();
        let letter = |column| row.get::<_, String>(column).chars().next().unwrap_or(' ');
        SourceTable {
            oid,
            schema: TableSchema {
                schema: row.get(1),
                name: row.get(2),
                columns: columns
                    .iter()
                    .map(|column| Column { name: column.get(2), type_oid: column.get(3) })
                    .collect(),
                types: types.used_by(columns.iter().map(|column| column.get(3))),
            },
            column_types: columns.iter().map(|column| column.get(4)).collect(),
            kind: letter(3),
            replica_identity: letter(4),
            key: key.unwrap_or_default(),
            may_select: row.get(5),
            row_security: row.get(6),
            estimated_rows: row.get(7),
            is_published: row.get(8),
            has_row_filter: row.get(9),
        }
    };
    Ok(rows.iter().map(table).collect())
}

impl SourceTable {
    /// `schema.name`, for people.
    pub(crate) fn display_name(&self) -> String {
        format!("{}.{}", self.schema.schema, self.schema.name)
    }

    /// `"schema"."name"`, for SQL.
    pub(crate) fn sql_name(&self) -> String {
        let schema = &self.schema;
        format!("{}.{}", quote_identifier(&schema.schema), quote_identifier(&schema.name))
    }

    /// Hash of everything that decides what its rows mean; another one is another table.
    pub(crate) fn shape_hash(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{}|{}|{:?}|", self.oid, self.replica_identity, self.key));
        hash.update(format!("{}|", self.sql_name()));
        for (column, kind) in self.schema.columns.iter().zip(&self.column_types) {
            hash.update(format!("{}|{}|{kind}|", column.name, column.type_oid));
        }
        // A composite keeps its OID when it gets or loses an attribute.
        for (oid, kind) in self.schema.types.iter() {
            hash.update(format!("{oid}|{kind:?}|"));
        }
        // Half of it tells them apart too, and is stored of every table.
        hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidewater_sync_config::{Attribute, PgType};

    fn table(attributes: &[(&str, u32)], domain: u32) -> SourceTable {
        let attribute =
            |&(name, type_oid): &(&str, u32)| Attribute { name: name.to_owned(), type_oid };
        let composite = PgType::Composite(attributes.iter().map(attribute).collect());
        SourceTable {
            oid: 1,
            schema: TableSchema {
                schema: "public".to_owned(),
                name: "t".to_owned(),
                columns: vec![Column { name: "c".to_owned(), type_oid: 100_000 }],
                types: [(100_000, composite), (100_001, PgType::Domain(domain))]
                    .into_iter()
                    .collect(),
            },
            column_types: vec!["composite".to_owned()],
            kind: 'r',
            replica_identity: 'd',
            key: vec![],
            may_select: true,
            row_security: false,
            is_published: true,
            has_row_filter: false,
            estimated_rows: 0.0,
        }
    }

    #[test]
    fn a_table_is_another_when_a_type_in_it_is() {
        let before = table(&[("a", 23), ("d", 100_001)], 25);
        assert_eq!(before.shape_hash(), before.clone().shape_hash());
        for after in [
            table(&[("a", 23), ("d", 100_001), ("e", 25)], 25),
            table(&[("d", 100_001)], 25),
            table(&[("b", 23), ("d", 100_001)], 25),
            table(&[("a", 20), ("d", 100_001)], 25),
            table(&[("a", 23), ("d", 100_001)], 23),
        ] {
            assert_ne!(after.shape_hash(), before.shape_hash(), "{:?}", after.schema.types);
        }
    }
}
