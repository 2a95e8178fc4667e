//! What a condition consists of.

use std::rc::Rc;

use super::row_sources::{Leaf, Origin, QueryExpression, SourceId};
use crate::file::diagnostic::Position;

/// A condition as AND and OR over terms; NOT is within terms.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Term(Term),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Term {
    /// There is a row, or an element.
    Source(SourceId),
    /// A condition on one thing.
    Filter { origin: Origin, condition: QueryExpression },
    /// Two different things have the same value.
    Equal { left: Operand, right: Operand },
    /// None of these branches holds. They are about sources of their own.
    NotExists(Rc<[Vec<Term>]>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operand {
    pub(super) origin: Origin,
    pub(super) value: QueryExpression,
}

/// Sources that may be missing: all of a row's columns are NULL then.
#[derive(Debug)]
pub(super) struct LeftJoin {
    pub(super) position: Position,
    pub(super) sources: Vec<SourceId>,
    /// What they must be when they are there.
    pub(super) condition: Condition,
}

/// Shows each source that a term needs.
pub(super) fn sources_of(term: &Term, see: &mut impl FnMut(SourceId)) {
    match term {
        Term::Source(id) => see(*id),
        Term::Filter { condition, .. } => sources_in(condition, see),
        Term::Equal { left, right } => {
            sources_in(&left.value, see);
            sources_in(&right.value, see);
        }
        Term::NotExists(_) => {}
    }
}

/// Shows each source that an expression names.
pub(super) fn sources_in(expression: &QueryExpression, see: &mut impl FnMut(SourceId)) {
    expression.for_each_leaf(&mut |leaf| match leaf {
        Leaf::Column { source, .. }
        | Leaf::TableMetadata { source, .. }
        | Leaf::Element(source)
        | Leaf::Key(source) => see(*source),
        Leaf::Request(_) | Leaf::Bucket(_) => {}
    });
}
