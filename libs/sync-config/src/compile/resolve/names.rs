//! Names in expressions: columns, bucket parameters and parameters of the request.

use super::QueryCompiler;
use super::scope::{Scope, ScopeEntry, ScopeEntryKind, ScopeKind};
use crate::compile::row_sources::{Leaf, QueryExpression, SourceId};
use crate::edition::Edition;
use crate::expression::Expression;
use crate::expression::quote::identifier;
use crate::file::diagnostic::{Diagnostic, Position};
use crate::plan::{ReferenceKind, RequestLeaf, RequestMember, RequestSource, TableMetadata};
use crate::sql::syntax::Qualifier;

/// Column for the part of a table's name that `%` matches. Before edition 3 only.
const SUFFIX_COLUMN: &str = "_table_suffix";

impl QueryCompiler<'_, '_> {
    pub(super) fn name(
        &mut self,
        scope: &Scope<'_>,
        qualifier: Option<&Qualifier>,
        name: &str,
        position: Position,
    ) -> Result<QueryExpression, Diagnostic> {
        let Some(qualifier) = qualifier else {
            return self.bare_name(scope, name, position);
        };
        if let Some(entry) = scope.entry(&qualifier.table) {
            self.check_schema(qualifier, entry, position)?;
            return self.member_of(entry, name, position);
        }

        let qualifier = qualifier.table.as_str();
        let source = match (scope.kind, qualifier) {
            (ScopeKind::DataQuery { parameters }, "bucket") => {
                return bucket_parameter(parameters, name, position).map(Expression::Leaf);
            }
            (ScopeKind::ParameterQuery, "token_parameters") => RequestSource::TokenParameters,
            (ScopeKind::ParameterQuery, "user_parameters") => RequestSource::ConnectionParameters,
            (ScopeKind::Stream | ScopeKind::ParameterQuery | ScopeKind::DataQuery { .. }, _) => {
                let error = Diagnostic::error(
                    position,
                    format!("`{qualifier}` in `{qualifier}.{name}` is not a table of this query"),
                );
                if let Some(call) = scope.request_call(qualifier, name) {
                    return Err(error.hint(format!("write `{call}`")));
                }
                return Err(match scope.entries.as_slice() {
                    [] => error,
                    [entry] => error.hint(format!("the table is `{}`", entry.name)),
                    [_, _, ..] => error.hint(format!("the tables are {}", scope.names())),
                });
            }
        };
        let member = Some(RequestMember { names: vec![name.to_owned()], as_value: true });

        Ok(Expression::Leaf(Leaf::Request(RequestLeaf::Given { source, member })))
    }

    /// Checks that a table is in the schema that qualifies it.
    pub(super) fn check_schema(
        &self,
        qualifier: &Qualifier,
        entry: &ScopeEntry,
        position: Position,
    ) -> Result<(), Diagnostic> {
        let Qualifier { schema: Some(schema), table } = qualifier else { return Ok(()) };
        let hint = format!("write `{table}.column`");
        if self.file.edition < Edition::Three {
            let message = "a column is named `column` or `table.column`";
            return Err(Diagnostic::error(position, message).hint(hint));
        }

        let of_entry = match &entry.kind {
            ScopeEntryKind::Table(source) => self.sources.table(*source),
            ScopeEntryKind::Elements(_) | ScopeEntryKind::Columns(_) => None,
        };

        match of_entry.and_then(|table| self.file.plan.tables.get(table)) {
            Some(found) if found.schema == *schema => Ok(()),
            Some(_) | None => {
                let message = format!("`{table}` is not of the schema `{schema}` in this query");
                Err(Diagnostic::error(position, message).hint(hint))
            }
        }
    }

    /// Resolves an unqualified column. The columns of tables are not known here, so the query must
    /// have one table.
    fn bare_name(
        &mut self,
        scope: &Scope<'_>,
        name: &str,
        position: Position,
    ) -> Result<QueryExpression, Diagnostic> {
        match (scope.entries.as_slice(), scope.outer) {
            ([entry], _) => self.member_of(entry, name, position),
            ([], Some(outer)) => self.bare_name(outer, name, position),

            ([], None) => {
                let message = format!("`{name}` is a column, but the query has no table");
                Err(Diagnostic::error(position, message))
            }

            ([first, _, ..], _) => {
                let message = format!("`{name}` is ambiguous between the tables {}", scope.names());
                Err(Diagnostic::error(position, message)
                    .hint(format!("qualify it: `{}.{name}`", first.name)))
            }
        }
    }

    fn member_of(
        &mut self,
        entry: &ScopeEntry,
        name: &str,
        position: Position,
    ) -> Result<QueryExpression, Diagnostic> {
        match &entry.kind {
            ScopeEntryKind::Table(source) => {
                if let Some(table) = self.sources.table(*source) {
                    if name == SUFFIX_COLUMN && self.file.plan.tables[table].name.ends_with('%') {
                        return self.suffix(entry, *source, position);
                    }
                    self.file.add_reference(
                        table,
                        ReferenceKind::Column(name.to_owned()),
                        position,
                    );
                }
                Ok(Expression::Leaf(Leaf::Column { source: *source, name: name.to_owned() }))
            }

            ScopeEntryKind::Elements(source) if name == "value" => {
                Ok(Expression::Leaf(Leaf::Element(*source)))
            }
            ScopeEntryKind::Elements(source) if name == "key" => {
                Ok(Expression::Leaf(Leaf::Key(*source)))
            }
            ScopeEntryKind::Elements(_) => {
                let message = format!("`json_each` has no column `{name}`");
                Err(Diagnostic::error(position, message).hint("it has `value` and `key`"))
            }

            ScopeEntryKind::Columns(columns) => {
                if let Some((_, column)) = columns.iter().find(|(known, _)| known == name) {
                    return self.column_of_query(column, position);
                }

                let names: Vec<String> = columns.iter().map(|(name, _)| identifier(name)).collect();
                let message = format!("`{}` has no column `{name}`", entry.name);
                let hint = format!("it selects: {}", names.join(", "));
                Err(Diagnostic::error(position, message).hint(hint))
            }
        }
    }

    /// Resolves [`SUFFIX_COLUMN`].
    fn suffix(
        &self,
        entry: &ScopeEntry,
        source: SourceId,
        position: Position,
    ) -> Result<QueryExpression, Diagnostic> {
        if self.file.edition < Edition::Three {
            return Ok(self.metadata(source, TableMetadata::Suffix));
        }
        let message = format!("`{SUFFIX_COLUMN}` is not available in edition 3");
        let name = identifier(&entry.name);
        Err(Diagnostic::error(position, message).hint(format!("write `{name}.table_suffix()`")))
    }
}

fn bucket_parameter(
    parameters: &[String],
    name: &str,
    position: Position,
) -> Result<Leaf, Diagnostic> {
    if let Some(index) = parameters.iter().position(|parameter| parameter == name) {
        return Ok(Leaf::Bucket(index));
    }
    let error = Diagnostic::error(position, format!("the bucket has no parameter `{name}`"));
    Err(if parameters.is_empty() {
        error.hint("`parameters` of this bucket definition select none")
    } else {
        error.hint(format!("its parameters are: {}", parameters.join(", ")))
    })
}
