//! Ways from a request to buckets.

use tidewater_protocol::Priority;

use super::names::{RowNames, Words, elements, request_text, table_text, unused};
use super::{AbsentExplanation, KeyExplanation, StepExplanation, WayExplanation};
use crate::plan::{Instantiation, Plan, RequestExpression, Step};

pub(super) fn explain(
    plan: &Plan,
    instantiation: &Instantiation,
    priority: Priority,
    words: Words,
) -> WayExplanation {
    let mut way = Way::new(plan, words);
    let steps = instantiation.steps.iter().map(|step| way.step(step)).collect();
    WayExplanation {
        priority: priority.get(),
        conditions: conditions(&instantiation.filters, "", words),
        steps,
        parameters: way.slots_of(&instantiation.parameters),
        absent: absent(plan, instantiation, words),
    }
}

fn absent(plan: &Plan, instantiation: &Instantiation, words: Words) -> Vec<AbsentExplanation> {
    let explain = |part: &Instantiation| {
        let mut way = Way::new(plan, words);
        AbsentExplanation {
            conditions: conditions(&part.filters, "", words),
            steps: part.steps.iter().map(|step| way.step(step)).collect(),
            absent: absent(plan, part, words),
        }
    };
    instantiation.absent.iter().map(explain).collect()
}

fn texts(expressions: &[RequestExpression], element: &str, words: Words) -> Vec<String> {
    let text = |expression| request_text(expression, element, words).into_text();
    expressions.iter().map(text).collect()
}

fn conditions(expressions: &[RequestExpression], element: &str, words: Words) -> Vec<String> {
    let text = |expression| request_text(expression, element, words).into_condition();
    expressions.iter().map(text).collect()
}

/// A way as far as it has been gone.
struct Way<'p> {
    plan: &'p Plan,
    words: Words,
    /// What the value of each slot is.
    slots: Vec<String>,
    /// Arrays that were taken apart.
    arrays: Vec<String>,
    /// Names of the rows that were found.
    aliases: Vec<String>,
}

impl<'p> Way<'p> {
    fn new(plan: &'p Plan, words: Words) -> Self {
        Self { plan, words, slots: Vec::new(), arrays: Vec::new(), aliases: Vec::new() }
    }

    fn step(&mut self, step: &Step) -> StepExplanation {
        match step {
            Step::Value(expression) => {
                let value = request_text(expression, "", self.words).into_text();
                self.slots.push(value.clone());
                StepExplanation::Value { value }
            }
            Step::Elements { array, filters, outputs } => {
                let array = request_text(array, "", self.words).into_text();
                let array = elements(&mut self.arrays, &array);
                let conditions = conditions(filters, &array, self.words);
                let gives = texts(outputs, &array, self.words);
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
        // Of the step itself it is plain whose columns they are.
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
