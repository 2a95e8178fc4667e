//! Versions of a publication and of its entries. An entry that is removed and made again, or altered
//! and altered back, has another version: changes of rows in between were not sent.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Client;

use crate::source::error::SourceError;

/// Versions of a publication and of what puts tables into it.
#[derive(Debug, Default)]
pub(crate) struct PublicationVersions {
    /// `pg_publication.oid` and its `xmin`, which every ALTER PUBLICATION replaces; empty without
    /// the publication.
    pub(crate) publication: String,
    /// The entries that publish a table, by its id in `pg_class`.
    pub(crate) memberships: HashMap<u32, String>,
    /// All stored generated columns are published, from PostgreSQL 18 on.
    pub(crate) has_generated_columns: bool,
    is_for_all_tables: bool,
    /// Tables whose schema is published.
    in_schemas: HashSet<u32>,
}

impl PublicationVersions {
    /// Returns whether a permanent ordinary table is published.
    pub(crate) fn contains(&self, table: u32) -> bool {
        self.is_for_all_tables || self.memberships.contains_key(&table)
    }

    /// Returns whether the row filter and the column list of a table's own entry have an effect.
    pub(crate) fn has_effect(&self, table: u32) -> bool {
        !self.is_for_all_tables && !self.in_schemas.contains(&table)
    }
}

const PUBLICATION: &str = "
SELECT p.oid::text || '@' || p.xmin::text || ' ' || to_jsonb(p)::text,
       COALESCE(to_jsonb(p) ->> 'pubgencols', 'n') = 's', p.puballtables
FROM pg_publication p WHERE p.pubname = $1";

/// PostgreSQL 15 and later can publish all tables of a schema.
const CAN_PUBLISH_SCHEMAS: &str =
    "SELECT to_regclass('pg_catalog.pg_publication_namespace') IS NOT NULL";

/// Lists the entries of a publication that contain a table or one of its partitioned ancestors. A
/// partition that is detached and attached again has a new entry in `pg_inherits`.
const TABLE_ENTRIES: &str = "
WITH RECURSIVE lineage(oid, relation, links) AS (
    SELECT c.oid, c.oid, '' FROM pg_class c WHERE c.oid = ANY($2)
  UNION ALL
    SELECT l.oid, i.inhparent, l.links || ' in ' || i.inhparent::text || '@' || i.xmin::text
    FROM lineage l
    JOIN pg_class c ON c.oid = l.relation AND c.relispartition
    JOIN pg_inherits i ON i.inhrelid = l.relation
)
SELECT l.oid, 'table ' || r.oid::text || '@' || r.xmin::text || l.links
FROM lineage l
JOIN pg_publication_rel r ON r.prrelid = l.relation
JOIN pg_publication p ON p.oid = r.prpubid AND p.pubname = $1";

/// Lists the entries of a publication that contain the schema of a table or of one of its partitioned
/// ancestors. A table that is moved to another schema and back has a new version in `pg_class`; some
/// other alterations give it one, too.
const SCHEMA_ENTRIES: &str = "
WITH RECURSIVE lineage(oid, relation, links) AS (
    SELECT c.oid, c.oid, '' FROM pg_class c WHERE c.oid = ANY($2)
  UNION ALL
    SELECT l.oid, i.inhparent, l.links || ' in ' || i.inhparent::text || '@' || i.xmin::text
    FROM lineage l
    JOIN pg_class c ON c.oid = l.relation AND c.relispartition
    JOIN pg_inherits i ON i.inhrelid = l.relation
)
SELECT l.oid, 'schema ' || n.oid::text || '@' || c.xmin::text || l.links, l.relation = l.oid
FROM lineage l
JOIN pg_class c ON c.oid = l.relation
JOIN pg_publication_namespace n ON n.pnnspid = c.relnamespace
JOIN pg_publication p ON p.oid = n.pnpubid AND p.pubname = $1";

/// Reads the versions of a publication's entries for these tables.
pub(crate) async fn read_versions(
    client: &Client,
    publication: &str,
    tables: &[u32],
) -> Result<PublicationVersions, SourceError> {
    let Some(row) = client.query_opt(PUBLICATION, &[&publication]).await? else {
        return Ok(PublicationVersions::default());
    };
    let mut entries = client.query(TABLE_ENTRIES, &[&publication, &tables]).await?;
    let mut in_schemas = HashSet::new();
    if client.query_one(CAN_PUBLISH_SCHEMAS, &[]).await?.get(0) {
        let of_schemas = client.query(SCHEMA_ENTRIES, &[&publication, &tables]).await?;
        let own = of_schemas.iter().filter(|entry| entry.get(2));
        in_schemas.extend(own.map(|entry| entry.get::<_, u32>(0)));
        entries.extend(of_schemas);
    }

    let memberships = memberships(entries.iter().map(|entry| (entry.get(0), entry.get(1))));
    Ok(PublicationVersions {
        publication: row.get(0),
        memberships,
        has_generated_columns: row.get(1),
        is_for_all_tables: row.get(2),
        in_schemas,
    })
}

/// Joins the entries of each table to one text, which is equal for equal entries in any order.
fn memberships(entries: impl IntoIterator<Item = (u32, String)>) -> HashMap<u32, String> {
    let mut by_table: HashMap<u32, Vec<String>> = HashMap::new();
    for (table, entry) in entries {
        by_table.entry(table).or_default().push(entry);
    }

    by_table
        .into_iter()
        .map(|(table, mut entries)| {
            entries.sort_unstable();
            (table, entries.join(", "))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(entries: &[(u32, &str)]) -> HashMap<u32, String> {
        memberships(entries.iter().map(|&(table, entry)| (table, entry.to_owned())))
    }

    /// The text is part of a table's shape: another one copies the table again.
    #[test]
    fn the_order_in_which_the_catalog_lists_entries_does_not_matter() {
        let entries = [(1, "table 7@700"), (2, "table 8@701"), (1, "schema 3@702")];
        let mut reversed = entries;
        reversed.reverse();
        assert_eq!(of(&entries), of(&reversed));
        assert_eq!(of(&entries).len(), 2);
        assert_eq!(of(&entries)[&2], "table 8@701", "entries of other tables are not part of it");
    }

    #[test]
    fn an_entry_that_is_made_again_or_removed_changes_its_table_alone() {
        let before = of(&[(1, "table 7@700"), (1, "schema 3@702"), (2, "table 8@701")]);
        let recreated = of(&[(1, "table 7@700"), (1, "schema 3@703"), (2, "table 8@701")]);
        let removed = of(&[(1, "table 7@700"), (2, "table 8@701")]);
        for after in [&recreated, &removed] {
            assert_ne!(after[&1], before[&1]);
            assert_eq!(after[&2], before[&2]);
        }
        assert_ne!(recreated[&1], removed[&1]);
    }
}
