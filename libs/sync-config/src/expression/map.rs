//! Traversal of expressions.

use super::Expression;

impl<L> Expression<L> {
    /// Copies the expression with its leaves replaced. Stops at the first error.
    pub(crate) fn try_map<M, E>(
        &self,
        leaf: &mut impl FnMut(&L) -> Result<M, E>,
    ) -> Result<Expression<M>, E> {
        Ok(match self {
            Self::Leaf(l) => Expression::Leaf(leaf(l)?),
            Self::Literal(literal) => Expression::Literal(literal.clone()),

            Self::And(list) => Expression::And(map_all(list, leaf)?),
            Self::Or(list) => Expression::Or(map_all(list, leaf)?),
            Self::Not(inner) => Expression::Not(map_box(inner, leaf)?),

            Self::Compare { comparison, left, right } => Expression::Compare {
                comparison: *comparison,
                left: map_box(left, leaf)?,
                right: map_box(right, leaf)?,
            },

            Self::Arithmetic { operator, left, right } => Expression::Arithmetic {
                operator: *operator,
                left: map_box(left, leaf)?,
                right: map_box(right, leaf)?,
            },
            Self::Concat { left, right } => {
                Expression::Concat { left: map_box(left, leaf)?, right: map_box(right, leaf)? }
            }
            Self::Json { value, path, as_value, split } => Expression::Json {
                value: map_box(value, leaf)?,
                path: map_box(path, leaf)?,
                as_value: *as_value,
                split: *split,
            },

            Self::IsNull { value, negated } => {
                Expression::IsNull { value: map_box(value, leaf)?, negated: *negated }
            }
            Self::Is { left, right } => {
                Expression::Is { left: map_box(left, leaf)?, right: map_box(right, leaf)? }
            }
            Self::Between { value, low, high } => Expression::Between {
                value: map_box(value, leaf)?,
                low: map_box(low, leaf)?,
                high: map_box(high, leaf)?,
            },
            Self::Like { value, pattern } => {
                Expression::Like { value: map_box(value, leaf)?, pattern: pattern.clone() }
            }

            Self::Case { operand, branches, otherwise } => Expression::Case {
                operand: map_option(operand.as_deref(), leaf)?,
                branches: map_pairs(branches, leaf)?,
                otherwise: map_option(otherwise.as_deref(), leaf)?,
            },
            Self::Cast { value, to } => Expression::Cast { value: map_box(value, leaf)?, to: *to },

            Self::InList { value, list } => {
                Expression::InList { value: map_box(value, leaf)?, list: map_all(list, leaf)? }
            }
            Self::InArray { value, array } => {
                Expression::InArray { value: map_box(value, leaf)?, array: map_box(array, leaf)? }
            }
            Self::Each(array) => Expression::Each(map_box(array, leaf)?),
            Self::Overlap { left, right } => {
                Expression::Overlap { left: map_box(left, leaf)?, right: map_box(right, leaf)? }
            }

            Self::Call { function, arguments } => {
                Expression::Call { function: *function, arguments: map_all(arguments, leaf)? }
            }
        })
    }

    /// Calls `see` for each direct child.
    pub(crate) fn for_each_child<'e>(&'e self, see: &mut impl FnMut(&'e Self)) {
        match self {
            Self::Leaf(_) | Self::Literal(_) => {}
            Self::And(list) | Self::Or(list) | Self::Call { arguments: list, .. } => {
                list.iter().for_each(see);
            }

            Self::Not(value)
            | Self::Each(value)
            | Self::IsNull { value, .. }
            | Self::Like { value, .. }
            | Self::Cast { value, .. } => see(value),

            Self::Compare { left, right, .. }
            | Self::Arithmetic { left, right, .. }
            | Self::Concat { left, right }
            | Self::Json { value: left, path: right, .. }
            | Self::Is { left, right }
            | Self::Overlap { left, right }
            | Self::InArray { value: left, array: right } => {
                see(left);
                see(right);
            }

            Self::Between { value, low, high } => {
                see(value);
                see(low);
                see(high);
            }

            Self::Case { operand, branches, otherwise } => {
                operand.iter().for_each(|operand| see(operand));
                for (condition, result) in branches {
                    see(condition);
                    see(result);
                }
                otherwise.iter().for_each(|otherwise| see(otherwise));
            }

            Self::InList { value, list } => {
                see(value);
                list.iter().for_each(see);
            }
        }
    }

    /// Returns the number of nodes and the depth.
    pub(crate) fn size(&self) -> (usize, usize) {
        let mut nodes = 1;
        let mut depth = 0;
        self.for_each_child(&mut |child| {
            let (child_nodes, child_depth) = child.size();
            nodes += child_nodes;
            depth = depth.max(child_depth);
        });
        (nodes, depth + 1)
    }

    /// Calls `see` for each leaf.
    pub(crate) fn for_each_leaf<'e>(&'e self, see: &mut impl FnMut(&'e L)) {
        if let Self::Leaf(leaf) = self {
            see(leaf);
        }
        self.for_each_child(&mut |child| child.for_each_leaf(see));
    }
}

fn map_box<L, M, E>(
    expression: &Expression<L>,
    leaf: &mut impl FnMut(&L) -> Result<M, E>,
) -> Result<Box<Expression<M>>, E> {
    expression.try_map(leaf).map(Box::new)
}

fn map_all<L, M, E>(
    list: &[Expression<L>],
    leaf: &mut impl FnMut(&L) -> Result<M, E>,
) -> Result<Vec<Expression<M>>, E> {
    list.iter().map(|expression| expression.try_map(leaf)).collect()
}

fn map_option<L, M, E>(
    expression: Option<&Expression<L>>,
    leaf: &mut impl FnMut(&L) -> Result<M, E>,
) -> Result<Option<Box<Expression<M>>>, E> {
    expression.map(|expression| map_box(expression, leaf)).transpose()
}

type Pairs<L> = Vec<(Expression<L>, Expression<L>)>;

fn map_pairs<L, M, E>(
    pairs: &Pairs<L>,
    leaf: &mut impl FnMut(&L) -> Result<M, E>,
) -> Result<Pairs<M>, E> {
    pairs.iter().map(|(first, second)| Ok((first.try_map(leaf)?, second.try_map(leaf)?))).collect()
}
