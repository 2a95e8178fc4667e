//! Steps of an instantiation that wait for answers.

use std::collections::{BTreeSet, HashMap};

use super::Question;
use super::bindings::{BindingTable, Bindings, EXTENDED_ROWS_MAX, ValueId, ValuePool};
use super::limits::Budget;
use crate::plan::{Instantiation, Step};
use crate::value::EvaluationError;

/// Instantiation for one subscription, after the steps that need no lookup. It names parts of the
/// instantiation by index, so that it can outlive a borrow of the plan.
#[derive(Clone, Debug)]
pub(super) struct Search {
    /// Steps that wait for values or answers.
    pub(super) pending: Vec<PendingStep>,
    pub(super) bindings: Bindings,
    /// Anti-joins whose result is not known yet.
    pub(super) not_exists: Vec<AntiJoin>,
}

/// Anti-join of an instantiation.
#[derive(Clone, Debug)]
pub(super) struct AntiJoin {
    /// Index into [`Instantiation::not_exists`].
    pub(super) index: usize,
    pub(super) search: Search,
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
pub(super) struct PendingStep {
    /// Index into [`Instantiation::steps`].
    pub(super) index: usize,
    /// First slot that the step binds.
    pub(super) first_slot: usize,
}

/// The answers so far, and what an evaluation may still spend.
pub(super) struct Known<'k> {
    pub(super) answers: &'k HashMap<Question, Vec<Vec<ValueId>>>,
    pub(super) values: &'k ValuePool,
    pub(super) budget: &'k Budget,
}

impl Search {
    /// Runs all steps that have their answers. Anti-joins run in the same rounds, so that they add
    /// none. `ask` fails if the question is one too many.
    pub(super) fn advance(
        &mut self,
        instantiation: &Instantiation,
        known: &Known<'_>,
        ask: &mut impl FnMut(Question) -> Result<(), EvaluationError>,
    ) -> Result<Progress, EvaluationError> {
        if !self.advance_steps(instantiation, known, ask)? {
            return Ok(Progress::NotFound);
        }

        let mut open = Vec::with_capacity(self.not_exists.len());
        for mut part in std::mem::take(&mut self.not_exists) {
            match part.search.advance(&instantiation.not_exists[part.index], known, ask)? {
                Progress::Waiting => open.push(part),
                // One row of one anti-join withholds the buckets. The other answers have no effect.
                Progress::Found => return Ok(Progress::NotFound),
                Progress::NotFound => {}
            }
        }

        self.not_exists = open;
        Ok(if self.is_done() { Progress::Found } else { Progress::Waiting })
    }

    /// Returns about how many bytes the search has besides its own.
    pub(super) fn kept_bytes(&self) -> usize {
        let parts = self.not_exists.iter().map(|part| part.search.kept_bytes());
        size_of_val(&*self.pending)
            + size_of_val(&*self.not_exists)
            + self.bindings.kept_bytes()
            + parts.sum::<usize>()
    }

    /// Returns whether no lookup is left.
    pub(super) fn is_done(&self) -> bool {
        self.pending.is_empty() && self.not_exists.is_empty()
    }

    /// Runs the search's own steps. Returns `false` if no row remains.
    fn advance_steps(
        &mut self,
        instantiation: &Instantiation,
        known: &Known<'_>,
        ask: &mut impl FnMut(Question) -> Result<(), EvaluationError>,
    ) -> Result<bool, EvaluationError> {
        let mut place = 0;
        while let Some(PendingStep { index, first_slot }) = self.pending.get(place).copied() {
            let step = &instantiation.steps[index];
            let used = step.slots_used();
            // The step reads a value that a pending lookup will yield.
            if !self.bindings.have(&used) {
                place += 1;
                continue;
            }

            let mut table = self.bindings.take(&used, known.budget)?;
            let mut is_done = true;

            match step {
                Step::Equal(left, right) => {
                    if let (Some(left), Some(right)) = (table.place(*left), table.place(*right)) {
                        table = table.filtered(|row| row[left] == row[right]);
                    }
                }
                Step::Lookup { lookup, key } => {
                    let questions = questions(*lookup, key, &table, known)?;
                    is_done = questions.iter().all(|one| known.answers.contains_key(one));
                    if is_done {
                        table = extended(&table, first_slot, &questions, known)?;
                    } else {
                        let unknown = questions.into_iter();
                        unknown
                            .filter(|one| !known.answers.contains_key(one))
                            .try_for_each(&mut *ask)?;
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
            let needed = needed(&self.pending, instantiation);
            if !self.bindings.put(&table, &needed, known.budget)? {
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
    known: &Known<'_>,
) -> Result<Vec<Question>, EvaluationError> {
    let places: Vec<usize> = key.iter().filter_map(|slot| table.place(*slot)).collect();

    let mut questions = Vec::with_capacity(table.len());
    for row in table.rows() {
        let key = known.values.array(places.iter().map(|place| row[*place]));
        known.budget.spend_text(key.len())?;
        questions.push(Question { lookup, key });
    }
    Ok(questions)
}

/// Joins each row with the answers to its question.
fn extended(
    table: &BindingTable,
    first_slot: usize,
    questions: &[Question],
    known: &Known<'_>,
) -> Result<BindingTable, EvaluationError> {
    // All answers to one lookup have the same number of columns.
    let answers_to = |question| known.answers.get(question).into_iter().flatten();
    let columns = questions.iter().flat_map(answers_to).next().map_or(0, Vec::len);
    let slots = table.slots.iter().copied().chain(first_slot..first_slot + columns);
    let mut rows = BindingTable::new(slots.collect());

    for (row, question) in table.rows().zip(questions) {
        for answer in answers_to(question) {
            known.budget.spend(1)?;
            rows.push(row.iter().chain(answer).copied());
            if rows.len() > EXTENDED_ROWS_MAX {
                return Err(EvaluationError::TooMany);
            }
        }
    }
    Ok(rows)
}

/// Returns the slots that later steps and the bucket parameters need.
pub(super) fn needed(pending: &[PendingStep], instantiation: &Instantiation) -> BTreeSet<usize> {
    let used = pending.iter().flat_map(|pending| instantiation.steps[pending.index].slots_used());
    used.chain(instantiation.parameters.iter().copied()).collect()
}
