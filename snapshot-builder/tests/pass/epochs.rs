//! A bucket that was last written in an archived epoch.

use tidewater_snapshot_builder::{Options, run_pass};
use tidewater_storage::{BucketKey, BucketStore, Catalog, Embedded};

use crate::NOW;
use crate::worker::{begun, commit, put};

const ROWS: u64 = 20;

#[tokio::test]
async fn a_base_contains_the_operations_of_an_archived_epoch() {
    let store = Embedded::temporary().unwrap();
    let old = BucketKey::from_stored("aaaaaa[]");
    let busy = BucketKey::from_stored("bbbbbb[]");

    let mut writer = begun(&store, Some(&[])).await;
    put(&mut writer, &old, ROWS);
    commit(&mut writer).await;
    let epoch = writer.control().epoch;
    let last = writer.control().committed.op;

    // The control record names sixteen closed epochs. After seventeen, the first is archived.
    for _ in 0..17 {
        writer = begun(&store, None).await;
        put(&mut writer, &busy, 1);
        commit(&mut writer).await;
    }
    assert!(writer.control().recent.iter().all(|closed| closed.epoch != epoch));

    let options = Options { threshold: ROWS, ..Options::default() };
    run_pass(&store, &options, NOW, None).await.unwrap();
    let item = store.buckets(&[old]).await.unwrap().pop().unwrap().unwrap();
    let base = Catalog::decode(&item.catalog).unwrap().base.unwrap();
    assert_eq!((base.rows, base.to), (ROWS, last));
}
