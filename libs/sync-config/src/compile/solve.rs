//! From one branch of a condition to what rows yield and what requests ask.
//!
//! The sources of a branch are tied to each other by equalities. Starting from the request, whose
//! values are known, table after table is asked by those of its values that are known by then; what it
//! answers makes further values known. The last one is the table whose rows are selected: it is asked
//! by buckets, whose parameters are the values that its rows must equal.

use super::row_sources::{
    Owner, QueryExpression, Source, SourceId, Sources, request_expression, row_expression,
};
use super::term::{Side, Term, sources_in, sources_of};
use crate::plan::{Instantiation, LookupPlan, Plan, RowExpression, RowQuery, Step};

/// What a branch is asked for.
pub(super) enum Target<'t> {
    /// The rows of a table.
    Rows(SourceId),
    /// Values, in this order, as a bucket's parameters.
    Values(&'t [QueryExpression]),
}

/// A branch as plans.
pub(super) struct Solved {
    pub(super) instantiation: Instantiation,
    /// Of the rows that are selected, if any are.
    pub(super) rows: Option<RowQuery>,
}

struct Solver<'t> {
    branch: &'t [Term],
    /// The sources that the branch is about.
    needed: Vec<SourceId>,
    target: &'t Target<'t>,
    instantiation: Instantiation,
    slot_count: usize,
    /// Values that have a slot.
    known: Vec<(Side, usize)>,
    /// Things whose values are known.
    placed: Vec<Owner>,
}

/// `None` when an expression mixes what it must not; the caller's checks exclude that.
pub(super) fn solve(
    plan: &mut Plan,
    sources: &Sources,
    branch: &[Term],
    target: &Target<'_>,
) -> Option<Solved> {
    let mut solver = Solver {
        branch,
        needed: needed(sources, branch, target),
        target,
        instantiation: Instantiation::default(),
        slot_count: 0,
        known: Vec::new(),
        placed: vec![Owner::Request, Owner::Nothing],
    };
    for condition in solver.filters(&[Owner::Request]) {
        solver.instantiation.filters.push(request_expression(condition)?);
    }
    if let Target::Values(_) = target {
        for condition in solver.filters(&[Owner::Nothing]) {
            solver.instantiation.filters.push(request_expression(condition)?);
        }
    }
    let elements = solver
        .needed
        .clone()
        .into_iter()
        .filter(|id| matches!(sources.owner(*id), Owner::Element(_)));
    for id in elements {
        solver.place_elements(sources, id)?;
    }
    let mut tables: Vec<SourceId> = solver
        .needed
        .iter()
        .copied()
        .filter(|id| sources.table(*id).is_some() && !target.is(*id))
        .collect();
    while !tables.is_empty() {
        let table = tables.remove(solver.most_known(&tables));
        place_table(plan, sources, &mut solver, table)?;
    }
    let rows = match target {
        Target::Rows(table) => Some(target_rows(sources, &mut solver, *table)?),
        Target::Values(values) => {
            for value in *values {
                let owner = sources.owner_of(value)?;
                let slot = solver.slot(&Side { owner, value: value.clone() })?;
                solver.instantiation.parameters.push(slot);
            }
            None
        }
    };
    solver.instantiation.absent = absent(plan, sources, branch)?;
    Some(Solved { instantiation: solver.instantiation, rows })
}

/// What must lead nowhere, each alternative by itself.
fn absent(plan: &mut Plan, sources: &Sources, branch: &[Term]) -> Option<Vec<Instantiation>> {
    let mut absent = Vec::new();
    for term in branch {
        let Term::Absent(branches) = term else { continue };
        for inner in branches.iter() {
            let Solved { instantiation, .. } = solve(plan, sources, inner, &Target::Values(&[]))?;
            if !absent.contains(&instantiation) {
                absent.push(instantiation);
            }
        }
    }
    Some(absent)
}

