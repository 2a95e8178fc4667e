//! Tables of the source database, as PostgreSQL's catalog describes them.

use tidewater_sync_config::{Column, TableSchema};
use tokio_postgres::{Client, Row};

use crate::source::column_types;
use crate::source::error::{SourceError, TableChanged};
use crate::source::publication;
use crate::source::quote::quote_identifier;

/// Attempts to read the catalog while it is being changed. A drop between two lines of the query
/// disturbs it; that this happens three times in a row takes a database that does little else.
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
    /// Facts that only the check of the source reads. They are no part of the shape.
    pub check: CheckFacts,
}

/// Facts of the catalog about a table that only the check of the source reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckFacts {
    /// Our role may not use the table's schema.
    pub lacks_schema_usage: bool,
    /// `relpersistence`: `p` for an ordinary table, `u` for an unlogged one, `t` for a temporary one.
    pub persistence: char,
    /// The table has a primary key, whatever its replica identity is.
    pub has_primary_key: bool,
    /// The primary key is `DEFERRABLE`, and so cannot be the replica identity.
    pub has_deferrable_key: bool,
    /// The columns that the replication stream does not carry.
    pub unsent_columns: Vec<UnsentColumn>,
}

/// A column that the replication stream does not carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsentColumn {
    /// Name and type.
    pub column: Column,
    /// The reason.
    pub reason: UnsentReason,
    /// The column belongs to the replica identity.
    pub in_identity: bool,
}

/// The reason why the replication stream does not carry a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsentReason {
    /// The publication lists columns of the table, and this is none of them.
    NotListed,
    /// The column is generated and stored, and the publication does not publish such columns.
    NotPublished,
    /// The column is generated and stored, and servers before PostgreSQL 18 publish no such columns.
    NotPublishable,
    /// The column is generated and not stored, so nobody can publish it.
    Virtual,
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
/// evaluating the privileges more than once.
///
/// Nothing here waits for the lock of a table, as the view `pg_publication_tables` does since PostgreSQL
/// 16: an ALTER TABLE or VACUUM FULL that takes long must not keep the worker from all tables. `to_jsonb`
/// reads columns that PostgreSQL 14 does not have. A primary key that is DEFERRABLE identifies no rows in
/// the stream.
const TABLES: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relreplident::text,
       s.may_select, CASE WHEN s.may_select IS NOT NULL THEN row_security_active(c.oid) END, c.reltuples,
       COALESCE(to_jsonb(r) ->> 'prqual', ''),
       ARRAY(SELECT (regexp_matches(COALESCE(to_jsonb(r) ->> 'prattrs', ''), '[0-9]+', 'g'))[1]::int2),
       COALESCE((SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1] FROM pg_index i
                 WHERE i.indrelid = c.oid AND i.indisvalid
                   AND CASE c.relreplident WHEN 'i' THEN i.indisreplident
                                           WHEN 'd' THEN i.indisprimary AND i.indimmediate
                                           WHEN 'n' THEN false ELSE i.indisprimary END),
                '{}'),
       c.relfilenode::text || ' ' || c.relpersistence::text,
       COALESCE((SELECT string_agg(i.indexrelid::text, ' ' ORDER BY i.indexrelid) FROM pg_index i
                 WHERE i.indrelid = c.oid AND i.indisvalid
                   AND CASE c.relreplident WHEN 'i' THEN i.indisreplident
                                           WHEN 'd' THEN i.indisprimary ELSE false END), ''),
       s.lacks_schema_usage, c.relpersistence::text, k.indexrelid IS NOT NULL,
       k.indexrelid IS NOT NULL AND NOT k.indimmediate
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT has_table_privilege(c.oid, 'SELECT') AS may_select,
                           NOT COALESCE(has_schema_privilege(n.oid, 'USAGE'), true)
                             AS lacks_schema_usage OFFSET 0) AS s
LEFT JOIN pg_index k ON k.indrelid = c.oid AND k.indisprimary AND k.indisvalid
LEFT JOIN pg_publication_rel r
  ON r.prrelid = c.oid AND r.prpubid = (SELECT oid FROM pg_publication WHERE pubname = $1)
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%'
ORDER BY 2, 3";

/// Lists the columns of tables. PostgreSQL 18 and later can publish generated columns that are stored.
const COLUMNS: &str = "
SELECT a.attrelid, a.attnum, a.attname::text, a.atttypid, format_type(a.atttypid, a.atttypmod),
       a.attcollation, a.attgenerated::text,
       current_setting('server_version_num')::int >= 180000
