//! Texts for the values of rows and requests.

use crate::expression::quote::{identifier, quoted};
use crate::expression::text::{Precedence, SqlText, to_sql};
use crate::plan::{
    RequestExpression, RequestLeaf, RequestMember, RequestSource, RowExpression, RowLeaf, RowQuery,
    TableMetadata,
};
use crate::schema::TablePattern;

/// Syntax for values of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestSyntax {
    Stream,
    BucketDefinition,
}

/// Returns the first text, by numbers from 1, that is not in use yet.
pub(super) fn unused(used: &mut Vec<String>, text: impl Fn(usize) -> String) -> String {
    let mut number = 1;
    while used.contains(&text(number)) {
        number += 1;
    }
    used.push(text(number));
    text(number)
}

/// Returns the name of an array's elements. A repeated array gets a number.
pub(super) fn elements(used: &mut Vec<String>, array: &str) -> String {
    unused(used, |number| match number {
        1 => format!("json_each({array})"),
        _ => format!("json_each_{number}({array})"),
    })
}

/// Texts for the values of a row.
pub(crate) struct RowNames {
    /// Qualifier of each column.
    prefix: String,
    pub(super) arrays: Vec<String>,
}

impl RowNames {
    pub(crate) fn new(rows: &RowQuery, alias: Option<&str>) -> Self {
        let prefix = alias.map(|alias| format!("{}.", identifier(alias))).unwrap_or_default();
        let mut names = Self { prefix, arrays: Vec::new() };
        let mut arrays = Vec::with_capacity(rows.arrays.len());
        for array in &rows.arrays {
            elements(&mut arrays, &names.text(array));
        }
        names.arrays = arrays;
        names
    }

    pub(super) fn text(&self, expression: &RowExpression) -> String {
        self.sql(expression).into_text()
    }

    /// Returns the texts of the conditions that are joined by AND.
    pub(crate) fn conditions(&self, filter: Option<&RowExpression>) -> Vec<String> {
        let conditions = match filter {
            None => &[][..],
            Some(RowExpression::And(conditions)) => conditions,
            Some(filter) => std::slice::from_ref(filter),
        };
        conditions.iter().map(|condition| self.sql(condition).into_condition()).collect()
    }

    fn sql(&self, expression: &RowExpression) -> SqlText {
        to_sql(expression, &|leaf: &RowLeaf| match leaf {
            RowLeaf::Column(name) => {
                SqlText::primary(format!("{}{}", self.prefix, identifier(name)))
            }
            RowLeaf::TableMetadata(fact) => SqlText::primary(self.fact(*fact)),
            RowLeaf::Element(index) => SqlText::primary(format!("{}.value", self.arrays[*index])),
            RowLeaf::Key(index) => SqlText::primary(format!("{}.key", self.arrays[*index])),
        })
    }

    fn fact(&self, fact: TableMetadata) -> String {
        let function = match fact {
            TableMetadata::Schema => "schema",
            TableMetadata::Name => "table_name",
            TableMetadata::Suffix => "table_suffix",
        };
        format!("{}{function}()", self.prefix)
    }

    pub(crate) fn texts(&self, expressions: &[RowExpression]) -> Vec<String> {
        expressions.iter().map(|expression| self.text(expression)).collect()
    }
}

/// Returns the text of a value of the request. `element` is the name of the array whose element is
/// current.
pub(crate) fn request_text(
    expression: &RequestExpression,
    element: &str,
    syntax: RequestSyntax,
) -> SqlText {
    to_sql(expression, &|leaf: &RequestLeaf| match leaf {
        RequestLeaf::Given { source, member } => given_text(*source, member.as_ref(), syntax),
        RequestLeaf::Element => SqlText::primary(format!("{element}.value")),
        RequestLeaf::Key => SqlText::primary(format!("{element}.key")),
    })
}

fn given_text(
    source: RequestSource,
    member: Option<&RequestMember>,
    syntax: RequestSyntax,
) -> SqlText {
    let (whole, one) = source_syntax(source, syntax);
    let Some(RequestMember { names, as_value }) = member else { return SqlText::primary(whole) };

    if let ([name], true, Some(one)) = (names.as_slice(), *as_value, one) {
        return SqlText::primary(format!("{one}({})", quoted(name)));
    }
    if let (RequestSource::TokenParameters, [name], true) = (source, names.as_slice(), *as_value) {
        return SqlText::primary(format!("{whole}.{}", identifier(name)));
    }

    let operator = if *as_value { "->>" } else { "->" };
    let path = match names.as_slice() {
        [] => "$".to_owned(),
        [name] => name.clone(),
        [_, _, ..] => format!("$.{}", names.join(".")),
    };
    SqlText::new(Precedence::JsonPath, format!("{whole} {operator} {}", quoted(&path)))
}

/// Returns the text of a whole value, and the function that returns one member of it.
fn source_syntax(
    source: RequestSource,
    syntax: RequestSyntax,
) -> (&'static str, Option<&'static str>) {
    match (source, syntax) {
        (RequestSource::UserId, RequestSyntax::Stream) => ("auth.user_id()", None),
        (RequestSource::UserId, RequestSyntax::BucketDefinition) => ("request.user_id()", None),
        (RequestSource::Claims, RequestSyntax::Stream) => {
            ("auth.parameters()", Some("auth.parameter"))
        }
        (RequestSource::Claims, RequestSyntax::BucketDefinition) => ("request.jwt()", None),
        (RequestSource::TokenParameters, _) => ("token_parameters", None),

        (RequestSource::ConnectionParameters, RequestSyntax::Stream) => {
            ("connection.parameters()", Some("connection.parameter"))
        }
        (RequestSource::ConnectionParameters, RequestSyntax::BucketDefinition) => {
            ("request.parameters()", Some("request.parameter"))
        }
        (RequestSource::SubscriptionParameters, _) => {
            ("subscription.parameters()", Some("subscription.parameter"))
        }
    }
}

/// Returns the name of a table with its schema.
pub(super) fn table_text(table: &TablePattern) -> String {
    format!("{}.{}", identifier(&table.schema), identifier(&table.name))
}
