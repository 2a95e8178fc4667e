//! Expressions.

use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Ident, InTarget, UnaryOperator, Value as SqlValue,
    ValueWithSpan,
};
use sqlparser::tokenizer::Span;

use super::convert::AstConverter;
use super::dialect::OVERLAP;
use super::parsed::{is_literal, row_items, start, text_of};
use super::syntax::{Expression, ExpressionKind, Qualifier};
use crate::expression::{Arithmetic, CastType, Comparison};
use crate::file::diagnostic::Diagnostic;
use crate::value::json;

/// Maximum nesting of an expression. Chains of AND and OR are one level.
const DEPTH_MAX: usize = 100;

impl AstConverter<'_> {
    pub(super) fn expression(&mut self, expr: Expr) -> Result<Expression, Diagnostic> {
        self.convert(Box::new(expr))
    }

    pub(super) fn boxed(&mut self, expr: Box<Expr>) -> Result<Box<Expression>, Diagnostic> {
        self.convert(expr).map(Box::new)
    }

    fn convert(&mut self, expr: Box<Expr>) -> Result<Expression, Diagnostic> {
        if self.depth == DEPTH_MAX {
            return Err(self.error(self.start_of(&expr), "the expression is nested too deeply"));
        }
        self.depth += 1;
        let span = self.start_of(&expr);
        let result = self.convert_kind(expr, span);
        self.depth -= 1;
        result
    }

    /// Returns the start of an expression, or of its query if the start is unknown.
    pub(super) fn start_of(&self, expr: &Expr) -> Span {
        let span = start(expr);
        if span == Span::empty() { self.start } else { span }
    }

    /// Converts an expression. Kinds with operands have functions of their own, and expressions
    /// stay boxed, to keep the stack frame of each nesting level small.
    #[expect(clippy::wildcard_enum_match_arm, reason = "what is not listed is refused")]
    fn convert_kind(&mut self, expr: Box<Expr>, span: Span) -> Result<Expression, Diagnostic> {
        let kind = match *expr {
            Expr::Identifier(ident) => self.column(ident),
            Expr::CompoundIdentifier(parts) => self.compound(parts, span),
            Expr::Value(value) => self.literal(value),
            Expr::Nested(inner) => return self.convert(inner),
            Expr::Function(function) => self.function(function, span),

            Expr::UnaryOp { op, expr } => self.unary(op, expr, span),
            Expr::BinaryOp { left, op, right } => return self.binary(left, op, right),
            Expr::IsNull(value) => self.is_null(value, false),
            Expr::IsNotNull(value) => self.is_null(value, true),

            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format: None,
            } => self.cast(expr, &data_type, span),
            Expr::In { expr, target, negated, global: false } => self.is_in(expr, target, negated),

            Expr::Exists { subquery, negated } => {
                Ok(ExpressionKind::Exists { query: Box::new(self.query(*subquery)?), negated })
            }
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                self.substring(expr, substring_from, substring_for)
            }
            Expr::Trim { expr, trim_where, trim_what, trim_characters } => {
                return self.trim(expr, trim_where, trim_what, trim_characters);
            }
            other => return self.operator(other, span),
        }?;

        Ok(Expression { position: self.input.position(span), kind })
    }

    fn column(&self, ident: Ident) -> Result<ExpressionKind, Diagnostic> {
        Ok(ExpressionKind::Name { qualifier: None, name: self.name(ident)? })
    }

    fn is_null(&mut self, value: Box<Expr>, negated: bool) -> Result<ExpressionKind, Diagnostic> {
        Ok(ExpressionKind::IsNull { value: self.boxed(value)?, negated })
    }

    fn cast(
        &mut self,
        value: Box<Expr>,
        data_type: &DataType,
        span: Span,
    ) -> Result<ExpressionKind, Diagnostic> {
        let to = self.cast_type(data_type, span)?;
        Ok(ExpressionKind::Cast { value: self.boxed(value)?, to })
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "names for those that are often tried")]
    pub(super) fn refuse_expression(&self, expr: &Expr, span: Span) -> Diagnostic {
        match expr {
            Expr::Tuple(_) => self
                .error(span, "a list of values is not supported here")
                .hint("compare value by value, as in `a = x AND b = y`"),
            Expr::Subquery(_) => self
                .error(span, "a query is not supported here")
                .hint("write `x IN (SELECT ...)` in the condition"),
            other => {
                let words: &[&str] = match other {
                    Expr::Like { .. } | Expr::ILike { .. } => &["ANY"],
                    Expr::IsUnknown(_) | Expr::IsNotUnknown(_) => &["UNKNOWN"],
                    Expr::AnyOp { .. } => &["ANY", "SOME"],
                    Expr::AllOp { .. } => &["ALL"],
                    Expr::AtTimeZone { .. } => &["AT"],
                    Expr::Extract { .. } => &["EXTRACT"],
                    Expr::Collate { .. } => &["COLLATE"],
                    Expr::Array(_) => &["ARRAY"],
                    Expr::Interval(_) => &["INTERVAL"],
                    Expr::Ceil { .. } => &["CEIL"],
                    Expr::Floor { .. } => &["FLOOR"],
                    Expr::Position { .. } => &["POSITION"],
                    Expr::SimilarTo { .. } => &["SIMILAR"],
                    _ => {
                        return self.error(span, "this expression is not supported").hint(
                            "the documentation of the sync config lists the operators and functions; read a member of JSON with `j ->> 'name'`",
                        );
                    }
                };

                let (word, span) = self.input.find(span, words);
                self.refused(span, word)
            }
        }
    }

    fn compound(&self, parts: Vec<Ident>, span: Span) -> Result<ExpressionKind, Diagnostic> {
        let mut parts = parts.into_iter().rev();
        let name = parts.next().map(|name| self.name(name)).transpose()?.unwrap_or_default();
        let qualifier = self.qualifier(parts)?;
        match qualifier {
            Some(_) => Ok(ExpressionKind::Name { qualifier, name }),
            None => Err(self
                .error(span, "a column is named `column`, `table.column` or `schema.table.column`")
                .hint("give the table an alias and write `alias.column`")),
        }
    }

    /// Returns the qualifier of a column, whose parts come in reverse order. Returns `None` if
    /// there are too many or no parts.
    pub(super) fn qualifier(
        &self,
        mut parts: impl Iterator<Item = Ident>,
    ) -> Result<Option<Qualifier>, Diagnostic> {
        let (Some(table), schema, None) = (parts.next(), parts.next(), parts.next()) else {
            return Ok(None);
        };
        let schema = schema.map(|schema| self.name(schema)).transpose()?;
        Ok(Some(Qualifier { schema, table: self.name(table)? }))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "what is not listed is refused")]
    fn literal(&self, value: ValueWithSpan) -> Result<ExpressionKind, Diagnostic> {
        let ValueWithSpan { value, span } = value;

        match value {
            SqlValue::Null => Ok(ExpressionKind::Null),
            SqlValue::Boolean(boolean) => Ok(ExpressionKind::Boolean(boolean)),
            SqlValue::SingleQuotedString(text) => Ok(ExpressionKind::Text(text)),
            SqlValue::Number(text, false) => self.number(&text, "", span),

            SqlValue::Placeholder(text) => {
                Err(self.error(span, format!("`{text}` is not supported")).hint(
                    "values of the request are functions: `auth.user_id()`, `auth.parameter('name')`, \
                     `subscription.parameter('name')`",
                ))
            }
            _ => Err(self
                .error(span, "this kind of literal is not supported")
                .hint("write a number, a text in single quotes, TRUE, FALSE or NULL")),
        }
    }

    fn number(&self, text: &str, sign: &str, span: Span) -> Result<ExpressionKind, Diagnostic> {
        let signed = format!("{sign}{text}");
        let is_decimal = text.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
        if let Ok(integer) = signed.parse() {
            return Ok(ExpressionKind::Integer(integer));
        }
        match signed.parse::<f64>() {
            Ok(real) if is_decimal && real.is_finite() => Ok(ExpressionKind::Real(real)),
            Ok(_) | Err(_) => Err(self
                .error(span, format!("`{text}` is not a number"))
                .hint("write a number such as `17`, `0.5` or `1e-7`, up to 1.8e308")),
        }
    }

    fn unary(
        &mut self,
        op: UnaryOperator,
        expr: Box<Expr>,
        span: Span,
    ) -> Result<ExpressionKind, Diagnostic> {
        if op == UnaryOperator::Not {
            return Ok(ExpressionKind::Not(self.boxed(expr)?));
        }
        let negative = op == UnaryOperator::Minus;
        if !negative && op != UnaryOperator::Plus {
            let operator = op.to_string();
            let (_, span) = self.input.find(span, &[&operator]);
            let message = format!("`{operator}` is not supported before an expression");
            return Err(self.error(span, message));
        }

        if let Expr::Value(ValueWithSpan { value: SqlValue::Number(text, false), span }) =
            expr.as_ref()
            && negative
        {
            return self.number(text, "-", *span);
        }

        Ok(ExpressionKind::Signed { negative, value: self.boxed(expr)? })
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "what is not listed is refused")]
    fn binary(
        &mut self,
        left: Box<Expr>,
        op: BinaryOperator,
        right: Box<Expr>,
    ) -> Result<Expression, Diagnostic> {
        let span = self.start_of(&left);
        let position = self.input.position(span);
        let operator = match &op {
            BinaryOperator::And | BinaryOperator::Or => {
                return self.chain(left, op, right);
            }
            BinaryOperator::Eq => Operator::Compare(Comparison::Equal),
            BinaryOperator::NotEq => Operator::Compare(Comparison::NotEqual),
            BinaryOperator::Lt => Operator::Compare(Comparison::Less),
            BinaryOperator::LtEq => Operator::Compare(Comparison::LessOrEqual),
            BinaryOperator::Gt => Operator::Compare(Comparison::Greater),
            BinaryOperator::GtEq => Operator::Compare(Comparison::GreaterOrEqual),
            BinaryOperator::Plus => Operator::Arithmetic(Arithmetic::Add),
            BinaryOperator::Minus => Operator::Arithmetic(Arithmetic::Subtract),
            BinaryOperator::Multiply => Operator::Arithmetic(Arithmetic::Multiply),
            BinaryOperator::Divide => Operator::Arithmetic(Arithmetic::Divide),
            BinaryOperator::Modulo => Operator::Arithmetic(Arithmetic::Remainder),
            BinaryOperator::BitwiseAnd => Operator::Arithmetic(Arithmetic::BitAnd),
            BinaryOperator::BitwiseOr => Operator::Arithmetic(Arithmetic::BitOr),
            BinaryOperator::PGBitwiseShiftLeft => Operator::Arithmetic(Arithmetic::ShiftLeft),
            BinaryOperator::PGBitwiseShiftRight => Operator::Arithmetic(Arithmetic::ShiftRight),

            BinaryOperator::Custom(operator) if operator == OVERLAP => {
                if let Expr::Subquery(query) = *right {
                    let array = Box::new(self.expression(*left)?);
                    let query = Box::new(self.query(*query)?);
                    let kind = ExpressionKind::OverlapQuery { array, query };
                    return Ok(Expression { position, kind });
                }
                Operator::Overlap
            }

            BinaryOperator::StringConcat => Operator::Concat,
            BinaryOperator::Arrow => Operator::Json { as_value: false },
            BinaryOperator::LongArrow => Operator::Json { as_value: true },
            other => {
                let text = other.to_string();
                let (_, span) = self.input.find(span, &[&text]);
                return Err(self.refused(span, &text));
            }
        };

        let left = self.boxed(left)?;
        let right = self.boxed(right)?;
        let kind = match operator {
            Operator::Compare(comparison) => ExpressionKind::Compare { comparison, left, right },
            Operator::Arithmetic(operator) => ExpressionKind::Arithmetic { operator, left, right },
            Operator::Concat => ExpressionKind::Concat { left, right },
            Operator::Overlap => ExpressionKind::Overlap { left, right },
            Operator::Json { as_value } => {
                ExpressionKind::Json { value: left, path: right, as_value }
            }
        };

        Ok(Expression { position, kind })
    }

    /// Converts `a AND b AND c`. The parser nests such chains to the left, so a loop flattens them.
    fn chain(
        &mut self,
        left: Box<Expr>,
        op: BinaryOperator,
        right: Box<Expr>,
    ) -> Result<Expression, Diagnostic> {
        let mut operands = vec![right];
        let mut rest = left;
        while let Expr::BinaryOp { op: same, .. } = rest.as_ref()
            && *same == op
        {
            let Expr::BinaryOp { left, right, .. } = *rest else { break };
            operands.push(right);
            rest = left;
        }
        operands.push(rest);
        let operands: Vec<Expression> = operands
            .into_iter()
            .rev()
            .map(|operand| self.convert(operand))
            .collect::<Result<_, _>>()?;
        let position = operands[0].position;
        let kind = if op == BinaryOperator::And {
            ExpressionKind::And(operands)
        } else {
            ExpressionKind::Or(operands)
        };

        Ok(Expression { position, kind })
    }

    fn is_in(
        &mut self,
        value: Box<Expr>,
        target: InTarget,
        negated: bool,
    ) -> Result<ExpressionKind, Diagnostic> {
        let span = self.start_of(&value);
        let value = self.boxed(value)?;

        match target {
            InTarget::Subquery(query) => {
                let query = Box::new(self.query(*query)?);
                Ok(ExpressionKind::InQuery { value, query, negated })
            }

            InTarget::List(mut list) => {
                if list.len() == 1 && (!is_literal(&list[0]) || is_json_array(&list[0])) {
                    return self.in_array(value, list.remove(0), negated);
                }

                if let [Expr::Value(ValueWithSpan { span, .. })] = list.as_slice()
                    && !self.input.is_parenthesized(*span)
                {
                    let error = self.error(*span, "this is a single value, not an array");
                    return Err(error.hint("write `=` to compare with one value"));
                }

                let list =
                    list.into_iter().map(|item| self.expression(item)).collect::<Result<_, _>>()?;
                Ok(ExpressionKind::InList { value, list, negated })
            }

            InTarget::Unnest(_) | InTarget::Table { .. } => {
                let (_, span) = self.input.find(span, &["IN"]);
                Err(self.error(span, "`IN` must be followed by values, a query or an array"))
            }
        }
    }

    /// The parser returns the same tree for `x IN a` and `x IN (a)`. In SQL the latter is `x = a`.
    /// Here, a single item that is no literal is an array.
    fn in_array(
        &mut self,
        value: Box<Expression>,
        array: Expr,
        negated: bool,
    ) -> Result<ExpressionKind, Diagnostic> {
        let span = start(&array);
        if let Some(items) = row_items(&array) {
            let array = Box::new(self.array(items, span)?);
            return Ok(ExpressionKind::InArray { value, array, negated });
        }
        let array = Box::new(self.expression(array)?);
        Ok(ExpressionKind::InArray { value, array, negated })
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "what is not listed is refused")]
    fn cast_type(&self, data_type: &DataType, span: Span) -> Result<CastType, Diagnostic> {
        match data_type {
            DataType::Text => Ok(CastType::Text),
            DataType::Int(None)
            | DataType::Integer(None)
            | DataType::BigInt(None)
            | DataType::Int8(None) => Ok(CastType::Integer),
            DataType::Real => Ok(CastType::Real),
            DataType::Numeric(sqlparser::ast::ExactNumberInfo::None) => Ok(CastType::Numeric),
            DataType::Blob(None) => Ok(CastType::Blob),

            _ => Err(self
                .error(
                    self.input.find(span, &["AS", "::"]).1,
                    "a cast to this type is not supported",
                )
                .hint("cast to text, integer, real, numeric or blob")),
        }
    }
}

enum Operator {
    Compare(Comparison),
    Arithmetic(Arithmetic),
    Concat,
    Overlap,
    Json { as_value: bool },
}

/// Returns whether an expression is a text with a JSON array.
fn is_json_array(expr: &Expr) -> bool {
    text_of(expr).is_some_and(|text| json::parse(text).is_some_and(|json| json.is_array()))
}
