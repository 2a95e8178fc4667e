//! The stored records that the worker has in memory, and the versions that the unit gives them.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use tidewater_storage::{RecordKey, RecordWrite, Version, VersionedRecord};

/// Bytes of values that are kept in memory beside the unit and the batch in flight. A record takes some
/// 200 bytes, but that of a row in 10,000 buckets names them all, with 0.6 MB.
const VALUE_BYTES_MAX: usize = 16 << 20;

/// A record of the cache, found without its key. It is valid until the cache is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef {
    index: u32,
    /// Number of trims before it was returned: a trim gives the indexes to other records.
    trims: u32,
}

/// Records in memory: those of the unit, those in flight, and others that may be needed again.
#[derive(Debug, Default)]
pub(crate) struct RecordCache {
    indexes: HashMap<RecordKey, u32, RandomState>,
    records: Vec<CachedRecord>,
    /// Records to which the unit gives a version.
    changed: Vec<RecordRef>,
    /// Number of trims so far.
    trims: u32,
    /// Number of the last batch.
    batch: u64,
    /// Number of records in the batch in flight.
    in_flight: usize,
    /// Bytes of the values that were noted since the last trim, and of those that it kept.
    value_bytes: usize,
}

#[derive(Debug)]
struct CachedRecord {
    key: RecordKey,
    /// The stored record; `None` while it was not read, `Some(None)` if there is none. A version in
    /// flight is taken for stored: nothing else is written to the record before it is. It is shared
    /// with the batch in flight.
    stored: Option<Option<Arc<VersionedRecord>>>,
    /// The version that the unit gives it.
    pending: Option<Version>,
    /// The last batch that wrote it.
    batch: u64,
}

impl RecordCache {
    /// Returns the record of this key, read or not.
    pub(crate) fn entry(&mut self, key: RecordKey) -> RecordRef {
        let Self { indexes, records, trims, .. } = self;
        let index = *indexes.entry(key).or_insert_with_key(|key| {
            records.push(CachedRecord { key: key.clone(), stored: None, pending: None, batch: 0 });
            u32::try_from(records.len() - 1).expect("far fewer records fit into memory")
        });
        RecordRef { index, trims: *trims }
    }

    pub(crate) fn key(&self, record: RecordRef) -> &RecordKey {
        &self.record(record).key
    }

    /// Returns whether the record was never read.
    pub(crate) fn is_unread(&self, record: RecordRef) -> bool {
        self.record(record).stored.is_none()
    }

    /// Returns those of the records that were never read, each once, in the order of their keys.
    pub(crate) fn unread(&self, records: impl IntoIterator<Item = RecordRef>) -> Vec<RecordRef> {
        let mut unread: Vec<_> = records.into_iter().filter(|&one| self.is_unread(one)).collect();
        unread.sort_unstable_by(|&one, &other| self.key(one).cmp(self.key(other)));
        unread.dedup();
        unread
    }

    /// Notes the stored record.
    pub(crate) fn note_stored(&mut self, record: RecordRef, stored: Option<Arc<VersionedRecord>>) {
        self.value_bytes += stored.as_deref().map_or(0, value_bytes);
        self.record_mut(record).stored = Some(stored);
    }

    /// Returns the stored record, and the version that the unit gives it.
    ///
    /// # Panics
    /// When the record was not read.
    pub(crate) fn get(&self, record: RecordRef) -> (Option<&VersionedRecord>, Option<&Version>) {
        let record = self.record(record);
        let stored = record.stored.as_ref().expect("records are loaded before they are used");
        (stored.as_deref(), record.pending.as_ref())
    }

    /// Gives the record a version in the unit. It replaces one that the unit gave it before, as both
    /// would become visible by the same commit.
    pub(crate) fn set(&mut self, record: RecordRef, version: Version) {
        if self.record_mut(record).pending.replace(version).is_none() {
            self.changed.push(record);
        }
    }

    /// Returns the records to which the unit gives a version.
    pub(crate) fn changed(&self) -> &[RecordRef] {
        &self.changed
    }

