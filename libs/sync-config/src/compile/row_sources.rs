//! Row sources of a query: the tables and arrays that it reads. A row is selected if each has a
//! match.

use crate::expression::Expression;
use crate::file::diagnostic::{Diagnostic, Position};
use crate::plan::{RequestExpression, RequestLeaf, RowExpression, RowLeaf, TableMetadata};
use crate::value::Engine;

/// Maximum number of row sources of one query, with its subqueries and CTEs.
const SOURCES_MAX: usize = 100;

/// Index into [`RowSources`].
pub(crate) type SourceId = usize;

/// Leaf of an expression of a query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Leaf {
    Column {
        source: SourceId,
        name: String,
    },
    /// Schema, name or suffix of the row's table.
    TableMetadata {
        source: SourceId,
        metadata: TableMetadata,
    },
    /// Current element of an array.
    Element(SourceId),
    /// Key of that element: its index or member name.
    Key(SourceId),
    Request(RequestLeaf),
    /// Parameter of a bucket definition, by index.
    Bucket(usize),
}

pub(crate) type QueryExpression = Expression<Leaf>;

#[derive(Clone, Debug)]
pub(crate) enum RowSource {
    /// Table by its index, with the name that the query gives it.
    Table { table: usize, name: String },
    /// Elements of an array in a row or in the request.
    Elements { array: QueryExpression, origin: Origin },
}

/// Origin of the values of an expression, if it is a single one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// No origin: literals only.
    Constant,
    Request,
    /// Element of an array of the request, possibly together with the request.
    Element(SourceId),
    /// Row of a table, possibly together with elements of its arrays.
    Row(SourceId),
    Bucket,
}

/// Row sources of a query, in the order of their first use.
#[derive(Debug)]
pub(crate) struct RowSources {
    engine: Engine,
    list: Vec<RowSource>,
}

impl RowSources {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, list: Vec::new() }
    }

    pub(crate) fn add(
        &mut self,
        source: RowSource,
        position: Position,
    ) -> Result<SourceId, Diagnostic> {
        if self.list.len() == SOURCES_MAX {
            let message = format!("the query reads more than {SOURCES_MAX} tables and arrays");
            return Err(Diagnostic::error(position, message)
                .hint("CTEs and subqueries count each time they are used"));
        }
        self.list.push(source);
        Ok(self.list.len() - 1)
    }

    pub(crate) fn engine(&self) -> Engine {
        self.engine
    }

    pub(crate) fn ids(&self) -> std::ops::Range<SourceId> {
        0..self.list.len()
    }

    pub(crate) fn get(&self, id: SourceId) -> &RowSource {
        &self.list[id]
    }

    /// Returns the index of the source's table, or `None` for an array.
    pub(crate) fn table(&self, id: SourceId) -> Option<usize> {
        match &self.list[id] {
            RowSource::Table { table, .. } => Some(*table),
            RowSource::Elements { .. } => None,
        }
    }

    /// Returns the origin of a source's values.
    pub(crate) fn origin(&self, id: SourceId) -> Origin {
        match &self.list[id] {
            RowSource::Table { .. } => Origin::Row(id),
            RowSource::Elements { origin: Origin::Row(table), .. } => Origin::Row(*table),
            RowSource::Elements { .. } => Origin::Element(id),
        }
    }

    /// Returns the origin of an expression, or `None` if it has several.
    pub(crate) fn origin_of(&self, expression: &QueryExpression) -> Option<Origin> {
        let mut origin = Some(Origin::Constant);
        expression.for_each_leaf(&mut |leaf| {
            let of_leaf = match leaf {
                Leaf::Column { source, .. }
                | Leaf::TableMetadata { source, .. }
                | Leaf::Element(source)
                | Leaf::Key(source) => self.origin(*source),
                Leaf::Request(_) => Origin::Request,
                Leaf::Bucket(_) => Origin::Bucket,
            };
            origin = origin.and_then(|origin| origin.and(of_leaf));
        });
        origin
    }
}

impl RowSources {
    /// Returns whether an expression depends on a source or on an element of its arrays.
    pub(crate) fn mentions(&self, expression: &QueryExpression, source: SourceId) -> bool {
        let mut found = false;
        expression.for_each_leaf(&mut |leaf| {
            found |= match leaf {
                Leaf::Column { source: id, .. }
                | Leaf::TableMetadata { source: id, .. }
                | Leaf::Element(id)
                | Leaf::Key(id) => self.reaches(*id, source),
                Leaf::Request(_) | Leaf::Bucket(_) => false,
            };
        });
        found
    }

    /// Returns whether `id` is `source` or an array of its rows.
    pub(crate) fn reaches(&self, id: SourceId, source: SourceId) -> bool {
        id == source
            || match &self.list[id] {
                RowSource::Table { .. } => false,
                RowSource::Elements { origin, .. } => *origin == Origin::Row(source),
            }
    }
}

impl Origin {
    /// Returns the common origin of two expressions, if there is one.
    pub(crate) fn and(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Constant, origin) | (origin, Self::Constant) => Some(origin),
            (Self::Request, Self::Element(id)) | (Self::Element(id), Self::Request) => {
                Some(Self::Element(id))
            }
            (origin, other) => (origin == other).then_some(origin),
        }
    }
}

/// Converts to an expression over a row and the elements of `arrays`. Returns `None` if it depends
/// on anything else.
pub(crate) fn row_expression(
    expression: &QueryExpression,
    table: SourceId,
    arrays: &[SourceId],
) -> Option<RowExpression> {
    expression.try_map(&mut |leaf: &Leaf| row_leaf(leaf, table, arrays).ok_or(())).ok()
}

fn row_leaf(leaf: &Leaf, table: SourceId, arrays: &[SourceId]) -> Option<RowLeaf> {
    match leaf {
        Leaf::Column { source, name } if *source == table => Some(RowLeaf::Column(name.clone())),
        Leaf::TableMetadata { source, metadata } if *source == table => {
            Some(RowLeaf::TableMetadata(*metadata))
        }
        Leaf::Element(id) => arrays.iter().position(|array| array == id).map(RowLeaf::Element),
        Leaf::Key(id) => arrays.iter().position(|array| array == id).map(RowLeaf::Key),
        Leaf::Column { .. } | Leaf::TableMetadata { .. } | Leaf::Request(_) | Leaf::Bucket(_) => {
            None
        }
    }
}

/// Converts to an expression over the request and the current element of one of its arrays.
pub(crate) fn request_expression(expression: &QueryExpression) -> Option<RequestExpression> {
    expression
        .try_map(&mut |leaf| match leaf {
            Leaf::Request(leaf) => Ok(leaf.clone()),
            Leaf::Element(_) => Ok(RequestLeaf::Element),
            Leaf::Key(_) => Ok(RequestLeaf::Key),
            Leaf::Column { .. } | Leaf::TableMetadata { .. } | Leaf::Bucket(_) => Err(()),
        })
        .ok()
}
