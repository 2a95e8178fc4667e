//! What a query of the config is about: rows of tables and elements of arrays, each of which must be
//! there for a row to be selected.

use crate::expression::Expression;
use crate::file::diagnostic::{Diagnostic, Position};
use crate::plan::{RequestExpression, RequestLeaf, RowExpression, RowLeaf, TableMetadata};
use crate::value::Engine;

/// Most sources of one query, its inner queries and CTEs included.
const SOURCES_MAX: usize = 100;

/// An index into [`RowSources`].
pub(crate) type SourceId = usize;

/// What an expression of a query can depend on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Leaf {
    Column {
        source: SourceId,
        name: String,
    },
    /// What the table of a row is called.
    TableMetadata {
        source: SourceId,
        metadata: TableMetadata,
    },
    /// The element at hand of an array.
    Element(SourceId),
    /// The key of that element.
    Key(SourceId),
    Request(RequestLeaf),
    /// A parameter of a bucket definition, by index.
    Bucket(usize),
}

pub(crate) type QueryExpression = Expression<Leaf>;

#[derive(Clone, Debug)]
pub(crate) enum RowSource {
    /// A row of a table: its index, and what the query calls it.
    Table { table: usize, name: String },
    /// An element of an array of another source, or of the request.
    Elements { array: QueryExpression, origin: Origin },
}

/// The one thing that an expression depends on, if it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Literals only.
    Nothing,
    Request,
    /// An element of an array of the request, and perhaps the request.
    Element(SourceId),
    /// A row of a table, and perhaps elements of its arrays.
    Table(SourceId),
    Bucket,
}

/// All sources of a query, in the order in which it names them.
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
            let message = format!("the query is about more than {SOURCES_MAX} tables and arrays");
            return Err(Diagnostic::error(position, message)
                .hint("CTEs and inner queries count each time they are used"));
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

    /// The index of a source's table; an array has none.
    pub(crate) fn table(&self, id: SourceId) -> Option<usize> {
        match &self.list[id] {
            RowSource::Table { table, .. } => Some(*table),
            RowSource::Elements { .. } => None,
        }
    }

    /// Whose an element, or a row, is.
    pub(crate) fn origin(&self, id: SourceId) -> Origin {
        match &self.list[id] {
            RowSource::Table { .. } => Origin::Row(id),
            RowSource::Elements { origin: Origin::Row(table), .. } => Origin::Row(*table),
            RowSource::Elements { .. } => Origin::Element(id),
        }
    }

    /// What an expression depends on; `None` when that is more than one thing.
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
    /// Whether an expression depends on a source, be it by an element of one of its arrays.
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

    /// Whether one source is another, or has its array from there.
    pub(crate) fn reaches(&self, id: SourceId, source: SourceId) -> bool {
        id == source
            || match &self.list[id] {
                RowSource::Table { .. } => false,
                RowSource::Elements { origin, .. } => *origin == Origin::Row(source),
            }
    }
}

impl Origin {
    /// What two expressions of these depend on together, if it is one thing.
    pub(crate) fn and(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Nothing, origin) | (origin, Self::Nothing) => Some(origin),
            (Self::Request, Self::Element(id)) | (Self::Element(id), Self::Request) => {
                Some(Self::Element(id))
            }
            (origin, other) => (origin == other).then_some(origin),
        }
    }
}

/// The expression over a row and elements of the arrays that are listed; `None` if it depends on
/// anything else.
pub(crate) fn row_expression(
    expression: &QueryExpression,
    table: SourceId,
    arrays: &[SourceId],
) -> Option<RowExpression> {
    let place = |id: &SourceId| arrays.iter().position(|array| array == id).ok_or(());
    let leaf = |leaf: &Leaf| match leaf {
        Leaf::Column { source, name } if *source == table => Ok(RowLeaf::Column(name.clone())),
        Leaf::TableMetadata { source, metadata } if *source == table => {
            Ok(RowLeaf::TableMetadata(*metadata))
        }
        Leaf::Element(id) => place(id).map(RowLeaf::Element),
        Leaf::Key(id) => place(id).map(RowLeaf::Key),
        Leaf::Column { .. } | Leaf::TableMetadata { .. } | Leaf::Request(_) | Leaf::Bucket(_) => {
            Err(())
        }
    };
    expression.try_map(&mut { leaf }).ok()
}

/// The expression over the request, and over the one element that its owner tells.
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