    /// Turns the unit's versions into writes, in the order of the keys. `with_version` builds a record
    /// from the stored one and the version. From here on the result is taken for stored.
    pub(crate) fn take_changed(
        &mut self,
        mut with_version: impl FnMut(&RecordKey, Option<&VersionedRecord>, Version) -> VersionedRecord,
    ) -> Vec<RecordWrite> {
        self.batch += 1;
        let batch = self.batch;
        let changed = std::mem::take(&mut self.changed);
        let mut writes = Vec::with_capacity(changed.len());
        for record in changed {
            let record = self.record_mut(record);
            let version = record.pending.take().expect("a changed record has a version");
            let stored = record.stored.as_ref().expect("records are read before they are written");
            let stored = stored.as_deref();
            let expected_newest = stored.map(VersionedRecord::newest_op);
            let new = Arc::new(with_version(&record.key, stored, version));

            record.batch = batch;
            record.stored = Some(Some(Arc::clone(&new)));
            let key = record.key.clone();
            self.value_bytes += value_bytes(&new);
            writes.push(RecordWrite { key, expected_newest, record: new });
        }

        // Stores keep records in this order, so each page of a B-tree is written once.
        writes.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        self.in_flight = writes.len();
        writes
    }

    /// Allows the records of the last batch to be trimmed: they are stored.
    pub(crate) fn release_in_flight(&mut self) {
        self.in_flight = 0;
    }

    /// Drops the records that are neither in the unit nor in flight, if there are more than `kept_max`
    /// of them or their values are large. This invalidates every [`RecordRef`] returned so far.
    pub(crate) fn trim(&mut self, kept_max: usize) {
        let is_many = self.records.len() > kept_max + self.changed.len() + self.in_flight;
        if !is_many && self.value_bytes <= VALUE_BYTES_MAX {
            return;
        }

        // A record in flight must stay: read again now, it could be found without that version.
        let batch_in_flight = (self.in_flight > 0).then_some(self.batch);
        self.records.retain(|record| {
            record.pending.is_some() || batch_in_flight.is_some_and(|batch| record.batch == batch)
        });

        let kept = self.records.iter().filter_map(|record| record.stored.as_ref()?.as_deref());
        self.value_bytes = kept.map(value_bytes).sum();
        self.trims += 1;
        self.indexes.clear();
        self.changed.clear();
        for (record, index) in self.records.iter().zip(0_u32..) {
            self.indexes.insert(record.key.clone(), index);
            if record.pending.is_some() {
                self.changed.push(RecordRef { index, trims: self.trims });
            }
        }
    }

    fn record(&self, record: RecordRef) -> &CachedRecord {
        assert_eq!(record.trims, self.trims, "the reference is from before a trim");
        &self.records[record.index as usize]
    }

    fn record_mut(&mut self, record: RecordRef) -> &mut CachedRecord {
        assert_eq!(record.trims, self.trims, "the reference is from before a trim");
        &mut self.records[record.index as usize]
    }
}

