//! Kinds of values that expressions have.

use crate::compile::row_sources::{Leaf, QueryExpression};
use crate::expression::{CastType, Expression, Literal};
use crate::plan::{RequestLeaf, RequestSource};
use crate::value::ValueKind;

/// The kind of value that an expression has whenever it is not NULL, where that is plain.
pub(super) fn kind(expression: &QueryExpression) -> Option<ValueKind> {
    match expression {
        Expression::Literal(Literal::Integer(_) | Literal::Real(_))
        | Expression::Cast { to: CastType::Integer | CastType::Real | CastType::Numeric, .. } => {
            Some(ValueKind::Number)
        }
        Expression::Leaf(
            Leaf::TableMetadata { .. }
            | Leaf::Request(RequestLeaf::Given { source: RequestSource::UserId, .. }),
        )
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

/// Whether a value can be no text with an array.
pub(super) fn is_never_array(expression: &QueryExpression) -> bool {
    let is_user_id = matches!(
        expression,
        Expression::Leaf(Leaf::Request(RequestLeaf::Given { source: RequestSource::UserId, .. }))
    );
    is_user_id || kind(expression) == Some(ValueKind::Number)
}
