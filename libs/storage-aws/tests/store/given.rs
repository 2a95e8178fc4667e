//! Records for tests.

use bytes::Bytes;
use tidewater_protocol::{Checksum, Epoch, OpId};
use tidewater_storage::{
    Batch, BucketKey, Control, GenerationId, LookupKey, Lsn, Nonce, RecordKey, RecordStore,
    RecordWrite, Segment, SourceIdentity, Tag, Version, VersionedRecord,
};

pub(crate) fn tag() -> Tag {
    Tag::from_bits(1)
}

pub(crate) fn generation() -> GenerationId {
    GenerationId(Epoch::ZERO.next().unwrap())
}

pub(crate) fn op(sequence: u64) -> OpId {
    OpId::new(Epoch::ZERO.next().unwrap(), sequence)
}

pub(crate) fn bucket(params: &str) -> BucketKey {
    BucketKey::new(&tag(), params)
}

pub(crate) fn lookup(values: &str, source: &str) -> RecordKey {
    RecordKey::Lookup(LookupKey::new(&tag(), values), source.into())
}

pub(crate) fn row(key: &str) -> RecordKey {
    RecordKey::SourceRow(generation(), 1, key.into())
}

/// Returns a record of one version with this number of bytes, which cannot be compressed.
pub(crate) fn record(sequence: u64, bytes: usize) -> VersionedRecord {
    let versions = vec![Version { op: op(sequence), value: Some(noise(sequence, bytes)) }];
    VersionedRecord { floor: OpId::ZERO, versions }
}

pub(crate) fn noise(seed: u64, bytes: usize) -> Bytes {
    use rand::{RngCore, SeedableRng};
    let mut noise = vec![0; bytes];
    rand::rngs::StdRng::seed_from_u64(seed).fill_bytes(&mut noise);
    noise.into()
}

pub(crate) fn write(
    key: &RecordKey,
    expected: Option<u64>,
    record: VersionedRecord,
) -> RecordWrite {
    RecordWrite { key: key.clone(), expected_newest: expected.map(op), record: record.into() }
}

/// Returns a segment with a payload of this length, which cannot be compressed.
pub(crate) fn segment(bucket: &BucketKey, sequence: u64, bytes: usize) -> Segment {
    Segment {
        bucket: bucket.clone(),
        last: op(sequence),
        prev: op(sequence - 1),
        sum_before: Checksum(7),
        sum: Checksum(u32::MAX),
        count: 3,
        payload: payload(sequence, bytes),
    }
}

/// Returns noise that begins as a payload does: the distance of the first operation is not zero.
fn payload(seed: u64, bytes: usize) -> Bytes {
    [&[1], &noise(seed, bytes - 1)[..]].concat().into()
}

pub(crate) fn first_control() -> Control {
    let source = SourceIdentity {
        system_id: "7301234567890123456".into(),
        database: "app".into(),
        timeline: 1,
        slot: "tidewater".into(),
        slot_generation: 1,
    };
    let nonce = Nonce("0123456789abcdef0123456789abcdef".into());
    Control::first(Epoch::ZERO.next().unwrap(), nonce, source, Lsn(1 << 40))
}

pub(crate) async fn put(store: &impl RecordStore, batch: Batch) {
    assert_eq!(store.write(batch.into()).await.unwrap(), []);
}

pub(crate) fn records(writes: Vec<RecordWrite>) -> Batch {
    Batch { records: writes, ..Batch::default() }
}
