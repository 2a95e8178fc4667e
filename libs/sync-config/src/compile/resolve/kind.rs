//! Kinds of values that expressions have: number or text.

use crate::compile::row_sources::{Leaf, QueryExpression};
use crate::expression::{CastType, Expression, Literal};
use crate::plan::{RequestLeaf, RequestSource};
use crate::value::ValueKind;

/// Returns the kind of all values of an expression that are not NULL, if it is certain.
pub(super) fn kind(expression: &QueryExpression) -> Option<ValueKind> {
    match expression {
        Expression::Literal(Literal::Integer(_) | Literal::Real(_))
        | Expression::Cast { to: CastType::Integer | CastType::Real | CastType::Numeric, .. } => {
            Some(ValueKind::Number)
        }

        Expression::Leaf(Leaf::TableMetadata { .. })
        | Expression::Literal(Literal::Text(_))
        | Expression::Concat { .. }
        | Expression::Cast { to: CastType::Text, .. } => Some(ValueKind::Text),

        Expression::Leaf(_)
        | Expression::Literal(Literal::Null)
        | Expression::And(_)
        | Expression::Or(_)
        | Expression::Not(_)
        | Expression::Compare { .. }
        | Expression::Arithmetic { .. }
        | Expression::Json { .. }
        | Expression::IsNull { .. }
        | Expression::Is { .. }
        | Expression::Between { .. }
        | Expression::Like { .. }
        | Expression::Case { .. }
        | Expression::Overlap { .. }
        | Expression::Each(_)
        | Expression::Cast { to: CastType::Blob, .. }
        | Expression::InList { .. }
        | Expression::InArray { .. }
        | Expression::Call { .. } => None,
    }
}

/// Returns whether the expression is the user of the request: a text, or a number.
pub(super) fn is_user_id(expression: &QueryExpression) -> bool {
    matches!(
        expression,
        Expression::Leaf(Leaf::Request(RequestLeaf::Given { source: RequestSource::UserId, .. }))
    )
}

/// Returns whether no value of the expression is the text of an array.
pub(super) fn is_never_array(expression: &QueryExpression) -> bool {
    is_user_id(expression) || kind(expression) == Some(ValueKind::Number)
}
