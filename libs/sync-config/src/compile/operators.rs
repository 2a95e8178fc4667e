//! Operators: which edition has them, and what those become that are not what they are written as.

use super::Compiler;
use super::from::items_of;
use super::scope::Scope;
use super::sources::{Leaf, QueryExpression};
use crate::diagnostic::{Diagnostic, Position};
use crate::expression::{Arithmetic, Comparison, Expression, Literal, array_items};
use crate::options::{Edition, shorten};
use crate::plan::{RequestLeaf, RequestSource};
use crate::syntax::{self, ExpressionKind};

type Lowered = Result<QueryExpression, Diagnostic>;
type LoweredPair = Result<(Box<QueryExpression>, Box<QueryExpression>), Diagnostic>;

impl Compiler<'_> {
    /// That the edition has the operator.
    pub(super) fn check_edition(&self, expression: &syntax::Expression) -> Result<(), Diagnostic> {
        match of_edition_three(&expression.kind) {
            Some(name) if self.edition < Edition::Three => {
                Err(of_later_edition(expression.position, name))
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
        Ok((self.lower_box(scope, left)?, self.lower_box(scope, right)?))
    }

    pub(super) fn lower_compared(
        &mut self,
        scope: &Scope<'_>,
        left: &syntax::Expression,
        right: &syntax::Expression,
        position: Position,
    ) -> LoweredPair {
        let (left, right) = self.lower_both(scope, left, right)?;
        self.note_kinds(&left, &right, position);
        Ok((left, right))
    }

    pub(super) fn in_list(
        &mut self,
        scope: &Scope<'_>,
        value: &syntax::Expression,
        list: &[syntax::Expression],
        position: Position,
    ) -> Lowered {
        let (value, list) = (self.lower_box(scope, value)?, self.lower_all(scope, list)?);
        for item in &list {
            self.note_kinds(&value, item, position);
        }
        Ok(Expression::InList { value, list })
    }

    /// An array that is written out is a list; others are texts with JSON.
    pub(super) fn in_array(
        &mut self,
        scope: &Scope<'_>,
        value: &syntax::Expression,
        array: &syntax::Expression,
        (position, negated): (Position, bool),
    ) -> Lowered {
        if let ExpressionKind::Array(list) = &array.kind {
            self.check_edition(array)?;
            return Ok(negate_if(negated, self.in_list(scope, value, list, position)?));
        }
        let array_position = array.position;
        let (value, array) = self.lower_both(scope, value, array)?;
        check_array(&array, array_position)?;
        if negated {
            return Ok(Expression::Not(Box::new(Expression::InArray { value, array })));
        }
        let array = Box::new(self.searched(*array));
        Ok(Expression::InArray { value, array })
    }

    /// The array that a value is looked for in. From edition 3 on it is one of `json_each`.
    pub(super) fn searched(&self, array: QueryExpression) -> QueryExpression {
        if self.edition == Edition::Three { items_of(array) } else { array }
    }

    /// From edition 3 on `<>` is NOT of `=`, which NULL makes true where it makes NOT so.
    pub(super) fn compared(
        &self,
        comparison: Comparison,
        left: Box<QueryExpression>,
        right: Box<QueryExpression>,
    ) -> QueryExpression {
        let is_not = comparison == Comparison::NotEqual
            && self.edition == Edition::Three
            && !self.plan.values.engine.is_three_valued();
        if is_not {
            let equal = Expression::Compare { comparison: Comparison::Equal, left, right };
            return Expression::Not(Box::new(equal));
        }
        Expression::Compare { comparison, left, right }
    }

    pub(super) fn between(
        &mut self,
        scope: &Scope<'_>,
        value: &syntax::Expression,
        (low, high): (&syntax::Expression, &syntax::Expression),
    ) -> Lowered {
        let (low, high) = self.lower_both(scope, low, high)?;
        let position = value.position;
        let value = self.lower_box(scope, value)?;
        for bound in [&low, &high] {
            self.note_kinds(&value, bound, position);
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
                self.note_kinds(operand, &condition, position);
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

/// As SQLite does it: less than nothing.
pub(super) fn negative_of(value: Box<QueryExpression>) -> QueryExpression {
    let left = Box::new(Expression::Literal(Literal::Integer(0)));
    Expression::Arithmetic { operator: Arithmetic::Subtract, left, right: value }
}

/// Nothing is done to it, but a comparison no longer sees that it is a CAST.
pub(super) fn positive_of(value: Box<QueryExpression>) -> QueryExpression {
    if let Expression::Cast { .. } = *value {
        return Expression::Case { operand: None, branches: Vec::new(), otherwise: Some(value) };
    }
    *value
}

/// Refuses what stands for an array and never is one.
fn check_array(array: &QueryExpression, position: Position) -> Result<(), Diagnostic> {
    if let Expression::Leaf(Leaf::Request(RequestLeaf::Given { source, .. })) = array
        && *source == RequestSource::UserId
    {
        let message = "`IN` is for arrays, and the id of the user is none";
        return Err(Diagnostic::error(position, message).hint("write `=`"));
    }
    let Expression::Literal(literal @ Literal::Text(text)) = array else { return Ok(()) };
    array_items(&literal.value()).map(|_| ()).map_err(|_| {
        Diagnostic::error(position, format!("`{}` is not a JSON array", shorten(text)))
            .hint("write an array, as in `x IN '[1, 2]'`, or values, as in `x IN (1, 2)`")
    })
}

/// What is said of something that the file's edition does not have.
pub(super) fn of_later_edition(position: Position, name: &str) -> Diagnostic {
    Diagnostic::error(position, format!("`{name}` is of edition 3"))
        .hint("set `edition: 3` in `config`, and write `streams`")
}

/// The name of an operator that earlier editions do not have.
fn of_edition_three(kind: &ExpressionKind) -> Option<&'static str> {
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
