//! The guarantees of [`BucketStore`], [`LookupStore`] and [`Registry`].

use bytes::Bytes;

use super::{bucket, lookup, op, record, row, tag};
use crate::{
    Batch, BucketItem, BucketKey, BucketStore, LookupKey, LookupRow, LookupStore, RecordKey,
    RecordStore, RecordWrite, Registry, Version, VersionedRecord,
};

async fn put(
    store: &impl RecordStore,
    key: RecordKey,
    expected: Option<u64>,
    record: VersionedRecord,
) {
    let write = RecordWrite { key, expected_newest: expected.map(op), record: record.into() };
    let batch = Batch { records: vec![write], ..Batch::default() };
    assert_eq!(store.write(batch.into()).await.unwrap(), []);
}

async fn put_head(store: &impl RecordStore, key: &BucketKey, expected: Option<u64>, sequence: u64) {
    put(store, RecordKey::Bucket(key.clone()), expected, record(sequence)).await;
}

async fn register(store: &impl RecordStore, buckets: &[BucketKey]) {
    let batch = Batch { registry: buckets.to_vec(), ..Batch::default() };
    assert_eq!(store.write(batch.into()).await.unwrap(), []);
}

async fn item(store: &impl BucketStore, key: &BucketKey) -> BucketItem {
    store.buckets(std::slice::from_ref(key)).await.unwrap().remove(0).unwrap()
}

