//! From the file to the plan.

mod absent;
mod branch;
mod call;
mod condition;
mod definition;
mod from;
mod lower;
mod missing;
mod operators;
mod projection;
mod scope;
mod solve;
mod sources;
mod stream;

use std::collections::BTreeSet;

use crate::edition::Edition;
use crate::file::diagnostic::{Diagnostic, Findings, Position};
use crate::file::options::{Options, shorten};
use crate::file::source_file::SourceFile;
use crate::file::source_map::SourceMap;
use crate::file::yaml::{self, FILE_BYTES_MAX, Scalar};
use crate::file::{self, CteEntry};
use crate::plan::{
    CteName, Instantiation, LookupPlan, Plan, Reference, ReferenceKind, RequestLeaf, RowExpression,
};
use crate::schema::TablePattern;
use crate::sql;
use crate::sql::syntax::{Cte, Expression, ExpressionKind, Query, Written};
use crate::value::PathSplit;
use branch::LeftJoin;
use condition::Membership;
use sources::Sources;

/// Compiles a file.
///
/// # Errors
/// All errors and warnings.
pub(crate) fn compile(text: &str) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
    let start = Position { line: 1, column: 1 };
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file is larger than {FILE_BYTES_MAX} bytes");
        return Err(vec![Diagnostic::error(start, message)]);
    }
    let source = SourceFile::new(text);
    let root = yaml::parse(text, &source).map_err(|error| vec![error])?;
    let Some(root) = root else {
        let error = Diagnostic::error(start, "the file is empty");
        return Err(vec![error.hint("define `streams` or `bucket_definitions`")]);
    };
    let mut findings = Findings::default();
    let file = file::read(&root, &mut findings);
    let mut compiler = Compiler::new(&source, file.options, findings);
    let ctes = compiler.ctes(&file.ctes);
    for entry in &file.streams {
        compiler.stream(entry, &ctes);
    }
    for entry in &file.definitions {
        compiler.definition(entry);
    }
    compiler.check_unused(&ctes);
    let Compiler { mut plan, findings, .. } = compiler;
    plan.references.sort();
    plan.references.dedup();
    let failed = findings.has_errors();
    let findings = findings.into_sorted();
    if failed { Err(findings) } else { Ok((plan, findings)) }
}

pub(crate) struct Compiler<'a> {
    source: &'a SourceFile,
    edition: Edition,
    path_split: PathSplit,
    plan: Plan,
    findings: Findings,
    /// What the query at hand is about.
    sources: Sources,
    /// Of the query at hand.
    left_joins: Vec<LeftJoin>,
    /// Of the query at hand.
    memberships: Vec<Membership>,
    /// How many CTEs the query at hand has put in, and how many are being put in.
    ctes_put_in: usize,
    cte_depth: usize,
    /// Of the columns of inner queries that the query at hand has named.
    parts_put_in: usize,
    /// By their places.
    ctes_used: BTreeSet<Position>,
}

impl<'a> Compiler<'a> {
    fn new(source: &'a SourceFile, options: Options, findings: Findings) -> Self {
        let Options { edition, values } = options;
        let path_split =
            if values.fixed_json_extract { PathSplit::AfterDollar } else { PathSplit::Always };
        let plan = Plan {
            edition,
            values,
            tables: Vec::new(),
            definitions: Vec::new(),
            lookups: Vec::new(),
            streams: Vec::new(),
            references: Vec::new(),
            ctes: Vec::new(),
        };
        Self {
            source,
            edition,
            path_split,
            plan,
            findings,
            sources: Sources::new(values.engine),
            left_joins: Vec::new(),
            memberships: Vec::new(),
            ctes_put_in: 0,
            cte_depth: 0,
            parts_put_in: 0,
            ctes_used: BTreeSet::new(),
        }
    }

    fn parse(&mut self, scalar: &Scalar) -> Option<Query> {
        let map = SourceMap::new(self.source, scalar);
        self.findings.ok(sql::parse(&map, &scalar.text))
    }

