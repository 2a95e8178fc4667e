//! Evaluation of expressions.

use super::affinity::Affinity;
use super::items::{Items, items_of};
use super::{Comparison, Expression, Leaves};
use crate::functions::{self, ARGUMENTS_MAX, Function};
use crate::value::{EvaluationError, Value};

impl<L> Expression<L> {
    /// Evaluates the expression. The compiler bounds its depth, and so this recursion.
    pub(crate) fn evaluate<'v, S: Leaves<'v, L>>(
        &'v self,
        leaves: &S,
    ) -> Result<Value<'v>, EvaluationError> {
        let engine = leaves.engine();
        Ok(match self {
            Self::Leaf(leaf) => leaves.value(leaf)?,
            Self::Literal(literal) => literal.value(),

            Self::And(list) => junction(list, false, leaves)?,
            Self::Or(list) => junction(list, true, leaves)?,
            Self::Not(inner) => {
                Value::boolean(inner.evaluate(leaves)?.truth(engine).map(|truth| !truth))
            }

            Self::Compare { comparison, left, right } => {
                let (left_value, right_value) = operands(left, right, leaves)?;
                let left = Operand { expression: left, value: &left_value };
                let right = Operand { expression: right, value: &right_value };
                Value::boolean(result(*comparison, left, right, leaves))
            }
            Self::Is { left, right } => {
                let (left_value, right_value) = operands(left, right, leaves)?;
                let are_null = left_value.is_null() && right_value.is_null();
                let left = Operand { expression: left, value: &left_value };
                let right = Operand { expression: right, value: &right_value };
                let equal = result(Comparison::Equal, left, right, leaves);
                Value::boolean(Some(equal.unwrap_or(are_null)))
            }
            Self::Between { value, low, high } => between(value, low, high, leaves)?,
            Self::Like { value, pattern } => match value.evaluate(leaves)?.into_text(engine) {
                Some(text) => {
                    leaves.spend_text(text.len().saturating_mul(pattern.len()))?;
                    Value::boolean(Some(pattern.matches(&text)?))
                }
                None => Value::Null,
            },

            Self::Case { operand, branches, otherwise } => {
                let chosen = match operand {
                    Some(operand) => equal_branch(operand, branches, leaves)?,
                    None => true_branch(branches, leaves)?,
                };
                match chosen.or(otherwise.as_deref()) {
                    Some(result) => result.evaluate(leaves)?,
                    None => Value::Null,
                }
            }

            Self::Arithmetic { operator, left, right } => {
                operator.apply(&left.evaluate(leaves)?, &right.evaluate(leaves)?)
            }
            Self::Concat { left, right } => {
                let left = left.evaluate(leaves)?;
                let right = right.evaluate(leaves)?;
                match (left.into_text(engine), right.into_text(engine)) {
                    (Some(left), Some(right)) => {
                        leaves.spend_text(left.len() + right.len())?;
                        Value::text(format!("{left}{right}")).check_length()?
                    }
                    (None, _) | (_, None) => Value::Null,
                }
            }
            Self::Json { value, path, as_value, split } => {
                let value = value.evaluate(leaves)?;
                let path = path.evaluate(leaves)?;
                leaves.spend_text(value.text_bytes())?;
                functions::json_get(&value, &path, *as_value, *split, engine)?.check_length()?
            }

            Self::IsNull { value, negated } => {
                let is_null = value.evaluate(leaves)?.is_null();
                Value::boolean(Some(is_null != *negated))
            }
            Self::Cast { value, to } => to.apply(value.evaluate(leaves)?, engine),

            Self::InList { value, list } => is_in_list(value, list, leaves)?,
            Self::InArray { value, array } => is_in_array(value, array, leaves)?,
            Self::Each(array) => array.evaluate(leaves)?,
            Self::Overlap { left, right } => overlap(left, right, leaves)?,

            Self::Call { function, arguments } => {
                let value = call(*function, arguments, leaves)?;
                leaves.spend_text(value.made_bytes())?;
                value.check_length()?
            }
        })
    }

    pub(super) fn is_each(&self) -> bool {
        matches!(self, Self::Each(_))
    }

    /// Evaluates the expression as a condition. NULL is false.
    pub(crate) fn is_true<'v, S: Leaves<'v, L>>(
        &'v self,
        leaves: &S,
    ) -> Result<bool, EvaluationError> {
        self.evaluate(leaves).map(|value| value.is_true(leaves.engine()))
    }
}

/// Evaluates AND (`decisive` is false) or OR (`decisive` is true) until an operand is decisive.
fn junction<'v, L, S: Leaves<'v, L>>(
    list: &'v [Expression<L>],
    decisive: bool,
    leaves: &S,
) -> Result<Value<'v>, EvaluationError> {
    let mut has_null = false;
    for operand in list {
        match operand.evaluate(leaves)?.truth(leaves.engine()) {
            Some(truth) if truth == decisive => return Ok(Value::boolean(Some(decisive))),
            Some(_) => {}
            None => has_null = true,
        }
    }
    Ok(Value::boolean(if has_null { None } else { Some(!decisive) }))
}

