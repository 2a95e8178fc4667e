//! The steps of an instantiation that need answers, and whether they lead anywhere.

use std::collections::{BTreeSet, HashMap};

use super::Question;
use super::bindings::{EXTENDED_MAX, Table, ValueId, Values, Ways};
use crate::plan::Step;
use crate::value::EvaluationError;

/// An instantiation for one subscription: all that is left is to look up.
#[derive(Clone, Debug)]
pub(super) struct Search<'a> {
    /// Steps that wait for values or answers.
    pub(super) pending: Vec<Pending<'a>>,
    pub(super) ways: Ways,
    pub(super) parameters: &'a [usize],
    /// What must not lead anywhere, as far as that is not yet known.
    pub(super) absent: Vec<Search<'a>>,
}

/// How far a search has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It waits for answers.
    Asking,
    /// There is a way.
    Found,
    /// There is none.
    Nothing,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Pending<'a> {
    pub(super) step: &'a Step,
    /// The first of the slots that it gives values to.
    pub(super) first_slot: usize,
}

impl Search<'_> {
    /// Does all steps that can be done. What must be absent is searched beside them, so that it takes
    /// no further rounds of questions.
    pub(super) fn advance(
        &mut self,
        answers: &HashMap<Question, Vec<Vec<ValueId>>>,
        values: &Values,
        ask: &mut impl FnMut(Question),
    ) -> Result<Progress, EvaluationError> {
        if !self.advance_steps(answers, values, ask)? {
            return Ok(Progress::Nothing);
        }
        let mut open = Vec::with_capacity(self.absent.len());
        for mut part in std::mem::take(&mut self.absent) {
            match part.advance(answers, values, ask)? {
                Progress::Asking => open.push(part),
                Progress::Found => return Ok(Progress::Nothing),
                Progress::Nothing => {}
            }
        }
        self.absent = open;
        Ok(if self.is_done() { Progress::Found } else { Progress::Asking })
    }

    /// Whether nothing is left to look up.
    pub(super) fn is_done(&self) -> bool {
        self.pending.is_empty() && self.absent.is_empty()
    }

    /// `false` when there is no way.
    fn advance_steps(
        &mut self,
        answers: &HashMap<Question, Vec<Vec<ValueId>>>,
        values: &Values,
        ask: &mut impl FnMut(Question),
    ) -> Result<bool, EvaluationError> {
        let mut place = 0;
        while let Some(Pending { step, first_slot }) = self.pending.get(place).copied() {
            let used = step.slots_used();
            if !self.ways.have(&used) {
                place += 1;
                continue;
            }
            let mut table = self.ways.take(&used)?;
            let mut is_done = true;
            match step {
                Step::Equal(left, right) => {
                    if let (Some(left), Some(right)) = (table.place(*left), table.place(*right)) {
                        table.ways.retain(|way| way[left] == way[right]);
                    }
                }
                Step::Lookup { lookup, key } => {
                    let questions = questions(*lookup, key, &table, values);
                    let is_unknown = |question: &&Question| !answers.contains_key(*question);
                    if questions.iter().any(|question| is_unknown(&question)) {
                        let unknown = questions.into_iter().filter(|one| is_unknown(&one));
                        unknown.for_each(&mut *ask);
                        is_done = false;
                    } else {
                        extend(&mut table, first_slot, &questions, answers)?;
                    }
                }
                Step::Value(_) | Step::Elements { .. } => {}
            }
            if is_done {
                self.pending.remove(place);
                // What it found may be what a former one waits for.
                place = 0;
            } else {
                place += 1;
            }
            let needed = needed(&self.pending, self.parameters);
            if !self.ways.put(table, &needed)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The question of each way.
fn questions(lookup: usize, key: &[usize], table: &Table, values: &Values) -> Vec<Question> {
    let places: Vec<usize> = key.iter().filter_map(|slot| table.place(*slot)).collect();
    let question = |way: &Vec<ValueId>| {
        let key = values.array(places.iter().map(|place| way[*place]));
        Question { lookup, key }
    };
    table.ways.iter().map(question).collect()
}

/// Each way with each answer to its question.
fn extend(
    table: &mut Table,
    first_slot: usize,
    questions: &[Question],
    answers: &HashMap<Question, Vec<Vec<ValueId>>>,
) -> Result<(), EvaluationError> {
    let mut ways = Vec::with_capacity(table.ways.len());
    let mut columns = 0;
    for (way, question) in table.ways.iter().zip(questions) {
        for row in answers.get(question).into_iter().flatten() {
            columns = row.len();
            ways.push(way.iter().chain(row).copied().collect());
            if ways.len() > EXTENDED_MAX {
                return Err(EvaluationError::TooMany);
            }
        }
    }
    table.slots.extend(first_slot..first_slot + columns);
    table.ways = ways;
    Ok(())
}

/// The slots whose values are still of use.
pub(super) fn needed(pending: &[Pending<'_>], parameters: &[usize]) -> BTreeSet<usize> {
    let used = pending.iter().flat_map(|pending| pending.step.slots_used());
    used.chain(parameters.iter().copied()).collect()
}