FROM pg_attribute a
WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped
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
    /// The reason why the stream does not carry it unless the publication names it; `None` for a
    /// column that is not generated.
    generated: Option<UnsentReason>,
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
            generated: match (row.get(6), row.get(7)) {
                ("", _) => None,
                ("v", _) => Some(UnsentReason::Virtual),
                (_, true) => Some(UnsentReason::NotPublished),
                (_, false) => Some(UnsentReason::NotPublishable),
            },
        }
    }

    /// Returns why the stream does not carry the column, if it does not. If none is named, all are
    /// published that are not generated.
    ///
    /// Before version 18, a column list may name generated columns, and yet they are not sent.
    fn unsent_reason(&self, published: &[String]) -> Option<UnsentReason> {
        let is_named = published.contains(&self.name);
        match self.generated {
            None if published.is_empty() || is_named => None,
            None => Some(UnsentReason::NotListed),
            Some(UnsentReason::NotPublished) if is_named => None,
            generated => generated,
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
        let reading = read_catalog(client, publication).await;
        client.batch_execute("ROLLBACK").await?;

        // A refusal may come from a function that was called for a table just dropped. The transaction
        // that drops a table may also create another one of its name, which this snapshot lacks.
        let is_disturbed = matches!(
            reading,
            Err(SourceError::Refused(_)) | Ok(CatalogReading { has_dropped: true, .. })
        );
        if attempt == READ_ATTEMPTS || !is_disturbed {
            return reading.map(|reading| reading.tables);
        }
        attempt += 1;
    }
}

/// Reads all tables as [`read_tables`] does, within a transaction of the caller. Tables that were dropped
/// after its snapshot are left out.
pub(crate) async fn read_tables_in_transaction(
    client: &Client,
    publication: &str,
) -> Result<Vec<SourceTable>, SourceError> {
    Ok(read_catalog(client, publication).await?.tables)
}

/// The tables of one snapshot.
struct CatalogReading {
    tables: Vec<SourceTable>,
    /// A table of the snapshot was dropped before it was read. It is not among the tables.
    has_dropped: bool,
}

async fn read_catalog(client: &Client, publication: &str) -> Result<CatalogReading, SourceError> {
    let listed = client.query(TABLES, &[&publication]).await?;
    // PostgreSQL judges privileges by the newest catalog, whatever the snapshot, and has no answer for a
    // table that is gone from it.
    let (rows, dropped): (Vec<_>, Vec<_>) =
        listed.into_iter().partition(|row| row.get::<_, Option<bool>>(5).is_some());
    let oids: Vec<u32> = rows.iter().map(|row| row.get(0)).collect();
    let columns = client.query(COLUMNS, &[&oids]).await?;
    let columns: Vec<_> = columns.iter().map(CatalogColumn::from_row).collect();
    let types =
        column_types::read_types(client, columns.iter().map(|column| column.type_oid)).await?;
    let published = publication::read_versions(client, publication, &oids).await?;

    let mut tables = Vec::with_capacity(rows.len());
    for row in &rows {
        let oid = row.get(0);
        let index: Vec<i16> = row.get(10);
        let all_columns: Vec<_> = columns.iter().filter(|one| one.table_oid == oid).collect();
        let kind = first_letter(row.get(3));
        let persistence = first_letter(row.get(14));
        // What the table's own entry says has no effect if all tables of its schema are published.
        let is_restricted = published.has_effect(oid);
        let row_filter = if is_restricted { row.get(8) } else { "" };
        let list: Vec<i16> = if is_restricted { row.get(9) } else { Vec::new() };
        let named = named_columns(&all_columns, &list, published.has_generated_columns);
        let columns = sent_columns(&all_columns, &named);
        let replica_identity = first_letter(row.get(4));
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
            kind,
            replica_identity,
            key: key_columns(&index, &columns),
            may_select: row.get(5),
            row_security: row.get(6),
            estimated_rows: row.get(7),
            is_published: kind == 'r' && persistence == 'p' && published.contains(oid),
            has_row_filter: !row_filter.is_empty(),
            facts: ShapeFacts {
                storage: row.get(11),
                columns: column_facts(&columns),
                identity_index: row.get(12),
                types: types.definitions_of(type_oids()),
                membership: published.memberships.get(&oid).cloned().unwrap_or_default(),
                row_filter: row_filter.to_owned(),
                column_list: named.join(","),
                publication: published.publication.clone(),
            },
            check: CheckFacts {
                lacks_schema_usage: row.get(13),
                persistence,
                has_primary_key: row.get(15),
                has_deferrable_key: row.get(16),
                unsent_columns: unsent_columns(&all_columns, &named, &index, replica_identity),
            },
        });
    }
    Ok(CatalogReading { tables, has_dropped: !dropped.is_empty() })
}

fn first_letter(text: &str) -> char {
    text.chars().next().unwrap_or(' ')
}

