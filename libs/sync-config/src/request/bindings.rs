//! The ways in which the steps of an instantiation give values to its slots.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::value::EvaluationError;

/// Most ways that there may be at a time, and most buckets of one variant for one subscription.
const BINDING_ROWS_MAX: usize = 10_000;

/// Most ways of one step, before those that differ in nothing of use are one.
pub(crate) const EXTENDED_ROWS_MAX: usize = 1_000_000;

/// A value, as an index into [`ValuePool`].
pub(crate) type ValueId = u32;

/// Values as canonical JSON, each once.
#[derive(Clone, Debug, Default)]
pub(crate) struct ValuePool {
    ids: HashMap<String, ValueId>,
    texts: Vec<String>,
}

impl ValuePool {
    pub(crate) fn id(&mut self, text: &str) -> ValueId {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        // There are as many values as answers, which are limited to far less.
        let id = ValueId::try_from(self.texts.len()).unwrap_or(ValueId::MAX);
        self.ids.insert(text.to_owned(), id);
        self.texts.push(text.to_owned());
        id
    }

    /// The JSON array of some values.
    pub(crate) fn array(&self, ids: impl Iterator<Item = ValueId>) -> String {
        let mut array = "[".to_owned();
        for id in ids {
            if array.len() > 1 {
                array.push(',');
            }
            if let Some(text) = usize::try_from(id).ok().and_then(|id| self.texts.get(id)) {
                array.push_str(text);
            }
        }
        array.push(']');
        array
    }
}

/// Slots whose values depend on each other, and all ways to fill them.
#[derive(Clone, Debug)]
pub(crate) struct BindingTable {
    pub(crate) slots: Vec<usize>,
    pub(crate) rows: Vec<Vec<ValueId>>,
}

impl BindingTable {
    pub(crate) fn place(&self, slot: usize) -> Option<usize> {
        self.slots.iter().position(|known| *known == slot)
    }

    /// Only some slots, and each way once.
    fn keep(&mut self, needed: &BTreeSet<usize>) {
        let places: Vec<usize> =
            (0..self.slots.len()).filter(|place| needed.contains(&self.slots[*place])).collect();
        if places.len() < self.slots.len() {
            self.slots = places.iter().map(|place| self.slots[*place]).collect();
            for row in &mut self.rows {
                *row = places.iter().map(|place| row[*place]).collect();
            }
        }
        let mut seen = HashSet::with_capacity(self.rows.len());
        self.rows.retain(|row| seen.insert(row.clone()));
    }

    /// Every way of one with every way of the other.
    fn product(&self, other: &Self) -> Result<Self, EvaluationError> {
        if self.rows.len().saturating_mul(other.rows.len()) > BINDING_ROWS_MAX {
            return Err(EvaluationError::TooMany);
        }
        let mut rows = Vec::with_capacity(self.rows.len() * other.rows.len());
        for row in &self.rows {
            for rest in &other.rows {
                rows.push(row.iter().chain(rest).copied().collect());
            }
        }
        Ok(Self { slots: self.slots.iter().chain(&other.slots).copied().collect(), rows })
    }
}

/// The tables of an instantiation as far as its steps are done. Tables are kept apart for as long as
/// nothing ties them together, so that no product is made that a later step thins out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bindings {
    tables: Vec<BindingTable>,
}

impl Bindings {
    /// Whether all of these slots have values.
    pub(crate) fn have(&self, slots: &[usize]) -> bool {
        slots.iter().all(|slot| self.tables.iter().any(|table| table.place(*slot).is_some()))
    }

    /// Takes out the one table that all of these slots are in.
    pub(crate) fn take(&mut self, slots: &[usize]) -> Result<BindingTable, EvaluationError> {
        let mut joined = BindingTable { slots: Vec::new(), rows: vec![Vec::new()] };
        let has_any = |table: &BindingTable| slots.iter().any(|slot| table.place(*slot).is_some());
        let (taken, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.tables).into_iter().partition(has_any);
        self.tables = left;
        for table in &taken {
            joined = joined.product(table)?;
        }
        Ok(joined)
    }

    /// Adds a table, or puts one back, with the slots that are still of use. `false` when it has no
    /// way, so that there is none at all.
    pub(crate) fn put(
        &mut self,
        mut table: BindingTable,
        needed: &BTreeSet<usize>,
    ) -> Result<bool, EvaluationError> {
        table.keep(needed);
        if table.rows.len() > BINDING_ROWS_MAX {
            return Err(EvaluationError::TooMany);
        }
        let is_possible = !table.rows.is_empty();
        if !table.slots.is_empty() {
            self.tables.push(table);
        }
        Ok(is_possible)
    }

    /// All ways to fill these slots, in this order.
    pub(crate) fn all(&mut self, slots: &[usize]) -> Result<Vec<Vec<ValueId>>, EvaluationError> {
        let table = self.take(slots)?;
        let places: Option<Vec<usize>> = slots.iter().map(|slot| table.place(*slot)).collect();
        let Some(places) = places else { return Ok(Vec::new()) };
        let mut seen = HashSet::with_capacity(table.rows.len());
        let rows = table.rows.iter().map(|row| places.iter().map(|place| row[*place]).collect());
        Ok(rows.filter(|row: &Vec<ValueId>| seen.insert(row.clone())).collect())
    }
}
