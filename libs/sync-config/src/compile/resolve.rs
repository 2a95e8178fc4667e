//! First pass: gives the names and calls of a query their meaning.
//!
//! All tables and arrays of a query, its subqueries and CTEs become row sources of the one query.
//! Conditions become trees over terms, each of which is about one origin or joins two.

mod call;
mod condition;
mod expression;
pub(super) mod from;
mod kind;
mod names;
mod not_exists;
mod operators;
pub(super) mod projection;
pub(super) mod scope;
mod subquery;

use super::file_compiler::FileCompiler;
use super::normalise::normalise;
use super::row_sources::{QueryExpression, RowSources, SourceId};
use super::term::{Condition, LeftJoin, Term};
use crate::file::diagnostic::{Diagnostic, Position};

/// Compiler of one query, with its subqueries and the CTEs that it uses.
pub(super) struct QueryCompiler<'c, 'f> {
    pub(super) file: &'c mut FileCompiler<'f>,
    /// Tables and arrays that the query reads.
    pub(super) sources: RowSources,
    left_joins: Vec<LeftJoin>,
    memberships: Vec<Membership>,
    /// Number of CTEs that were inlined so far. `cte_depth` is the number of CTEs that are being
    /// inlined now.
    ctes_inlined: usize,
    cte_depth: usize,
    /// Number of expression nodes that named columns of subqueries were expanded to.
    inlined_nodes: usize,
}

impl<'c, 'f> QueryCompiler<'c, 'f> {
    pub(super) fn new(file: &'c mut FileCompiler<'f>) -> Self {
        let sources = RowSources::new(file.plan.values.engine);
        Self {
            file,
            sources,
            left_joins: Vec::new(),
            memberships: Vec::new(),
            ctes_inlined: 0,
            cte_depth: 0,
            inlined_nodes: 0,
        }
    }

    /// Returns the branches of the query's conditions.
    pub(super) fn branches(
        &self,
        conditions: Vec<Condition>,
        position: Position,
    ) -> Result<Vec<Vec<Term>>, Diagnostic> {
        normalise(&self.sources, conditions, &self.left_joins, position)
    }
}

/// `value IN array`, with the source of the matching element.
struct Membership {
    value: QueryExpression,
    array: QueryExpression,
    element: SourceId,
}

/// Returns the error for syntax that the edition of the file does not have.
fn requires_edition_three(position: Position, name: &str) -> Diagnostic {
    Diagnostic::error(position, format!("`{name}` requires edition 3"))
        .hint("set `edition: 3` in `config`, and write `streams`")
}
