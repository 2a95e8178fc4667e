//! WHERE and ON: separates filters on one origin from join conditions between two.

use super::scope::{Scope, ScopeKind};
use super::subquery::{contains_query, is_inner_query, is_not, mixed_operands};
use super::{Membership, QueryCompiler};
use crate::compile::normalise::{BRANCHES_MAX, too_many_alternatives};
use crate::compile::row_sources::{Leaf, Origin, QueryExpression, SourceId};
use crate::compile::term::{Condition, Operand, Term};
use crate::edition::Edition;
use crate::expression::{Comparison, Expression, Literal};
use crate::file::diagnostic::{Diagnostic, Position};
use crate::sql::syntax::{self, ExpressionKind};
use crate::value::{Value, json};

impl QueryCompiler<'_, '_> {
    pub(in crate::compile) fn condition(
        &mut self,
        scope: &Scope<'_>,
        condition: &syntax::Expression,
        negated: bool,
    ) -> Result<Condition, Diagnostic> {
        // A condition of one origin stays one expression, with any AND, OR and NOT in it. Only others
        // are split into terms.
        if !contains_query(scope, condition) {
            let lowered = self.lower(scope, condition)?;
            if let Some(origin) = self.sources.origin_of(&lowered)
                && origin != Origin::Bucket
            {
                let condition = not_if(negated, lowered);
                return Ok(Condition::Term(Term::Filter { origin, condition }));
            }
        }

        // NOT (a AND b) is NOT a OR NOT b, also if one of them is NULL.
        if let ExpressionKind::And(list) | ExpressionKind::Or(list) = &condition.kind {
            let results = list.iter().map(|one| self.condition(scope, one, negated)).collect();
            let trees = self.file.findings.all(results)?;
            let is_and = matches!(condition.kind, ExpressionKind::And(_));
            return Ok(if is_and == negated {
                Condition::Or(trees)
            } else {
                Condition::And(trees)
            });
        }

        if let ExpressionKind::Not(inner) = &condition.kind {
            return self.condition(scope, inner, !negated);
        }
        // Two negations cancel out: NOT (x NOT IN (SELECT ...)) is a semi-join.
        if is_inner_query(scope, condition) && is_not(condition) != negated {
            return self.not_exists(scope, condition);
        }

        let join_condition = self.join_condition(scope, condition, negated)?;
        join_condition.ok_or_else(|| match scope.kind {
            ScopeKind::DataQuery { .. } => bucket_parameter_misuse(condition.position),
            ScopeKind::Stream | ScopeKind::ParameterQuery => {
                mixed_operands(scope, condition, negated)
            }
        })
    }

    /// Resolves a join condition. Returns `None` if the condition has another form.
    fn join_condition(
        &mut self,
        scope: &Scope<'_>,
        condition: &syntax::Expression,
        negated: bool,
    ) -> Result<Option<Condition>, Diagnostic> {
        let position = condition.position;
        let tree = match &condition.kind {
            ExpressionKind::Compare { comparison, left, right }
                if self.is_equality(*comparison, negated) =>
            {
                let left = self.lower(scope, left)?;
                let right = self.lower(scope, right)?;
                Condition::Term(self.equality(left, right, position)?)
            }
            ExpressionKind::InArray { value, array, negated: not } if *not == negated => {
                if let ExpressionKind::Array(list) = &array.kind {
                    self.in_values(scope, value, list, position)?
                } else if is_inner_query(scope, condition) {
                    self.exists(scope, condition)?
                } else {
                    let value = self.lower(scope, value)?;
                    self.in_elements(scope, value, array, position)?
                }
            }
            ExpressionKind::InList { value, list, negated: not } if *not == negated => {
                self.in_values(scope, value, list, position)?
            }
            ExpressionKind::Overlap { left, right } if !negated => {
                self.overlap(scope, [left, right], position)?
            }
            ExpressionKind::OverlapQuery { .. }
            | ExpressionKind::Exists { .. }
            | ExpressionKind::InQuery { .. } => self.exists(scope, condition)?,
            ExpressionKind::And(_)
            | ExpressionKind::Or(_)
            | ExpressionKind::Not(_)
            | ExpressionKind::Null
            | ExpressionKind::Integer(_)
            | ExpressionKind::Real(_)
            | ExpressionKind::Text(_)
            | ExpressionKind::Boolean(_)
            | ExpressionKind::Name { .. }
            | ExpressionKind::Call { .. }
            | ExpressionKind::Compare { .. }
            | ExpressionKind::Arithmetic { .. }
            | ExpressionKind::Concat { .. }
            | ExpressionKind::Json { .. }
            | ExpressionKind::IsNull { .. }
            | ExpressionKind::Is { .. }
            | ExpressionKind::Between { .. }
            | ExpressionKind::Like { .. }
            | ExpressionKind::Case { .. }
            | ExpressionKind::Signed { .. }
            | ExpressionKind::Array(_)
            | ExpressionKind::Overlap { .. }
            | ExpressionKind::Cast { .. }
            | ExpressionKind::InList { .. }
            | ExpressionKind::InArray { .. } => return Ok(None),
        };

        Ok(Some(tree))
    }

