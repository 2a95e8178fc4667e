//! What names mean where a query uses them.

use crate::compile::row_sources::{QueryExpression, SourceId};
use crate::sql::syntax::{self, Cte, ExpressionKind};

/// Where an expression stands.
#[derive(Debug)]
pub(crate) struct Scope<'s> {
    pub(crate) kind: &'s ScopeKind,
    /// What the query selects from.
    pub(crate) entries: Vec<ScopeEntry>,
    pub(crate) outer: Option<&'s Self>,
    pub(crate) ctes: Ctes<'s>,
}

/// What can be said before a dot.
#[derive(Clone, Debug)]
pub(crate) struct ScopeEntry {
    pub(crate) name: String,
    pub(crate) kind: ScopeEntryKind,
}

#[derive(Clone, Debug)]
pub(crate) enum ScopeEntryKind {
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
    pub(super) fn entry(&self, name: &str) -> Option<&ScopeEntry> {
        self.own_entry(name).or_else(|| self.outer.and_then(|outer| outer.entry(name)))
    }

    /// What goes by a name before a dot here. In streams it is found in other letters too, if it is one
    /// thing only: `t.id` is of `AS "T"`.
    pub(super) fn own_entry(&self, name: &str) -> Option<&ScopeEntry> {
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
