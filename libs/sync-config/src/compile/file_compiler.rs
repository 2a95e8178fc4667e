//! State that all queries of a file share: the plan, the findings and the CTEs in use.

use std::collections::BTreeSet;

use crate::edition::Edition;
use crate::file::CteEntry;
use crate::file::diagnostic::{Diagnostic, Findings, Position};
use crate::file::options::{Options, shorten};
use crate::file::source_file::SourceFile;
use crate::file::source_map::SourceMap;
use crate::file::yaml::Scalar;
use crate::plan::{CteName, Instantiation, Reference, ReferenceKind, RequestLeaf, SyncPlan};
use crate::schema::TablePattern;
use crate::sql;
use crate::sql::syntax::{Cte, Expression, ExpressionKind, Query, SourceText};
use crate::value::PathSplit;

/// Compiler of one file. It collects the plan and the findings.
pub(super) struct FileCompiler<'a> {
    source: &'a SourceFile,
    pub(super) edition: Edition,
    pub(super) path_split: PathSplit,
    pub(super) plan: SyncPlan,
    pub(super) findings: Findings,
    /// Positions of the CTEs that some query selects from.
    pub(super) ctes_used: BTreeSet<Position>,
}

impl<'a> FileCompiler<'a> {
    pub(super) fn new(source: &'a SourceFile, options: Options, findings: Findings) -> Self {
        let Options { edition, values } = options;
        let path_split =
            if values.fixed_json_extract { PathSplit::AfterDollar } else { PathSplit::Always };

        let plan = SyncPlan {
            edition,
            values,
            tables: Vec::new(),
            definitions: Vec::new(),
            lookups: Vec::new(),
            streams: Vec::new(),
            references: Vec::new(),
            ctes: Vec::new(),
        };

        Self { source, edition, path_split, plan, findings, ctes_used: BTreeSet::new() }
    }

    pub(super) fn parse(&mut self, scalar: &Scalar) -> Option<Query> {
        let map = SourceMap::new(self.source, scalar);
        self.findings.ok(sql::parse(&map, &scalar.text))
    }

    /// Parses named queries.
    pub(super) fn ctes(&mut self, entries: &[CteEntry<'_>]) -> Vec<Cte> {
        let mut ctes = Vec::with_capacity(entries.len());
        for CteEntry { name, position, query } in entries {
            if let Some(query) = self.parse(query) {
                ctes.push(Cte { position: *position, name: (*name).to_owned(), query });
            }
        }
        self.record_ctes(&ctes);
        ctes
    }

    pub(super) fn record_ctes(&mut self, ctes: &[Cte]) {
        self.plan.ctes.extend(
            ctes.iter().map(|cte| CteName { name: cte.name.clone(), position: cte.position }),
        );
    }

    pub(super) fn check_unused(&mut self, ctes: &[Cte]) {
        // A query with an error may use any CTE.
        if self.findings.has_errors() {
            return;
        }
        for cte in ctes.iter().filter(|cte| !self.ctes_used.contains(&cte.position)) {
            let message = format!("`{}` is not used", cte.name);
            self.findings.push(Diagnostic::warning(cte.position, message));
        }
    }

    /// Returns the index of a table. Without a schema, the table is in `public`. A connection may
    /// precede the schema (`"default.schema".table`); the only connection is `default`.
    pub(super) fn table(
        &mut self,
        schema: Option<&str>,
        name: &str,
        position: Position,
    ) -> Result<usize, Diagnostic> {
        let schema = match schema
            .map(|schema| schema.split_once('.').unwrap_or(("default", schema)))
        {
            None => "public",
            Some(("default", schema)) if !schema.contains('.') => schema,
            Some((connection, schema)) => {
                let message =
                    format!("unknown connection `{connection}` before the schema `{schema}`");
                return Err(Diagnostic::error(position, message).hint(
                    "write `table`, `schema.table` or `\"default.schema\".table`; the only connection is `default`",
                ));
            }
        };
        let pattern = TablePattern { schema: schema.to_owned(), name: name.to_owned() };
        let index = self.plan.intern_table(pattern);
        self.add_reference(index, ReferenceKind::Table, position);

        Ok(index)
    }

    pub(super) fn add_reference(&mut self, table: usize, kind: ReferenceKind, position: Position) {
        let reference = Reference { table, kind, position };
        // Each literal of an `IN` list adds the same reference.
        if self.plan.references.last() != Some(&reference) {
            self.plan.references.push(reference);
        }
    }

    /// Returns the name of a selected expression: its alias, the name of its column or, in edition
    /// 3, its source text.
    pub(super) fn output_name(
        &mut self,
        position: Position,
        expression: &Expression,
        alias: Option<&str>,
        source_text: Option<&SourceText>,
    ) -> Result<String, Diagnostic> {
        let hint = "add an alias: `upper(name) AS name`";

        match (alias, &expression.kind, source_text) {
            (Some(alias), ..) => Ok(alias.to_owned()),
            (None, ExpressionKind::Name { name, .. }, _) => Ok(name.clone()),
            (None, _, Some(SourceText { text, position })) if self.edition >= Edition::Three => {
                let message =
                    format!("this expression has no name, so the column is `{}`", shorten(text));
                self.findings.push(Diagnostic::warning(*position, message).hint(hint));
                Ok(text.clone())
            }
            (None, ..) => {
                Err(Diagnostic::error(position, "this expression has no name").hint(hint))
            }
        }
    }

    /// Warns if the buckets depend on parameters that the client chooses and on nothing in the
    /// token.
    pub(super) fn warn_if_unauthenticated(
        &mut self,
        instantiation: &Instantiation,
        position: Position,
    ) {
        let mut authenticated = false;
        let mut unauthenticated = false;
        instantiation.for_each_expression(&mut |expression| {
            expression.for_each_leaf(&mut |leaf| match leaf {
                RequestLeaf::Given { source, .. } if source.is_authenticated() => {
                    authenticated = true;
                }
                RequestLeaf::Given { .. } => unauthenticated = true,
                RequestLeaf::Element | RequestLeaf::Key => {}
            });
        });

        if unauthenticated && !authenticated {
            let message = "any client can read this: it depends on parameters that clients choose \
                           and on nothing in the token";
            let hint = "compare with `auth.user_id()` or `auth.parameter(...)` too, or set \
                        `accept_potentially_dangerous_queries: true`";
            self.findings.push(Diagnostic::warning(position, message).hint(hint));
        }
    }
}
