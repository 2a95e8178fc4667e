//! Compiled expressions as SQL, for people. It means what is evaluated, but need not be what was written.

use super::quote::quoted;
use super::{Arithmetic, CastType, Comparison, Expression, Literal};
use crate::functions::Signature;
use crate::value::number;

/// How firmly the parts of a text hold together, the loosest first. Texts that are not firmer than
/// what they stand in get parentheses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Strength {
    Or,
    And,
    Not,
    Comparison,
    Shift,
    Bits,
    Sum,
    Product,
    Path,
    Whole,
}

/// The text of an expression.
#[derive(Clone, Debug)]
pub(crate) struct SqlText {
    strength: Strength,
    text: String,
}

impl SqlText {
    pub(crate) fn new(strength: Strength, text: String) -> Self {
        Self { strength, text }
    }

    /// What never needs parentheses.
    pub(crate) fn whole(text: impl Into<String>) -> Self {
        Self::new(Strength::Whole, text.into())
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// As one of several conditions that are joined by AND.
    pub(crate) fn into_condition(self) -> String {
        self.firmer_than(Strength::And)
    }

    /// As a part that must be at least this firm.
    fn at_least(self, strength: Strength) -> String {
        if self.strength < strength { format!("({})", self.text) } else { self.text }
    }

    /// As a part that must be firmer than this.
    fn firmer_than(self, strength: Strength) -> String {
        if self.strength <= strength { format!("({})", self.text) } else { self.text }
    }
}

/// The SQL of an expression whose leaves have these texts.
pub(crate) fn to_sql<L>(expression: &Expression<L>, leaf: &impl Fn(&L) -> SqlText) -> SqlText {
    let sql = |part: &Expression<L>| to_sql(part, leaf);
    let compared = |part: &Expression<L>| sql(part).firmer_than(Strength::Comparison);
    let comparison = |text| SqlText::new(Strength::Comparison, text);
    let chain = |left: &Expression<L>, operator: &str, right: &Expression<L>, strength| {
        let (left, right) = (sql(left).at_least(strength), sql(right).firmer_than(strength));
        SqlText::new(strength, format!("{left} {operator} {right}"))
    };
    let infix = |left: &Expression<L>, operator: &str, right: &Expression<L>| {
        comparison(format!("{} {operator} {}", compared(left), compared(right)))
    };
    let list =
        |parts: &[Expression<L>]| joined(parts.iter().map(|part| sql(part).into_text()), ", ");
    let all = |parts: &[Expression<L>], operator: &str, strength| {
        let texts = parts.iter().map(|part| sql(part).firmer_than(strength));
        SqlText::new(strength, joined(texts, operator))
    };
    match expression {
        Expression::Leaf(one) => leaf(one),
        Expression::Literal(literal) => SqlText::whole(literal_text(literal)),
        Expression::And(parts) => all(parts, " AND ", Strength::And),
        Expression::Or(parts) => all(parts, " OR ", Strength::Or),
        Expression::Not(inner) => {
            SqlText::new(Strength::Not, format!("NOT {}", sql(inner).firmer_than(Strength::Not)))
        }
        Expression::Compare { comparison, left, right } => {
            infix(left, comparison_text(*comparison), right)
        }
        Expression::Arithmetic { operator, left, right } => {
            let (operator, strength) = arithmetic_text(*operator);
            chain(left, operator, right, strength)
        }
        Expression::Concat { left, right } => chain(left, "||", right, Strength::Sum),
        Expression::Json { value, path, as_value, .. } => {
            chain(value, if *as_value { "->>" } else { "->" }, path, Strength::Path)
        }
        Expression::IsNull { value, negated } => {
            let not = if *negated { "NOT " } else { "" };
            comparison(format!("{} IS {not}NULL", compared(value)))
        }
        Expression::Is { left, right } => infix(left, "IS NOT DISTINCT FROM", right),
        Expression::Between { value, low, high } => {
            let [value, low, high] = [value, low, high].map(|part| compared(part));
            comparison(format!("{value} BETWEEN {low} AND {high}"))
        }
        Expression::Like { value, pattern } => {
            comparison(format!("{} LIKE {}", compared(value), pattern.to_sql()))
        }
        Expression::Case { operand, branches, otherwise } => {
            SqlText::whole(case_text(operand.as_deref(), branches, otherwise.as_deref(), leaf))
        }
        Expression::Cast { value, to } => {
            SqlText::whole(format!("CAST({} AS {})", sql(value).into_text(), cast_text(*to)))
        }
        Expression::InList { value, list: values } => {
            comparison(format!("{} IN ({})", compared(value), list(values)))
        }
        Expression::InArray { value, array } => infix(value, "IN", array),
        Expression::Each(array) => sql(array),
        Expression::Overlap { left, right } => infix(left, "&&", right),
        Expression::Call { function, arguments } => {
            SqlText::whole(format!("{}({})", Signature::name_of(*function), list(arguments)))
        }
    }
}

fn joined(texts: impl Iterator<Item = String>, separator: &str) -> String {
    texts.collect::<Vec<_>>().join(separator)
}

fn case_text<L>(
    operand: Option<&Expression<L>>,
    branches: &[(Expression<L>, Expression<L>)],
    otherwise: Option<&Expression<L>>,
    leaf: &impl Fn(&L) -> SqlText,
) -> String {
    let sql = |part: &Expression<L>| to_sql(part, leaf).into_text();
    let mut text = "CASE".to_owned();
    if let Some(operand) = operand {
        text.push_str(&format!(" {}", sql(operand)));
    }
    for (condition, result) in branches {
        text.push_str(&format!(" WHEN {} THEN {}", sql(condition), sql(result)));
    }
    if let Some(otherwise) = otherwise {
        text.push_str(&format!(" ELSE {}", sql(otherwise)));
    }
    text.push_str(" END");
    text
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

fn arithmetic_text(operator: Arithmetic) -> (&'static str, Strength) {
    match operator {
        Arithmetic::Add => ("+", Strength::Sum),
        Arithmetic::Subtract => ("-", Strength::Sum),
        Arithmetic::Multiply => ("*", Strength::Product),
        Arithmetic::Divide => ("/", Strength::Product),
        Arithmetic::Remainder => ("%", Strength::Product),
        Arithmetic::BitAnd => ("&", Strength::Bits),
        Arithmetic::BitOr => ("|", Strength::Bits),
        Arithmetic::ShiftLeft => ("<<", Strength::Shift),
        Arithmetic::ShiftRight => (">>", Strength::Shift),
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