/// Returns the names of the columns that a publication names, by a column list or because it publishes
/// generated columns too; none if it publishes whatever is not generated.
fn named_columns(columns: &[&CatalogColumn], list: &[i16], with_generated: bool) -> Vec<String> {
    let is_named = |column: &&&CatalogColumn| match list {
        [] => with_generated && column.generated != Some(UnsentReason::Virtual),
        list => list.contains(&column.number),
    };
    columns.iter().filter(is_named).map(|column| column.name.clone()).collect()
}

/// Returns the columns of a table that the stream carries.
fn sent_columns<'a>(columns: &[&'a CatalogColumn], published: &[String]) -> Vec<&'a CatalogColumn> {
    columns.iter().copied().filter(|one| one.unsent_reason(published).is_none()).collect()
}

/// Returns the columns of a table that the stream does not carry.
///
/// The whole row is the replica identity where that is `f`. Before version 18, PostgreSQL leaves
/// generated columns out of it and does not mind.
fn unsent_columns(
    columns: &[&CatalogColumn],
    published: &[String],
    identity_index: &[i16],
    replica_identity: char,
) -> Vec<UnsentColumn> {
    let unsent = |column: &&CatalogColumn| {
        let reason = column.unsent_reason(published)?;
        let in_identity = match replica_identity {
            'f' => reason != UnsentReason::NotPublishable,
            _ => identity_index.contains(&column.number),
        };

        let described = Column { name: column.name.clone(), type_oid: column.type_oid };
        Some(UnsentColumn { column: described, reason, in_identity })
    };
    columns.iter().filter_map(unsent).collect()
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
            replaces_rows: false,
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
            check: CheckFacts { has_primary_key: true, persistence: 'p', ..CheckFacts::default() },
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
            generated: None,
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
        let columns = [column(1, 1, "id"), column(1, 2, "name")];
        let names = |published: &[&str]| {
            let published: Vec<_> = published.iter().map(|&name| name.to_owned()).collect();
            let columns: Vec<_> = columns.iter().collect();
            let sent = sent_columns(&columns, &published);
            sent.iter().map(|column| column.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["id", "name"]);
        assert_eq!(names(&["name"]), ["name"]);
    }

    #[test]
    fn a_publication_names_the_columns_of_its_list_or_those_that_include_generated_ones() {
        let stored =
            CatalogColumn { generated: Some(UnsentReason::NotPublished), ..column(1, 3, "stored") };
        let computed =
            CatalogColumn { generated: Some(UnsentReason::Virtual), ..column(1, 4, "computed") };
        let columns = [&column(1, 1, "id"), &column(1, 2, "name"), &stored, &computed];
        assert_eq!(named_columns(&columns, &[], false), [""; 0], "none is named");
        assert_eq!(named_columns(&columns, &[], true), ["id", "name", "stored"]);
        assert_eq!(named_columns(&columns, &[3, 1], false), ["id", "stored"]);
        assert_eq!(named_columns(&columns, &[1], true), ["id"]);
    }

    /// Column lists of PostgreSQL 15 to 17 may name generated columns, which are not sent.
    #[test]
    fn a_generated_column_is_carried_only_where_the_server_publishes_it() {
        let reason = |generated, published: &[&str]| {
            let published: Vec<_> = published.iter().map(|&name| name.to_owned()).collect();
            let column = CatalogColumn { generated: Some(generated), ..column(1, 1, "g") };
            column.unsent_reason(&published)
        };
        assert_eq!(reason(UnsentReason::NotPublished, &["g"]), None);
        for published in [&["a"][..], &[]] {
            let expected = Some(UnsentReason::NotPublished);
            assert_eq!(reason(UnsentReason::NotPublished, published), expected);
        }
        for never in [UnsentReason::NotPublishable, UnsentReason::Virtual] {
            assert_eq!(reason(never, &["g"]), Some(never));
        }
    }

    #[test]
    fn a_column_that_is_not_carried_is_missed_only_in_the_identity() {
        let columns = [
            column(1, 1, "id"),
            column(1, 2, "name"),
            CatalogColumn { generated: Some(UnsentReason::NotPublishable), ..column(1, 3, "g") },
        ];
        let columns: Vec<_> = columns.iter().collect();
        let missed = |published: &str, replica_identity| {
            let unsent = unsent_columns(&columns, &[published.to_owned()], &[1], replica_identity);
            let missed = unsent.into_iter().filter(|one| one.in_identity);
            missed.map(|one| one.column.name).collect::<Vec<_>>()
        };
        assert_eq!(missed("id", 'd'), [""; 0]);
        assert_eq!(missed("name", 'd'), ["id"]);
        assert_eq!(missed("id", 'f'), ["name"], "this server does not mind the generated column");
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
