//! Types of a table's columns, as PostgreSQL's catalog describes them.

use std::collections::BTreeMap;

/// Structure of a type. Types within it are referred to by OID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PgType {
    /// A domain over the type with this OID. It prints like its base type.
    Domain(u32),
    /// A composite type. It prints its attributes: `(1,"a b",)`.
    Composite(Vec<Attribute>),
    /// An array type. It prints its elements: `{1,2}`.
    Array {
        /// OID of the element type.
        element: u32,
        /// Byte between elements: a comma for nearly all types (`typdelim` in `pg_type`).
        delimiter: u8,
    },
    /// A range type over the type with this OID. It prints its bounds: `[1,5)`.
    Range(u32),
    /// A multirange type over the type with this OID. It prints its ranges: `{[1,3),[5,7)}`.
    Multirange(u32),
}

/// Attribute of a composite type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Name of the attribute.
    pub name: String,
    /// OID in `pg_type`.
    pub type_oid: u32,
}

/// Types by OID. A type that is missing is either built in, or stays its PostgreSQL text: enums,
/// base types and what extensions bring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PgTypes(BTreeMap<u32, PgType>);

/// Structure of a type. Types within it are referred to by OID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TypeShape<'a> {
    Array { element: u32, delimiter: u8 },
    Composite(&'a [Attribute]),
    Range(u32),
    Multirange(u32),
}

impl PgTypes {
    /// Returns the type with this OID.
    #[must_use]
    pub fn get(&self, oid: u32) -> Option<&PgType> {
        self.0.get(&oid)
    }

    /// Returns all types, by ascending OID.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &PgType)> {
        self.0.iter().map(|(oid, kind)| (*oid, kind))
    }

    /// Returns these types and all types within them.
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

    /// Follows domains to their base type.
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
    /// Returns the structure of the type, or `None` for a domain.
    pub(crate) fn shape(&self) -> Option<TypeShape<'_>> {
        match self {
            Self::Domain(_) => None,
            Self::Composite(attributes) => Some(TypeShape::Composite(attributes)),
            Self::Array { element, delimiter } => {
                Some(TypeShape::Array { element: *element, delimiter: *delimiter })
            }
            Self::Range(bound) => Some(TypeShape::Range(*bound)),
            Self::Multirange(bound) => Some(TypeShape::Multirange(*bound)),
        }
    }

    /// Returns the OIDs of the types within this one.
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