/// Operand of a comparison, with its value.
struct Operand<'e, L> {
    expression: &'e Expression<L>,
    value: &'e Value<'e>,
}

impl<L> Operand<'_, L> {
    /// Returns whether the operand has a second value, and it equals `value`.
    fn has_second<'v, S: Leaves<'v, L>>(&self, value: &Value<'_>, leaves: &S) -> bool {
        let Expression::Leaf(leaf) = self.expression else { return false };
        let second = leaves.second_value(leaf);
        second.is_some_and(|second| Comparison::Equal.compare(&second, value) == Some(true))
    }
}

/// Returns the result of a comparison. An operand with two values equals what equals one of them. It
/// is different from everything else, so `NOT` never grants what equality would.
fn result<'v, L, S: Leaves<'v, L>>(
    comparison: Comparison,
    left: Operand<'_, L>,
    right: Operand<'_, L>,
    leaves: &S,
) -> Option<bool> {
    let result = comparison.compare(left.value, right.value);
    let if_equal = match comparison {
        Comparison::Equal => true,
        Comparison::NotEqual => false,
        Comparison::Less
        | Comparison::LessOrEqual
        | Comparison::Greater
        | Comparison::GreaterOrEqual => return result,
    };

    let is_different = result == Some(!if_equal);
    if is_different
        && (left.has_second(right.value, leaves) || right.has_second(left.value, leaves))
    {
        return Some(if_equal);
    }
    result
}

/// Evaluates the operands of a comparison and applies its affinity.
fn operands<'v, L, S: Leaves<'v, L>>(
    left: &'v Expression<L>,
    right: &'v Expression<L>,
    leaves: &S,
) -> Result<(Value<'v>, Value<'v>), EvaluationError> {
    let mut left_value = left.evaluate(leaves)?;
    let mut right_value = right.evaluate(leaves)?;
    if leaves.engine().has_affinity()
        && let Some(affinity) = Affinity::of_both(left.affinity(), right.affinity())
    {
        affinity.apply(&mut left_value, &mut right_value);
    }
    Ok((left_value, right_value))
}

/// Compares an operand, evaluated before as `left_value`, with `right`. The affinity is applied to a
/// copy, so that the value can be compared again.
fn compare<'v, L, S: Leaves<'v, L>>(
    comparison: Comparison,
    left: &Expression<L>,
    left_value: &Value<'_>,
    right: &'v Expression<L>,
    leaves: &S,
) -> Result<Option<bool>, EvaluationError> {
    let mut right_value = right.evaluate(leaves)?;
    if leaves.engine().has_affinity()
        && let Some(affinity) = Affinity::of_both(left.affinity(), right.affinity())
    {
        let mut left_value = left_value.reborrow();
        affinity.apply(&mut left_value, &mut right_value);
        let left = Operand { expression: left, value: &left_value };
        let right = Operand { expression: right, value: &right_value };
        return Ok(result(comparison, left, right, leaves));
    }

    let left = Operand { expression: left, value: left_value };
    let right = Operand { expression: right, value: &right_value };
    Ok(result(comparison, left, right, leaves))
}

fn between<'v, L, S: Leaves<'v, L>>(
    operand: &'v Expression<L>,
    low: &'v Expression<L>,
    high: &'v Expression<L>,
    leaves: &S,
) -> Result<Value<'v>, EvaluationError> {
    let value = operand.evaluate(leaves)?;
    let from = compare(Comparison::GreaterOrEqual, operand, &value, low, leaves)?;
    let to = compare(Comparison::LessOrEqual, operand, &value, high, leaves)?;

    Ok(Value::boolean(match (from, to) {
        (Some(from), Some(to)) => Some(from && to),
        (Some(false), None) | (None, Some(false)) if leaves.engine().is_three_valued() => {
            Some(false)
        }
        (None, _) | (_, None) => None,
    }))
}

/// Returns the result of the first branch whose condition is true.
fn true_branch<'v, L, S: Leaves<'v, L>>(
    branches: &'v [(Expression<L>, Expression<L>)],
    leaves: &S,
) -> Result<Option<&'v Expression<L>>, EvaluationError> {
    for (condition, result) in branches {
        if condition.is_true(leaves)? {
            return Ok(Some(result));
        }
    }
    Ok(None)
}

/// Returns the result of the first branch whose value is equal to the operand.
fn equal_branch<'v, L, S: Leaves<'v, L>>(
    operand: &'v Expression<L>,
    branches: &'v [(Expression<L>, Expression<L>)],
    leaves: &S,
) -> Result<Option<&'v Expression<L>>, EvaluationError> {
    let value = operand.evaluate(leaves)?;
    for (candidate, result) in branches {
        if compare(Comparison::Equal, operand, &value, candidate, leaves)? == Some(true) {
            return Ok(Some(result));
        }
    }
    Ok(None)
}