/// Returns the bytes of a record's values.
fn value_bytes(record: &VersionedRecord) -> usize {
    record.versions.iter().filter_map(|version| version.value.as_ref()).map(Bytes::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
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

    fn plain(_: &RecordKey, _: Option<&VersionedRecord>, version: Version) -> VersionedRecord {
        VersionedRecord { floor: OpId::ZERO, versions: vec![version] }
    }

    /// Returns a cache of ten records "0" to "9" that were read, and do not exist.
    fn ten_records() -> RecordCache {
        let mut cache = RecordCache::default();
        for row in 0..10 {
            let record = cache.entry(key(&row.to_string()));
            cache.note_stored(record, None);
        }
        cache
    }

    #[test]
    fn a_unit_is_written_in_the_order_of_the_keys_and_is_then_taken_for_stored() {
        let mut cache = RecordCache::default();
        for (row, sequence) in [("b", 1), ("a", 2), ("b", 3)] {
            let record = cache.entry(key(row));
            cache.note_stored(record, None);
            cache.set(record, version(sequence));
        }
        let writes = cache.take_changed(plain);
        let written: Vec<_> =
            writes.iter().map(|one| (one.key.clone(), one.record.newest_op())).collect();
        assert_eq!(written, [(key("a"), version(2).op), (key("b"), version(3).op)]);
        let b = cache.entry(key("b"));
        assert_eq!(cache.get(b), (Some(&plain(&key(""), None, version(3))), None));
        assert!(cache.changed().is_empty() && cache.unread([b]).is_empty());
    }

    #[test]
    fn a_write_is_conditional_on_the_version_that_was_read_or_written_last() {
        let mut cache = RecordCache::default();
        let record = cache.entry(key("a"));
        cache.note_stored(record, Some(Arc::new(plain(&key(""), None, version(1)))));
        cache.set(record, version(2));
        assert_eq!(cache.take_changed(plain)[0].expected_newest, Some(version(1).op));
        cache.set(record, version(3));
        assert_eq!(cache.take_changed(plain)[0].expected_newest, Some(version(2).op));
    }

    #[test]
    fn records_of_the_unit_or_in_flight_are_not_trimmed() {
        let mut cache = ten_records();
        let in_flight = cache.entry(key("7"));
        cache.set(in_flight, version(1));
        cache.take_changed(plain);
        let in_unit = cache.entry(key("8"));
        cache.set(in_unit, version(2));

        cache.trim(0);
        let in_flight = cache.entry(key("7"));
        let in_unit = cache.entry(key("8"));
        assert_eq!(cache.get(in_flight).0, Some(&plain(&key(""), None, version(1))));
        assert_eq!(cache.get(in_unit).1, Some(&version(2)));
        assert_eq!(cache.changed(), [in_unit]);
        let other = cache.entry(key("9"));
        assert_eq!(cache.unread([other, in_flight, other]), [other]);
    }

    #[test]
    fn records_that_are_stored_are_trimmed() {
        let mut cache = ten_records();
        let written = cache.entry(key("7"));
        cache.set(written, version(1));
        cache.take_changed(plain);
        cache.release_in_flight();
        cache.trim(0);
        let written = cache.entry(key("7"));
        assert_eq!(cache.unread([written]), [written]);
    }

    #[test]
    fn a_few_large_records_are_trimmed_too() {
        let mut cache = ten_records();
        let large = Bytes::from(vec![0; VALUE_BYTES_MAX / 2 + 1]);
        for row in ["a", "b"] {
            let record = cache.entry(key(row));
            cache.note_stored(record, None);
            cache.set(record, Version { value: Some(large.clone()), ..version(1) });
            cache.take_changed(plain);
            cache.release_in_flight();
            cache.trim(100);
            let is_trimmed = row == "b";
            let record = cache.entry(key(row));
            assert_eq!(cache.is_unread(record), is_trimmed, "{row}");
        }
        assert_eq!(cache.value_bytes, 0);
    }

    #[test]
    fn a_small_cache_is_not_trimmed_and_its_references_stay_valid() {
        let mut cache = ten_records();
        let record = cache.entry(key("3"));
        cache.trim(10);
        assert_eq!(cache.get(record), (None, None));
    }

    #[test]
    #[should_panic(expected = "from before a trim")]
    fn a_reference_from_before_a_trim_is_no_other_record() {
        let mut cache = RecordCache::default();
        let early = cache.entry(key("early"));
        cache.trim(0);
        cache.set(early, version(1));
    }

    proptest! {
        /// However often the cache is trimmed, each version of the unit is written exactly once, and
        /// with the latest value.
        #[test]
        fn no_trim_loses_a_version_of_the_unit(
            steps in prop::collection::vec((0_usize..6, 0_u8..10), 1..40)
        ) {
            let mut cache = RecordCache::default();
            let mut expected = std::collections::BTreeMap::new();
            for (sequence, (row, action)) in (1..).zip(steps) {
                let record = cache.entry(key(&row.to_string()));
                if cache.is_unread(record) {
                    cache.note_stored(record, None);
                }
                cache.set(record, version(sequence));
                expected.insert(key(&row.to_string()), version(sequence).op);

                if action == 0 {
                    let writes = cache.take_changed(plain);
                    let written: Vec<_> =
                        writes.into_iter().map(|one| (one.key, one.record.newest_op())).collect();
                    prop_assert_eq!(written, std::mem::take(&mut expected).into_iter().collect::<Vec<_>>());
                }
                if action < 4 {
                    cache.trim(usize::from(action));
                }
            }
        }
    }
}
