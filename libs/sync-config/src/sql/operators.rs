//! Operators that are written as words, and the array after `IN`.

use sqlparser::ast::{Array, CaseWhen, Expr};
use sqlparser::tokenizer::Span;

use super::convert::AstConverter;
use super::parsed::{is_literal, start, text_of};
use super::syntax::{Expression, ExpressionKind};
use crate::expression::Pattern;
use crate::file::diagnostic::Diagnostic;

impl AstConverter<'_> {
    /// Converts an operator. As for other expressions, kinds with operands have functions of their
    /// own.
    #[expect(clippy::wildcard_enum_match_arm, reason = "what is not listed is refused")]
    pub(super) fn operator(&mut self, expr: Expr, span: Span) -> Result<Expression, Diagnostic> {
        let kind = match expr {
            Expr::IsTrue(value) => self.is_truth(value, true, false)?,
            Expr::IsNotTrue(value) => self.is_truth(value, true, true)?,
            Expr::IsFalse(value) => self.is_truth(value, false, false)?,
            Expr::IsNotFalse(value) => self.is_truth(value, false, true)?,
            Expr::IsDistinctFrom(left, right) => self.is(left, right, true)?,
            Expr::IsNotDistinctFrom(left, right) => self.is(left, right, false)?,
            Expr::Between { expr, negated, low, high } => self.between(expr, low, high, negated)?,

            Expr::Like { negated, any: false, expr, pattern, escape_char }
            | Expr::ILike { negated, any: false, expr, pattern, escape_char } => {
                let pattern = self.pattern(&pattern, escape_char.as_deref(), span)?;
                ExpressionKind::Like { value: self.boxed(expr)?, pattern, negated }
            }

            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand, conditions, else_result)?
            }
            Expr::Array(Array { elem, named: true }) => {
                let (_, span) = self.input.find_before(span, "ARRAY");
                return self.array(elem, span);
            }
            other => return Err(self.refuse_expression(&other, span)),
        };

        Ok(Expression { position: self.input.position(span), kind })
    }

    fn is_truth(
        &mut self,
        value: Box<Expr>,
        truth: bool,
        negated: bool,
    ) -> Result<ExpressionKind, Diagnostic> {
        let left = self.boxed(value)?;
        let kind = ExpressionKind::Boolean(truth);
        let right = Box::new(Expression { position: left.position, kind });
        Ok(ExpressionKind::Is { left, right, negated })
    }

    fn is(
        &mut self,
        left: Box<Expr>,
        right: Box<Expr>,
        negated: bool,
    ) -> Result<ExpressionKind, Diagnostic> {
        let left = self.boxed(left)?;
        let right = self.boxed(right)?;
        Ok(ExpressionKind::Is { left, right, negated })
    }

    fn between(
        &mut self,
        value: Box<Expr>,
        low: Box<Expr>,
        high: Box<Expr>,
        negated: bool,
    ) -> Result<ExpressionKind, Diagnostic> {
        let value = self.boxed(value)?;
        let low = self.boxed(low)?;
        let high = self.boxed(high)?;
        Ok(ExpressionKind::Between { value, low, high, negated })
    }

    fn case(
        &mut self,
        operand: Option<Box<Expr>>,
        conditions: Vec<CaseWhen>,
        otherwise: Option<Box<Expr>>,
    ) -> Result<ExpressionKind, Diagnostic> {
        let operand = operand.map(|operand| self.boxed(operand)).transpose()?;
        let mut branches = Vec::with_capacity(conditions.len());
        for CaseWhen { condition, result } in conditions {
            branches.push((self.expression(condition)?, self.expression(result)?));
        }
        let otherwise = otherwise.map(|result| self.boxed(result)).transpose()?;
        Ok(ExpressionKind::Case { operand, branches, otherwise })
    }

    /// Converts the pattern of LIKE, which must be a constant.
    fn pattern(
        &self,
        pattern: &Expr,
        escape: Option<&Expr>,
        span: Span,
    ) -> Result<Pattern, Diagnostic> {
        let (_, like) = self.input.find(span, &["LIKE", "ILIKE"]);
        let Some(text) = text_of(pattern) else {
            return Err(self
                .error(like, "the pattern of `LIKE` must be a text in quotes")
                .hint("a pattern that depends on the row or the request is not supported"));
        };

        let mut characters = escape.map(|escape| text_of(escape).unwrap_or_default().chars());
        let escape = characters.as_mut().and_then(Iterator::next);
        if characters.is_some_and(|mut rest| escape.is_none() || rest.next().is_some()) {
            let (_, span) = self.input.find(like, &["ESCAPE"]);
            return Err(self.error(span, "`ESCAPE` must be followed by one character in quotes"));
        }

        Pattern::new(text, escape).ok_or_else(|| {
            self.error(like, "the pattern of `LIKE` ends with its escape character")
                .hint("write it twice for the character itself")
        })
    }

    /// Converts an array of literals after `IN`.
    pub(super) fn array(&mut self, items: Vec<Expr>, span: Span) -> Result<Expression, Diagnostic> {
        if let Some(item) = items.iter().find(|item| !is_literal(item)) {
            let place = start(item);
            let place = if place == Span::empty() { span } else { place };
            return Err(self
                .error(place, "only numbers, texts, TRUE, FALSE and NULL are supported here")
                .hint("write `x IN (a, b)` for other values"));
        }
        let items =
            items.into_iter().map(|item| self.expression(item)).collect::<Result<_, _>>()?;
        let position = self.input.position(span);
        Ok(Expression { position, kind: ExpressionKind::Array(items) })
    }
}
