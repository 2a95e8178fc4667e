//! NOT before an inner query.
//!
//! A bucket can be withheld for what is there as long as that is the same for all its rows: the inner
//! query may depend on the request, not on a row around it. As in SQL, `x NOT IN (SELECT y FROM t)`
//! holds when no row has `y = x` and none leaves it unknown, be it by a `y` or an `x` that is NULL.
//! `NOT (a && (SELECT y FROM t))` holds when no `y` is an element of `a`, unless `a` is NULL.

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
    /// That an inner query does not have what it is asked for.
    pub(super) fn not_exists(
        &mut self,
        scope: &Scope<'_>,
        condition: &syntax::Expression,
    ) -> Result<Condition, Diagnostic> {
        let position = place(condition);
        if self.file.edition < Edition::Three {
            return Err(requires_edition_three(position, "NOT ... (SELECT ...)"));
        }
        let first = self.sources.ids().end;
        let outer_joins = self.left_joins.len();
        let SubqueryCondition { mut conditions, compared, array } =
            self.inner_query(scope, condition)?;
        if let Some((value, column)) = compared {
            let equal = self.equality(value.clone(), column.clone(), position)?;
            let mut alternatives = vec![Condition::Term(equal)];
            // NULL within an array is no value that it could share.
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

    /// That a value is NULL; `None` when it never is.
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

    /// Whether a term depends on a source before `first`, or on an array of one.
    fn is_correlated(&self, term: &Term, first: SourceId) -> bool {
        let mut found = false;
        sources_of(term, &mut |id| {
            let is_of_outer = matches!(self.sources.origin(id), Origin::Row(row) if row < first);
            found |= id < first || is_of_outer;
        });
        found
    }

    /// That values of different things are found to be equal whenever they are. Elsewhere no harm is
    /// done when they are not: nobody sees more.
    fn check_comparable(&mut self, term: &Term, position: Position) -> Result<(), Diagnostic> {
        let Term::Equal { left, right } = term else { return Ok(()) };
        for value in [&left.value, &right.value] {
            let mut columns = Vec::new();
            let is_cast = matches!(value, Expression::Cast { .. });
            if may_be_blob(value, &mut columns) {
                let message = "a blob cannot be compared after `NOT` with an inner query";
                return Err(Diagnostic::error(position, message)
                    .hint("compare `hex(...)` of it with hexadecimal digits"));
            }
            if self.file.plan.values.engine.has_affinity() && is_cast {
                let message = "a `CAST` cannot be compared after `NOT` with an inner query: it \
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
    let message = "`NOT` with an inner query that depends on a row around it is not supported";
    Diagnostic::error(position, message).hint(
        "a bucket can be found by what is there, not by what is not; what depends on the request \
         alone may be negated, as in `auth.user_id() NOT IN (SELECT ...)`",
    )
}

/// EXISTS has no place of its own.
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

/// Whether a value can be a blob whatever the columns hold. Those that it is if they are one are added
/// to `columns`.
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

/// Of those that blobs are given to. Others may give back what they are given.
fn gives_text_or_number(function: Function) -> bool {
    matches!(
        function,
        Function::Hex | Function::Base64 | Function::Length | Function::Typeof | Function::Instr
    )
}
