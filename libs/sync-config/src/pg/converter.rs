//! Converters from PostgreSQL's text output, chosen by the types of a table's columns.

use super::builtin_types::{self, Scalar};
use super::catalog::{Attribute, PgType, PgTypes, TypeShape};
use crate::value::{ValueKind, ValueOptions, json};

/// Conversion of the text of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Converter {
    Scalar(Scalar),
    /// Index into [`Converters::structures`].
    Structure(usize),
}

/// Type that contains other types. They are referred to by index, so that deeply nested types do
/// not need recursion here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Structure {
    Array { element: Converter, delimiter: u8 },
    Composite(Vec<CompositeMember>),
    Range(Converter),
    Multirange(Converter),
}

/// Attribute of a composite type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompositeMember {
    /// Name and a colon, as JSON.
    pub(crate) key: String,
    pub(crate) converter: Converter,
}

/// Converters of a table's columns.
#[derive(Clone, Debug)]
pub(crate) struct Converters {
    pub(crate) options: ValueOptions,
    pub(crate) columns: Vec<Converter>,
    pub(crate) structures: Vec<Structure>,
}

impl Converters {
    /// Returns the converters of columns with these type OIDs.
    pub(crate) fn new(
        columns: impl Iterator<Item = u32>,
        types: &PgTypes,
        options: ValueOptions,
    ) -> Self {
        let mut builder =
            ConvertersBuilder { types, custom_types: options.custom_types, found: Vec::new() };
        let columns = columns.map(|oid| builder.converter(oid)).collect();
        let mut structures = Vec::new();
        // Each structure may add others to `found`. The number of types is finite, so this ends.
        while let Some(&(_, shape)) = builder.found.get(structures.len()) {
            structures.push(builder.structure(shape));
        }
        Self { options, columns, structures }
    }

    /// Returns the kind as which values of a column are compared, or `None` for `bytea`.
    pub(crate) fn kind(&self, column: usize) -> Option<ValueKind> {
        match self.columns[column] {
            Converter::Scalar(Scalar::Bytes) => None,
            Converter::Scalar(Scalar::Boolean | Scalar::Integer | Scalar::Real) => {
                Some(ValueKind::Number)
            }

            Converter::Scalar(
                Scalar::Text
                | Scalar::Json
                | Scalar::Date
                | Scalar::Time
                | Scalar::Timestamp
                | Scalar::TimestampTz
                | Scalar::Lsn,
            )
            | Converter::Structure(_) => Some(ValueKind::Text),
        }
    }
}

struct ConvertersBuilder<'a> {
    types: &'a PgTypes,
    custom_types: bool,
    /// Structures found so far, with their OIDs, in the order of their indices.
    found: Vec<(u32, TypeShape<'a>)>,
}

impl ConvertersBuilder<'_> {
    fn converter(&mut self, oid: u32) -> Converter {
        let oid = if self.custom_types { self.types.base(oid) } else { oid };
        if let Some(index) = self.found.iter().position(|(known, _)| *known == oid) {
            return Converter::Structure(index);
        }
        let shape = match builtin_types::array(oid, self.custom_types) {
            None if self.custom_types => {
                builtin_types::ranges(oid).or_else(|| self.types.get(oid).and_then(PgType::shape))
            }
            shape => shape,
        };
        let Some(shape) = shape else { return Converter::Scalar(builtin_types::scalar(oid)) };
        self.found.push((oid, shape));
        Converter::Structure(self.found.len() - 1)
    }

    fn structure(&mut self, shape: TypeShape<'_>) -> Structure {
        match shape {
            TypeShape::Array { element, delimiter } => {
                Structure::Array { element: self.converter(element), delimiter }
            }
            TypeShape::Composite(attributes) => {
                Structure::Composite(attributes.iter().map(|each| self.member(each)).collect())
            }
            TypeShape::Range(bound) => Structure::Range(self.converter(bound)),
            TypeShape::Multirange(bound) => Structure::Multirange(self.converter(bound)),
        }
    }

    fn member(&mut self, attribute: &Attribute) -> CompositeMember {
        CompositeMember {
            key: json::key(&attribute.name),
            converter: self.converter(attribute.type_oid),
        }
    }
}
