//! Third pass: from one branch of a condition to the steps of a request and the rows of a bucket.
//!
//! Join conditions connect the row sources of a branch. The values of the request are known. Each
//! step looks up the next table by its values that are known so far, and its outputs make further
//! values known. The last table is the one whose rows are selected. Requests find it by bucket: the
//! values that its rows must equal are the parameters of the bucket.

use super::row_sources::{
    Origin, QueryExpression, RowSource, RowSources, SourceId, request_expression, row_expression,
};
use super::term::{Operand, Term, sources_in, sources_of};
use crate::plan::{Instantiation, LookupPlan, RowExpression, RowQuery, Step, SyncPlan};

/// Result that a branch is solved for.
pub(super) enum Target<'t> {
    /// Rows of a table.
    Rows(SourceId),
    /// Values that become the bucket parameters, in this order.
    Values(&'t [QueryExpression]),
}

/// Plan of one branch.
pub(super) struct SolvedBranch {
    pub(super) instantiation: Instantiation,
    /// Query of the selected rows, for [`Target::Rows`].
    pub(super) rows: Option<RowQuery>,
}

struct Solver<'t> {
    branch: &'t [Term],
    /// Row sources that the branch reads.
    needed: Vec<SourceId>,
    target: &'t Target<'t>,
    instantiation: Instantiation,
    slot_count: usize,
    /// Values that have a slot.
    known: Vec<(Operand, usize)>,
    /// Origins whose values are known.
    known_origins: Vec<Origin>,
}

/// Solves a branch. Returns `None` if an expression mixes origins; callers exclude that.
pub(super) fn solve(
    plan: &mut SyncPlan,
    sources: &RowSources,
    branch: &[Term],
    target: &Target<'_>,
) -> Option<SolvedBranch> {
    let mut solver = Solver {
        branch,
        needed: needed(sources, branch, target),
        target,
        instantiation: Instantiation::default(),
        slot_count: 0,
        known: Vec::new(),
        known_origins: vec![Origin::Request, Origin::Constant],
    };

    // Conditions on the request come first: a request that fails one needs no lookup.
    for condition in solver.filters(&[Origin::Request]) {
        solver.instantiation.filters.push(request_expression(condition)?);
    }
    // Constant conditions belong to the query of the selected rows, if there is one.
    if let Target::Values(_) = target {
        for condition in solver.filters(&[Origin::Constant]) {
            solver.instantiation.filters.push(request_expression(condition)?);
        }
    }

    // Elements of the request's arrays are known without a lookup, so lookups can have them as keys.
    let elements = solver
        .needed
        .clone()
        .into_iter()
        .filter(|id| matches!(sources.origin(*id), Origin::Element(_)));
    for id in elements {
        solver.add_elements(sources, id)?;
    }

    // The lookup with the most known keys has the smallest answers. The order has no effect on the
    // result: the later one of two tables checks their equality.
    let mut tables: Vec<SourceId> = solver
        .needed
        .iter()
        .copied()
        .filter(|id| sources.table(*id).is_some() && !target.is(*id))
        .collect();
    while !tables.is_empty() {
        let table = tables.remove(solver.most_known(&tables));
        add_lookup(plan, sources, &mut solver, table)?;
    }

    let rows = match target {
        Target::Rows(table) => Some(target_rows(sources, &mut solver, *table)?),
        Target::Values(values) => {
            for value in *values {
                let origin = sources.origin_of(value)?;
                let slot = solver.slot(&Operand { origin, value: value.clone() })?;
                solver.instantiation.parameters.push(slot);
            }
            None
        }
    };

    solver.instantiation.not_exists = not_exists(plan, sources, branch)?;

    Some(SolvedBranch { instantiation: solver.instantiation, rows })
}

/// Solves the anti-joins of a branch. Each alternative is a branch of its own.
fn not_exists(
    plan: &mut SyncPlan,
    sources: &RowSources,
    branch: &[Term],
) -> Option<Vec<Instantiation>> {
    let mut not_exists = Vec::new();

    for term in branch {
        let Term::NotExists(branches) = term else { continue };
        for inner in branches.iter() {
            let SolvedBranch { instantiation, .. } =
                solve(plan, sources, inner, &Target::Values(&[]))?;
            if !not_exists.contains(&instantiation) {
                not_exists.push(instantiation);
            }
        }
    }

    Some(not_exists)
}

