//! What names mean where a query uses them.

use super::Compiler;
use super::sources::{Leaf, QueryExpression, SourceId};
use crate::edition::Edition;
use crate::expression::Expression;
use crate::expression::quote::identifier;
use crate::file::diagnostic::{Diagnostic, Position};
use crate::plan::{Member, ReferenceKind, RequestLeaf, RequestSource, TableFact};
use crate::sql::syntax::{self, Cte, ExpressionKind, Qualifier};

/// Before edition 3: of the name of a row's table what the query's pattern leaves open.
const SUFFIX_COLUMN: &str = "_table_suffix";

/// Where an expression stands.
#[derive(Debug)]
pub(crate) struct Scope<'s> {
    pub(crate) kind: &'s ScopeKind,
    /// What the query selects from.
    pub(crate) entries: Vec<Entry>,
    pub(crate) outer: Option<&'s Self>,
    pub(crate) ctes: Ctes<'s>,
}

/// What can be said before a dot.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) kind: EntryKind,
}

#[derive(Clone, Debug)]
pub(crate) enum EntryKind {
    Table(SourceId),
    Elements(SourceId),
    /// What an inner query selects.
    Columns(Vec<(String, QueryExpression)>),
}

#[derive(Debug)]
pub(crate) enum ScopeKind {
    Stream,
    /// Of a bucket definition.
    ParameterQuery,
    /// Of a bucket definition with these parameters.
    DataQuery {
        parameters: Vec<String>,
    },
}

/// The CTEs that a query can select from: the first `count` of a list, and those around them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ctes<'s> {
    pub(crate) list: &'s [Cte],
    pub(crate) count: usize,
    pub(crate) outer: Option<&'s Self>,
}

impl<'s> Ctes<'s> {
    pub(crate) fn new(list: &'s [Cte], outer: &'s Self) -> Self {
        Self { list, count: list.len(), outer: Some(outer) }
    }

    /// The CTE of a name, and those that it can select from in turn: the ones before it. A name that
    /// is not quoted comes in lower case, however the file spells it.
    pub(crate) fn find(&self, name: &str) -> Option<(&'s Cte, Self)> {
        let is = |cte: &Cte| cte.name == name || cte.name.to_ascii_lowercase() == name;
        let place = self.list[..self.count].iter().rposition(is);
        match place {
            Some(place) => Some((&self.list[place], Self { count: place, ..*self })),
            None => self.outer.and_then(|outer| outer.find(name)),
        }
    }
}

impl<'s> Scope<'s> {
    pub(crate) fn new(kind: &'s ScopeKind, ctes: Ctes<'s>) -> Self {
        Self { kind, entries: Vec::new(), outer: None, ctes }
    }

    /// Of a query within this one.
    pub(crate) fn inner(&'s self, query: &'s syntax::Query) -> Self {
        let ctes = Ctes::new(&query.ctes, &self.ctes);
        Self { kind: self.kind, entries: Vec::new(), outer: Some(self), ctes }
    }

    /// The name of a CTE rather than of a column, where an array may stand.
    pub(crate) fn cte_of_array(&self, array: &syntax::Expression) -> Option<(&'s Cte, Ctes<'s>)> {
        let ExpressionKind::Name { qualifier: None, name } = &array.kind else { return None };
        self.ctes.find(name)
    }