    /// Returns whether the comparison is an equality. From edition 3 on, `NOT (a <> b)` is `a = b`;
    /// in earlier editions it is also true for NULL.
    fn is_equality(&self, comparison: Comparison, negated: bool) -> bool {
        match comparison {
            Comparison::Equal => !negated,
            Comparison::NotEqual => negated && self.file.edition == Edition::Three,
            Comparison::Less
            | Comparison::LessOrEqual
            | Comparison::Greater
            | Comparison::GreaterOrEqual => false,
        }
    }

    /// Returns the term for the equality of two expressions: a filter if they have one origin,
    /// otherwise a join condition.
    pub(super) fn equality(
        &self,
        left: QueryExpression,
        right: QueryExpression,
        position: Position,
    ) -> Result<Term, Diagnostic> {
        let origins = (self.sources.origin_of(&left), self.sources.origin_of(&right));
        let (left_origin, right_origin) = match origins {
            (Some(Origin::Bucket), Some(origin))
                if is_bucket_leaf(&left) && may_be_bucket_parameter(&right, origin) =>
            {
                (Origin::Bucket, origin)
            }
            (Some(origin), Some(Origin::Bucket))
                if is_bucket_leaf(&right) && may_be_bucket_parameter(&left, origin) =>
            {
                (origin, Origin::Bucket)
            }
            (Some(Origin::Bucket), _) | (_, Some(Origin::Bucket)) => {
                return Err(bucket_parameter_misuse(position));
            }
            _ => (self.side(&left, position)?, self.side(&right, position)?),
        };

        let is_of_bucket = [left_origin, right_origin].contains(&Origin::Bucket);
        Ok(match left_origin.and(right_origin).filter(|_| !is_of_bucket) {
            Some(origin) => Term::Filter {
                origin,
                condition: Expression::Compare {
                    comparison: Comparison::Equal,
                    left: Box::new(left),
                    right: Box::new(right),
                },
            },
            None => Term::Equal {
                left: Operand { origin: left_origin, value: left },
                right: Operand { origin: right_origin, value: right },
            },
        })
    }

    pub(super) fn side(
        &self,
        value: &QueryExpression,
        position: Position,
    ) -> Result<Origin, Diagnostic> {
        self.sources.origin_of(value).ok_or_else(|| {
            let mut of_bucket = false;
            value.for_each_leaf(&mut |leaf| of_bucket |= matches!(leaf, Leaf::Bucket(_)));
            if of_bucket { bucket_parameter_misuse(position) } else { mixed_side(position) }
        })
    }

    /// Resolves `x IN <array>`.
    fn in_elements(
        &mut self,
        scope: &Scope<'_>,
        value: QueryExpression,
        array: &syntax::Expression,
        position: Position,
    ) -> Result<Condition, Diagnostic> {
        let array_position = array.position;
        let array = self.array(scope, array)?;
        if let Some(literals) = literals_of(&array)
            && is_bucket_leaf(&value)
        {
            if literals.is_empty() {
                return Err(bucket_parameter_misuse(position));
            }
            return Ok(Condition::Or(
                literals
                    .into_iter()
                    .map(|literal| {
                        let literal = Expression::Literal(literal);
                        Ok(Condition::Term(self.equality(value.clone(), literal, position)?))
                    })
                    .collect::<Result<_, _>>()?,
            ));
        }
        let array = self.as_searched_array(array);
        let is_bucket = self.sources.origin_of(&array) == Some(Origin::Bucket);
        if is_bucket || matches!(scope.kind, ScopeKind::DataQuery { .. }) {
            let is_row = matches!(self.sources.origin_of(&array), Some(Origin::Row(_)));
            if !is_row {
                return Err(bucket_parameter_misuse(position));
            }
        }

        let id = self.membership(&value, array, array_position)?;
        let element = Expression::Leaf(Leaf::Element(id));
        let equal = self.equality(value, element, position)?;

        Ok(Condition::And(vec![Condition::Term(Term::Source(id)), Condition::Term(equal)]))
    }

