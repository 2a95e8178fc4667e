//! Tables of the database, and the patterns by which a config selects them.

use crate::pg::catalog::PgTypes;

/// A table as PostgreSQL describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchema {
    /// Its schema, `public` and the like.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// In the table's order, without those that were dropped.
    pub columns: Vec<Column>,
    /// What is known of its columns' types beyond their OIDs.
    pub types: PgTypes,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// OID in `pg_type`.
    pub type_oid: u32,
}

impl TableSchema {
    pub(crate) fn is(&self, pattern: &TablePattern) -> bool {
        pattern.matches(&self.schema, &self.name)
    }

    /// Returns the type OIDs of the columns, in the table's order.
    pub(crate) fn type_oids(&self) -> impl Iterator<Item = u32> {
        self.columns.iter().map(|column| column.type_oid)
    }

    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

/// The tables that a query of the config reads: one, or all whose names begin alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TablePattern {
    /// The schema, `public` where the config names none. A `%` at its end stands for anything.
    pub schema: String,
    /// The name. A `%` at its end stands for anything.
    pub name: String,
}

impl TablePattern {
    /// Whether it may be more than one table, or none.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.schema.ends_with('%') || self.name.ends_with('%')
    }

    /// Whether a table is one of these.
    #[must_use]
    pub fn matches(&self, schema: &str, name: &str) -> bool {
        is_like(schema, &self.schema) && is_like(name, &self.name)
    }

    /// Where in the name of such a table that begins which `%` stands for; at its end where there is
    /// none.
    pub(crate) fn suffix_start(&self) -> usize {
        self.name.strip_suffix('%').unwrap_or(&self.name).len()
    }
}

fn is_like(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('%') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

impl std::fmt::Display for TablePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.schema != "public" {
            write!(f, "{}.", self.schema)?;
        }
        f.write_str(&self.name)
    }
}