    /// Parses a query, and forgets the former one.
    fn begin(&mut self, scalar: &Scalar) -> Option<Query> {
        self.sources = Sources::new(self.plan.values.engine);
        self.left_joins.clear();
        self.memberships.clear();
        self.ctes_put_in = 0;
        self.parts_put_in = 0;
        self.parse(scalar)
    }

    /// Parses queries with names.
    fn ctes(&mut self, entries: &[CteEntry<'_>]) -> Vec<Cte> {
        let mut ctes = Vec::with_capacity(entries.len());
        for CteEntry { name, position, query } in entries {
            if let Some(query) = self.parse(query) {
                ctes.push(Cte { position: *position, name: (*name).to_owned(), query });
            }
        }
        self.note_ctes(&ctes);
        ctes
    }

    fn note_ctes(&mut self, ctes: &[Cte]) {
        let name = |cte: &Cte| CteName { name: cte.name.clone(), position: cte.position };
        self.plan.ctes.extend(ctes.iter().map(name));
    }

    fn check_unused(&mut self, ctes: &[Cte]) {
        // Where a query could not be compiled it is not known what it uses.
        if self.findings.has_errors() {
            return;
        }
        for cte in ctes.iter().filter(|cte| !self.ctes_used.contains(&cte.position)) {
            let message = format!("`{}` is not used", cte.name);
            self.findings.push(Diagnostic::warning(cte.position, message));
        }
    }

    /// The table's index; names without a schema are in `public`. Before the schema's name may be
    /// that of the connection, of which there is one.
    fn table(
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
                    format!("there is no connection `{connection}` to find `{schema}` by");
                return Err(Diagnostic::error(position, message).hint(
                    "a table is named `table`, `schema.table` or `\"default.schema\".table`; there is \
                     one connection, `default`",
                ));
            }
        };
        let pattern = TablePattern { schema: schema.to_owned(), name: name.to_owned() };
        let index = intern(&mut self.plan.tables, pattern);
        self.refer(index, ReferenceKind::Table, position);
        Ok(index)
    }

    fn lookup(&mut self, lookup: LookupPlan) -> usize {
        intern(&mut self.plan.lookups, lookup)
    }

    fn refer(&mut self, table: usize, kind: ReferenceKind, position: Position) {
        let reference = Reference { table, kind, position };
        // A list of literals says the same of its column for each.
        if self.plan.references.last() != Some(&reference) {
            self.plan.references.push(reference);
        }
    }

    /// The name of a selected expression: its alias, the column it is, or in edition 3 its text.
    fn output_name(
        &mut self,
        position: Position,
        expression: &Expression,
        (alias, written): (Option<&str>, Option<&Written>),
    ) -> Result<String, Diagnostic> {
        let hint = "add one, as in `upper(name) AS name`";
        match (alias, &expression.kind, written) {
            (Some(alias), ..) => Ok(alias.to_owned()),
            (None, ExpressionKind::Name { name, .. }, _) => Ok(name.clone()),
            (None, _, Some(Written { text, position })) if self.edition >= Edition::Three => {
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

    /// Warns of what anybody may ask for.
    fn check_danger(&mut self, instantiation: &Instantiation, position: Position) {
        let (mut authenticated, mut unauthenticated) = (false, false);
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

/// The index of a thing in a list, which it is added to when it is not there.
fn intern<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    list.iter().position(|known| *known == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}

/// The filter of branches that differ in nothing else: any of them must hold.
fn any_of(filters: Vec<Option<RowExpression>>) -> Option<RowExpression> {
    let mut alternatives = Vec::with_capacity(filters.len());
    for filter in filters {
        let filter = filter?;
        if !alternatives.contains(&filter) {
            alternatives.push(filter);
        }
    }
    match alternatives.len() {
        1 => alternatives.pop(),
        _ => Some(RowExpression::Or(alternatives)),
    }
}

/// All of these conditions; `None` when there is none.
fn all_of(mut conditions: Vec<RowExpression>) -> Option<RowExpression> {
    match conditions.len() {
        0 => None,
        1 => conditions.pop(),
        _ => Some(RowExpression::And(conditions)),
    }
}
