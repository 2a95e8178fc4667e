//! The shape of a table: everything in PostgreSQL's catalog that decides which rows the worker reads
//! and which changes it receives.
//!
//! Changes of rows arrive through the replication slot. Everything else that changes rows, or that
//! keeps their changes from being sent, changes the shape. A table whose shape is not the recorded one
//! is copied again.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::source::catalog::SourceTable;

/// Hex digits of the digest of a whole shape. 128 bits are enough to tell shapes apart.
const DIGEST_DIGITS: usize = 32;
/// Hex digits of the digest of each part. They only name what differs, and a record holds them for
/// each table.
const PART_DIGITS: usize = 6;

/// The parts of a shape, in the order in which they are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Relation,
    Name,
    Storage,
    Columns,
    Key,
    Identity,
    Types,
    Membership,
    RowFilter,
    ColumnList,
    Publication,
}

const PARTS: [(Part, &str); 11] = [
    (Part::Relation, "it was dropped and created again"),
    (Part::Name, "it has another name"),
    (Part::Storage, "it was rewritten, truncated or moved"),
    (Part::Columns, "its columns or their types are others"),
    (Part::Key, "its key is another"),
    (Part::Identity, "its replica identity or the index of it is another"),
    (Part::Types, "an enum, domain, composite or range type of a column was altered"),
    (Part::Membership, "it was taken out of the publication and put back"),
    (Part::RowFilter, "the row filter of the publication is another"),
    (Part::ColumnList, "the column list of the publication is another"),
    (Part::Publication, "the publication was altered or created again"),
];

/// The shape of a table as it is recorded: a digest of everything, and one of each part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct TableShape(String);

impl SourceTable {
    /// Returns the table's shape. With another one it is copied again.
    pub(crate) fn shape(&self) -> TableShape {
        TableShape::of(self)
    }
}

impl TableShape {
    fn of(table: &SourceTable) -> Self {
        let parts = PARTS.map(|(part, _)| part.describe(table));
        let mut whole = Sha256::new();
        for part in &parts {
            // The length keeps the parts apart.
            whole.update(format!("{}:{part}", part.len()));
        }

        let mut text = hex::encode(whole.finalize());
        text.truncate(DIGEST_DIGITS);
        for part in &parts {
            text.push_str(&hex::encode(Sha256::digest(part))[..PART_DIGITS]);
        }
        Self(text)
    }

    /// Returns what a shape with this text is to be in tests.
    #[cfg(test)]
    pub(crate) fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Makes the shape equal to no table's. It keeps its parts.
    pub(crate) fn forget(&mut self) {
        let digest = self.0.len().min(DIGEST_DIGITS);
        self.0.replace_range(..digest, &"-".repeat(digest));
    }

    /// Returns the differences from the recorded shape of the same table, for people.
    pub(crate) fn differences(&self, recorded: &Self) -> String {
        let differs = |part: Part| self.part(part) != recorded.part(part);
        let found: Vec<_> =
            PARTS.iter().filter(|(part, _)| differs(*part)).map(|(_, text)| *text).collect();
        match found[..] {
            // Another whole without another part: an earlier version has recorded it, or it was
            // forgotten since the stream had changes of another shape.
            [] => "it was altered in between".to_owned(),
            _ if recorded.part(Part::Relation).is_none() => {
                "an earlier version recorded less of it".to_owned()
            }
            _ => found.join("; "),
        }
    }

    /// Returns whether the table has the name that the other one had.
    pub(crate) fn has_name_of(&self, other: &Self) -> bool {
        self.part(Part::Name).is_some() && self.part(Part::Name) == other.part(Part::Name)
    }

    /// Returns whether the table has this name, `"schema"."name"`.
    pub(crate) fn has_sql_name(&self, sql_name: &str) -> bool {
        let digest = hex::encode(Sha256::digest(sql_name));
        self.part(Part::Name) == Some(&digest[..PART_DIGITS])
    }

    /// Returns whether the table has the key that the other one had: columns of the same names and
    /// types.
    pub(crate) fn has_key_of(&self, other: &Self) -> bool {
        self.part(Part::Key).is_some() && self.part(Part::Key) == other.part(Part::Key)
    }

    fn part(&self, part: Part) -> Option<&str> {
        let at = DIGEST_DIGITS + part as usize * PART_DIGITS;
        self.0.get(at..at + PART_DIGITS)
    }
}

