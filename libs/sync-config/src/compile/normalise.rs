//! Second pass: brings conditions into disjunctive normal form (an OR of ANDs). Each branch becomes
//! a family of buckets.

use super::null_extension::NullExtended;
use super::row_sources::{RowSources, SourceId};
use super::term::{Condition, LeftJoin, Term};
use crate::file::diagnostic::{Diagnostic, Position};

/// Maximum number of branches of a condition. Each branch may become a family of buckets, and a row
/// is evaluated for each.
pub(super) const BRANCHES_MAX: usize = 100;

/// Maximum number of branches of all subqueries after NOT in one query. Nested branches count once
/// for each branch around them, as they multiply.
const NEGATED_BRANCHES_MAX: usize = 1_000;

/// Returns the branches of the disjunctive normal form of `conditions`, with the left joins that
/// they depend on.
///
/// # Errors
/// Fails if there are too many branches, or if a condition also holds where a left join finds no
/// row.
pub(super) fn normalise(
    sources: &RowSources,
    conditions: Vec<Condition>,
    left_joins: &[LeftJoin],
    position: Position,
) -> Result<Vec<Vec<Term>>, Diagnostic> {
    let Some(without_left_joins) = disjunction(&Condition::And(conditions)) else {
        return Err(too_many_alternatives(position));
    };

    let mut branches = Vec::new();
    for branch in without_left_joins {
        let Some(joined) = with_left_joins(sources, branch, left_joins)? else {
            return Err(too_many_alternatives(position));
        };
        branches.extend(joined);
        if branches.len() > BRANCHES_MAX {
            return Err(too_many_alternatives(position));
        }
    }

    check_branch_count(&branches, position)?;
    Ok(branches)
}

/// Returns the disjunctive normal form, or `None` if it has too many branches.
fn disjunction(tree: &Condition) -> Option<Vec<Vec<Term>>> {
    match tree {
        Condition::Term(term) => Some(vec![vec![term.clone()]]),

        Condition::Or(list) => {
            let mut branches = Vec::new();
            for operand in list {
                branches.extend(disjunction(operand)?);
                if branches.len() > BRANCHES_MAX {
                    return None;
                }
            }
            Some(branches)
        }

        Condition::And(list) => {
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

/// Replaces the left joins that a branch depends on by inner joins, and drops the others, which do
/// not change the result. Returns `None` if there are too many branches.
///
/// # Errors
/// Fails if a condition also holds where no row is joined. A bucket can be found by an existing row
/// only.
fn with_left_joins(
    sources: &RowSources,
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

        let on_joined: Vec<&Term> = terms
            .iter()
            .filter(|term| join.sources.iter().any(|id| term.mentions(sources, *id)))
            .collect();
        // No term reads the joined row, and a left join removes no row of the other tables.
        if on_joined.is_empty() {
            pending.push((terms, count - 1));
            continue;
        }

        // A term that is false for the row of NULLs rejects every row without a match. Only then
        // does the left join return the same rows as an inner join.
        if !on_joined.iter().any(|term| term.is_false_without(sources, &join.sources)) {
            let message = "a condition on the table of this `LEFT JOIN` also holds where no row is \
                           joined";
            return Err(Diagnostic::error(join.position, message)
                .hint("a bucket can be found by an existing row only"));
        }

        let Some(alternatives) = disjunction(&join.condition) else { return Ok(None) };
        let Some(product) = product(&[terms], &alternatives) else { return Ok(None) };
        // The stack is taken from its end, so the alternatives are pushed in reverse order.
        pending.extend(product.into_iter().rev().map(|terms| (terms, count - 1)));
        if done.len() + pending.len() > BRANCHES_MAX {
            return Ok(None);
        }
    }

    Ok(Some(done))
}

impl Term {
    pub(super) fn mentions(&self, sources: &RowSources, source: SourceId) -> bool {
        match self {
            Self::Source(id) => sources.reaches(*id, source),
            Self::Filter { condition, .. } => sources.mentions(condition, source),
            Self::Equal { left, right } => {
                [left, right].iter().any(|side| sources.mentions(&side.value, source))
            }
            Self::NotExists(_) => false,
        }
    }

    /// Returns whether the term is false if `ids`, on which it depends, are null-extended.
    fn is_false_without(&self, sources: &RowSources, ids: &[SourceId]) -> bool {
        let missing = NullExtended { sources, ids };
        match self {
            Self::Source(_) => true,
            Self::Filter { condition, .. } => missing.makes_false(condition),
            Self::Equal { left, right } => {
                [left, right].iter().any(|side| missing.makes_null(&side.value))
            }
            Self::NotExists(_) => false,
        }
    }
}

/// Returns the number of branches, with those of the anti-joins in them.
fn branch_count(branches: &[Vec<Term>]) -> usize {
    let not_exists: usize = branches
        .iter()
        .flatten()
        .map(|term| match term {
            Term::NotExists(branches) => branch_count(branches),
            Term::Source(_) | Term::Filter { .. } | Term::Equal { .. } => 0,
        })
        .sum();
    branches.len() + not_exists
}

/// Fails if there are too many branches: nested NOTs multiply them.
fn check_branch_count(branches: &[Vec<Term>], position: Position) -> Result<(), Diagnostic> {
    if branch_count(branches) <= NEGATED_BRANCHES_MAX {
        return Ok(());
    }
    let message = format!(
        "the subqueries after `NOT` have more than {NEGATED_BRANCHES_MAX} alternatives in all"
    );
    Err(Diagnostic::error(position, message).hint("use fewer `OR`, within them and around them"))
}

pub(super) fn too_many_alternatives(position: Position) -> Diagnostic {
    let message = format!("the condition has more than {BRANCHES_MAX} alternatives");
    Diagnostic::error(position, message)
        .hint("each alternative of OR with values of the request is a family of buckets: use fewer")
}