/// A table on the way: asked by what is known, it answers what is not.
fn place_table(
    plan: &mut Plan,
    sources: &Sources,
    solver: &mut Solver<'_>,
    table: SourceId,
) -> Option<()> {
    let owner = Owner::Table(table);
    let mut asked = Vec::new();
    let mut key = Vec::new();
    for (own, other) in solver.equalities(owner) {
        if solver.placed.contains(&other.owner) {
            asked.push(own.value.clone());
            key.push(solver.slot(other)?);
        }
    }
    let arrays = arrays_of(sources, &solver.needed, table);
    let outputs = solver.outputs(sources, owner);
    let filters = solver.filters(&[owner]);
    let rows = row_query(sources, table, &arrays, &filters, &asked)?;
    let lookup = LookupPlan {
        rows,
        outputs: outputs
            .iter()
            .map(|output| row_expression(output, table, &arrays))
            .collect::<Option<_>>()?,
    };
    let lookup = plan.intern_lookup(lookup);
    solver.instantiation.steps.push(Step::Lookup { lookup, key });
    solver.give_slots(owner, outputs);
    Some(())
}

/// The table whose rows are selected: what its rows must equal are the parameters.
fn target_rows(sources: &Sources, solver: &mut Solver<'_>, table: SourceId) -> Option<RowQuery> {
    let owner = Owner::Table(table);
    let mut keys: Vec<QueryExpression> = Vec::new();
    for (own, other) in solver.equalities(owner) {
        let slot = solver.slot(other)?;
        // Two sources for one value: both must have it.
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
    let filters = solver.filters(&[owner, Owner::Nothing]);
    row_query(sources, table, &arrays, &filters, &keys)
}

/// What the rows of a data query are asked by: the parameters of their bucket definition.
pub(super) fn bucket_rows(
    sources: &Sources,
    branch: &[Term],
    table: SourceId,
    keys: &[QueryExpression],
) -> Option<RowQuery> {
    let target = Target::Rows(table);
    let arrays = arrays_of(sources, &needed(sources, branch, &target), table);
    let filters: Vec<&QueryExpression> = branch.iter().filter_map(Term::condition).collect();
    row_query(sources, table, &arrays, &filters, keys)
}

/// Those of the sources that are elements of arrays of a table's row.
fn arrays_of(sources: &Sources, needed: &[SourceId], table: SourceId) -> Vec<SourceId> {
    let is_of_table = |id: &SourceId| *id != table && sources.owner(*id) == Owner::Table(table);
    needed.iter().copied().filter(is_of_table).collect()
}

fn row_query(
    sources: &Sources,
    table: SourceId,
    arrays: &[SourceId],
    filters: &[&QueryExpression],
    keys: &[QueryExpression],
) -> Option<RowQuery> {
    let convert = |expression: &QueryExpression| row_expression(expression, table, arrays);
    let array_of = |id: &SourceId| match sources.get(*id) {
        Source::Elements { array, .. } => convert(array),
        Source::Table { .. } => None,
    };
    Some(RowQuery {
        table: sources.table(table)?,
        arrays: arrays.iter().map(array_of).collect::<Option<_>>()?,
        filter: all_of(filters.iter().map(|filter| convert(filter)).collect::<Option<_>>()?),
        keys: keys.iter().map(convert).collect::<Option<_>>()?,
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
            Self::Source(_) | Self::Equal { .. } | Self::Absent(_) => None,
        }
    }
}

impl<'t> Solver<'t> {
    fn filters(&self, owners: &[Owner]) -> Vec<&'t QueryExpression> {
        let of_owner = |term: &'t Term| match term {
            Term::Filter { owner, condition } if owners.contains(owner) => Some(condition),
            Term::Filter { .. } | Term::Source(_) | Term::Equal { .. } | Term::Absent(_) => None,
        };
        self.branch.iter().filter_map(of_owner).collect()
    }

    /// The equalities of a thing with others: its own side first.
    fn equalities(&self, owner: Owner) -> Vec<(&'t Side, &'t Side)> {
        let mut found = Vec::new();
        for term in self.branch {
            let Term::Equal { left, right } = term else { continue };
            if left.owner == owner {
                found.push((left, right));
            } else if right.owner == owner {
                found.push((right, left));
            }
        }
        found
    }

    /// Of the tables that are left the one that is asked by the most values, the first of several.
    fn most_known(&self, tables: &[SourceId]) -> usize {
        let known = |table: SourceId| {
            let equalities = self.equalities(Owner::Table(table));
            equalities.iter().filter(|(_, other)| self.placed.contains(&other.owner)).count()
        };
        let mut best = (0, 0);
        for (place, table) in tables.iter().enumerate() {
            let count = known(*table);
            if count > best.1 {
                best = (place, count);
            }
        }
        best.0
    }

    /// The values of a thing that are asked for by what is not yet known.
    fn outputs(&self, sources: &Sources, owner: Owner) -> Vec<QueryExpression> {
        let mut outputs: Vec<QueryExpression> = Vec::new();
        let mut add = |value: &QueryExpression| {
            if !outputs.contains(value) {
                outputs.push(value.clone());
            }
        };
        for (own, other) in self.equalities(owner) {
            if !self.placed.contains(&other.owner) {
                add(&own.value);
            }
        }
        if let Target::Values(values) = self.target {
            values.iter().filter(|value| sources.owner_of(value) == Some(owner)).for_each(add);
        }
        outputs
    }

    fn place_elements(&mut self, sources: &Sources, id: SourceId) -> Option<()> {
        let owner = Owner::Element(id);
        let Source::Elements { array, .. } = sources.get(id) else { return None };
        // With those that are known it is compared when it is known itself.
        let mut outputs = self.outputs(sources, owner);
        let placed: Vec<_> = self
            .equalities(owner)
            .into_iter()
            .filter(|(_, other)| self.placed.contains(&other.owner))
            .collect();
        for (own, _) in &placed {
            if !outputs.contains(&own.value) {
                outputs.push(own.value.clone());
            }
        }
        let filters = self.filters(&[owner]);
        self.instantiation.steps.push(Step::Elements {
            array: request_expression(array)?,
            filters: filters.into_iter().map(request_expression).collect::<Option<_>>()?,
            outputs: outputs.iter().map(request_expression).collect::<Option<_>>()?,
        });
        self.give_slots(owner, outputs);
        for (own, other) in placed {
            let step = Step::Equal(self.slot(own)?, self.slot(other)?);
            self.instantiation.steps.push(step);
        }
        Some(())
    }

    /// Slots for the outputs of the step that was added last.
    fn give_slots(&mut self, owner: Owner, outputs: Vec<QueryExpression>) {
        for value in outputs {
            self.known.push((Side { owner, value }, self.slot_count));
            self.slot_count += 1;
        }
        self.placed.push(owner);
    }

    /// The slot of a value. A value of the request gets one when it is first asked for.
    fn slot(&mut self, side: &Side) -> Option<usize> {
        if let Some((_, slot)) = self.known.iter().find(|(known, _)| known.value == side.value) {
            return Some(*slot);
        }
        if !matches!(side.owner, Owner::Request | Owner::Nothing) {
            return None;
        }
        self.instantiation.steps.push(Step::Value(request_expression(&side.value)?));
        self.known.push((side.clone(), self.slot_count));
        self.slot_count += 1;
        Some(self.slot_count - 1)
    }
}

/// The sources that must be there for a branch to hold, in their order.
fn needed(sources: &Sources, branch: &[Term], target: &Target<'_>) -> Vec<SourceId> {
    let mut is_needed = vec![false; sources.ids().end];
    let mut need = |id: SourceId| {
        is_needed[id] = true;
        if let Owner::Table(table) = sources.owner(id) {
            is_needed[table] = true;
        }
    };
    branch.iter().for_each(|term| sources_of(term, &mut need));
    match target {
        Target::Rows(table) => need(*table),
        Target::Values(values) => {
            for value in *values {
                sources_in(value, &mut need);
            }
        }
    }
    sources.ids().filter(|id| is_needed[*id]).collect()
}

/// All of these conditions; `None` when there is none.
fn all_of(mut conditions: Vec<RowExpression>) -> Option<RowExpression> {
    match conditions.len() {
        0 => None,
        1 => conditions.pop(),
        _ => Some(RowExpression::And(conditions)),
    }
}