impl Part {
    /// Returns the facts of this part as a text that is equal for equal facts only.
    fn describe(self, table: &SourceTable) -> String {
        let facts = &table.facts;
        match self {
            Self::Relation => format!("{}|{}", table.oid, table.kind),
            Self::Name => table.sql_name(),
            Self::Storage => facts.storage.clone(),
            Self::Columns => {
                let columns = table.schema.columns.iter().zip(&table.column_types);
                let columns: Vec<_> = columns
                    .map(|(column, sql)| format!("{:?}|{}|{sql}", column.name, column.type_oid))
                    .collect();
                format!("{columns:?}|{}", facts.columns)
            }
            Self::Key => {
                let column = |&at: &usize| {
                    (&table.schema.columns[at].name, table.schema.columns[at].type_oid)
                };
                format!("{:?}", table.key.iter().map(column).collect::<Vec<_>>())
            }
            Self::Identity => format!("{}|{}", table.replica_identity, facts.identity_index),
            Self::Types => facts.types.clone(),
            Self::Membership => format!("{}|{}", table.is_published, facts.membership),
            Self::RowFilter => format!("{}|{}", table.has_row_filter, facts.row_filter),
            Self::ColumnList => facts.column_list.clone(),
            Self::Publication => facts.publication.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::catalog::tests::source_table;
    use tidewater_sync_config::Column;

    type Change = fn(&mut SourceTable);

    const CHANGES: [(Part, Change); 17] = [
        (Part::Relation, |t| t.oid = 2),
        (Part::Name, |t| t.schema.name = "u".into()),
        (Part::Name, |t| t.schema.schema = "other".into()),
        (Part::Storage, |t| t.facts.storage = "16400 p".into()),
        (Part::Columns, |t| t.column_types[0] = "varchar(3)".into()),
        (Part::Columns, |t| t.facts.columns = "2".into()),
        (Part::Columns, |t| {
            t.schema.columns.push(Column { name: "more".into(), type_oid: 25 });
            t.column_types.push("text".into());
        }),
        (Part::Key, |t| t.key = vec![]),
        (Part::Identity, |t| t.replica_identity = 'f'),
        (Part::Identity, |t| t.facts.identity_index = "16401".into()),
        (Part::Types, |t| t.facts.types = "sad".into()),
        (Part::Membership, |t| t.facts.membership = "table 7".into()),
        (Part::Membership, |t| t.is_published = false),
        (Part::RowFilter, |t| t.has_row_filter = true),
        (Part::RowFilter, |t| t.facts.row_filter = "(id < 10)".into()),
        (Part::ColumnList, |t| t.facts.column_list = "id".into()),
        (Part::Publication, |t| t.facts.publication = "9@700".into()),
    ];

    #[test]
    fn each_fact_is_part_of_the_shape_and_is_named() {
        let before = TableShape::of(&source_table(1, "t"));
        for (part, change) in CHANGES {
            let mut table = source_table(1, "t");
            change(&mut table);
            let after = TableShape::of(&table);
            assert_ne!(after, before, "{part:?}");
            assert_eq!(after.differences(&before), PARTS[part as usize].1);
        }
    }

    #[test]
    fn the_parts_are_recorded_in_their_order() {
        for (at, (part, _)) in PARTS.iter().enumerate() {
            assert_eq!(*part as usize, at);
        }
    }

    #[test]
    fn rights_and_estimates_are_no_part_of_the_shape() {
        let before = source_table(1, "t");
        let mut after = before.clone();
        after.may_select = false;
        after.row_security = true;
        after.estimated_rows = 1e6;
        assert_eq!(TableShape::of(&after), TableShape::of(&before));
    }

    #[test]
    fn a_shape_tells_the_name_of_its_table_from_others() {
        let table = source_table(1, "t");
        assert!(table.shape().has_sql_name(&table.sql_name()));
        assert!(!table.shape().has_sql_name("\"public\".\"u\""));
        assert!(!TableShape::from_text("063798380c1e66c8").has_sql_name(&table.sql_name()));
    }

    #[test]
    fn a_forgotten_shape_equals_no_other_and_still_has_its_parts() {
        let shape = TableShape::of(&source_table(1, "t"));
        let mut forgotten = shape.clone();
        forgotten.forget();
        assert_ne!(forgotten, shape);
        assert!(forgotten.has_name_of(&shape));
        assert_eq!(shape.differences(&forgotten), "it was altered in between");
    }

    #[test]
    fn a_shape_of_an_earlier_version_has_no_parts() {
        let shape = TableShape::of(&source_table(1, "t"));
        let old = TableShape::from_text("063798380c1e66c89e32fe4a92fde9a1");
        assert_ne!(shape, old);
        assert!(!shape.has_name_of(&old));
        assert_eq!(shape.differences(&old), "an earlier version recorded less of it");
    }

    /// The shape is stored: another one for the same table copies every table of every deployment.
    #[test]
    fn the_shape_of_a_table_is_fixed() {
        let shape = TableShape::of(&source_table(16_384, "lists"));
        assert_eq!(shape.0.len(), DIGEST_DIGITS + PARTS.len() * PART_DIGITS);
        assert_eq!(&shape.0[..DIGEST_DIGITS], "08c5c8e438a17fea993772862bd9742d");
    }
}
