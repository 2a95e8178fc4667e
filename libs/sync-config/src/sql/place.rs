//! Where things stand in a query.

use sqlparser::ast::{Array, Expr, SetExpr};
use sqlparser::tokenizer::Span;

/// Where an expression begins: only leaves have a place of their own.
#[expect(clippy::wildcard_enum_match_arm, reason = "others are refused, at the query's place")]
pub(super) fn start(expr: &Expr) -> Span {
    let mut expr = expr;
    loop {
        expr = match expr {
            Expr::Identifier(ident) => return ident.span,
            Expr::CompoundIdentifier(parts) => {
                return parts.first().map_or_else(Span::empty, |ident| ident.span);
            }
            Expr::Value(value) => return value.span,
            Expr::Function(function) => {
                let first = function.name.0.first().and_then(|part| part.as_ident());
                return first.map_or_else(Span::empty, |ident| ident.span);
            }
            Expr::Case { case_token, .. } => return case_token.0.span,
            Expr::Subquery(query) => {
                return match query.body.as_ref() {
                    SetExpr::Select(select) => select.select_token.0.span,
                    _ => Span::empty(),
                };
            }
            Expr::Tuple(list) | Expr::Array(Array { elem: list, .. }) => match list.first() {
                Some(first) => first,
                None => return Span::empty(),
            },
            Expr::BinaryOp { left, .. }
            | Expr::AnyOp { left, .. }
            | Expr::AllOp { left, .. }
            | Expr::IsDistinctFrom(left, _)
            | Expr::IsNotDistinctFrom(left, _) => left,
            Expr::Nested(inner)
            | Expr::IsNull(inner)
            | Expr::IsNotNull(inner)
            | Expr::IsUnknown(inner)
            | Expr::IsNotUnknown(inner)
            | Expr::IsJson { expr: inner, .. }
            | Expr::IsNormalized { expr: inner, .. }
            | Expr::CompoundFieldAccess { root: inner, .. }
            | Expr::AtTimeZone { timestamp: inner, .. }
            | Expr::IsTrue(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsFalse(inner)
            | Expr::IsNotFalse(inner)
            | Expr::UnaryOp { expr: inner, .. }
            | Expr::In { expr: inner, .. }
            | Expr::Between { expr: inner, .. }
            | Expr::Like { expr: inner, .. }
            | Expr::ILike { expr: inner, .. }
            | Expr::SimilarTo { expr: inner, .. }
            | Expr::Collate { expr: inner, .. }
            | Expr::Substring { expr: inner, .. }
            | Expr::Trim { expr: inner, .. }
            | Expr::Cast { expr: inner, .. } => inner,
            _ => return Span::empty(),
        };
    }
}