/// Adds the lookup of a table: its key is known, its outputs become known.
fn add_lookup(
    plan: &mut SyncPlan,
    sources: &RowSources,
    solver: &mut Solver<'_>,
    table: SourceId,
) -> Option<()> {
    let origin = Origin::Row(table);
    let mut asked = Vec::new();
    let mut key = Vec::new();
    for (own, other) in solver.equalities(origin) {
        // An equality with a table that is not looked up yet becomes a key of that table's lookup.
        if solver.known_origins.contains(&other.origin) {
            asked.push(own.value.clone());
            key.push(solver.slot(other)?);
        }
    }

    let arrays = arrays_of(sources, &solver.needed, table);
    let outputs = solver.outputs(sources, origin);
    let filters = solver.filters(&[origin]);
    let rows = row_query(sources, table, &arrays, &filters, &asked)?;
    let lookup = LookupPlan {
        rows,
        outputs: outputs
            .iter()
            .map(|output| row_expression(output, table, &arrays))
            .collect::<Option<_>>()?,
    };
    // Queries with equal lookups share one, so that a change of a row writes it once.
    let lookup = plan.intern_lookup(lookup);
    solver.instantiation.steps.push(Step::Lookup { lookup, key });
    solver.assign_slots(origin, outputs);

    Some(())
}

/// Returns the query of the selected rows. The values that they must equal become the bucket
/// parameters.
fn target_rows(sources: &RowSources, solver: &mut Solver<'_>, table: SourceId) -> Option<RowQuery> {
    let origin = Origin::Row(table);
    let mut keys: Vec<QueryExpression> = Vec::new();
    for (own, other) in solver.equalities(origin) {
        let slot = solver.slot(other)?;
        // Two values for one key: both must be equal.
        if let Some(place) = keys.iter().position(|key| *key == own.value) {
            let first = solver.instantiation.parameters[place];
            if first != slot {
                solver.instantiation.steps.push(Step::Equal(first, slot));
            }
        } else {
            keys.push(own.value.clone());
            solver.instantiation.parameters.push(slot);
        }
    }

    let arrays = arrays_of(sources, &solver.needed, table);
    let filters = solver.filters(&[origin, Origin::Constant]);
    row_query(sources, table, &arrays, &filters, &keys)
}

/// Returns the query of the rows of a data query, whose keys are the parameters of the bucket
/// definition. `equal` are further conditions on the row.
pub(super) fn bucket_rows(
    sources: &RowSources,
    branch: &[Term],
    table: SourceId,
    keys: &[QueryExpression],
    equal: &[QueryExpression],
) -> Option<RowQuery> {
    let target = Target::Rows(table);
    let arrays = arrays_of(sources, &needed(sources, branch, &target), table);
    let mut filters: Vec<&QueryExpression> = branch.iter().filter_map(Term::condition).collect();
    filters.extend(equal);
    row_query(sources, table, &arrays, &filters, keys)
}

/// Returns the needed sources that are arrays in the rows of a table.
fn arrays_of(sources: &RowSources, needed: &[SourceId], table: SourceId) -> Vec<SourceId> {
    needed
        .iter()
        .copied()
        .filter(|id| *id != table && sources.origin(*id) == Origin::Row(table))
        .collect()
}

fn row_query(
    sources: &RowSources,
    table: SourceId,
    arrays: &[SourceId],
    filters: &[&QueryExpression],
    keys: &[QueryExpression],
) -> Option<RowQuery> {
    let array_values = arrays.iter().map(|id| match sources.get(*id) {
        RowSource::Elements { array, .. } => row_expression(array, table, arrays),
        RowSource::Table { .. } => None,
    });
    let filters = filters.iter().map(|filter| row_expression(filter, table, arrays));
    let keys = keys.iter().map(|key| row_expression(key, table, arrays));

    Some(RowQuery {
        table: sources.table(table)?,
        arrays: array_values.collect::<Option<_>>()?,
        filter: all_of(filters.collect::<Option<_>>()?),
        keys: keys.collect::<Option<_>>()?,
    })
}

impl Target<'_> {
    fn is(&self, id: SourceId) -> bool {
        match self {
            Self::Rows(target) => *target == id,
            Self::Values(_) => false,
        }
    }
}

impl Term {
    fn condition(&self) -> Option<&QueryExpression> {
        match self {
            Self::Filter { condition, .. } => Some(condition),
            Self::Source(_) | Self::Equal { .. } | Self::NotExists(_) => None,
        }
    }
}

