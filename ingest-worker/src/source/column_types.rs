//! Structure and definitions of column types, as PostgreSQL's catalog describes them.

use std::collections::{BTreeSet, HashMap};

use tidewater_sync_config::{Attribute, PgType, PgTypes};
use tokio_postgres::{Client, Row};

use crate::source::error::SourceError;

/// Describes domains, composites, ranges, multiranges and arrays by the types that they consist of,
/// and enums by their labels.
///
/// The last column is the type's definition, with the version (`xmin`) of what can be altered and
/// altered back: values that were sent in between are of the other definition.
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
             AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
       CASE t.typtype
         WHEN 'e' THEN (SELECT string_agg(l.oid::text || '@' || l.xmin::text || quote_literal(l.enumlabel),
                                          ' ' ORDER BY l.oid)
                        FROM pg_enum l WHERE l.enumtypid = t.oid)
         WHEN 'c' THEN (SELECT string_agg(concat(a.attnum, '@', a.xmin::text, ' ', a.atttypid, ' ',
                                                 a.atttypmod, ' ', quote_ident(a.attname)),
                                          ', ' ORDER BY a.attnum)
                        FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0)
         WHEN 'd' THEN t.typbasetype::text || ' ' || t.typtypmod::text
         WHEN 'b' THEN t.typelem::text
         ELSE (SELECT to_jsonb(r)::text FROM pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid))
       END
FROM pg_type t
LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
WHERE t.oid = ANY($1) AND (t.typtype IN ('d', 'c', 'r', 'm', 'e') OR e.oid IS NOT NULL)";

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
    /// Everything that decides how values are printed.
    definition: String,
}

/// Types of columns, and those that they consist of.
#[derive(Debug, Default)]
pub(crate) struct TypeCatalog {
    /// Their structures.
    pub(crate) structures: PgTypes,
    /// The definition of each type, and the types that it consists of.
    definitions: HashMap<u32, (String, Vec<u32>)>,
}

impl TypeCatalog {
    /// Returns the definitions of these types and of all types that they consist of.
    pub(crate) fn definitions_of(&self, oids: impl Iterator<Item = u32>) -> String {
        let mut pending: Vec<u32> = oids.collect();
        let mut found = BTreeSet::new();
        while let Some(oid) = pending.pop() {
            if let Some((_, parts)) = self.definitions.get(&oid)
                && found.insert(oid)
            {
                pending.extend(parts);
            }
        }

        let definition = |oid: &u32| format!("{oid}: {}", self.definitions[oid].0);
        found.iter().map(definition).collect::<Vec<_>>().join("; ")
    }
}

/// Reads these types and, transitively, those that they consist of.
///
/// It takes one query for each level of nesting. PostgreSQL lets no type contain itself, and no type
/// is read twice, so it ends.
pub(crate) async fn read_types(
    client: &Client,
    oids: impl Iterator<Item = u32>,
) -> Result<TypeCatalog, SourceError> {
    let mut requested: BTreeSet<u32> = oids.collect();
    let mut pending: Vec<u32> = requested.iter().copied().collect();
    let mut structures = Vec::new();
    let mut definitions = HashMap::new();
    while !pending.is_empty() {
        let rows = client.query(TYPES, &[&pending]).await?;
        let types: Vec<(u32, CatalogType)> = rows.iter().map(catalog_type).collect();

        pending = types.iter().flat_map(|(_, one)| one.parts.iter().copied()).collect();
        pending.retain(|oid| requested.insert(*oid));
        for (oid, one) in types {
            definitions.insert(oid, (one.definition.clone(), one.parts.clone()));
            structures.extend(one.describe().map(|structure| (oid, structure)));
        }
    }
    Ok(TypeCatalog { structures: structures.into_iter().collect(), definitions })
}

fn catalog_type(row: &Row) -> (u32, CatalogType) {
    let described = CatalogType {
        kind: row.get(1),
        delimiter: row.get(2),
        parts: row.get(3),
        attribute_names: row.get(4),
        definition: row.get::<_, Option<String>>(5).unwrap_or_default(),
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
            // A label is a text.
            "e" => return None,
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
            definition: String::new(),
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

    #[test]
    fn definitions_are_those_of_all_parts_however_deep() {
        let catalog = TypeCatalog {
            structures: PgTypes::default(),
            definitions: [
                (1, ("array".to_owned(), vec![2])),
                (2, ("composite".to_owned(), vec![25, 3, 2])),
                (3, ("'sad'".to_owned(), vec![])),
                (4, ("unused".to_owned(), vec![])),
            ]
            .into_iter()
            .collect(),
        };
        assert_eq!(catalog.definitions_of([25, 1].into_iter()), "1: array; 2: composite; 3: 'sad'");
        assert_eq!(catalog.definitions_of([25].into_iter()), "");
    }
}
