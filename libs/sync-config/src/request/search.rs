//! Steps of an instantiation that wait for answers.

use std::collections::{BTreeSet, HashMap};

use super::Question;
use super::bindings::{BindingTable, Bindings, EXTENDED_ROWS_MAX, ValueId, ValuePool};
use crate::plan::Step;
use crate::value::EvaluationError;

/// Instantiation for one subscription, after the steps that need no lookup.
#[derive(Clone, Debug)]
pub(super) struct Search<'a> {
    /// Steps that wait for values or answers.
    pub(super) pending: Vec<PendingStep<'a>>,
    pub(super) bindings: Bindings,
    pub(super) parameters: &'a [usize],
    /// Anti-joins whose result is not known yet.
    pub(super) not_exists: Vec<Search<'a>>,
}

/// Progress of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Answers are missing.
    Waiting,
    /// There is at least one row.
    Found,
    /// There is no row.
    NotFound,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct PendingStep<'a> {
    pub(super) step: &'a Step,
    /// First slot that the step binds.
    pub(super) first_slot: usize,
}

impl Search<'_> {
    /// Runs all steps that have their answers. Anti-joins run in the same rounds, so that they add
    /// none.
    pub(super) fn advance(
        &mut self,
        answers: &HashMap<Question, Vec<Vec<ValueId>>>,
        values: &ValuePool,
        ask: &mut impl FnMut(Question),
    ) -> Result<Progress, EvaluationError> {
        if !self.advance_steps(answers, values, ask)? {
            return Ok(Progress::NotFound);
        }

        let mut open = Vec::with_capacity(self.not_exists.len());
        for mut part in std::mem::take(&mut self.not_exists) {
            match part.advance(answers, values, ask)? {
                Progress::Waiting => open.push(part),
                // One row of one anti-join withholds the buckets. The other answers have no effect.
                Progress::Found => return Ok(Progress::NotFound),
                Progress::NotFound => {}
            }
        }

        self.not_exists = open;
        Ok(if self.is_done() { Progress::Found } else { Progress::Waiting })
    }

    /// Returns whether no lookup is left.
    pub(super) fn is_done(&self) -> bool {
        self.pending.is_empty() && self.not_exists.is_empty()
    }

    /// Runs the search's own steps. Returns `false` if no row remains.
    fn advance_steps(
        &mut self,
        answers: &HashMap<Question, Vec<Vec<ValueId>>>,
        values: &ValuePool,
        ask: &mut impl FnMut(Question),
    ) -> Result<bool, EvaluationError> {
        let mut place = 0;
        while let Some(PendingStep { step, first_slot }) = self.pending.get(place).copied() {
            let used = step.slots_used();
            // The step reads a value that a pending lookup will yield.
            if !self.bindings.have(&used) {
                place += 1;
                continue;
            }

            let mut table = self.bindings.take(&used)?;
            let mut is_done = true;

            match step {
                Step::Equal(left, right) => {
                    if let (Some(left), Some(right)) = (table.place(*left), table.place(*right)) {
                        table.rows.retain(|row| row[left] == row[right]);
                    }
                }
                Step::Lookup { lookup, key } => {
                    let questions = questions(*lookup, key, &table, values);
                    if questions.iter().all(|question| answers.contains_key(question)) {
                        extend(&mut table, first_slot, &questions, answers)?;
                    } else {
                        let unknown = questions.into_iter();
                        unknown.filter(|one| !answers.contains_key(one)).for_each(&mut *ask);
                        is_done = false;
                    }
                }
                Step::Value(_) | Step::Elements { .. } => {}
            }

            if is_done {
                self.pending.remove(place);
                // The new values may unblock an earlier step.
                place = 0;
            } else {
                place += 1;
            }

            // Slots that nothing reads any more are dropped, and then rows that became equal. A step
            // that waits gets its rows back unchanged.
            let needed = needed(&self.pending, self.parameters);
            if !self.bindings.put(table, &needed)? {
                return Ok(false);
            }
        }

        Ok(true)
    }
}

/// Returns the question of each row.
fn questions(
    lookup: usize,
    key: &[usize],
    table: &BindingTable,
    values: &ValuePool,
) -> Vec<Question> {
    let places: Vec<usize> = key.iter().filter_map(|slot| table.place(*slot)).collect();

    table
        .rows
        .iter()
        .map(|row| {
            let key = values.array(places.iter().map(|place| row[*place]));
            Question { lookup, key }
        })
        .collect()
}

/// Joins each row with the answers to its question.
fn extend(
    table: &mut BindingTable,
    first_slot: usize,
    questions: &[Question],
    answers: &HashMap<Question, Vec<Vec<ValueId>>>,
) -> Result<(), EvaluationError> {
    // All answers to one lookup have the same number of columns.
    let mut rows = Vec::with_capacity(table.rows.len());
    let mut columns = 0;

    for (row, question) in table.rows.iter().zip(questions) {
        for answer in answers.get(question).into_iter().flatten() {
            columns = answer.len();
            rows.push(row.iter().chain(answer).copied().collect());
            if rows.len() > EXTENDED_ROWS_MAX {
                return Err(EvaluationError::TooMany);
            }
        }
    }

    table.slots.extend(first_slot..first_slot + columns);
    table.rows = rows;
    Ok(())
}

/// Returns the slots that later steps and the bucket parameters need.
pub(super) fn needed(pending: &[PendingStep<'_>], parameters: &[usize]) -> BTreeSet<usize> {
    let used = pending.iter().flat_map(|pending| pending.step.slots_used());
    used.chain(parameters.iter().copied()).collect()
}
