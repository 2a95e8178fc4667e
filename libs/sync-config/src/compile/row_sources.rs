//! What a query of the config is about: rows of tables and elements of arrays, each of which must be
//! there for a row to be selected.

use crate::expression::Expression;
use crate::file::diagnostic::{Diagnostic, Position};
use crate::plan::{RequestExpression, RequestLeaf, RowExpression, RowLeaf, TableFact};
use crate::value::Engine;

/// Most sources of one query, its inner queries and CTEs included.
const SOURCES_MAX: usize = 100;

/// An index into [`Sources`].
pub(crate) type SourceId = usize;

/// What an expression of a query can depend on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Leaf {
    Column {
        source: SourceId,
        name: String,
    },
    /// What the table of a row is called.
    Fact {
        source: SourceId,
        fact: TableFact,
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
pub(crate) enum Source {
    /// A row of a table: its index, and what the query calls it.
    Table { table: usize, name: String },
    /// An element of an array of another source, or of the request.
    Elements { array: QueryExpression, owner: Owner },
}

/// The one thing that an expression depends on, if it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
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
pub(crate) struct Sources {
    engine: Engine,
    list: Vec<Source>,
}

impl Sources {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, list: Vec::new() }
    }

    pub(crate) fn add(
        &mut self,
        source: Source,
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

    pub(crate) fn get(&self, id: SourceId) -> &Source {
        &self.list[id]
    }

    /// The index of a source's table; an array has none.
    pub(crate) fn table(&self, id: SourceId) -> Option<usize> {
        match &self.list[id] {
            Source::Table { table, .. } => Some(*table),
            Source::Elements { .. } => None,
        }
    }

    /// Whose an element, or a row, is.
    pub(crate) fn owner(&self, id: SourceId) -> Owner {
        match &self.list[id] {
            Source::Table { .. } => Owner::Table(id),
            Source::Elements { owner: Owner::Table(table), .. } => Owner::Table(*table),
            Source::Elements { .. } => Owner::Element(id),
        }
    }

    /// What an expression depends on; `None` when that is more than one thing.
    pub(crate) fn owner_of(&self, expression: &QueryExpression) -> Option<Owner> {
        let mut owner = Some(Owner::Nothing);
        expression.for_each_leaf(&mut |leaf| {
            let of_leaf = match leaf {
                Leaf::Column { source, .. }
                | Leaf::Fact { source, .. }
                | Leaf::Element(source)
                | Leaf::Key(source) => self.owner(*source),
                Leaf::Request(_) => Owner::Request,
                Leaf::Bucket(_) => Owner::Bucket,
            };
            owner = owner.and_then(|owner| owner.and(of_leaf));
        });
        owner
    }
}

impl Sources {
    /// Whether an expression depends on a source, be it by an element of one of its arrays.
    pub(crate) fn mentions(&self, expression: &QueryExpression, source: SourceId) -> bool {
        let mut found = false;
        expression.for_each_leaf(&mut |leaf| {
            found |= match leaf {
                Leaf::Column { source: id, .. }
                | Leaf::Fact { source: id, .. }
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
                Source::Table { .. } => false,
                Source::Elements { owner, .. } => *owner == Owner::Table(source),
            }
    }
}

impl Owner {
    /// What two expressions of these depend on together, if it is one thing.
    pub(crate) fn and(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Nothing, owner) | (owner, Self::Nothing) => Some(owner),
            (Self::Request, Self::Element(id)) | (Self::Element(id), Self::Request) => {
                Some(Self::Element(id))
            }
            (owner, other) => (owner == other).then_some(owner),
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
        Leaf::Fact { source, fact } if *source == table => Ok(RowLeaf::Fact(*fact)),
        Leaf::Element(id) => place(id).map(RowLeaf::Element),
        Leaf::Key(id) => place(id).map(RowLeaf::Key),
        Leaf::Column { .. } | Leaf::Fact { .. } | Leaf::Request(_) | Leaf::Bucket(_) => Err(()),
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
            Leaf::Column { .. } | Leaf::Fact { .. } | Leaf::Bucket(_) => Err(()),
        })
        .ok()
}
