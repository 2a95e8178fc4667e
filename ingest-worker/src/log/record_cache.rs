//! The records that the worker has at hand: what is stored of them, and what the unit makes of them.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use tidewater_storage::{RecordKey, RecordWrite, Version, VersionedRecord};

/// A record at hand, found without its key. Good until the worker next lets go of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef {
    place: u32,
    /// Which filling of the places it belongs to: an old one must not pass for another record.
    round: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct RecordCache {
    places: HashMap<RecordKey, u32, RandomState>,
    cached: Vec<CachedRecord>,
    changed: Vec<RecordRef>,
    round: u32,
    /// Number of the last batch that was made up, and how many of its records may still be refused.
    batch: u64,
    in_flight: usize,
}

#[derive(Debug)]
struct CachedRecord {
    key: RecordKey,
    /// The stored record, if there is one; `None` while it was not read. What a batch that is under
    /// way writes counts as stored.
    stored: Option<Option<Arc<VersionedRecord>>>,
    pending: Option<Version>,
    /// The last batch that wrote it.
    batch: u64,
}

impl RecordCache {
    /// The record of this key, read or not.
    pub(crate) fn at(&mut self, key: RecordKey) -> RecordRef {
        let Self { places, cached, round, .. } = self;
        let place = *places.entry(key).or_insert_with_key(|key| {
            cached.push(CachedRecord { key: key.clone(), stored: None, pending: None, batch: 0 });
            u32::try_from(cached.len() - 1).expect("far fewer cells fit into memory")
        });
        RecordRef { place, round: *round }
    }

    /// Its key.
    pub(crate) fn key(&self, record: RecordRef) -> &RecordKey {
        &self.cached(record).key
    }

    /// Whether it was never read.
    pub(crate) fn is_unread(&self, record: RecordRef) -> bool {
        self.cached(record).stored.is_none()
    }

    /// Those of the records that were never read, each once, in the order of their keys.
    pub(crate) fn unread(&self, records: impl IntoIterator<Item = RecordRef>) -> Vec<RecordRef> {
        let mut unread: Vec<_> =
            records.into_iter().filter(|&record| self.is_unread(record)).collect();
        unread.sort_unstable_by(|&one, &other| self.key(one).cmp(self.key(other)));
        unread.dedup();
        unread
    }

    /// This is what the store holds.
    pub(crate) fn note_stored(&mut self, record: RecordRef, stored: Option<Arc<VersionedRecord>>) {
        self.cached_mut(record).stored = Some(stored);
    }

    /// The stored record and the unit's version of it.
    ///
    /// # Panics
    /// When it was not read.
    pub(crate) fn get(&self, record: RecordRef) -> (Option<&VersionedRecord>, Option<&Version>) {
        let cached = self.cached(record);
        let stored = cached.stored.as_ref().expect("cells are loaded before they are read");
        (stored.as_deref(), cached.pending.as_ref())
    }

    /// Gives the record a version in the unit, in place of one that it has there already.
    pub(crate) fn set(&mut self, record: RecordRef, version: Version) {
        if self.cached_mut(record).pending.replace(version).is_none() {
            self.changed.push(record);
        }
    }

    /// What the unit has changed.
    pub(crate) fn changed(&self) -> &[RecordRef] {
        &self.changed
    }

