//! Operators: the edition they require, and how they are lowered.

use super::kind::is_never_array;
use super::scope::Scope;
use super::{QueryCompiler, requires_edition_three};
use crate::compile::row_sources::QueryExpression;
use crate::edition::Edition;
use crate::expression::{Arithmetic, Comparison, Expression, Literal};
use crate::file::diagnostic::{Diagnostic, Position};
use crate::sql::syntax::{self, ExpressionKind};

type Lowered = Result<QueryExpression, Diagnostic>;
type LoweredPair = Result<(Box<QueryExpression>, Box<QueryExpression>), Diagnostic>;

impl QueryCompiler<'_, '_> {
    /// Checks that the edition has the operator.
    pub(super) fn check_edition(&self, expression: &syntax::Expression) -> Result<(), Diagnostic> {
        match edition_three_operator(&expression.kind) {
            Some(name) if self.file.edition < Edition::Three => {
                Err(requires_edition_three(expression.position, name))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn lower_both(
        &mut self,
        scope: &Scope<'_>,
        left: &syntax::Expression,
        right: &syntax::Expression,
    ) -> LoweredPair {
        let left = self.lower_box(scope, left);
        let right = self.lower_box(scope, right);
        match (left, right) {
            (Ok(left), Ok(right)) => Ok((left, right)),
            (Err(first), Err(second)) => {
                self.file.findings.push(first);
                Err(second)
            }
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        }
    }

    pub(super) fn lower_compared(
        &mut self,
        scope: &Scope<'_>,
        left: &syntax::Expression,
        right: &syntax::Expression,
        position: Position,
    ) -> LoweredPair {
        let (left, right) = self.lower_both(scope, left, right)?;
        self.record_comparison(&left, &right, position);
        Ok((left, right))
    }

    /// Returns the expression for a comparison. Streams evaluate `a != b` as `NOT (a = b)`. Unless
    /// the engine is three-valued, `a = b` is false for NULL, so NULL differs from everything,
    /// including NULL.
    pub(super) fn comparison(
        &self,
        comparison: Comparison,
        left: Box<QueryExpression>,
        right: Box<QueryExpression>,
    ) -> QueryExpression {
        if comparison == Comparison::NotEqual && self.is_not_of_equal() {
            let comparison = Comparison::Equal;
            return Expression::Not(Box::new(Expression::Compare { comparison, left, right }));
        }
        Expression::Compare { comparison, left, right }
    }

    fn is_not_of_equal(&self) -> bool {
        self.file.edition >= Edition::Three && !self.file.plan.values.engine.is_three_valued()
    }

    pub(super) fn in_list(
        &mut self,
        scope: &Scope<'_>,
        value: &syntax::Expression,
        list: &[syntax::Expression],
        position: Position,
    ) -> Lowered {
        let value = self.lower_box(scope, value)?;
        let list = self.lower_all(scope, list)?;
        for item in &list {
            self.record_comparison(&value, item, position);
        }
        Ok(Expression::InList { value, list })
    }

    /// Resolves `x IN array`. A written-out array is a list; others are JSON texts.
    pub(super) fn in_array(
        &mut self,
        scope: &Scope<'_>,
        value: &syntax::Expression,
        array: &syntax::Expression,
        negated: bool,
        position: Position,
    ) -> Lowered {
        if let ExpressionKind::Array(list) = &array.kind {
            self.check_edition(array)?;
            return self.in_list(scope, value, list, position);
        }

        let value = self.lower_box(scope, value)?;
        // `NOT IN` is a separate operator that requires an array, in every edition.
        let array = if negated { self.array(scope, array)? } else { self.each(scope, array)? };
        Ok(Expression::InArray { value, array: Box::new(array) })
    }

    /// Resolves an operand that must be an array.
    pub(super) fn array(&mut self, scope: &Scope<'_>, array: &syntax::Expression) -> Lowered {
        let lowered = self.lower(scope, array)?;
        if is_never_array(&lowered) {
            let message = "this is a single value, not an array";
            return Err(Diagnostic::error(array.position, message)
                .hint("write `=` to compare with one value"));
        }
        Ok(lowered)
    }

    /// Resolves an array operand whose elements are searched.
    pub(super) fn each(&mut self, scope: &Scope<'_>, array: &syntax::Expression) -> Lowered {
        let array = self.array(scope, array)?;
        Ok(self.as_searched_array(array))
    }

    /// Wraps the array that a value is searched in. Edition 3 takes its elements by `json_each`;
    /// earlier editions require an array.
    pub(super) fn as_searched_array(&self, array: QueryExpression) -> QueryExpression {
        if self.file.edition < Edition::Three { array } else { Expression::Each(Box::new(array)) }
    }

    pub(super) fn between(
        &mut self,
        scope: &Scope<'_>,
        value: &syntax::Expression,
        low: &syntax::Expression,
        high: &syntax::Expression,
    ) -> Lowered {
        let (low, high) = self.lower_both(scope, low, high)?;
        let position = value.position;
        let value = self.lower_box(scope, value)?;
        for bound in [&low, &high] {
            self.record_comparison(&value, bound, position);
        }
        Ok(Expression::Between { value, low, high })
    }

    pub(super) fn case(
        &mut self,
        scope: &Scope<'_>,
        operand: Option<&syntax::Expression>,
        branches: &[(syntax::Expression, syntax::Expression)],
        otherwise: Option<&syntax::Expression>,
    ) -> Lowered {
        let operand = operand.map(|operand| self.lower_box(scope, operand)).transpose()?;

        let mut lowered = Vec::with_capacity(branches.len());
        for (condition, result) in branches {
            let position = condition.position;
            let condition = self.lower(scope, condition)?;
            if let Some(operand) = &operand {
                self.record_comparison(operand, &condition, position);
            }
            lowered.push((condition, self.lower(scope, result)?));
        }

        let otherwise = otherwise.map(|otherwise| self.lower_box(scope, otherwise)).transpose()?;
        Ok(Expression::Case { operand, branches: lowered, otherwise })
    }
}

pub(super) fn negate_if(negated: bool, expression: QueryExpression) -> QueryExpression {
    if negated { Expression::Not(Box::new(expression)) } else { expression }
}

/// Returns `0 - value`, as SQLite evaluates a sign.
pub(super) fn negative_of(value: Box<QueryExpression>) -> QueryExpression {
    let left = Box::new(Expression::Literal(Literal::Integer(0)));
    Expression::Arithmetic { operator: Arithmetic::Subtract, left, right: value }
}

/// Returns the value. A CAST is wrapped, so that a comparison does not apply its affinity.
pub(super) fn positive_of(value: Box<QueryExpression>) -> QueryExpression {
    if let Expression::Cast { .. } = *value {
        return Expression::Case { operand: None, branches: Vec::new(), otherwise: Some(value) };
    }
    *value
}

/// Returns the name of an operator that requires edition 3.
fn edition_three_operator(kind: &ExpressionKind) -> Option<&'static str> {
    match kind {
        ExpressionKind::Between { .. } => Some("BETWEEN"),
        ExpressionKind::Case { .. } => Some("CASE"),
        ExpressionKind::Is { right, .. } => {
            let is_truth = matches!(right.kind, ExpressionKind::Boolean(_));
            Some(if is_truth { "IS TRUE" } else { "IS DISTINCT FROM" })
        }
        ExpressionKind::Like { .. } => Some("LIKE"),
        ExpressionKind::Array(_) => Some("ARRAY"),
        ExpressionKind::Signed { negative, .. } => Some(if *negative { "-" } else { "+" }),

        ExpressionKind::Arithmetic { operator, .. } => match operator {
            Arithmetic::Add | Arithmetic::Subtract | Arithmetic::Multiply | Arithmetic::Divide => {
                None
            }
            Arithmetic::Remainder => Some("%"),
            Arithmetic::BitAnd => Some("&"),
            Arithmetic::BitOr => Some("|"),
            Arithmetic::ShiftLeft => Some("<<"),
            Arithmetic::ShiftRight => Some(">>"),
        },

        ExpressionKind::Null
        | ExpressionKind::Integer(_)
        | ExpressionKind::Real(_)
        | ExpressionKind::Text(_)
        | ExpressionKind::Boolean(_)
        | ExpressionKind::Name { .. }
        | ExpressionKind::Call { .. }
        | ExpressionKind::And(_)
        | ExpressionKind::Or(_)
        | ExpressionKind::Not(_)
        | ExpressionKind::Compare { .. }
        | ExpressionKind::Concat { .. }
        | ExpressionKind::Json { .. }
        | ExpressionKind::IsNull { .. }
        | ExpressionKind::Cast { .. }
        | ExpressionKind::InList { .. }
        | ExpressionKind::InArray { .. }
        | ExpressionKind::InQuery { .. }
        | ExpressionKind::Exists { .. }
        | ExpressionKind::OverlapQuery { .. }
        | ExpressionKind::Overlap { .. } => None,
    }
}
