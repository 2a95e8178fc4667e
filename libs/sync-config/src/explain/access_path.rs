//! Access paths from a request to buckets.

use tidewater_protocol::Priority;

use super::names::{RequestSyntax, RowNames, elements, request_text, table_text, unused};
use super::{AccessPathExplanation, KeyExplanation, NotExistsExplanation, StepExplanation};
use crate::plan::{Instantiation, RequestExpression, Step, SyncPlan};

pub(super) fn explain(
    plan: &SyncPlan,
    instantiation: &Instantiation,
    priority: Priority,
    syntax: RequestSyntax,
) -> AccessPathExplanation {
    let mut path = AccessPath::new(plan, syntax);
    let steps = instantiation.steps.iter().map(|step| path.step(step)).collect();

    AccessPathExplanation {
        priority: priority.get(),
        conditions: conditions(&instantiation.filters, "", syntax),
        steps,
        parameters: path.slots_of(&instantiation.parameters),
        absent: absent(plan, instantiation, syntax),
    }
}

fn absent(
    plan: &SyncPlan,
    instantiation: &Instantiation,
    syntax: RequestSyntax,
) -> Vec<NotExistsExplanation> {
    instantiation
        .not_exists
        .iter()
        .map(|part| {
            let mut path = AccessPath::new(plan, syntax);
            NotExistsExplanation {
                conditions: conditions(&part.filters, "", syntax),
                steps: part.steps.iter().map(|step| path.step(step)).collect(),
                absent: absent(plan, part, syntax),
            }
        })
        .collect()
}

fn texts(expressions: &[RequestExpression], element: &str, syntax: RequestSyntax) -> Vec<String> {
    expressions
        .iter()
        .map(|expression| request_text(expression, element, syntax).into_text())
        .collect()
}

fn conditions(
    expressions: &[RequestExpression],
    element: &str,
    syntax: RequestSyntax,
) -> Vec<String> {
    expressions
        .iter()
        .map(|expression| request_text(expression, element, syntax).into_condition())
        .collect()
}

/// Access path up to the current step.
struct AccessPath<'p> {
    plan: &'p SyncPlan,
    syntax: RequestSyntax,
    /// Text of each slot's value.
    slots: Vec<String>,
    /// Names of the arrays so far.
    arrays: Vec<String>,
    /// Names of the rows so far.
    aliases: Vec<String>,
}

impl<'p> AccessPath<'p> {
    fn new(plan: &'p SyncPlan, syntax: RequestSyntax) -> Self {
        Self { plan, syntax, slots: Vec::new(), arrays: Vec::new(), aliases: Vec::new() }
    }

    fn step(&mut self, step: &Step) -> StepExplanation {
        match step {
            Step::Value(expression) => {
                let value = request_text(expression, "", self.syntax).into_text();
                self.slots.push(value.clone());
                StepExplanation::Value { value }
            }
            Step::Elements { array, filters, outputs } => {
                let array = request_text(array, "", self.syntax).into_text();
                let array = elements(&mut self.arrays, &array);
                let conditions = conditions(filters, &array, self.syntax);
                let gives = texts(outputs, &array, self.syntax);
                self.slots.extend_from_slice(&gives);
                StepExplanation::Elements { array, conditions, gives }
            }

            Step::Lookup { lookup, key } => self.lookup(*lookup, key),
            Step::Equal(left, right) => StepExplanation::Equal {
                left: self.slots[*left].clone(),
                right: self.slots[*right].clone(),
            },
        }
    }

    fn lookup(&mut self, lookup: usize, key: &[usize]) -> StepExplanation {
        let plan = &self.plan.lookups[lookup];
        let table = &self.plan.tables[plan.rows.table];
        let alias = unused(&mut self.aliases, |number| match number {
            1 => table.name.clone(),
            _ => format!("{}_{number}", table.name),
        });

        // Within the step itself, columns need no qualifier.
        let own = RowNames::new(&plan.rows, None);

        let gives = RowNames::new(&plan.rows, Some(&alias)).texts(&plan.outputs);
        let values = self.slots_of(key);
        let keys = own.texts(&plan.rows.keys).into_iter().zip(values);

        let step = StepExplanation::Lookup {
            lookup,
            table: table_text(table),
            alias,
            keys: keys.map(|(row, value)| KeyExplanation { row, value }).collect(),
            conditions: own.conditions(plan.rows.filter.as_ref()),
            arrays: own.arrays,
            gives: gives.clone(),
        };

        self.slots.extend(gives);
        step
    }

    fn slots_of(&self, slots: &[usize]) -> Vec<String> {
        slots.iter().map(|slot| self.slots[*slot].clone()).collect()
    }
}
