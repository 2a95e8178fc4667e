//! Relations of slots: the values that the steps of an instantiation bind to them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::limits::Budget;
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
    ids: HashMap<Arc<str>, ValueId>,
    texts: Vec<Arc<str>>,
}

impl ValuePool {
    pub(crate) fn id(&mut self, text: &str) -> ValueId {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        // Answers are limited to far fewer values than `u32::MAX`.
        let id = ValueId::try_from(self.texts.len()).unwrap_or(ValueId::MAX);
        let text: Arc<str> = text.into();
        self.ids.insert(Arc::clone(&text), id);
        self.texts.push(text);
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

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Returns about how many bytes it has. A text has two pointers to it, and counters of its own.
    pub(super) fn kept_bytes(&self) -> usize {
        let texts: usize = self.texts.iter().map(|text| text.len()).sum();
        texts + self.texts.len() * 80
    }

    /// Releases memory that is reserved for more values.
    pub(super) fn shrink(&mut self) {
        self.ids.shrink_to_fit();
        self.texts.shrink_to_fit();
    }
}

/// Relation of slots whose values depend on each other.
#[derive(Clone, Debug)]
pub(crate) struct BindingTable {
    pub(crate) slots: Vec<usize>,
    count: usize,
    /// The values of all rows, row after row: a row of its own allocation would take ten times the
    /// memory.
    ids: Vec<ValueId>,
}

impl BindingTable {
    pub(crate) fn new(slots: Vec<usize>) -> Self {
        Self { slots, count: 0, ids: Vec::new() }
    }

    /// Returns the relation without slots, which has one row. It is neutral in a product.
    fn neutral() -> Self {
        Self { slots: Vec::new(), count: 1, ids: Vec::new() }
    }

    /// Adds a row. It must have a value for each slot.
    pub(crate) fn push(&mut self, row: impl IntoIterator<Item = ValueId>) {
        self.ids.extend(row);
        self.count += 1;
        debug_assert_eq!(self.ids.len(), self.count * self.slots.len(), "one value for each slot");
    }

    pub(crate) fn place(&self, slot: usize) -> Option<usize> {
        self.slots.iter().position(|known| *known == slot)
    }

    /// Returns the number of rows.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &[ValueId]> {
        let width = self.slots.len();
        (0..self.count).map(move |row| &self.ids[row * width..(row + 1) * width])
    }

    /// Returns the relation of the rows that `is_kept` accepts.
    pub(crate) fn filtered(&self, is_kept: impl Fn(&[ValueId]) -> bool) -> Self {
        let mut kept = Self::new(self.slots.clone());
        for row in self.rows().filter(|row| is_kept(row)) {
            kept.push(row.iter().copied());
        }
        kept
    }

    /// Returns these places of each row, each combination once.
    fn distinct(&self, places: &[usize]) -> Self {
        let mut kept = Self::new(places.iter().map(|place| self.slots[*place]).collect());
        let mut seen: HashSet<Vec<ValueId>> = HashSet::with_capacity(self.count);
        for row in self.rows() {
            let row: Vec<ValueId> = places.iter().map(|place| row[*place]).collect();
            if !seen.contains(&row) {
                kept.push(row.iter().copied());
                seen.insert(row);
            }
        }
        kept.ids.shrink_to_fit();
        kept
    }

    /// Returns the Cartesian product of two relations.
    fn product(&self, other: &Self, budget: &Budget) -> Result<Self, EvaluationError> {
        // The limits are checked before any row is made.
        let count = self.count.saturating_mul(other.count);
        if count > BINDING_ROWS_MAX {
            return Err(EvaluationError::TooMany);
        }
        budget.spend(count)?;

        let slots = self.slots.iter().chain(&other.slots).copied().collect();
        let mut product = Self::new(slots);
        for row in self.rows() {
            for rest in other.rows() {
                product.push(row.iter().chain(rest).copied());
            }
        }
        Ok(product)
    }
}

/// Relations of an instantiation, as far as its steps are done. Independent relations stay
/// separate, so that no product is computed before a later step joins them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bindings {
    tables: Vec<BindingTable>,
}

impl Bindings {
    /// Returns about how many bytes the relations have.
    pub(super) fn kept_bytes(&self) -> usize {
        let tables = self.tables.iter().map(|table| {
            size_of_val(table) + size_of_val(&*table.slots) + size_of_val(&*table.ids)
        });
        tables.sum()
    }

    /// Returns whether all of these slots are bound.
    pub(crate) fn have(&self, slots: &[usize]) -> bool {
        slots.iter().all(|slot| self.tables.iter().any(|table| table.place(*slot).is_some()))
    }

    /// Removes and returns the relation of these slots, joined if there are several.
    pub(crate) fn take(
        &mut self,
        slots: &[usize],
        budget: &Budget,
    ) -> Result<BindingTable, EvaluationError> {
        let (mut taken, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.tables)
            .into_iter()
            .partition(|table| slots.iter().any(|slot| table.place(*slot).is_some()));
        self.tables = left;

        if taken.len() == 1 {
            return Ok(taken.remove(0));
        }
        let mut joined = BindingTable::neutral();
        for table in &taken {
            joined = joined.product(table, budget)?;
        }
        Ok(joined)
    }

    /// Adds a relation with the slots that are still needed. Returns `false` if it has no row, so
    /// that there is no bucket.
    pub(crate) fn put(
        &mut self,
        table: &BindingTable,
        needed: &BTreeSet<usize>,
        budget: &Budget,
    ) -> Result<bool, EvaluationError> {
        budget.spend(table.len())?;
        let places: Vec<usize> =
            (0..table.slots.len()).filter(|place| needed.contains(&table.slots[*place])).collect();
        let table = table.distinct(&places);
        if table.len() > BINDING_ROWS_MAX {
            return Err(EvaluationError::TooMany);
        }

        let is_possible = table.len() > 0;
        if !table.slots.is_empty() {
            self.tables.push(table);
        }
        Ok(is_possible)
    }

    /// Returns all bindings of these slots, in this order.
    pub(crate) fn all(
        &mut self,
        slots: &[usize],
        budget: &Budget,
    ) -> Result<BindingTable, EvaluationError> {
        let table = self.take(slots, budget)?;
        let places: Option<Vec<usize>> = slots.iter().map(|slot| table.place(*slot)).collect();
        let Some(places) = places else { return Ok(BindingTable::new(slots.to_vec())) };
        budget.spend(table.len())?;
        Ok(table.distinct(&places))
    }
}
