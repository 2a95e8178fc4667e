//! NOT before a subquery: an anti-join.
//!
//! A bucket can be withheld only if the condition is the same for all of its rows. So the subquery
//! may depend on the request, but must not be correlated with a row around it. As in SQL, `x NOT IN
//! (SELECT y FROM t)` is true if no row has `y = x` and no comparison is unknown because `x` or `y`
//! is NULL. `NOT (a && (SELECT y FROM t))` is true if no `y` is an element of `a` and `a` is not
//! NULL.

use super::scope::Scope;
use super::subquery::SubqueryCondition;
use super::{QueryCompiler, requires_edition_three};
use crate::compile::normalise::normalise;
use crate::compile::row_sources::{Leaf, Origin, QueryExpression, SourceId};
use crate::compile::term::{Condition, Term, sources_of};
use crate::edition::Edition;
use crate::expression::{CastType, Expression, Literal};
use crate::file::diagnostic::{Diagnostic, Position};
use crate::functions::Function;
use crate::plan::{ReferenceKind, RequestLeaf, RequestSource};
use crate::sql::syntax::{self, ExpressionKind};

impl QueryCompiler<'_, '_> {
    /// Resolves a negated subquery as an anti-join.
    pub(super) fn not_exists(
        &mut self,
        scope: &Scope<'_>,
        condition: &syntax::Expression,
    ) -> Result<Condition, Diagnostic> {
        let position = place(condition);
        if self.file.edition < Edition::Three {
            return Err(requires_edition_three(position, "NOT ... (SELECT ...)"));
        }

        // Sources and left joins that are added from here on belong to the subquery.
        let first = self.sources.ids().end;
        let outer_joins = self.left_joins.len();
        let SubqueryCondition { mut conditions, compared, array } =
            self.inner_query(scope, condition)?;
        if let Some((value, column)) = compared {
            let equal = self.equality(value.clone(), column.clone(), position)?;
            let mut alternatives = vec![Condition::Term(equal)];
            // A comparison that may be unknown counts as a match: it withholds rows, and never
            // grants any. NULL is never a common element of two arrays.
            if array.is_none() {
                alternatives.extend(self.is_null(column, position)?);
                alternatives.extend(self.is_null(value, position)?);
            }
            conditions.push(Condition::Or(alternatives));
        }

        let mut unknown_or_true = vec![Condition::And(conditions)];
        if let Some(array) = array {
            unknown_or_true.extend(self.is_null(array, position)?);
        }

        let joins = self.left_joins.split_off(outer_joins);
        let branches =
            normalise(&self.sources, vec![Condition::Or(unknown_or_true)], &joins, position)?;

        for term in branches.iter().flatten() {
            if self.is_correlated(term, first) {
                return Err(correlated_not_exists(position));
            }
            self.check_comparable(term, position)?;
        }

        Ok(Condition::Term(Term::NotExists(branches.into())))
    }

    /// Returns the condition that a value is NULL, or `None` if it is never NULL.
    fn is_null(
        &self,
        value: QueryExpression,
        position: Position,
    ) -> Result<Option<Condition>, Diagnostic> {
        if !may_be_null(&value) {
            return Ok(None);
        }
        let origin = self.side(&value, position)?;
        let condition = Expression::IsNull { value: Box::new(value), negated: false };
        Ok(Some(Condition::Term(Term::Filter { origin, condition })))
    }

    /// Returns whether a term depends on a source before `first`, or on an array of such a source.
    fn is_correlated(&self, term: &Term, first: SourceId) -> bool {
        let mut found = false;
        sources_of(term, &mut |id| {
            let is_of_outer = matches!(self.sources.origin(id), Origin::Row(row) if row < first);
            found |= id < first || is_of_outer;
        });
        found
    }

    /// Rejects comparisons that may be false for equal values. Under NOT a missed match would grant
    /// access; elsewhere it only withholds rows.
    fn check_comparable(&mut self, term: &Term, position: Position) -> Result<(), Diagnostic> {
        let Term::Equal { left, right } = term else { return Ok(()) };
        for value in [&left.value, &right.value] {
            let mut columns = Vec::new();
            let is_cast = matches!(value, Expression::Cast { .. });
            if may_be_blob(value, &mut columns) {
                let message = "a blob cannot be compared after `NOT` with a subquery";
                return Err(Diagnostic::error(position, message)
                    .hint("compare `hex(...)` of it with hexadecimal digits"));
            }
            if self.file.plan.values.engine.has_affinity() && is_cast {
                let message = "a `CAST` cannot be compared after `NOT` with a subquery: it \
                               would convert the other side";
                return Err(Diagnostic::error(position, message)
                    .hint("convert both sides, and write a `+` before each: `+CAST(x AS text)`"));
            }
            for (source, name) in columns {
                if let Some(table) = self.sources.table(source) {
                    self.file.add_reference(table, ReferenceKind::NeverBlob(name), position);
                }
            }
        }

        Ok(())
    }
}

fn correlated_not_exists(position: Position) -> Diagnostic {
    let message = "`NOT` with a correlated subquery is not supported";
    Diagnostic::error(position, message).hint(
        "a bucket can be found by an existing row only; a subquery that depends on the request alone may be negated, as in `auth.user_id() NOT IN (SELECT ...)`",
    )
}

/// EXISTS has no position of its own.
fn place(condition: &syntax::Expression) -> Position {
    if let ExpressionKind::Exists { query, .. } = &condition.kind {
        return query.position;
    }
    condition.position
}

fn may_be_null(value: &QueryExpression) -> bool {
    if let Expression::Literal(literal) = value {
        return *literal == Literal::Null;
    }
    if let Expression::Call { function: Function::IfNull | Function::Coalesce, arguments } = value {
        return arguments.iter().all(may_be_null);
    }
    let user_id = RequestLeaf::Given { source: RequestSource::UserId, member: None };
    *value != Expression::Leaf(Leaf::Request(user_id))
}

/// Returns whether an expression may be a blob for any columns. Columns whose blob it would return
/// are added to `columns`.
fn may_be_blob(value: &QueryExpression, columns: &mut Vec<(SourceId, String)>) -> bool {
    if let Expression::Leaf(Leaf::Column { source, name }) = value {
        columns.push((*source, name.clone()));
    }
    let mut passed_on: Vec<&QueryExpression> = Vec::new();
    if let Expression::Case { branches, otherwise, .. } = value {
        passed_on.extend(branches.iter().map(|(_, result)| result));
        passed_on.extend(otherwise.as_deref());
    }

    let mut found = matches!(value, Expression::Cast { to: CastType::Blob, .. });
    if let Expression::Call { function, arguments } = value {
        found = *function == Function::UuidBlob;
        if !gives_text_or_number(*function) {
            passed_on.extend(arguments);
        }
    }

    for value in passed_on {
        found |= may_be_blob(value, columns);
    }
    found
}

/// Returns whether a function that accepts blobs never returns one.
fn gives_text_or_number(function: Function) -> bool {
    matches!(
        function,
        Function::Hex | Function::Base64 | Function::Length | Function::Typeof | Function::Instr
    )
}
