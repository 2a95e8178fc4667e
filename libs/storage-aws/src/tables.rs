//! The tables: their names, keys and key types, as data that the deployment is checked against.

use crate::attributes::write_requests::EXPIRES;

/// A table of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// The control record, the archive of closed epochs, the generations.
    Control,
    /// Segments of operations.
    Segments,
    /// Heads and catalogs of buckets.
    Buckets,
    /// Answers to parameter lookups.
    Lookups,
    /// The state of source rows.
    SourceRows,
    /// The progress of initial copies.
    Copies,
    /// The registry of existing buckets.
    Registry,
    /// The queue of compaction tasks.
    CompactionQueue,
    /// Tickets and requests of write checkpoints: all that the functions write.
    WriteCheckpoints,
}

/// The type of a key attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// UTF-8, ordered by its bytes.
    Text,
    /// A whole number.
    Number,
}

impl KeyType {
    /// Returns DynamoDB's letter for the type.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Text => "S",
            Self::Number => "N",
        }
    }
}

/// The schema of a table, for its deployment with on-demand capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSchema {
    /// The part of the table's name after the deployment's prefix and `-`.
    pub suffix: &'static str,
    /// Type of the partition key, which is the attribute [`PARTITION`](crate::PARTITION).
    pub partition: KeyType,
    /// Type of the sort key, which is the attribute [`SORT`](crate::SORT), if there is one.
    pub sort: Option<KeyType>,
    /// The attribute with the time at which an item expires, if items of the table do.
    pub expires_by: Option<&'static str>,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Control,
        Self::Segments,
        Self::Buckets,
        Self::Lookups,
        Self::SourceRows,
        Self::Copies,
        Self::Registry,
        Self::CompactionQueue,
        Self::WriteCheckpoints,
    ];

    /// Returns the schema.
    #[must_use]
    pub const fn schema(self) -> TableSchema {
        use KeyType::{Number, Text};
        let (suffix, partition, sort) = match self {
            Self::Control => ("control", Text, Some(Number)),
            Self::Segments => ("segments", Text, Some(Number)),
            Self::Buckets => ("buckets", Text, None),
            Self::Lookups => ("lookups", Text, Some(Text)),
            Self::SourceRows => ("source-rows", Text, Some(Text)),
            Self::Copies => ("copies", Number, None),
            Self::Registry => ("registry", Text, Some(Text)),
            Self::CompactionQueue => ("work-list", Number, Some(Text)),
            Self::WriteCheckpoints => ("write-checkpoints", Text, None),
        };

        let expires_by = match self {
            Self::WriteCheckpoints => Some(EXPIRES),
            Self::Control
            | Self::Segments
            | Self::Buckets
            | Self::Lookups
            | Self::SourceRows
            | Self::Copies
            | Self::Registry
            | Self::CompactionQueue => None,
        };

        TableSchema { suffix, partition, sort, expires_by }
    }

    /// Returns the name in a deployment.
    #[must_use]
    pub fn name(self, prefix: &str) -> String {
        format!("{prefix}-{}", self.schema().suffix)
    }

    /// Returns the kind of its items, for errors.
    pub(crate) const fn holds(self) -> &'static str {
        match self {
            Self::Control => "control record",
            Self::Segments => "segment",
            Self::Buckets => "bucket",
            Self::Lookups => "lookup",
            Self::SourceRows => "source row",
            Self::Copies => "copy",
            Self::Registry => "registry entry",
            Self::CompactionQueue => "work list entry",
            Self::WriteCheckpoints => "write-checkpoint requests",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_table_has_a_valid_name_of_its_own() {
        let names: HashSet<_> = Table::ALL.iter().map(|table| table.name("tidewater")).collect();
        assert_eq!(names.len(), Table::ALL.len());
        for name in names {
            assert!((3..=255).contains(&name.len()), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{name}");
        }
    }

    #[test]
    fn tables_are_listed_in_the_order_of_their_declaration() {
        assert!(Table::ALL.iter().enumerate().all(|(at, &table)| table as usize == at));
    }
}
