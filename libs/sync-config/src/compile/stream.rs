//! Streams of edition 3, and their early form in edition 2.

use super::file_compiler::FileCompiler;
use super::normalise::BRANCHES_MAX;
use super::resolve::QueryCompiler;
use super::resolve::from::check_single_table;
use super::resolve::projection::RowSelection;
use super::resolve::scope::{Ctes, Scope, ScopeKind};
use super::row_sources::{RowSource, SourceId};
use super::solve::{SolvedBranch, Target, solve};
use super::term::{Condition, Term};
use crate::edition::Edition;
use crate::file::StreamEntry;
use crate::file::diagnostic::{Diagnostic, Position};
use crate::file::yaml::Scalar;
use crate::plan::stages::STAGES_MAX;
use crate::plan::{
    DataQuery, DefinitionPlan, Instantiation, RowExpression, RowQuery, StreamPlan, Variant,
};
use crate::sql::syntax::{Cte, Query};

/// Branches of one query that differ only in the filter of the selected rows.
struct MergedBranch {
    instantiation: Instantiation,
    /// Query of the rows without its filter.
    rows: RowQuery,
    filters: Vec<Option<RowExpression>>,
}

/// Family of buckets: how requests find them, and their rows.
struct Family {
    instantiation: Instantiation,
    data: DataQuery,
}

impl FileCompiler<'_> {
    pub(super) fn stream(&mut self, entry: &StreamEntry<'_>, global: &[Cte]) {
        let mut stream = StreamPlan {
            name: entry.name.to_owned(),
            auto_subscribe: entry.auto_subscribe,
            priority: entry.priority,
            variants: Vec::new(),
        };

        // A stream's own CTEs hide those of the file with the same names.
        let own = self.ctes(&entry.ctes);
        let nothing = Ctes::default();
        let global = Ctes::new(global, &nothing);
        let ctes = Ctes::new(&own, &global);

        let first = self.plan.definitions.len();
        for scalar in &entry.queries {
            self.stream_query(entry, scalar, &ctes, &mut stream);
        }

        self.share_definitions(first, &mut stream);
        self.check_unused(&own);
        self.plan.streams.push(stream);
    }

    fn stream_query(
        &mut self,
        entry: &StreamEntry<'_>,
        scalar: &Scalar,
        ctes: &Ctes<'_>,
        stream: &mut StreamPlan,
    ) {
        let Some(query) = self.parse(scalar) else { return };
        let is_early = self.edition < Edition::Three;
        if is_early && self.findings.ok(check_single_table(&query)).is_none() {
            return;
        }
        if query.from.is_empty() {
            let error = Diagnostic::error(query.position, "the query has no `FROM`");
            self.findings.push(error.hint("a stream selects rows of a table"));
            return;
        }

        let Some(families) = QueryCompiler::new(self).families(&query, ctes) else { return };
        let position = condition_position(&query);

        for Family { instantiation, data } in families {
            if !entry.accepts_dangerous_queries {
                self.warn_if_unauthenticated(&instantiation, query.position);
            }
            self.check_stages(&instantiation, position);
            self.add_variant(query.position, stream, instantiation, data);
        }
    }

    /// Fails if a request needs too many rounds of lookups. Bucket definitions need one at most.
    fn check_stages(&mut self, instantiation: &Instantiation, position: Position) {
        let stages = instantiation.stages(&self.plan.lookups);
        if stages > STAGES_MAX {
            let message =
                format!("the query needs {stages} lookup rounds; the maximum is {STAGES_MAX}");
            let hint =
                "each table in a chain of joins or subqueries is a round: use a shorter chain";
            self.findings.push(Diagnostic::error(position, message).hint(hint));
        }
    }

    /// Adds a query to the family with the same instantiation, or adds a family.
    fn add_variant(
        &mut self,
        position: Position,
        stream: &mut StreamPlan,
        instantiation: Instantiation,
        data: DataQuery,
    ) {
        let known = stream.variants.iter().find(|variant| variant.instantiation == instantiation);
        if let Some(variant) = known {
            self.plan.definitions[variant.definition].queries.push(data);
            return;
        }

        if stream.variants.len() == BRANCHES_MAX {
            let message = format!(
                "the stream `{}` has more than {BRANCHES_MAX} families of buckets",
                stream.name
            );
            self.findings.push(Diagnostic::error(position, message));
            return;
        }

        let queries = vec![data];
        self.plan.definitions.push(DefinitionPlan { name: String::new(), queries });
        let definition = self.plan.definitions.len() - 1;
        stream.variants.push(Variant { definition, priority: None, instantiation });
    }

    /// Merges families of a stream that hold the same rows. Requests then find one family in
    /// several ways.
    fn share_definitions(&mut self, first: usize, stream: &mut StreamPlan) {
        let mut hashes: Vec<String> = Vec::new();
        let mut places = Vec::new();

        for definition in self.plan.definitions.split_off(first) {
            // The families have no names yet, so equal hashes mean equal rows.
            let hash = self.plan.definition_hash(&definition);
            let same = hashes.iter().position(|known| *known == hash);
            places.push(first + same.unwrap_or(hashes.len()));
            if same.is_none() {
                let name = format!("{}|{}", stream.name, hashes.len());
                self.plan.definitions.push(DefinitionPlan { name, ..definition });
                hashes.push(hash);
            }
        }

        // Variants refer to the definitions by their former index.
        for variant in &mut stream.variants {
            variant.definition = places[variant.definition - first];
        }
    }
}

