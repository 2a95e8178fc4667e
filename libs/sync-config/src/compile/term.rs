//! Condition trees and the terms that they consist of.

use std::rc::Rc;

use super::row_sources::{Leaf, Origin, QueryExpression, SourceId};
use crate::file::diagnostic::Position;

/// Condition as AND and OR over terms. NOT occurs within terms only.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Term(Term),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Term {
    /// The source has a match: a row or an element.
    Source(SourceId),
    /// Condition on values of one origin.
    Filter { origin: Origin, condition: QueryExpression },
    /// Join condition: two values of different origins are equal.
    Equal { left: Operand, right: Operand },
    /// Anti-join: none of these branches holds. They have row sources of their own.
    NotExists(Rc<[Vec<Term>]>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operand {
    pub(super) origin: Origin,
    pub(super) value: QueryExpression,
}

/// Row sources of a left join. They are null-extended if no row matches.
#[derive(Debug)]
pub(super) struct LeftJoin {
    pub(super) position: Position,
    pub(super) sources: Vec<SourceId>,
    /// Join condition, with the conditions of the sources themselves.
    pub(super) condition: Condition,
}

/// Calls `see` for each source that a term needs.
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

/// Calls `see` for each source that an expression names.
pub(super) fn sources_in(expression: &QueryExpression, see: &mut impl FnMut(SourceId)) {
    expression.for_each_leaf(&mut |leaf| match leaf {
        Leaf::Column { source, .. }
        | Leaf::TableMetadata { source, .. }
        | Leaf::Element(source)
        | Leaf::Key(source) => see(*source),
        Leaf::Request(_) | Leaf::Bucket(_) => {}
    });
}
