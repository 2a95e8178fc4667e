//! The first pass over a query: names and calls get their meaning.

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

/// Compiles one query, with its inner queries and the CTEs that it uses.
pub(super) struct QueryCompiler<'c, 'f> {
    pub(super) file: &'c mut FileCompiler<'f>,
    /// What the query is about.
    pub(super) sources: RowSources,
    left_joins: Vec<LeftJoin>,
    memberships: Vec<Membership>,
    /// How many CTEs the query has put in, and how many are being put in.
    ctes_inlined: usize,
    cte_depth: usize,
    /// Of the columns of inner queries that the query has named.
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

    /// The branches of what must hold for the query.
    pub(super) fn branches(
        &self,
        conditions: Vec<Condition>,
        position: Position,
    ) -> Result<Vec<Vec<Term>>, Diagnostic> {
        normalise(&self.sources, conditions, &self.left_joins, position)
    }
}

/// That a value is among the elements of an array.
struct Membership {
    value: QueryExpression,
    array: QueryExpression,
    element: SourceId,
}

/// What is said of something that the file's edition does not have.
fn requires_edition_three(position: Position, name: &str) -> Diagnostic {
    Diagnostic::error(position, format!("`{name}` is of edition 3"))
        .hint("set `edition: 3` in `config`, and write `streams`")
}