impl<'t> Solver<'t> {
    fn filters(&self, origins: &[Origin]) -> Vec<&'t QueryExpression> {
        self.branch
            .iter()
            .filter_map(|term| match term {
                Term::Filter { origin, condition } if origins.contains(origin) => Some(condition),
                Term::Filter { .. } | Term::Source(_) | Term::Equal { .. } | Term::NotExists(_) => {
                    None
                }
            })
            .collect()
    }

    /// Returns the join conditions of an origin, its own operand first.
    fn equalities(&self, origin: Origin) -> Vec<(&'t Operand, &'t Operand)> {
        let mut found = Vec::new();
        for term in self.branch {
            let Term::Equal { left, right } = term else { continue };
            if left.origin == origin {
                found.push((left, right));
            } else if right.origin == origin {
                found.push((right, left));
            }
        }
        found
    }

    /// Returns the position of the table with the most known keys, the first of several.
    fn most_known(&self, tables: &[SourceId]) -> usize {
        let mut best = 0;
        let mut best_count = 0;
        for (place, table) in tables.iter().enumerate() {
            let count = self.known_key_count(*table);
            // The first of several is taken, so that a config always compiles to the same plan.
            if count > best_count {
                best = place;
                best_count = count;
            }
        }

        best
    }

    /// Returns how many equalities of a table have a value that earlier steps know.
    fn known_key_count(&self, table: SourceId) -> usize {
        let equalities = self.equalities(Origin::Row(table));
        equalities.iter().filter(|(_, other)| self.known_origins.contains(&other.origin)).count()
    }

    /// Returns the values of an origin that later steps need.
    fn outputs(&self, sources: &RowSources, origin: Origin) -> Vec<QueryExpression> {
        let mut used = Vec::new();
        for (own, other) in self.equalities(origin) {
            if !self.known_origins.contains(&other.origin) {
                used.push(&own.value);
            }
        }
        if let Target::Values(values) = self.target {
            used.extend(values.iter().filter(|value| sources.origin_of(value) == Some(origin)));
        }

        let mut outputs: Vec<QueryExpression> = Vec::new();
        for value in used {
            if !outputs.contains(value) {
                outputs.push(value.clone());
            }
        }
        outputs
    }

    fn add_elements(&mut self, sources: &RowSources, id: SourceId) -> Option<()> {
        let origin = Origin::Element(id);
        let RowSource::Elements { array, .. } = sources.get(id) else { return None };
        // Values that are known already are compared in a step after this one.
        let mut outputs = self.outputs(sources, origin);
        let known: Vec<_> = self
            .equalities(origin)
            .into_iter()
            .filter(|(_, other)| self.known_origins.contains(&other.origin))
            .collect();

        for (own, _) in &known {
            if !outputs.contains(&own.value) {
                outputs.push(own.value.clone());
            }
        }

        let filters = self.filters(&[origin]);
        self.instantiation.steps.push(Step::Elements {
            array: request_expression(array)?,
            filters: filters.into_iter().map(request_expression).collect::<Option<_>>()?,
            outputs: outputs.iter().map(request_expression).collect::<Option<_>>()?,
        });
        self.assign_slots(origin, outputs);

        for (own, other) in known {
            let step = Step::Equal(self.slot(own)?, self.slot(other)?);
            self.instantiation.steps.push(step);
        }

        Some(())
    }

    /// Assigns slots to the outputs of the last step.
    fn assign_slots(&mut self, origin: Origin, outputs: Vec<QueryExpression>) {
        for value in outputs {
            self.known.push((Operand { origin, value }, self.slot_count));
            self.slot_count += 1;
        }
        self.known_origins.push(origin);
    }

    /// Returns the slot of a value. A value of the request gets a slot at its first use.
    fn slot(&mut self, side: &Operand) -> Option<usize> {
        // Leaves name their source, so equal expressions have the same origin.
        if let Some((_, slot)) = self.known.iter().find(|(known, _)| known.value == side.value) {
            return Some(*slot);
        }
        if !matches!(side.origin, Origin::Request | Origin::Constant) {
            return None;
        }

        self.instantiation.steps.push(Step::Value(request_expression(&side.value)?));
        self.known.push((side.clone(), self.slot_count));
        self.slot_count += 1;
        Some(self.slot_count - 1)
    }
}

/// Returns the sources that must have a match for the branch, in their order.
fn needed(sources: &RowSources, branch: &[Term], target: &Target<'_>) -> Vec<SourceId> {
    let mut mentioned = Vec::new();
    for term in branch {
        sources_of(term, &mut |id| mentioned.push(id));
    }
    match target {
        Target::Rows(table) => mentioned.push(*table),
        Target::Values(values) => {
            for value in *values {
                sources_in(value, &mut |id| mentioned.push(id));
            }
        }
    }

    let mut is_needed = vec![false; sources.ids().end];
    for id in mentioned {
        is_needed[id] = true;
        // The elements of a row's array exist only with the row.
        if let Origin::Row(table) = sources.origin(id) {
            is_needed[table] = true;
        }
    }

    sources.ids().filter(|id| is_needed[*id]).collect()
}

/// Returns the AND of the conditions, or `None` if there are none.
fn all_of(mut conditions: Vec<RowExpression>) -> Option<RowExpression> {
    match conditions.len() {
        0 => None,
        1 => conditions.pop(),
        _ => Some(RowExpression::And(conditions)),
    }
}
