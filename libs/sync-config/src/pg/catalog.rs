//! What PostgreSQL's catalogue says of the types that a table's columns are made of.

use std::collections::BTreeMap;

use super::builtin_types::Shape;

/// A type, as far as its text can be taken apart; types within it are named by their OIDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PgType {
    /// Prints what the type that it is based on prints.
    Domain(u32),
    /// Prints its attributes: `(1,"a b",)`.
    Composite(Vec<Attribute>),
    /// Prints its elements: `{1,2}`.
    Array {
        /// The type of its elements.
        element: u32,
        /// What stands between them: a comma for nearly all types.
        delimiter: u8,
    },
    /// Prints its bounds, which are of this type: `[1,5)`.
    Range(u32),
    /// Prints ranges whose bounds are of this type: `{[1,3),[5,7)}`.
    Multirange(u32),
}

/// An attribute of a composite type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// OID in `pg_type`.
    pub type_oid: u32,
}

/// Types by their OIDs. What is not in it is known by its OID alone, or is text as printed: enums,
/// base types and what extensions bring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PgTypes(BTreeMap<u32, PgType>);

impl PgTypes {
    /// The type of this OID.
    #[must_use]
    pub fn get(&self, oid: u32) -> Option<&PgType> {
        self.0.get(&oid)
    }

    /// All types, by ascending OID.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &PgType)> {
        self.0.iter().map(|(oid, kind)| (*oid, kind))
    }

    /// Those that these types are made of, themselves included.
    #[must_use]
    pub fn used_by(&self, oids: impl Iterator<Item = u32>) -> Self {
        let mut used = BTreeMap::new();
        let mut pending: Vec<u32> = oids.collect();
        while let Some(oid) = pending.pop() {
            if let Some(kind) = self.get(oid)
                && used.insert(oid, kind.clone()).is_none()
            {
                pending.extend(kind.parts());
            }
        }
        Self(used)
    }

    /// Follows domains down to what they are based on.
    pub(crate) fn base(&self, mut oid: u32) -> u32 {
        for _ in 0..self.0.len() {
            let Some(PgType::Domain(base)) = self.get(oid) else { break };
            oid = *base;
        }
        oid
    }
}

impl FromIterator<(u32, PgType)> for PgTypes {
    fn from_iter<T: IntoIterator<Item = (u32, PgType)>>(types: T) -> Self {
        Self(types.into_iter().collect())
    }
}

impl PgType {
    /// How it is made of others; `None` for a domain, which is what it is based on.
    pub(crate) fn shape(&self) -> Option<Shape<'_>> {
        match self {
            Self::Domain(_) => None,
            Self::Composite(attributes) => Some(Shape::Composite(attributes)),
            Self::Array { element, delimiter } => {
                Some(Shape::Array { element: *element, delimiter: *delimiter })
            }
            Self::Range(bound) => Some(Shape::Range(*bound)),
            Self::Multirange(bound) => Some(Shape::Multirange(*bound)),
        }
    }

    /// The types that it is made of.
    fn parts(&self) -> Vec<u32> {
        match self {
            Self::Composite(attributes) => {
                attributes.iter().map(|attribute| attribute.type_oid).collect()
            }
            Self::Domain(part)
            | Self::Array { element: part, .. }
            | Self::Range(part)
            | Self::Multirange(part) => vec![*part],
        }
    }
}
