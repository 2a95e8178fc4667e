//! Inspects expressions of `sqlparser`.

use sqlparser::ast::{
    Array, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    ObjectName, SetExpr, Value as SqlValue, ValueWithSpan,
};
use sqlparser::tokenizer::Span;

/// Returns the start of an expression. Only leaves have a span of their own.
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

/// Returns the items of `ROW(..)`, which the parser reads as a call.
pub(super) fn row_items(expr: &Expr) -> Option<Vec<Expr>> {
    let Expr::Function(Function { name: ObjectName(parts), args, .. }) = expr else { return None };
    let [name] = parts.as_slice() else { return None };
    let name = name.as_ident()?;

    if name.quote_style.is_some() || !name.value.eq_ignore_ascii_case("ROW") {
        return None;
    }
    let FunctionArguments::List(FunctionArgumentList { args, .. }) = args else { return None };

    args.iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(item)) => Some(item.clone()),
            FunctionArg::Unnamed(_) | FunctionArg::Named { .. } | FunctionArg::ExprNamed { .. } => {
                None
            }
        })
        .collect()
}

/// Returns the text of a text literal.
pub(super) fn text_of(expr: &Expr) -> Option<&str> {
    let Expr::Value(ValueWithSpan { value: SqlValue::SingleQuotedString(text), .. }) = expr else {
        return None;
    };
    Some(text)
}

/// Returns whether an item in parentheses after IN is a value and not an array.
#[expect(clippy::wildcard_enum_match_arm, reason = "two kinds of many")]
pub(super) fn is_literal(expr: &Expr) -> bool {
    match expr {
        Expr::Value(_) => true,
        Expr::UnaryOp { expr, .. } => matches!(expr.as_ref(), Expr::Value(_)),
        _ => false,
    }
}
