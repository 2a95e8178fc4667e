//! The disjunctive normal form of a condition, each branch of which is a family of buckets.

use std::rc::Rc;

use super::missing::Missing;
use super::sources::{Leaf, Owner, QueryExpression, SourceId, Sources};
use crate::file::diagnostic::{Diagnostic, Position};

/// Most branches of a condition.
pub(super) const BRANCHES_MAX: usize = 100;

/// A condition as AND and OR over terms; NOT is within terms.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    And(Vec<Tree>),
    Or(Vec<Tree>),
    Term(Term),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Term {
    /// There is a row, or an element.
    Source(SourceId),
    /// A condition on one thing.
    Filter { owner: Owner, condition: QueryExpression },
    /// Two different things have the same value.
    Equal { left: Side, right: Side },
    /// None of these branches holds. They are about sources of their own.
    Absent(Rc<[Vec<Term>]>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Side {
    pub(super) owner: Owner,
    pub(super) value: QueryExpression,
}

/// Sources that may be missing: all of a row's columns are NULL then.
#[derive(Debug)]
pub(super) struct LeftJoin {
    pub(super) position: Position,
    pub(super) sources: Vec<SourceId>,
    /// What they must be when they are there.
    pub(super) condition: Tree,
}

/// OR of ANDs; `None` when there are too many.
pub(super) fn disjunction(tree: &Tree) -> Option<Vec<Vec<Term>>> {
    match tree {
        Tree::Term(term) => Some(vec![vec![term.clone()]]),
        Tree::Or(list) => {
            let mut branches = Vec::new();
            for operand in list {
                branches.extend(disjunction(operand)?);
                if branches.len() > BRANCHES_MAX {
                    return None;
                }
            }
            Some(branches)
        }
        Tree::And(list) => {
            let mut branches = vec![Vec::new()];
            for operand in list {
                branches = product(&branches, &disjunction(operand)?)?;
            }
            Some(branches)
        }
    }
}

fn product(branches: &[Vec<Term>], alternatives: &[Vec<Term>]) -> Option<Vec<Vec<Term>>> {
    if branches.len() * alternatives.len() > BRANCHES_MAX {
        return None;
    }
    let mut product = Vec::with_capacity(branches.len() * alternatives.len());
    for branch in branches {
        for alternative in alternatives {
            let mut terms = branch.clone();
            for term in alternative {
                if !terms.contains(term) {
                    terms.push(term.clone());
                }
            }
            product.push(terms);
        }
    }
    Some(product)
}

/// Makes inner joins of the left joins that a branch depends on, and leaves the others out, which
/// change nothing. `None` when there are too many branches.
///
/// # Errors
/// A condition that also holds where nothing was joined: buckets are found by what is there.
pub(super) fn with_left_joins(
    sources: &Sources,
    branch: Vec<Term>,
    joins: &[LeftJoin],
) -> Result<Option<Vec<Vec<Term>>>, Diagnostic> {
    let mut done = Vec::new();
    let mut pending = vec![(branch, joins.len())];
    while let Some((terms, count)) = pending.pop() {
        let Some(join) = joins[..count].last() else {
            done.push(terms);
            continue;
        };
        let about = |term: &&Term| join.sources.iter().any(|id| term.mentions(sources, *id));
        if terms.iter().find(about).is_none() {
            pending.push((terms, count - 1));
            continue;
        }
        if !terms.iter().filter(about).any(|term| term.is_false_without(sources, &join.sources)) {
            let message = "a condition on the table of this `LEFT JOIN` also holds where no row is \
                           joined";
            return Err(Diagnostic::error(join.position, message)
                .hint("a bucket can be found by what is there, not by what is not"));
        }
        let Some(alternatives) = disjunction(&join.condition) else { return Ok(None) };
        let Some(product) = product(&[terms], &alternatives) else { return Ok(None) };
        // In reverse, as they are taken from the end.
        pending.extend(product.into_iter().rev().map(|terms| (terms, count - 1)));
        if done.len() + pending.len() > BRANCHES_MAX {
            return Ok(None);
        }
    }
    Ok(Some(done))
}

impl Term {
    fn mentions(&self, sources: &Sources, source: SourceId) -> bool {
        match self {
            Self::Source(id) => sources.reaches(*id, source),
            Self::Filter { condition, .. } => sources.mentions(condition, source),
            Self::Equal { left, right } => {
                [left, right].iter().any(|side| sources.mentions(&side.value, source))
            }
            Self::Absent(_) => false,
        }
    }

    /// Whether it cannot hold when some sources, on which it depends, are missing.
    fn is_false_without(&self, sources: &Sources, ids: &[SourceId]) -> bool {
        let missing = Missing { sources, ids };
        match self {
            Self::Source(_) => true,
            Self::Filter { condition, .. } => missing.makes_false(condition),
            Self::Equal { left, right } => {
                [left, right].iter().any(|side| missing.makes_null(&side.value))
            }
            Self::Absent(_) => false,
        }
    }
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
        Term::Absent(_) => {}
    }
}

/// Shows each source that an expression names.
pub(super) fn sources_in(expression: &QueryExpression, see: &mut impl FnMut(SourceId)) {
    expression.for_each_leaf(&mut |leaf| match leaf {
        Leaf::Column { source, .. }
        | Leaf::Fact { source, .. }
        | Leaf::Element(source)
        | Leaf::Key(source) => see(*source),
        Leaf::Request(_) | Leaf::Bucket(_) => {}
    });
}