fn catalog(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

pub async fn buckets_are_returned_in_the_order_of_the_keys(
    [a, b]: [impl BucketStore + RecordStore; 2],
) {
    let [first, second, absent] = ["[1]", "[2]", "[3]"].map(|params| bucket(1, params));
    put_head(&a, &first, None, 1).await;
    put_head(&a, &second, None, 2).await;

    let found = b.buckets(&[second.clone(), absent, first, second]).await.unwrap();
    let [one, two] = [1, 2].map(|sequence| {
        Some(BucketItem { head: record(sequence), catalog: Bytes::new(), catalog_revision: 0 })
    });
    assert_eq!(found, [two.clone(), None, one, two]);
    assert_eq!(b.buckets(&[]).await.unwrap(), []);
}

pub async fn a_catalog_swap_needs_the_stored_revision([a, b]: [impl BucketStore + RecordStore; 2]) {
    let key = bucket(1, "[]");
    put_head(&a, &key, None, 1).await;
    assert!(!a.swap_catalog(&key, 1, &catalog("early")).await.unwrap());
    assert!(a.swap_catalog(&key, 0, &catalog("one")).await.unwrap());
    assert!(b.swap_catalog(&key, 1, &catalog("two")).await.unwrap());
    assert!(!a.swap_catalog(&key, 1, &catalog("rival")).await.unwrap());
    assert!(!a.swap_catalog(&key, 0, &catalog("two")).await.unwrap());

    let found = item(&a, &key).await;
    assert_eq!((found.catalog, found.catalog_revision), (catalog("two"), 2));
}

pub async fn a_repeated_catalog_swap_succeeds([a, b]: [impl BucketStore + RecordStore; 2]) {
    let key = bucket(1, "[]");
    put_head(&a, &key, None, 1).await;
    for store in [&a, &b] {
        assert!(store.swap_catalog(&key, 0, &catalog("one")).await.unwrap());
    }
    assert_eq!(item(&b, &key).await.catalog_revision, 1);
}

pub async fn a_catalog_swap_needs_a_stored_bucket([a, b]: [impl BucketStore + RecordStore; 2]) {
    let key = bucket(1, "[]");
    assert!(!a.swap_catalog(&key, 0, &catalog("one")).await.unwrap());
    assert_eq!(b.buckets(&[key]).await.unwrap(), [None]);
}

pub async fn head_and_catalog_are_written_independently(
    [a, b]: [impl BucketStore + RecordStore; 2],
) {
    let key = bucket(1, "[]");
    put_head(&a, &key, None, 1).await;
    assert!(b.swap_catalog(&key, 0, &catalog("one")).await.unwrap());
    put_head(&a, &key, Some(1), 2).await;
    let both = BucketItem { head: record(2), catalog: catalog("one"), catalog_revision: 1 };
    assert_eq!(item(&b, &key).await, both);
    assert!(b.swap_catalog(&key, 1, &Bytes::new()).await.unwrap());
    let both = BucketItem { head: record(2), catalog: Bytes::new(), catalog_revision: 2 };
    assert_eq!(item(&a, &key).await, both);
}

pub async fn a_lookup_returns_all_rows_and_deletions([a, b]: [impl LookupStore + RecordStore; 2]) {
    let key = lookup("[\"u1\"]");
    let gone = VersionedRecord { versions: vec![Version { op: op(9), value: None }], ..record(9) };
    put(&a, RecordKey::Lookup(key.clone(), "[1,\"a\"]".into()), None, record(1)).await;
    put(&a, RecordKey::Lookup(key.clone(), "[1,\"b\"]".into()), None, gone.clone()).await;
    put(&a, RecordKey::Lookup(lookup("[\"u1\",2]"), "[1,\"a\"]".into()), None, record(2)).await;
    put(&a, row("[1,\"a\"]"), None, record(3)).await;

    let mut found = b.lookup_rows(&[key]).await.unwrap().remove(0);
    found.sort_by(|x, y| x.answer_name.cmp(&y.answer_name));
    assert_eq!(
        found,
        [
            LookupRow { answer_name: "[1,\"a\"]".into(), record: record(1) },
            LookupRow { answer_name: "[1,\"b\"]".into(), record: gone },
        ]
    );
}

pub async fn lookups_are_returned_in_the_order_of_the_keys(
    [a, b]: [impl LookupStore + RecordStore; 2],
) {
    let keys: Vec<LookupKey> = (1..=3).map(|n| lookup(&format!("[{n}]"))).collect();
    put(&a, RecordKey::Lookup(keys[0].clone(), "x".into()), None, record(1)).await;
    put(&a, RecordKey::Lookup(keys[2].clone(), "x".into()), None, record(3)).await;

    let asked = [&keys[2], &keys[1], &keys[0], &keys[2]].map(Clone::clone);
    let found: Vec<Vec<VersionedRecord>> = b
        .lookup_rows(&asked)
        .await
        .unwrap()
        .into_iter()
        .map(|rows| rows.into_iter().map(|row| row.record).collect())
        .collect();
    assert_eq!(found, [vec![record(3)], vec![], vec![record(1)], vec![record(3)]]);
    assert_eq!(b.lookup_rows(&[]).await.unwrap(), Vec::<Vec<LookupRow>>::new());
}

pub async fn a_registered_bucket_is_listed_once([a, b]: [impl Registry + RecordStore; 2]) {
    let keys = [bucket(1, "[1]"), bucket(1, "[2]")];
    register(&a, &keys).await;
    register(&b, &[keys[1].clone(), keys[1].clone()]).await;
    assert_eq!(b.registered_buckets(&tag(1), None, 100).await.unwrap(), keys);
}

pub async fn a_listing_is_paged_in_ascending_order([a, b]: [impl Registry + RecordStore; 2]) {
    // Parameters whose characters have one to three bytes.
    let mut keys: Vec<_> = (1..=50)
        .filter_map(|n| char::from_u32(n * 97))
        .map(|character| bucket(1, &format!("[\"{character}\"]")))
        .collect();
    register(&a, &keys).await;
    keys.sort();
    keys.dedup();

    let mut listed: Vec<BucketKey> = Vec::new();
    let mut after: Option<BucketKey> = None;
    while listed.len() < keys.len() {
        let page = b.registered_buckets(&tag(1), after.as_ref(), 7).await.unwrap();
        assert!((1..=7).contains(&page.len()), "{} after {after:?}", page.len());
        after = page.last().cloned();
        listed.extend(page);
    }

    assert_eq!(b.registered_buckets(&tag(1), after.as_ref(), 7).await.unwrap(), []);
    assert_eq!(listed, keys);
}

pub async fn a_listing_contains_only_its_tag([a, b]: [impl Registry + RecordStore; 2]) {
    let keys: Vec<_> = (0..4).map(|bits| bucket(bits, "[\"\u{10FFFF}\"]")).collect();
    register(&a, &keys).await;
    for bits in 0..4 {
        let listed = b.registered_buckets(&tag(bits), None, 100).await.unwrap();
        assert_eq!(listed, [bucket(bits, "[\"\u{10FFFF}\"]")]);
    }
    assert_eq!(b.registered_buckets(&tag(4), None, 100).await.unwrap(), []);

    // A position among another tag's buckets is before or after all buckets of this tag.
    assert_eq!(b.registered_buckets(&tag(1), Some(&keys[0]), 100).await.unwrap().len(), 1);
    assert_eq!(b.registered_buckets(&tag(1), Some(&keys[2]), 100).await.unwrap().len(), 0);
}
