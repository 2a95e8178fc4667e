//! What the catalogue says of columns' types: what they are made of.

use std::collections::HashSet;

use tidewater_sync_config::{Attribute, PgType, PgTypes};
use tokio_postgres::{Client, Row};

/// Domains, composites, ranges, multiranges and arrays, with what each is made of. What has elements
/// is an array only if it is the array of its element: `int2vector` and `point` are not.
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

/// These types and those that they are made of. A round for each level of them: PostgreSQL lets no
/// type contain itself, and each is asked for once.
pub(crate) async fn read(
    client: &Client,
    oids: impl Iterator<Item = u32>,
) -> Result<PgTypes, tokio_postgres::Error> {
    let mut asked: HashSet<u32> = oids.collect();
    let mut pending: Vec<u32> = asked.iter().copied().collect();
    let mut found = Vec::new();
    while !pending.is_empty() {
        let rows = client.query(TYPES, &[&pending]).await?;
        pending = rows.iter().flat_map(|row| row.get::<_, Vec<u32>>(3)).collect();
        pending.retain(|oid| asked.insert(*oid));
        found.extend(rows.iter().filter_map(described));
    }
    Ok(found.into_iter().collect())
}

fn described(row: &Row) -> Option<(u32, PgType)> {
    let kind: String = row.get(1);
    let parts: Vec<u32> = row.get(3);
    let part = parts.first().copied();
    let described = match kind.as_str() {
        "c" => {
            let names: Vec<String> = row.get(4);
            let attribute = |(name, type_oid)| Attribute { name, type_oid };
            PgType::Composite(names.into_iter().zip(parts).map(attribute).collect())
        }
        "d" => PgType::Domain(part?),
        "r" => PgType::Range(part?),
        "m" => PgType::Multirange(part?),
        _ => {
            let delimiter: String = row.get(2);
            PgType::Array { element: part?, delimiter: *delimiter.as_bytes().first()? }
        }
    };
    Some((row.get(0), described))
}