    /// Makes the unit's versions into writes, in the order of the keys, and takes them for stored.
    pub(crate) fn take_changed(
        &mut self,
        mut written: impl FnMut(Option<&VersionedRecord>, Version) -> VersionedRecord,
    ) -> Vec<RecordWrite> {
        self.batch += 1;
        let changed = std::mem::take(&mut self.changed);
        let mut writes = Vec::with_capacity(changed.len());
        for record in changed {
            let batch = self.batch;
            let cached = self.cached_mut(record);
            cached.batch = batch;
            let version = cached.pending.take().expect("a changed cell has a version in the unit");
            let stored = cached.stored.as_ref().expect("cells are loaded before they are written");
            let stored = stored.as_deref();
            let expected_newest = stored.map(VersionedRecord::newest_op);
            let new = Arc::new(written(stored, version));
            cached.stored = Some(Some(Arc::clone(&new)));
            writes.push(RecordWrite { key: cached.key.clone(), expected_newest, record: new });
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
        if self.cached.len() <= kept_max + self.changed.len() + self.in_flight {
            return;
        }
        let in_flight = (self.in_flight > 0).then_some(self.batch);
        let is_kept = |cached: &CachedRecord| {
            cached.pending.is_some() || in_flight.is_some_and(|b| cached.batch == b)
        };
        self.cached.retain(is_kept);
        self.round += 1;
        self.places.clear();
        self.changed.clear();
        for (cached, place) in self.cached.iter().zip(0_u32..) {
            self.places.insert(cached.key.clone(), place);
            if cached.pending.is_some() {
                self.changed.push(RecordRef { place, round: self.round });
            }
        }
    }

    fn cached(&self, record: RecordRef) -> &CachedRecord {
        assert_eq!(record.round, self.round, "a cell that was let go of");
        &self.cached[record.place as usize]
    }

    fn cached_mut(&mut self, record: RecordRef) -> &mut CachedRecord {
        assert_eq!(record.round, self.round, "a cell that was let go of");
        &mut self.cached[record.place as usize]
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

    fn key(row: &str) -> RecordKey {
        RecordKey::SourceRow(GenerationId(epoch()), 0, row.into())
    }

    fn version(sequence: u64) -> Version {
        Version { op: OpId::new(epoch(), sequence), value: None }
    }

    fn plain(_: Option<&VersionedRecord>, version: Version) -> VersionedRecord {
        VersionedRecord { floor: OpId::ZERO, versions: vec![version] }
    }

    #[test]
    fn a_unit_is_written_in_the_order_of_the_keys_and_then_counts_as_stored() {
        let mut records = RecordCache::default();
        for (row, sequence) in [("b", 1), ("a", 2), ("b", 3)] {
            let record = records.at(key(row));
            records.note_stored(record, None);
            records.set(record, version(sequence));
        }
        let writes = records.take_changed(plain);
        let written: Vec<_> =
            writes.iter().map(|w| (w.key.clone(), w.record.newest_op())).collect();
        assert_eq!(written, [(key("a"), version(2).op), (key("b"), version(3).op)]);
        let b = records.at(key("b"));
        assert_eq!(records.get(b), (Some(&plain(None, version(3))), None));
        assert!(records.changed().is_empty() && records.unread([b]).is_empty());
    }

    #[test]
    fn what_is_in_the_unit_or_under_way_is_not_let_go_of() {
        let mut records = RecordCache::default();
        for row in 0..10 {
            let record = records.at(key(&row.to_string()));
            records.note_stored(record, None);
        }
        let in_flight = records.at(key("7"));
        records.set(in_flight, version(1));
        records.take_changed(plain);
        let in_unit = records.at(key("8"));
        records.set(in_unit, version(2));

        records.trim(0);
        let (in_flight, in_unit) = (records.at(key("7")), records.at(key("8")));
        assert_eq!(records.get(in_flight).0, Some(&plain(None, version(1))));
        assert_eq!(records.get(in_unit).1, Some(&version(2)));
        assert_eq!(records.changed(), [in_unit]);
        let other = records.at(key("9"));
        assert_eq!(records.unread([other, in_flight, other]), [other]);
    }

    #[test]
    fn what_has_landed_may_be_let_go_of() {
        let mut records = RecordCache::default();
        for row in 0..10 {
            let record = records.at(key(&row.to_string()));
            records.note_stored(record, None);
        }
        let written = records.at(key("7"));
        records.set(written, version(1));
        records.take_changed(plain);
        records.release_in_flight();
        records.trim(0);
        let written = records.at(key("7"));
        assert_eq!(records.unread([written]), [written]);
    }

    #[test]
    #[should_panic(expected = "let go of")]
    fn a_reference_from_before_is_no_other_cell() {
        let mut records = RecordCache::default();
        let early = records.at(key("early"));
        records.trim(0);
        records.set(early, version(1));
    }
}
