//! The cells that the worker has at hand: what is stored of them, and what the unit makes of them.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use tidewater_storage::{Cell, CellKey, CellWrite, Version};

/// A cell at hand, found without its key. Good until the worker next lets go of cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef {
    place: u32,
    /// Which filling of the places it belongs to: an old one must not pass for another cell.
    round: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct RecordCache {
    places: HashMap<CellKey, u32, RandomState>,
    held: Vec<CachedRecord>,
    changed: Vec<RecordRef>,
    round: u32,
    /// Number of the last batch that was made up, and how many of its cells may still be refused.
    batch: u64,
    in_flight: usize,
}

#[derive(Debug)]
struct CachedRecord {
    key: CellKey,
    /// The stored cell, if there is one; `None` while it was not read. What a batch that is under
    /// way writes counts as stored.
    stored: Option<Option<Cell>>,
    pending: Option<Version>,
    /// The last batch that wrote it.
    batch: u64,
}

impl RecordCache {
    /// The cell of this key, read or not.
    pub(crate) fn at(&mut self, key: CellKey) -> RecordRef {
        let Self { places, held, round, .. } = self;
        let place = *places.entry(key).or_insert_with_key(|key| {
            held.push(CachedRecord { key: key.clone(), stored: None, pending: None, batch: 0 });
            u32::try_from(held.len() - 1).expect("far fewer cells fit into memory")
        });
        RecordRef { place, round: *round }
    }

    /// Its key.
    pub(crate) fn key(&self, cell: RecordRef) -> &CellKey {
        &self.held(cell).key
    }

    /// Whether it was never read.
    pub(crate) fn is_unread(&self, cell: RecordRef) -> bool {
        self.held(cell).stored.is_none()
    }

    /// Those of the cells that were never read, each once, in the order of their keys.
    pub(crate) fn unread(&self, cells: impl IntoIterator<Item = RecordRef>) -> Vec<RecordRef> {
        let mut unread: Vec<_> = cells.into_iter().filter(|&cell| self.is_unread(cell)).collect();
        unread.sort_unstable_by(|&one, &other| self.key(one).cmp(self.key(other)));
        unread.dedup();
        unread
    }

    /// This is what the store holds.
    pub(crate) fn note_stored(&mut self, cell: RecordRef, stored: Option<Cell>) {
        self.held_mut(cell).stored = Some(stored);
    }

    /// The stored cell and the unit's version of it.
    ///
    /// # Panics
    /// When it was not read.
    pub(crate) fn get(&self, cell: RecordRef) -> (Option<&Cell>, Option<&Version>) {
        let held = self.held(cell);
        let stored = held.stored.as_ref().expect("cells are loaded before they are read");
        (stored.as_ref(), held.pending.as_ref())
    }

    /// Gives the cell a version in the unit, in place of one that it has there already.
    pub(crate) fn set(&mut self, cell: RecordRef, version: Version) {
        if self.held_mut(cell).pending.replace(version).is_none() {
            self.changed.push(cell);
        }
    }

    /// What the unit has changed.
    pub(crate) fn changed(&self) -> &[RecordRef] {
        &self.changed
    }

    /// Makes the unit's versions into writes, in the order of the keys, and takes them for stored.
    pub(crate) fn take_changed(
        &mut self,
        mut written: impl FnMut(Option<&Cell>, Version) -> Cell,
    ) -> Vec<CellWrite> {
        self.batch += 1;
        let changed = std::mem::take(&mut self.changed);
        let mut writes = Vec::with_capacity(changed.len());
        for cell in changed {
            let batch = self.batch;
            let held = self.held_mut(cell);
            held.batch = batch;
            let version = held.pending.take().expect("a changed cell has a version in the unit");
            let stored = held.stored.as_ref().expect("cells are loaded before they are written");
            let stored = stored.as_ref();
            let known_top = stored.map(Cell::top);
            let new = written(stored, version);
            held.stored = Some(Some(new.clone()));
            writes.push(CellWrite { key: held.key.clone(), known_top, cell: new });
        }
        // Stores keep them in this order: so each page is touched once.
        writes.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        self.in_flight = writes.len();
        writes
    }

    /// The last batch can be refused no more.
    pub(crate) fn release_in_flight(&mut self) {
        self.in_flight = 0;
    }

