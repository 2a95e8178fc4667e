//! The tables and columns that devices get, with the types of their values.

use serde::Serialize;

use super::evaluate::{BoundExpression, BoundLeaf, ItemSource, TableEvaluator};
use crate::expression::{Arithmetic, CastType, Expression, Literal};
use crate::functions::Function;
use crate::pg::builtin_types::Scalar;
use crate::pg::converter::{Converter, Converters};

/// Table as devices have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutputTable {
    /// Name on devices.
    pub name: String,
    /// Columns besides `id`, which is a text.
    pub columns: Vec<OutputColumn>,
}

/// Column of a table on devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutputColumn {
    /// Name of the column.
    pub name: String,
    /// Type of its values.
    pub column_type: ColumnType,
}

/// Type of the values of a column on devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// Texts. So are values whose type is not known.
    Text,
    /// Integers. So are booleans.
    Integer,
    /// Floating-point numbers.
    Real,
}

impl ColumnType {
    /// Returns the type of a column that has values of both.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Integer, Self::Integer) => Self::Integer,
            (Self::Integer | Self::Real, Self::Integer | Self::Real) => Self::Real,
            (Self::Text, _) | (_, Self::Text) => Self::Text,
        }
    }
}

/// Adds the tables that rows of a table become. Queries with the same name on devices share a table, which
/// has the columns of all of them.
pub(crate) fn add_output(evaluator: &TableEvaluator, tables: &mut Vec<OutputTable>) {
    for projection in &evaluator.projections {
        let at = match tables.iter().position(|table| table.name == projection.object_type) {
            Some(at) => at,
            None => {
                let name = projection.object_type.clone();
                tables.push(OutputTable { name, columns: Vec::new() });
                tables.len() - 1
            }
        };
        let table = &mut tables[at];

        for (index, item) in projection.items.iter().enumerate() {
            if index == projection.id {
                continue;
            }
            // The key is a JSON text and a colon.
            let quoted = item.key.strip_suffix(':').unwrap_or(&item.key);
            let Ok(name) = serde_json::from_str::<String>(quoted) else { continue };
            let column_type = match &item.source {
                ItemSource::Column(column) => type_of_column(&evaluator.converters, *column),
                ItemSource::Expression(expression) => {
                    type_of(&evaluator.converters, expression).unwrap_or(ColumnType::Text)
                }
            };
            match table.columns.iter_mut().find(|column| column.name == name) {
                Some(known) => known.column_type = known.column_type.with(column_type),
                None => table.columns.push(OutputColumn { name, column_type }),
            }
        }
    }
}

fn type_of_column(converters: &Converters, column: usize) -> ColumnType {
    match converters.columns.get(column) {
        Some(Converter::Scalar(Scalar::Boolean | Scalar::Integer)) => ColumnType::Integer,
        Some(Converter::Scalar(Scalar::Real)) => ColumnType::Real,
        Some(
            Converter::Scalar(
                Scalar::Text
                | Scalar::Json
                | Scalar::Bytes
                | Scalar::Date
                | Scalar::Time
                | Scalar::Timestamp
                | Scalar::TimestampTz
                | Scalar::Lsn,
            )
            | Converter::Structure(_),
        )
        | None => ColumnType::Text,
    }
}

/// Returns the type of an expression; `None` for NULL, which has that of what it is combined with.
fn type_of(converters: &Converters, expression: &BoundExpression) -> Option<ColumnType> {
    let of = |expression: &BoundExpression| type_of(converters, expression);
    Some(match expression {
        Expression::Leaf(BoundLeaf::Column(column)) => type_of_column(converters, *column),
        Expression::Leaf(BoundLeaf::Missing) | Expression::Literal(Literal::Null) => return None,
        Expression::Leaf(
            BoundLeaf::Schema | BoundLeaf::Name { .. } | BoundLeaf::Element(_) | BoundLeaf::Key(_),
        )
        | Expression::Literal(Literal::Text(_))
        | Expression::Concat { .. }
        | Expression::Json { .. }
        | Expression::Each(_) => ColumnType::Text,
        Expression::Literal(Literal::Integer(_))
        | Expression::And(_)
        | Expression::Or(_)
        | Expression::Not(_)
        | Expression::Compare { .. }
        | Expression::IsNull { .. }
        | Expression::Is { .. }
        | Expression::Between { .. }
        | Expression::Like { .. }
        | Expression::InList { .. }
        | Expression::InArray { .. }
        | Expression::Overlap { .. } => ColumnType::Integer,
        Expression::Literal(Literal::Real(_)) => ColumnType::Real,
        Expression::Arithmetic { left, right, operator } => {
            type_of_arithmetic(*operator, of(left), of(right))
        }
        Expression::Case { branches, otherwise, .. } => {
            let values = branches.iter().map(|(_, value)| value).chain(otherwise.as_deref());
            return values.filter_map(of).reduce(ColumnType::with);
        }
        Expression::Cast { to, .. } => match to {
            CastType::Text | CastType::Blob => ColumnType::Text,
            CastType::Integer => ColumnType::Integer,
            CastType::Real | CastType::Numeric => ColumnType::Real,
        },
        Expression::Call { function, arguments } => {
            return type_of_call(converters, *function, arguments);
        }
    })
}

fn type_of_arithmetic(
    operator: Arithmetic,
    left: Option<ColumnType>,
    right: Option<ColumnType>,
) -> ColumnType {
    // Texts are read as numbers, which may be any.
    let is_integer = |of: Option<ColumnType>| of.is_none_or(|of| of == ColumnType::Integer);
    match operator {
        Arithmetic::BitAnd | Arithmetic::BitOr | Arithmetic::ShiftLeft | Arithmetic::ShiftRight => {
            ColumnType::Integer
        }
        Arithmetic::Add
        | Arithmetic::Subtract
        | Arithmetic::Multiply
        | Arithmetic::Divide
        | Arithmetic::Remainder => {
            if is_integer(left) && is_integer(right) {
                ColumnType::Integer
            } else {
                ColumnType::Real
            }
        }
    }
}

fn type_of_call(
    converters: &Converters,
    function: Function,
    arguments: &[BoundExpression],
) -> Option<ColumnType> {
    let of = |expression: &BoundExpression| type_of(converters, expression);
    Some(match function {
        Function::Upper
        | Function::Lower
        | Function::Hex
        | Function::Base64
        | Function::Typeof
        | Function::Substring
        | Function::JsonExtract
        | Function::JsonKeys
        | Function::DateTime
        | Function::UuidBlob
        | Function::StAsGeoJson
        | Function::StAsText
        | Function::Trim
        | Function::TrimStart
        | Function::TrimEnd
        | Function::Replace => ColumnType::Text,
        Function::Length | Function::Instr | Function::JsonArrayLength | Function::JsonValid => {
            ColumnType::Integer
        }
        // Without the modifier for parts of seconds it gives whole ones.
        Function::UnixEpoch if arguments.iter().skip(1).any(is_subsecond) => ColumnType::Real,
        Function::UnixEpoch => ColumnType::Integer,
        Function::StX | Function::StY | Function::Round => ColumnType::Real,
        Function::Abs | Function::NullIf => return arguments.first().and_then(of),
        Function::IfNull | Function::Coalesce => {
            return arguments.iter().filter_map(of).reduce(ColumnType::with);
        }
        Function::Iif => {
            return arguments.iter().skip(1).filter_map(of).reduce(ColumnType::with);
        }
    })
}

fn is_subsecond(argument: &BoundExpression) -> bool {
    matches!(argument, Expression::Literal(Literal::Text(text)) if text.starts_with("subsec"))
}
