//! Subqueries as conditions: EXISTS, `IN` and `&&`, which become semi-joins.

use super::QueryCompiler;
use super::from::ResolvedSubquery;
use super::scope::{Scope, ScopeKind};
use crate::compile::row_sources::{Leaf, QueryExpression};
use crate::compile::term::{Condition, Term};
use crate::expression::Expression;
use crate::file::diagnostic::Diagnostic;
use crate::sql::syntax::{self, ExpressionKind, Query};

/// Condition of a subquery, as it is without NOT.
pub(super) struct SubqueryCondition {
    /// Conditions under which the subquery has a row.
    pub(super) conditions: Vec<Condition>,
    /// Compared value, and the column of the subquery that it must equal.
    pub(super) compared: Option<(QueryExpression, QueryExpression)>,
    /// Array operand of `&&`, whose element is the compared value.
    pub(super) array: Option<QueryExpression>,
}

impl QueryCompiler<'_, '_> {
    /// Resolves a subquery as a semi-join.
    pub(super) fn exists(
        &mut self,
        scope: &Scope<'_>,
        condition: &syntax::Expression,
    ) -> Result<Condition, Diagnostic> {
        let SubqueryCondition { mut conditions, compared, .. } =
            self.inner_query(scope, condition)?;
        if let Some((value, column)) = compared {
            conditions.push(Condition::Term(self.equality(value, column, condition.position)?));
        }
        Ok(Condition::And(conditions))
    }

    /// Resolves the subquery of `EXISTS (SELECT ...)`, `x IN (SELECT ...)`, `x IN <cte>` or `a &&
    /// (SELECT ...)`, without its NOT.
    pub(super) fn inner_query(
        &mut self,
        scope: &Scope<'_>,
        condition: &syntax::Expression,
    ) -> Result<SubqueryCondition, Diagnostic> {
        if let ExpressionKind::Exists { query, .. } = &condition.kind {
            let ResolvedSubquery { conditions, .. } = self.subquery(scope, query)?;
            return Ok(SubqueryCondition { conditions, compared: None, array: None });
        }

        if let ExpressionKind::OverlapQuery { array, query } = &condition.kind {
            let lowered = self.array(scope, array)?;
            let id = self.elements(self.as_searched_array(lowered.clone()), array.position)?;
            let inner = self.subquery(scope, query)?;
            let mut compared_with =
                self.compared_with(Expression::Leaf(Leaf::Element(id)), inner, condition)?;
            compared_with.conditions.push(Condition::Term(Term::Source(id)));
            return Ok(SubqueryCondition { array: Some(lowered), ..compared_with });
        }

        if let ExpressionKind::InArray { value, array, .. } = &condition.kind
            && let Some((cte, ctes)) = scope.cte_of_array(array)
        {
            let value = self.lower(scope, value)?;
            let inner = self.cte(scope, cte, ctes)?;
            return self.compared_with(value, inner, array);
        }
        let ExpressionKind::InQuery { value, query, .. } = &condition.kind else {
            return Err(mixed_operands(scope, condition, false));
        };
        let value = self.lower(scope, value)?;
        let inner = self.subquery(scope, query)?;
        self.compared_with(value, inner, condition)
    }

    fn subquery(
        &mut self,
        scope: &Scope<'_>,
        query: &Query,
    ) -> Result<ResolvedSubquery, Diagnostic> {
        let ScopeKind::Stream = scope.kind else {
            let message = "a subquery is not supported here";
            return Err(Diagnostic::error(query.position, message)
                .hint("only the queries of streams support it"));
        };
        let mut inner_scope = scope.inner(query);
        self.inner(&mut inner_scope, query)
    }

    fn compared_with(
        &mut self,
        value: QueryExpression,
        inner: ResolvedSubquery,
        place: &syntax::Expression,
    ) -> Result<SubqueryCondition, Diagnostic> {
        let ResolvedSubquery { mut columns, conditions } = inner;
        let (Some((_, column)), None) = (columns.pop(), columns.pop()) else {
            let message = "the subquery must select one column";
            return Err(Diagnostic::error(place.position, message));
        };
        self.record_comparison(&value, &column, place.position);
        Ok(SubqueryCondition { conditions, compared: Some((value, column)), array: None })
    }
}

/// Returns the error for a term that depends on several origins in an unsupported way.
pub(super) fn mixed_operands(
    scope: &Scope<'_>,
    condition: &syntax::Expression,
    negated: bool,
) -> Diagnostic {
    if contains_query(scope, condition) {
        let message = "a subquery is not supported within this expression";
        return Diagnostic::error(condition.position, message)
            .hint("write it as a separate condition, joined by AND or OR");
    }

    let message = if scope.entries.len() > 1 || scope.outer.is_some() {
        "values of different tables, or of a row and the request, can be compared by `=` and `IN` only"
    } else {
        "values of the row and of the request can be compared by `=` and `IN` only"
    };

    let hint = if negated || is_not(condition) {
        "negation of such a comparison is not supported: buckets are found by equal values"
    } else {
        "write `column = <request value>` or `column IN <request array>`"
    };

    Diagnostic::error(condition.position, message).hint(hint)
}

/// Returns whether the operator itself contains NOT.
pub(super) fn is_not(condition: &syntax::Expression) -> bool {
    matches!(
        condition.kind,
        ExpressionKind::InList { negated: true, .. }
            | ExpressionKind::InArray { negated: true, .. }
            | ExpressionKind::InQuery { negated: true, .. }
            | ExpressionKind::Exists { negated: true, .. }
    )
}

/// Returns whether the condition compares with a subquery or a CTE.
pub(super) fn is_inner_query(scope: &Scope<'_>, expression: &syntax::Expression) -> bool {
    if let ExpressionKind::InArray { array, .. } = &expression.kind {
        return scope.cte_of_array(array).is_some();
    }
    matches!(
        expression.kind,
        ExpressionKind::InQuery { .. }
            | ExpressionKind::Exists { .. }
            | ExpressionKind::OverlapQuery { .. }
    )
}

/// Returns whether the expression contains a subquery.
pub(super) fn contains_query(scope: &Scope<'_>, expression: &syntax::Expression) -> bool {
    let mut found = is_inner_query(scope, expression);
    expression.for_each_child(&mut |child| found = found || contains_query(scope, child));
    found
}
