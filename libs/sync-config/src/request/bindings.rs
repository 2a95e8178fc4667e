//! Relations of slots: the values that the steps of an instantiation bind to them.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::value::EvaluationError;

/// Maximum number of rows at a time, and of buckets for one variant and subscription. It bounds
/// memory and the size of a checkpoint.
const BINDING_ROWS_MAX: usize = 10_000;

/// Maximum number of rows of one step before duplicates are removed.
pub(crate) const EXTENDED_ROWS_MAX: usize = 1_000_000;

/// Index into [`ValuePool`].
pub(crate) type ValueId = u32;

/// Interned values, as canonical JSON.
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
        // Answers are limited to far fewer values than `u32::MAX`.
        let id = ValueId::try_from(self.texts.len()).unwrap_or(ValueId::MAX);
        self.ids.insert(text.to_owned(), id);
        self.texts.push(text.to_owned());
        id
    }

    /// Returns a JSON array of values.
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

/// Relation of slots whose values depend on each other.
#[derive(Clone, Debug)]
pub(crate) struct BindingTable {
    pub(crate) slots: Vec<usize>,
    pub(crate) rows: Vec<Vec<ValueId>>,
}

impl BindingTable {
    pub(crate) fn place(&self, slot: usize) -> Option<usize> {
        self.slots.iter().position(|known| *known == slot)
    }

    /// Keeps the needed slots only, and each row once.
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

    /// Returns the Cartesian product of two relations.
    fn product(&self, other: &Self) -> Result<Self, EvaluationError> {
        // The limit is checked before any row is made.
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

/// Relations of an instantiation, as far as its steps are done. Independent relations stay
/// separate, so that no product is computed before a later step joins them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bindings {
    tables: Vec<BindingTable>,
}

impl Bindings {
    /// Returns whether all of these slots are bound.
    pub(crate) fn have(&self, slots: &[usize]) -> bool {
        slots.iter().all(|slot| self.tables.iter().any(|table| table.place(*slot).is_some()))
    }

    /// Removes and returns the relation of these slots, joined if there are several.
    pub(crate) fn take(&mut self, slots: &[usize]) -> Result<BindingTable, EvaluationError> {
        // The relation without slots has one row. It is neutral in a product.
        let mut joined = BindingTable { slots: Vec::new(), rows: vec![Vec::new()] };
        let (taken, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.tables)
            .into_iter()
            .partition(|table| slots.iter().any(|slot| table.place(*slot).is_some()));
        self.tables = left;

        for table in &taken {
            joined = joined.product(table)?;
        }
        Ok(joined)
    }

    /// Adds a relation with the slots that are still needed. Returns `false` if it has no row, so
    /// that there is no bucket.
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

    /// Returns all bindings of these slots, in this order.
    pub(crate) fn all(&mut self, slots: &[usize]) -> Result<Vec<Vec<ValueId>>, EvaluationError> {
        let table = self.take(slots)?;
        let places: Option<Vec<usize>> = slots.iter().map(|slot| table.place(*slot)).collect();
        let Some(places) = places else { return Ok(Vec::new()) };
        let mut seen = HashSet::with_capacity(table.rows.len());
        let rows = table.rows.iter().map(|row| places.iter().map(|place| row[*place]).collect());
        Ok(rows.filter(|row: &Vec<ValueId>| seen.insert(row.clone())).collect())
    }
}