impl QueryCompiler<'_, '_> {
    /// Returns the families of buckets of a query. Errors go to the findings.
    fn families(&mut self, query: &Query, ctes: &Ctes<'_>) -> Option<Vec<Family>> {
        let is_early = self.file.edition < Edition::Three;
        let mut scope = Scope::new(&ScopeKind::Stream, Ctes::new(&query.ctes, ctes));
        let conditions = self.from(&mut scope, query);
        let mut conditions = self.file.findings.ok(conditions)?;

        // The select list and the condition are resolved before an error of either ends the query,
        // so that one run reports both. With a finding that is an error, the plan is never used.
        let selected = self.selected(&scope, query, is_early);
        if let Some(condition) = &query.condition {
            let tree = self.condition(&scope, condition, false);
            conditions.extend(self.file.findings.ok(tree));
        }

        self.file.check_unused(&query.ctes);
        self.check_alias(query, selected.as_ref());
        let RowSelection { table, projection } = selected?;

        // A selected row exists, also if its table is on the right side of a left join.
        conditions.push(Condition::Term(Term::Source(table)));
        let branches = self.branches(conditions, condition_position(query));
        let branches = self.file.findings.ok(branches)?;
        let Some(merged) = self.merge(&branches, table) else {
            self.file.findings.push(mixed_operands(query));
            return None;
        };

        let object_type = self.object_type(table);
        let families =
            merged.into_iter().map(|MergedBranch { instantiation, mut rows, filters }| {
                rows.filter = any_of(filters);
                let object_type = object_type.clone();
                let projection = projection.clone();
                Family { instantiation, data: DataQuery { rows, object_type, projection } }
            });

        Some(families.collect())
    }

    /// Warns of an unquoted alias that renames the table on devices, as it may be meant for this
    /// query only.
    fn check_alias(&mut self, query: &Query, selected: Option<&RowSelection>) {
        let table = selected.map(|selected| self.sources.get(selected.table));
        let (Some(RowSource::Table { name, .. }), [_, _, ..]) = (table, query.from.as_slice())
        else {
            return;
        };

        if let Some(item) =
            query.from.iter().find(|item| item.alias.as_ref() == Some(name) && !item.is_quoted)
        {
            let message = format!("on devices the table of these rows is called `{name}`");
            let hint = format!(
                "if that is intended, quote the alias: `AS \"{name}\"`; otherwise remove it"
            );
            self.file.findings.push(Diagnostic::warning(item.position, message).hint(hint));
        }
    }

    /// Solves the branches, and merges those that differ only in the filter of the rows. A row that
    /// several of them select is then in one bucket, and not in one for each.
    fn merge(&mut self, branches: &[Vec<Term>], table: SourceId) -> Option<Vec<MergedBranch>> {
        let mut merged: Vec<MergedBranch> = Vec::new();

        for branch in branches {
            let SolvedBranch { instantiation, rows } =
                solve(&mut self.file.plan, &self.sources, branch, &Target::Rows(table))?;
            let mut rows = rows?;
            let filter = rows.filter.take();

            let same = merged
                .iter_mut()
                .find(|known| known.instantiation == instantiation && known.rows == rows);
            match same {
                Some(known) => known.filters.push(filter),
                None => merged.push(MergedBranch { instantiation, rows, filters: vec![filter] }),
            }
        }

        Some(merged)
    }
}

/// Returns the error for branches that [`solve`] cannot solve.
fn mixed_operands(query: &Query) -> Diagnostic {
    Diagnostic::error(query.position, "this combination of tables and arrays is not supported")
        .hint("compare one value of each table, as in `a.x = b.y`")
}

/// Returns the position for findings about the condition of a query.
fn condition_position(query: &Query) -> Position {
    query.condition.as_ref().map_or(query.position, |found| found.position)
}

/// Returns the OR of the filters of branches that differ in nothing else.
fn any_of(filters: Vec<Option<RowExpression>>) -> Option<RowExpression> {
    let mut alternatives = Vec::with_capacity(filters.len());
    for filter in filters {
        // A branch without a filter selects all rows, so the OR does, too.
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