fn call<'v, L, S: Leaves<'v, L>>(
    function: Function,
    arguments: &'v [Expression<L>],
    leaves: &S,
) -> Result<Value<'v>, EvaluationError> {
    let engine = leaves.engine();
    match (function, arguments) {
        (Function::Coalesce, _) => return first_not_null(arguments, leaves),
        (Function::IfNull, _) if engine.is_lazy() => return first_not_null(arguments, leaves),
        (Function::Iif, [condition, yes, no]) if engine.is_lazy() => {
            let chosen = if condition.is_true(leaves)? { yes } else { no };
            return chosen.evaluate(leaves);
        }
        _ => {}
    }

    let mut values = [const { Value::Null }; ARGUMENTS_MAX];
    for (value, argument) in values.iter_mut().zip(arguments) {
        *value = argument.evaluate(leaves)?;
        leaves.spend_text(value.text_bytes())?;
    }

    function.call(values, arguments.len(), engine)
}

fn first_not_null<'v, L, S: Leaves<'v, L>>(
    list: &'v [Expression<L>],
    leaves: &S,
) -> Result<Value<'v>, EvaluationError> {
    for expression in list {
        let value = expression.evaluate(leaves)?;
        if !value.is_null() {
            return Ok(value);
        }
    }
    Ok(Value::Null)
}

fn is_in_list<'v, L, S: Leaves<'v, L>>(
    operand: &'v Expression<L>,
    list: &'v [Expression<L>],
    leaves: &S,
) -> Result<Value<'v>, EvaluationError> {
    let value = operand.evaluate(leaves)?;

    // A list has no affinity of its own. SQLite applies that of the operand to both sides.
    let affinity = operand.affinity().filter(|_| leaves.engine().has_affinity());

    let mut has_null = value.is_null() && !list.is_empty();
    for item in list {
        let mut item_value = item.evaluate(leaves)?;
        let mut value = value.reborrow();
        if let Some(affinity) = affinity {
            affinity.apply(&mut value, &mut item_value);
        }
        let left = Operand { expression: operand, value: &value };
        let right = Operand { expression: item, value: &item_value };
        match result(Comparison::Equal, left, right, leaves) {
            Some(true) => return Ok(Value::boolean(Some(true))),
            Some(false) => {}
            None => has_null = true,
        }
    }

    Ok(Value::boolean(if has_null { None } else { Some(false) }))
}

fn is_in_array<'v, L, S: Leaves<'v, L>>(
    operand: &'v Expression<L>,
    array: &'v Expression<L>,
    leaves: &S,
) -> Result<Value<'v>, EvaluationError> {
    let value = operand.evaluate(leaves)?;
    let elements = array.evaluate(leaves)?;
    if value.is_null() || elements.is_null() {
        return Ok(Value::Null);
    }
    leaves.spend_text(elements.text_bytes())?;
    let items = items_of(&elements, array.is_each(), leaves.engine())?;
    let operand = Operand { expression: operand, value: &value };
    let found = items.values().any(|item| {
        Comparison::Equal.compare(&value, &item) == Some(true) || operand.has_second(&item, leaves)
    });
    Ok(Value::boolean(Some(found)))
}

/// Evaluates `&&`. Both sides are sorted: comparing every pair would take quadratic time.
fn overlap<'v, L, S: Leaves<'v, L>>(
    left: &'v Expression<L>,
    right: &'v Expression<L>,
    leaves: &S,
) -> Result<Value<'v>, EvaluationError> {
    let left_value = left.evaluate(leaves)?;
    let right_value = right.evaluate(leaves)?;
    if left_value.is_null() || right_value.is_null() {
        return Ok(Value::Null);
    }

    leaves.spend_text(left_value.text_bytes() + right_value.text_bytes())?;
    let left = items_of(&left_value, left.is_each(), leaves.engine())?;
    let right = items_of(&right_value, right.is_each(), leaves.engine())?;
    let mut left = sorted(&left).into_iter().peekable();
    let mut right = sorted(&right).into_iter().peekable();

    while let (Some(one), Some(other)) = (left.peek(), right.peek()) {
        match one.compare(other) {
            Some(std::cmp::Ordering::Less) => left.next(),
            Some(std::cmp::Ordering::Greater) => right.next(),
            Some(std::cmp::Ordering::Equal) => return Ok(Value::boolean(Some(true))),
            None => break,
        };
    }

    Ok(Value::boolean(Some(false)))
}

/// Returns the elements in ascending order, without NULLs, which are equal to nothing.
fn sorted(items: &Items) -> Vec<Value<'_>> {
    let mut values: Vec<Value<'_>> = items.values().filter(|value| !value.is_null()).collect();
    values.sort_by(|one, other| one.compare(other).unwrap_or(std::cmp::Ordering::Equal));
    values
}