    /// Returns the source of the elements that `value` equals. A repeated `value IN array` uses the
    /// same source.
    fn membership(
        &mut self,
        value: &QueryExpression,
        array: QueryExpression,
        position: Position,
    ) -> Result<SourceId, Diagnostic> {
        if let Some(known) =
            self.memberships.iter().find(|known| known.value == *value && known.array == array)
        {
            return Ok(known.element);
        }
        let element = self.elements(array.clone(), position)?;
        self.memberships.push(Membership { value: value.clone(), array, element });
        Ok(element)
    }

    /// Resolves `x IN (a, b)` as `x = a OR x = b`.
    fn in_values(
        &mut self,
        scope: &Scope<'_>,
        value: &syntax::Expression,
        list: &[syntax::Expression],
        position: Position,
    ) -> Result<Condition, Diagnostic> {
        let value = self.lower(scope, value)?;

        // Each alternative holds a copy of the value, so their number is checked before they are
        // made.
        if list.len() > BRANCHES_MAX {
            return Err(too_many_alternatives(position));
        }

        let mut terms = Vec::new();
        for item in list {
            let item = self.lower(scope, item)?;
            terms.push(Condition::Term(self.equality(value.clone(), item, position)?));
        }
        Ok(Condition::Or(terms))
    }

    /// Resolves `a && b`: an element of one array equals an element of the other.
    fn overlap(
        &mut self,
        scope: &Scope<'_>,
        arrays: [&syntax::Expression; 2],
        position: Position,
    ) -> Result<Condition, Diagnostic> {
        let mut terms = Vec::new();
        let mut elements = Vec::new();

        for array in arrays {
            let lowered = self.each(scope, array)?;
            if self.sources.origin_of(&lowered) == Some(Origin::Bucket) {
                return Err(bucket_parameter_misuse(position));
            }
            let id = self.elements(lowered, array.position)?;
            terms.push(Condition::Term(Term::Source(id)));
            elements.push(Expression::Leaf(Leaf::Element(id)));
        }

        if let (Some(right), Some(left)) = (elements.pop(), elements.pop()) {
            terms.push(Condition::Term(self.equality(left, right, position)?));
        }
        Ok(Condition::And(terms))
    }
}

/// Returns whether the expression is a bucket parameter without any operator.
fn is_bucket_leaf(value: &QueryExpression) -> bool {
    matches!(value, Expression::Leaf(Leaf::Bucket(_)))
}

/// Returns whether a bucket parameter may take the value: one of a row, or a constant. Nothing equals
/// NULL.
fn may_be_bucket_parameter(value: &QueryExpression, origin: Origin) -> bool {
    match origin {
        Origin::Row(_) => true,
        Origin::Constant => !matches!(value, Expression::Literal(Literal::Null)),
        Origin::Request | Origin::Element(_) | Origin::Bucket => false,
    }
}

/// Returns the values of a constant JSON array.
fn literals_of(array: &QueryExpression) -> Option<Vec<Literal>> {
    let Expression::Literal(array @ Literal::Text(_)) = array else { return None };
    let Value::Text(text) = array.value() else { return None };
    let serde_json::Value::Array(items) = json::parse(&text)? else { return None };

    Some(
        items
            .iter()
            .filter_map(|item| match json::to_value(item) {
                Value::Integer(integer) => Some(Literal::Integer(integer)),
                Value::Real(real) => Some(Literal::Real(real)),
                Value::Text(text) => Some(Literal::Text(text.into_owned())),
                Value::Null | Value::Blob(_) => None,
            })
            .collect(),
    )
}

fn not_if(negated: bool, expression: QueryExpression) -> QueryExpression {
    if negated { Expression::Not(Box::new(expression)) } else { expression }
}

fn bucket_parameter_misuse(position: Position) -> Diagnostic {
    Diagnostic::error(
        position,
        "a parameter of the bucket can only be compared with the row as it is",
    )
    .hint("write `column = bucket.<name>` or `bucket.<name> IN <array of the row>`")
}

fn mixed_side(position: Position) -> Diagnostic {
    Diagnostic::error(position, "one side mixes values of the row and of the request")
        .hint("compare a value of the row on one side with a value of the request on the other")
}
