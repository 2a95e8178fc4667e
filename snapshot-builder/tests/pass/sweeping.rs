//! Generations are removed once neither the worker nor readers have needed them for the grace
//! period.

use std::time::Duration;

use tidewater_protocol::OpId;
use tidewater_snapshot_builder::{Options, run_pass};
use tidewater_storage::{
    Base, BucketKey, BucketStore, Catalog, ControlStore, Embedded, Generation, GenerationId,
    ObjectStore, OpLog, RecordKey, RecordStore, Sweep, Tag,
};

use crate::NOW;
use crate::worker::{Writer, begun, commit, put};

const ROWS: u64 = 20;
const GRACE: u64 = 10_000;

/// A generation with one bucket and its base.
struct Filled {
    id: GenerationId,
    bucket: BucketKey,
    base: Base,
}

async fn pass(store: &Embedded, now: u64) {
    let grace = Duration::from_secs(GRACE);
    let options = Options { threshold: ROWS, grace, ..Options::default() };
    let report = run_pass(store, &options, now, None).await.unwrap();
    assert_eq!((report.failed, report.left), (0, 0));
}

/// Commits rows in the only bucket of the generation.
async fn fill(writer: &mut Writer, tag: &Tag) -> BucketKey {
    let bucket = BucketKey::new(tag, "[]");
    put(writer, &bucket, ROWS);
    commit(writer).await;
    bucket
}

/// Returns a store whose first generation, with a base, is visible, and the run that begins the second.
async fn store() -> (Embedded, Filled, Writer) {
    let store = Embedded::temporary().unwrap();
    let tags = [Tag::from_bits(1), Tag::from_bits(2)];
    let mut writer = begun(&store, Some(&tags[..1])).await;
    let bucket = fill(&mut writer, &tags[0]).await;
    pass(&store, NOW).await;
    let item = store.buckets(std::slice::from_ref(&bucket)).await.unwrap().pop().unwrap();
    let base = Catalog::decode(&item.unwrap().catalog).unwrap().base.unwrap();
    let first = Filled { id: writer.control().generation, bucket, base };
    let writer = begun(&store, Some(&tags[1..])).await;
    assert_ne!(writer.control().generation, first.id);
    (store, first, writer)
}

impl Filled {
    /// Returns how many exist of its record, its bucket, its base's objects, and its segments.
    async fn count(&self, store: &Embedded) -> [usize; 4] {
        let record = store.generation(self.id).await.unwrap();
        let items = store.buckets(std::slice::from_ref(&self.bucket)).await.unwrap();
        let mut objects = 0;
        for object in self.base.objects() {
            objects += usize::from(store.object_range(&object, 0..1).await.unwrap().is_some());
        }
        let log = store.segments(&self.bucket, OpId::ZERO, OpId::MAX, usize::MAX).await.unwrap();
        [
            usize::from(record.is_some()),
            usize::from(items[0].is_some()),
            objects,
            log.segments.len(),
        ]
    }
}

/// Counts of a complete generation. A base of `ROWS` rows has a manifest, its rows, and a typed file.
const ALL: [usize; 4] = [1, 1, 3, 1];

#[tokio::test]
async fn a_visible_generation_is_kept_during_the_copy_of_the_next_one() {
    let (store, first, _writer) = store().await;
    for now in [NOW, NOW + 2 * GRACE, NOW + 4 * GRACE] {
        pass(&store, now).await;
        assert_eq!(first.count(&store).await, ALL);
        assert_eq!(store.generation(first.id).await.unwrap().unwrap().retired_at, None);
    }
}

#[tokio::test]
async fn a_replaced_generation_is_removed_after_the_grace_period() {
    let (store, first, mut writer) = store().await;
    let second = fill(&mut writer, &Tag::from_bits(2)).await;
    for now in [NOW, NOW + 1, NOW + GRACE - 1] {
        pass(&store, now).await;
        assert_eq!(first.count(&store).await, ALL);
    }
    pass(&store, NOW + GRACE).await;
    assert_eq!(first.count(&store).await, [0; 4]);

    assert_eq!(store.generations().await.unwrap(), [writer.control().generation]);
    assert!(store.buckets(&[second]).await.unwrap()[0].is_some());
}

/// The worker continues source rows and some definitions of a former config.
#[tokio::test]
async fn what_the_next_generation_continues_is_kept_for_as_long() {
    let store = Embedded::temporary().unwrap();
    let tags = [1, 2, 3, 4].map(Tag::from_bits);
    let mut writer = begun(&store, Some(&tags[..2])).await;
    let first = writer.control().generation;
    let [gone, shared] = [fill(&mut writer, &tags[0]).await, fill(&mut writer, &tags[1]).await];
    let row = RecordKey::SourceRow(first, 0, "1".into());
    writer.set_at(row.clone(), Some("row".into()));
    commit(&mut writer).await;

    let mut writer = begun(&store, Some(&tags[1..3])).await;
    let second = writer.control().generation;
    let stored = store.generation(second).await.unwrap().unwrap();
    store.put_generation(&Generation { rows_of: Some(first), ..stored }).await.unwrap();
    fill(&mut writer, &tags[2]).await;
    for now in [NOW, NOW + GRACE, NOW + 2 * GRACE] {
        pass(&store, now).await;
    }
    let is_stored = async |bucket: &BucketKey| {
        store.buckets(std::slice::from_ref(bucket)).await.unwrap()[0].is_some()
    };
    assert!(!is_stored(&gone).await && is_stored(&shared).await);
    assert!(store.records(std::slice::from_ref(&row)).await.unwrap()[0].is_some());
    assert_eq!(store.generations().await.unwrap(), [first, second]);

    // A generation with source rows of its own leaves nothing of both.
    let mut writer = begun(&store, Some(&tags[3..])).await;
    fill(&mut writer, &tags[3]).await;
    for now in [NOW + 2 * GRACE, NOW + 3 * GRACE, NOW + 4 * GRACE] {
        pass(&store, now).await;
    }
    assert!(!is_stored(&shared).await);
    assert!(store.records(&[row]).await.unwrap()[0].is_none());
    assert_eq!(store.generations().await.unwrap(), [writer.control().generation]);
}
