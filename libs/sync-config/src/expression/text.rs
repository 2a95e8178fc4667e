//! Prints compiled expressions as SQL, for explanations. The SQL has the meaning of the expression, but
//! may differ from the source text.

use super::quote::quoted;
use super::{Arithmetic, CastType, Comparison, Expression, Literal};
use crate::functions::Signature;
use crate::value::number;

/// Precedence of SQL operators, from the loosest to the tightest. An operand gets parentheses if it
/// binds looser than its operator requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Precedence {
    Or,
    And,
    Not,
    Comparison,
    Shift,
    BitOperator,
    Sum,
    Product,
    JsonPath,
    Primary,
}

/// SQL text of an expression, with the precedence of its outermost operator.
#[derive(Clone, Debug)]
pub(crate) struct SqlText {
    precedence: Precedence,
    text: String,
}

impl SqlText {
    pub(crate) fn new(precedence: Precedence, text: String) -> Self {
        Self { precedence, text }
    }

    /// Returns a text that never needs parentheses.
    pub(crate) fn primary(text: impl Into<String>) -> Self {
        Self::new(Precedence::Primary, text.into())
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// Returns the text as an operand of AND.
    pub(crate) fn into_condition(self) -> String {
        self.tighter_than(Precedence::And)
    }

    /// Adds parentheses if the text binds looser than `precedence`.
    fn at_least(self, precedence: Precedence) -> String {
        if self.precedence < precedence { format!("({})", self.text) } else { self.text }
    }

    /// Adds parentheses unless the text binds tighter than `precedence`.
    fn tighter_than(self, precedence: Precedence) -> String {
        if self.precedence <= precedence { format!("({})", self.text) } else { self.text }
    }
}

/// Prints an expression. `leaf` prints its leaves.
pub(crate) fn to_sql<L>(expression: &Expression<L>, leaf: &dyn Fn(&L) -> SqlText) -> SqlText {
    Printer { leaf }.sql(expression)
}

struct Printer<'p, L> {
    leaf: &'p dyn Fn(&L) -> SqlText,
}