    /// What goes by a name before a dot, here or around.
    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.own_entry(name).or_else(|| self.outer.and_then(|outer| outer.entry(name)))
    }

    /// What goes by a name before a dot here. In streams it is found in other letters too, if it is one
    /// thing only: `t.id` is of `AS "T"`.
    pub(super) fn own_entry(&self, name: &str) -> Option<&Entry> {
        let exact = self.entries.iter().find(|entry| entry.name == name);
        exact.or_else(|| {
            let mut alike =
                self.entries.iter().filter(|entry| entry.name.eq_ignore_ascii_case(name));
            match (self.kind, alike.next(), alike.next()) {
                (ScopeKind::Stream, one, None) => one,
                _ => None,
            }
        })
    }

    /// The tables' names, for people.
    pub(crate) fn names(&self) -> String {
        let names: Vec<String> =
            self.entries.iter().map(|entry| format!("`{}`", entry.name)).collect();
        names.join(", ")
    }

    pub(super) fn namespaces(&self) -> &'static [&'static str] {
        match self.kind {
            ScopeKind::Stream => &["auth", "connection", "subscription"],
            ScopeKind::ParameterQuery => &["request"],
            ScopeKind::DataQuery { .. } => &[],
        }
    }
}

impl Compiler<'_> {
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
                return Err(match scope.entries.as_slice() {
                    [] => error,
                    [entry] => error.hint(format!("the table is `{}`", entry.name)),
                    [_, _, ..] => error.hint(format!("the tables are {}", scope.names())),
                });
            }
        };
        let member = Some(Member { names: vec![name.to_owned()], as_value: true });
        Ok(Expression::Leaf(Leaf::Request(RequestLeaf::Given { source, member })))
    }

    /// That a table is of the schema that is named with it.
    pub(super) fn check_schema(
        &self,
        qualifier: &Qualifier,
        entry: &Entry,
        position: Position,
    ) -> Result<(), Diagnostic> {
        let Qualifier { schema: Some(schema), table } = qualifier else { return Ok(()) };
        let hint = format!("write `{table}.column`");
        if self.edition < Edition::Three {
            let message = "a column is named `column` or `table.column`";
            return Err(Diagnostic::error(position, message).hint(hint));
        }
        let of_entry = match &entry.kind {
            EntryKind::Table(source) => self.sources.table(*source),
            EntryKind::Elements(_) | EntryKind::Columns(_) => None,
        };
        match of_entry.and_then(|table| self.plan.tables.get(table)) {
            Some(found) if found.schema == *schema => Ok(()),
            Some(_) | None => {
                let message = format!("`{table}` is not of the schema `{schema}` in this query");
                Err(Diagnostic::error(position, message).hint(hint))
            }
        }
    }

    /// A name without a table's: which table has it is not known here, so there must be one only.
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
                let message = format!("`{name}` may be of any of the tables {}", scope.names());
                Err(Diagnostic::error(position, message)
                    .hint(format!("say of which, as in `{}.{name}`", first.name)))
            }
        }
    }

    fn member_of(
        &mut self,
        entry: &Entry,
        name: &str,
        position: Position,
    ) -> Result<QueryExpression, Diagnostic> {
        match &entry.kind {
            EntryKind::Table(source) => {
                if let Some(table) = self.sources.table(*source) {
                    if name == SUFFIX_COLUMN && self.plan.tables[table].name.ends_with('%') {
                        return self.suffix(entry, *source, position);
                    }
                    self.refer(table, ReferenceKind::Column(name.to_owned()), position);
                }
                Ok(Expression::Leaf(Leaf::Column { source: *source, name: name.to_owned() }))
            }
            EntryKind::Elements(source) if name == "value" => {
                Ok(Expression::Leaf(Leaf::Element(*source)))
            }
            EntryKind::Elements(source) if name == "key" => {
                Ok(Expression::Leaf(Leaf::Key(*source)))
            }
            EntryKind::Elements(_) => {
                let message = format!("`json_each` has no column `{name}`");
                Err(Diagnostic::error(position, message).hint("it has `value` and `key`"))
            }
            EntryKind::Columns(columns) => {
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
}

impl Compiler<'_> {
    /// Of a table's name what the pattern leaves open, as it is written before edition 3.
    fn suffix(
        &self,
        entry: &Entry,
        source: SourceId,
        position: Position,
    ) -> Result<QueryExpression, Diagnostic> {
        if self.edition < Edition::Three {
            return Ok(self.fact(source, TableFact::Suffix));
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
