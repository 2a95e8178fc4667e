//! Structure of column types, as PostgreSQL's catalog describes it.

use std::collections::HashSet;

use tidewater_sync_config::{Attribute, PgType, PgTypes};
use tokio_postgres::{Client, Row};

use crate::source::error::SourceError;

/// Describes domains, composites, ranges, multiranges and arrays by the types that they consist of.
///
/// A type with elements is an array only if it is *the* array type of its element: `int2vector` and
/// `point` have elements, too.
const TYPES: &str = "
SELECT t.oid, t.typtype::text, e.typdelim::text,
       CASE t.typtype
         WHEN 'd' THEN ARRAY[t.typbasetype]
         WHEN 'b' THEN ARRAY[e.oid]
         WHEN 'c' THEN ARRAY(SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = t.typrelid
                             AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
         ELSE ARRAY(SELECT r.rngsubtype FROM pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid))
       END,
       ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = t.typrelid
             AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
FROM pg_type t
LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
WHERE t.oid = ANY($1) AND (t.typtype IN ('d', 'c', 'r', 'm') OR e.oid IS NOT NULL)";

/// A type as the catalog describes it.
struct CatalogType {
    /// `typtype`: `d` for a domain, `c` for a composite, `r` and `m` for a range and a multirange, `b`
    /// for a base type, which here is an array.
    kind: String,
    /// Separator of the elements of an array, in its text form.
    delimiter: Option<String>,
    /// Types of the parts, in order.
    parts: Vec<u32>,
    /// Names of a composite's attributes, in the order of `parts`.
    attribute_names: Vec<String>,
}

/// Reads these types and, transitively, those that they consist of.
///
/// It takes one query for each level of nesting. PostgreSQL lets no type contain itself, and no type
/// is read twice, so it ends.
pub(crate) async fn read_types(
    client: &Client,
    oids: impl Iterator<Item = u32>,
) -> Result<PgTypes, SourceError> {
    let mut requested: HashSet<u32> = oids.collect();
    let mut pending: Vec<u32> = requested.iter().copied().collect();
    let mut found = Vec::new();
    while !pending.is_empty() {
        let rows = client.query(TYPES, &[&pending]).await?;
        let types: Vec<(u32, CatalogType)> = rows.iter().map(catalog_type).collect();

        pending = types.iter().flat_map(|(_, one)| one.parts.iter().copied()).collect();
        pending.retain(|oid| requested.insert(*oid));
        found.extend(types.into_iter().filter_map(|(oid, one)| Some((oid, one.describe()?))));
    }
    Ok(found.into_iter().collect())
}

fn catalog_type(row: &Row) -> (u32, CatalogType) {
    let described = CatalogType {
        kind: row.get(1),
        delimiter: row.get(2),
        parts: row.get(3),
        attribute_names: row.get(4),
    };
    (row.get(0), described)
}

impl CatalogType {
    /// Returns the type's structure; `None` if the catalog lacks a part of it, in which case values
    /// are treated as plain text.
    fn describe(self) -> Option<PgType> {
        let first_part = self.parts.first().copied();
        Some(match self.kind.as_str() {
            "c" => {
                let attributes = self.attribute_names.into_iter().zip(self.parts);
                PgType::Composite(
                    attributes.map(|(name, type_oid)| Attribute { name, type_oid }).collect(),
                )
            }
            "d" => PgType::Domain(first_part?),
            "r" => PgType::Range(first_part?),
            "m" => PgType::Multirange(first_part?),
            _ => {
                let delimiter = *self.delimiter?.as_bytes().first()?;
                PgType::Array { element: first_part?, delimiter }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(
        kind: &str,
        delimiter: Option<&str>,
        parts: &[u32],
        names: &[&str],
    ) -> Option<PgType> {
        let one = CatalogType {
            kind: kind.into(),
            delimiter: delimiter.map(str::to_owned),
            parts: parts.to_vec(),
            attribute_names: names.iter().map(|&name| name.to_owned()).collect(),
        };
        one.describe()
    }

    #[test]
    fn each_kind_of_type_is_described_by_its_parts() {
        assert_eq!(describe("d", None, &[25], &[]), Some(PgType::Domain(25)));
        assert_eq!(describe("r", None, &[23], &[]), Some(PgType::Range(23)));
        assert_eq!(describe("m", None, &[23], &[]), Some(PgType::Multirange(23)));
        let array = PgType::Array { element: 603, delimiter: b';' };
        assert_eq!(describe("b", Some(";"), &[603], &[]), Some(array), "box has semicolons");
    }

    #[test]
    fn a_composite_keeps_the_order_of_its_attributes() {
        let attributes = [("z", 25), ("a", 23)]
            .map(|(name, type_oid)| Attribute { name: name.to_owned(), type_oid });
        let composite = PgType::Composite(attributes.to_vec());
        assert_eq!(describe("c", None, &[25, 23], &["z", "a"]), Some(composite));
        assert_eq!(describe("c", None, &[], &[]), Some(PgType::Composite(vec![])));
    }

    #[test]
    fn a_type_without_its_parts_is_not_described() {
        assert_eq!(describe("d", None, &[], &[]), None);
        assert_eq!(describe("r", None, &[], &[]), None);
        assert_eq!(describe("b", None, &[25], &[]), None);
        assert_eq!(describe("b", Some(""), &[25], &[]), None);
        assert_eq!(describe("b", Some(","), &[], &[]), None);
    }
}
