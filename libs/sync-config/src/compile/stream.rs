//! Streams of edition 3.

use super::branch::{BRANCHES_MAX, Branch, any_of};
use super::scope::{Scope, ScopeKind};
use super::{Compiler, all_of};
use crate::diagnostic::Diagnostic;
use crate::file::StreamEntry;
use crate::plan::{
    DataQuery, DefinitionPlan, Instantiation, RowExpression, RowKey, StreamPlan, Variant,
};
use crate::syntax::Query;
use crate::yaml::Scalar;

/// Branches of one query that differ in their filters only.
struct Merged {
    instantiation: Instantiation,
    keys: Vec<RowKey>,
    filters: Vec<Option<RowExpression>>,
}

impl Compiler<'_> {
    pub(super) fn stream(&mut self, entry: &StreamEntry<'_>) {
        let mut stream = StreamPlan {
            name: entry.name.to_owned(),
            auto_subscribe: entry.auto_subscribe,
            priority: entry.priority,
            variants: Vec::new(),
        };
        for scalar in &entry.queries {
            self.stream_query(entry, scalar, &mut stream);
        }
        self.plan.streams.push(stream);
    }

    fn stream_query(&mut self, entry: &StreamEntry<'_>, scalar: &Scalar, stream: &mut StreamPlan) {
        let Some(query) = self.parse(scalar) else { return };
        let Some(from) = &query.from else {
            let error = Diagnostic::error(query.position, "the query has no `FROM`");
            self.findings.push(error.hint("a stream selects rows of a table"));
            return;
        };
        let table = self.table(from);
        let visible = from.visible_name().to_owned();
        let scope = Scope { kind: ScopeKind::Stream, table: Some((table, visible.clone())) };
        let projection = self.projection(&scope, &query, false);
        let branches = self.branches(&scope, &query);
        let Some(branches) = self.findings.ok(branches) else { return };
        let merged = merge(&branches);
        if !entry.accepts_danger {
            for Merged { instantiation, .. } in &merged {
                self.check_danger(instantiation, query.position);
            }
        }
        for Merged { instantiation, keys, filters } in merged {
            let data = DataQuery {
                table,
                object_type: visible.clone(),
                projection: projection.clone(),
                filter: any_of(filters),
                keys,
            };
            self.add_variant(&query, stream, instantiation, data);
        }
    }

    /// Adds a query to the family of buckets that is instantiated like it.
    fn add_variant(
        &mut self,
        query: &Query,
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
            self.findings.push(Diagnostic::error(query.position, message));
            return;
        }
        let name = format!("{}|{}", stream.name, stream.variants.len());
        self.plan.definitions.push(DefinitionPlan { name, queries: vec![data] });
        let definition = self.plan.definitions.len() - 1;
        stream.variants.push(Variant { definition, priority: None, instantiation });
    }
}

fn merge(branches: &[Branch]) -> Vec<Merged> {
    let mut merged: Vec<Merged> = Vec::new();
    for branch in branches {
        let (instantiation, keys) = branch.instantiate();
        let filter = all_of(branch.filter.clone());
        let same = merged
            .iter_mut()
            .find(|known| known.instantiation == instantiation && known.keys == keys);
        match same {
            Some(known) => known.filters.push(filter),
            None => merged.push(Merged { instantiation, keys, filters: vec![filter] }),
        }
    }
    merged
}
