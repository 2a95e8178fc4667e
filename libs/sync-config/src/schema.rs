//! Tables of the database, and the patterns by which a config selects them.

use crate::pg::catalog::PgTypes;

/// Table as the catalog of PostgreSQL describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchema {
    /// Name of the schema, such as `public`.
    pub schema: String,
    /// Name of the table.
    pub name: String,
    /// Columns in the table's order, without dropped ones.
    pub columns: Vec<Column>,
    /// Types of the columns that their OIDs alone do not describe.
    pub types: PgTypes,
}

/// Column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name of the column.
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

/// Table that a query of the config reads, or wildcard for all tables whose names have a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TablePattern {
    /// Schema, `public` if the config names none. A `%` at its end matches any rest.
    pub schema: String,
    /// Name of the table. A `%` at its end matches any rest.
    pub name: String,
}

impl TablePattern {
    /// Returns whether the pattern is a wildcard, which may match several tables or none.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.schema.ends_with('%') || self.name.ends_with('%')
    }

    /// Returns whether the pattern matches a table.
    #[must_use]
    pub fn matches(&self, schema: &str, name: &str) -> bool {
        is_like(schema, &self.schema) && is_like(name, &self.name)
    }

    /// Returns the start, in the name of a matching table, of the part that `%` matches. Returns
    /// the end of the name if the pattern has no `%`.
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
