//! Evaluates conditions for the null-extended rows of a left join, in which all columns of the
//! unmatched sources are NULL.

use super::row_sources::{Leaf, QueryExpression, RowSources, SourceId};
use crate::expression::{Expression, Leaves};
use crate::value::{Engine, EvaluationError, Value};

/// Row sources that are null-extended.
#[derive(Clone, Copy)]
pub(super) struct NullExtended<'m> {
    pub(super) sources: &'m RowSources,
    pub(super) ids: &'m [SourceId],
}

impl NullExtended<'_> {
    /// Returns whether a condition is false for all values of the other sources. Returns `false` if
    /// that is not certain.
    pub(super) fn makes_false(self, condition: &QueryExpression) -> bool {
        if self.is_all_of(condition) {
            return condition.is_true(&self.all_null()) == Ok(false);
        }

        match condition {
            Expression::And(list) => list.iter().any(|one| self.makes_false(one)),
            Expression::Or(list) => list.iter().all(|one| self.makes_false(one)),
            Expression::Leaf(_)
            | Expression::Literal(_)
            | Expression::Not(_)
            | Expression::Compare { .. }
            | Expression::Arithmetic { .. }
            | Expression::Concat { .. }
            | Expression::Json { .. }
            | Expression::IsNull { .. }
            | Expression::Is { .. }
            | Expression::Between { .. }
            | Expression::Like { .. }
            | Expression::Case { .. }
            | Expression::Cast { .. }
            | Expression::InList { .. }
            | Expression::InArray { .. }
            | Expression::Overlap { .. }
            | Expression::Each(_)
            | Expression::Call { .. } => self.makes_null(condition),
        }
    }

    /// Returns whether an expression is NULL for all values of the other sources. Returns `false`
    /// if that is not certain.
    pub(super) fn makes_null(self, value: &QueryExpression) -> bool {
        if self.is_all_of(value) {
            return value.evaluate(&self.all_null()) == Ok(Value::Null);
        }

        match value {
            Expression::Compare { left, right, .. }
            | Expression::Arithmetic { left, right, .. }
            | Expression::Concat { left, right }
            | Expression::Overlap { left, right }
            | Expression::Json { value: left, path: right, .. }
            | Expression::InArray { value: left, array: right } => {
                self.makes_null(left) || self.makes_null(right)
            }
            Expression::Between { value, .. }
            | Expression::Like { value, .. }
            | Expression::Each(value)
            | Expression::Cast { value, .. }
            | Expression::InList { value, .. } => self.makes_null(value),
            Expression::Not(inner) => {
                self.sources.engine().is_three_valued() && self.makes_null(inner)
            }
            Expression::Leaf(_)
            | Expression::Literal(_)
            | Expression::And(_)
            | Expression::Or(_)
            | Expression::IsNull { .. }
            | Expression::Is { .. }
            | Expression::Case { .. }
            | Expression::Call { .. } => false,
        }
    }

    /// Returns whether an expression depends on null-extended sources only.
    fn is_all_of(self, expression: &QueryExpression) -> bool {
        let mut is_all = true;
        expression.for_each_leaf(&mut |leaf| {
            is_all &= match leaf {
                Leaf::Column { source, .. }
                | Leaf::TableMetadata { source, .. }
                | Leaf::Element(source)
                | Leaf::Key(source) => self.ids.iter().any(|id| self.sources.reaches(*source, *id)),
                Leaf::Request(_) | Leaf::Bucket(_) => false,
            };
        });
        is_all
    }

    fn all_null(self) -> AllNull {
        AllNull { engine: self.sources.engine() }
    }
}

/// Leaves that are all NULL.
struct AllNull {
    engine: Engine,
}

impl<'v> Leaves<'v, Leaf> for AllNull {
    fn value(&self, _leaf: &Leaf) -> Result<Value<'v>, EvaluationError> {
        Ok(Value::Null)
    }

    fn engine(&self) -> Engine {
        self.engine
    }
}