impl<L> Printer<'_, L> {
    fn sql(&self, expression: &Expression<L>) -> SqlText {
        match expression {
            Expression::Leaf(leaf) => (self.leaf)(leaf),
            Expression::Literal(literal) => SqlText::primary(literal_text(literal)),
            Expression::And(operands) => self.junction(operands, " AND ", Precedence::And),
            Expression::Or(operands) => self.junction(operands, " OR ", Precedence::Or),
            Expression::Not(inner) => {
                let operand = self.sql(inner).tighter_than(Precedence::Not);
                SqlText::new(Precedence::Not, format!("NOT {operand}"))
            }

            Expression::Compare { comparison, left, right } => {
                self.comparison(left, comparison_text(*comparison), right)
            }
            Expression::Is { left, right } => self.comparison(left, "IS NOT DISTINCT FROM", right),
            Expression::InArray { value, array } => self.comparison(value, "IN", array),
            Expression::Overlap { left, right } => self.comparison(left, "&&", right),
            Expression::IsNull { value, negated } => {
                let not = if *negated { "NOT " } else { "" };
                self.predicate(value, &format!("IS {not}NULL"))
            }
            Expression::Between { value, low, high } => {
                let low = self.compared(low);
                let high = self.compared(high);
                self.predicate(value, &format!("BETWEEN {low} AND {high}"))
            }
            Expression::Like { value, pattern } => {
                self.predicate(value, &format!("LIKE {}", pattern.to_sql()))
            }
            Expression::InList { value, list } => {
                self.predicate(value, &format!("IN ({})", self.list(list)))
            }

            Expression::Arithmetic { operator, left, right } => {
                let (operator, precedence) = arithmetic_text(*operator);
                self.left_associative(left, operator, right, precedence)
            }
            Expression::Concat { left, right } => {
                self.left_associative(left, "||", right, Precedence::Sum)
            }
            Expression::Json { value, path, as_value, .. } => {
                let operator = if *as_value { "->>" } else { "->" };
                self.left_associative(value, operator, path, Precedence::JsonPath)
            }

            Expression::Case { operand, branches, otherwise } => {
                self.case(operand.as_deref(), branches, otherwise.as_deref())
            }
            Expression::Cast { value, to } => {
                let value = self.sql(value).into_text();
                SqlText::primary(format!("CAST({value} AS {})", cast_text(*to)))
            }
            Expression::Each(array) => self.sql(array),
            Expression::Call { function, arguments } => {
                let name = Signature::name_of(*function);
                SqlText::primary(format!("{name}({})", self.list(arguments)))
            }
        }
    }

    fn junction(
        &self,
        operands: &[Expression<L>],
        operator: &str,
        precedence: Precedence,
    ) -> SqlText {
        let operands: Vec<String> =
            operands.iter().map(|operand| self.sql(operand).tighter_than(precedence)).collect();
        SqlText::new(precedence, operands.join(operator))
    }

    fn left_associative(
        &self,
        left: &Expression<L>,
        operator: &str,
        right: &Expression<L>,
        precedence: Precedence,
    ) -> SqlText {
        let left = self.sql(left).at_least(precedence);
        let right = self.sql(right).tighter_than(precedence);
        SqlText::new(precedence, format!("{left} {operator} {right}"))
    }

    fn comparison(&self, left: &Expression<L>, operator: &str, right: &Expression<L>) -> SqlText {
        self.predicate(left, &format!("{operator} {}", self.compared(right)))
    }

    /// Prints a comparison of which the part after the left operand is given.
    fn predicate(&self, left: &Expression<L>, rest: &str) -> SqlText {
        SqlText::new(Precedence::Comparison, format!("{} {rest}", self.compared(left)))
    }

    fn compared(&self, operand: &Expression<L>) -> String {
        self.sql(operand).tighter_than(Precedence::Comparison)
    }

    fn list(&self, expressions: &[Expression<L>]) -> String {
        let texts: Vec<String> =
            expressions.iter().map(|expression| self.sql(expression).into_text()).collect();
        texts.join(", ")
    }

    fn case(
        &self,
        operand: Option<&Expression<L>>,
        branches: &[(Expression<L>, Expression<L>)],
        otherwise: Option<&Expression<L>>,
    ) -> SqlText {
        let mut text = "CASE".to_owned();
        if let Some(operand) = operand {
            text.push_str(&format!(" {}", self.sql(operand).into_text()));
        }

        for (condition, result) in branches {
            let condition = self.sql(condition).into_text();
            let result = self.sql(result).into_text();
            text.push_str(&format!(" WHEN {condition} THEN {result}"));
        }

        if let Some(otherwise) = otherwise {
            text.push_str(&format!(" ELSE {}", self.sql(otherwise).into_text()));
        }
        text.push_str(" END");

        SqlText::primary(text)
    }
}

fn literal_text(literal: &Literal) -> String {
    match literal {
        Literal::Null => "NULL".to_owned(),
        Literal::Integer(integer) => integer.to_string(),
        Literal::Real(real) => {
            let mut text = String::new();
            number::push_real_json(*real, &mut text);
            text
        }
        Literal::Text(text) => quoted(text),
    }
}

fn comparison_text(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::NotEqual => "<>",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}

fn arithmetic_text(operator: Arithmetic) -> (&'static str, Precedence) {
    match operator {
        Arithmetic::Add => ("+", Precedence::Sum),
        Arithmetic::Subtract => ("-", Precedence::Sum),
        Arithmetic::Multiply => ("*", Precedence::Product),
        Arithmetic::Divide => ("/", Precedence::Product),
        Arithmetic::Remainder => ("%", Precedence::Product),
        Arithmetic::BitAnd => ("&", Precedence::BitOperator),
        Arithmetic::BitOr => ("|", Precedence::BitOperator),
        Arithmetic::ShiftLeft => ("<<", Precedence::Shift),
        Arithmetic::ShiftRight => (">>", Precedence::Shift),
    }
}

fn cast_text(to: CastType) -> &'static str {
    match to {
        CastType::Text => "text",
        CastType::Integer => "integer",
        CastType::Real => "real",
        CastType::Numeric => "numeric",
        CastType::Blob => "blob",
    }
}
