//! Scopes: the names that are visible in a query.

use crate::compile::row_sources::{QueryExpression, SourceId};
use crate::sql::syntax::{self, Cte, ExpressionKind};

/// Scope of an expression.
#[derive(Debug)]
pub(crate) struct Scope<'s> {
    pub(crate) kind: &'s ScopeKind,
    /// Items of `FROM`.
    pub(crate) entries: Vec<ScopeEntry>,
    pub(crate) outer: Option<&'s Self>,
    pub(crate) ctes: Ctes<'s>,
}

/// Item of `FROM` by the name that qualifies its columns.
#[derive(Clone, Debug)]
pub(crate) struct ScopeEntry {
    pub(crate) name: String,
    pub(crate) kind: ScopeEntryKind,
}

#[derive(Clone, Debug)]
pub(crate) enum ScopeEntryKind {
    Table(SourceId),
    Elements(SourceId),
    /// Columns of a subquery.
    Columns(Vec<(String, QueryExpression)>),
}

#[derive(Debug)]
pub(crate) enum ScopeKind {
    Stream,
    /// Parameter query of a bucket definition.
    ParameterQuery,
    /// Data query of a bucket definition with these parameters.
    DataQuery {
        parameters: Vec<String>,
    },
}

/// CTEs that a query can select from: the first `count` of a list, and those of the queries around
/// it.
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

    /// Returns the CTE of a name with the CTEs that it can select from: those before it. An
    /// unquoted name is in lower case here, whatever its case in the file.
    pub(crate) fn find(&self, name: &str) -> Option<(&'s Cte, Self)> {
        let place = self.list[..self.count]
            .iter()
            .rposition(|cte| cte.name == name || cte.name.to_ascii_lowercase() == name);
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

    /// Returns the scope of a subquery.
    pub(crate) fn inner(&'s self, query: &'s syntax::Query) -> Self {
        let ctes = Ctes::new(&query.ctes, &self.ctes);
        Self { kind: self.kind, entries: Vec::new(), outer: Some(self), ctes }
    }

    /// Returns the CTE that an array operand names, if it is one.
    pub(crate) fn cte_of_array(&self, array: &syntax::Expression) -> Option<(&'s Cte, Ctes<'s>)> {
        let ExpressionKind::Name { qualifier: None, name } = &array.kind else { return None };
        self.ctes.find(name)
    }

    /// Returns the item of a name, in this scope or around it.
    pub(super) fn entry(&self, name: &str) -> Option<&ScopeEntry> {
        self.own_entry(name).or_else(|| self.outer.and_then(|outer| outer.entry(name)))
    }

    /// Returns the item of a name in this scope. Streams ignore case if one item matches: `t.id`
    /// finds `AS "T"`.
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

    /// Returns the names of the tables, for messages.
    pub(crate) fn names(&self) -> String {
        let names: Vec<String> =
            self.entries.iter().map(|entry| format!("`{}`", entry.name)).collect();
        names.join(", ")
    }

    /// Returns the call of the request that a name means in other places, in other systems or by
    /// mistake. `namespace` is empty for a function without one.
    pub(super) fn request_call(&self, namespace: &str, name: &str) -> Option<String> {
        const NAMESPACES: [&str; 7] = [
            "",
            "auth",
            "request",
            "connection",
            "subscription",
            "token_parameters",
            "user_parameters",
        ];
        if !NAMESPACES.contains(&namespace) || self.entry(namespace).is_some() {
            return None;
        }

        let is_stream = match self.kind {
            ScopeKind::Stream => true,
            ScopeKind::ParameterQuery => false,
            // Data queries see nothing of the request.
            ScopeKind::DataQuery { .. } => return None,
        };
        let name = name.replace('\'', "''");
        let call = match (namespace, name.as_str()) {
            ("" | "auth" | "request" | "token_parameters", "user_id" | "uid" | "sub") => {
                if is_stream {
                    "auth.user_id()"
                } else {
                    "request.user_id()"
                }
            }
            ("" | "auth" | "request", "jwt") | ("auth", "parameters") => {
                if is_stream {
                    "auth.parameters()"
                } else {
                    "request.jwt()"
                }
            }
            ("request" | "connection", "parameters") => {
                if is_stream {
                    "connection.parameters()"
                } else {
                    "request.parameters()"
                }
            }
            ("request" | "connection", "parameter") => {
                if is_stream {
                    "connection.parameter(...)"
                } else {
                    "request.parameter(...)"
                }
            }
            ("" | "auth", "parameter") => {
                if is_stream {
                    "auth.parameter(...)"
                } else {
                    "request.jwt() ->> ..."
                }
            }
            ("subscription", "parameters") if is_stream => "subscription.parameters()",
            ("", _) => return None,

            ("auth" | "token_parameters", claim) if is_stream => {
                return Some(format!("auth.parameter('{claim}')"));
            }
            ("auth" | "request", claim) if !is_stream => {
                return Some(format!("request.jwt() ->> '{claim}'"));
            }
            ("connection" | "user_parameters", parameter) if is_stream => {
                return Some(format!("connection.parameter('{parameter}')"));
            }
            ("subscription", parameter) if is_stream => {
                return Some(format!("subscription.parameter('{parameter}')"));
            }
            _ => return None,
        };
        Some(call.to_owned())
    }

    pub(super) fn namespaces(&self) -> &'static [&'static str] {
        match self.kind {
            ScopeKind::Stream => &["auth", "connection", "subscription"],
            ScopeKind::ParameterQuery => &["request"],
            ScopeKind::DataQuery { .. } => &[],
        }
    }
}