    /// Forgets those that are neither part of the unit nor under way, if there are more of them
    /// than that. Ends the life of every [`RecordRef`] given so far.
    pub(crate) fn trim(&mut self, kept_max: usize) {
        if self.held.len() <= kept_max + self.changed.len() + self.in_flight {
            return;
        }
        let in_flight = (self.in_flight > 0).then_some(self.batch);
        let is_kept = |held: &CachedRecord| {
            held.pending.is_some() || in_flight.is_some_and(|b| held.batch == b)
        };
        self.held.retain(is_kept);
        self.round += 1;
        self.places.clear();
        self.changed.clear();
        for (held, place) in self.held.iter().zip(0_u32..) {
            self.places.insert(held.key.clone(), place);
            if held.pending.is_some() {
                self.changed.push(RecordRef { place, round: self.round });
            }
        }
    }

    fn held(&self, cell: RecordRef) -> &CachedRecord {
        assert_eq!(cell.round, self.round, "a cell that was let go of");
        &self.held[cell.place as usize]
    }

    fn held_mut(&mut self, cell: RecordRef) -> &mut CachedRecord {
        assert_eq!(cell.round, self.round, "a cell that was let go of");
        &mut self.held[cell.place as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidewater_protocol::{Epoch, OpId};
    use tidewater_storage::GenerationId;

    fn epoch() -> Epoch {
        Epoch::ZERO.next().unwrap()
    }

    fn key(row: &str) -> CellKey {
        CellKey::SourceRow(GenerationId(epoch()), 0, row.into())
    }

    fn version(sequence: u64) -> Version {
        Version { op: OpId::new(epoch(), sequence), value: None }
    }

    fn plain(_: Option<&Cell>, version: Version) -> Cell {
        Cell { floor: OpId::ZERO, versions: vec![version] }
    }

    #[test]
    fn a_unit_is_written_in_the_order_of_the_keys_and_then_counts_as_stored() {
        let mut cells = RecordCache::default();
        for (row, sequence) in [("b", 1), ("a", 2), ("b", 3)] {
            let cell = cells.at(key(row));
            cells.note_stored(cell, None);
            cells.set(cell, version(sequence));
        }
        let writes = cells.take_changed(plain);
        let written: Vec<_> = writes.iter().map(|w| (w.key.clone(), w.cell.top())).collect();
        assert_eq!(written, [(key("a"), version(2).op), (key("b"), version(3).op)]);
        let b = cells.at(key("b"));
        assert_eq!(cells.get(b), (Some(&plain(None, version(3))), None));
        assert!(cells.changed().is_empty() && cells.unread([b]).is_empty());
    }

    #[test]
    fn what_is_in_the_unit_or_under_way_is_not_let_go_of() {
        let mut cells = RecordCache::default();
        for row in 0..10 {
            let cell = cells.at(key(&row.to_string()));
            cells.note_stored(cell, None);
        }
        let in_flight = cells.at(key("7"));
        cells.set(in_flight, version(1));
        cells.take_changed(plain);
        let in_unit = cells.at(key("8"));
        cells.set(in_unit, version(2));

        cells.trim(0);
        let (in_flight, in_unit) = (cells.at(key("7")), cells.at(key("8")));
        assert_eq!(cells.get(in_flight).0, Some(&plain(None, version(1))));
        assert_eq!(cells.get(in_unit).1, Some(&version(2)));
        assert_eq!(cells.changed(), [in_unit]);
        let other = cells.at(key("9"));
        assert_eq!(cells.unread([other, in_flight, other]), [other]);
    }

    #[test]
    fn what_has_landed_may_be_let_go_of() {
        let mut cells = RecordCache::default();
        for row in 0..10 {
            let cell = cells.at(key(&row.to_string()));
            cells.note_stored(cell, None);
        }
        let written = cells.at(key("7"));
        cells.set(written, version(1));
        cells.take_changed(plain);
        cells.release_in_flight();
        cells.trim(0);
        let written = cells.at(key("7"));
        assert_eq!(cells.unread([written]), [written]);
    }

    #[test]
    #[should_panic(expected = "let go of")]
    fn a_reference_from_before_is_no_other_cell() {
        let mut cells = RecordCache::default();
        let early = cells.at(key("early"));
        cells.trim(0);
        cells.set(early, version(1));
    }
}
