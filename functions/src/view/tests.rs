use bytes::Bytes;
use tidewater_protocol::OpId;
use tidewater_storage::{
    Batch, BucketStore, Cell, CellKey, CellStore, CellWrite, Embedded, Version,
};

use super::*;
use crate::stream::tests::store;

/// A bucket that was written after the visible checkpoint.
async fn bucket(storage: &Embedded) -> BucketKey {
    let bucket = BucketKey::from_stored("aaaaaa[]");
    let op = OpId::new(Epoch::new(1).unwrap(), 1);
    let version = Version { op, value: Some(Head::default().encode()) };
    let cell = Cell { floor: OpId::ZERO, versions: vec![version] };
    let write = CellWrite { key: CellKey::Bucket(bucket.clone()), known_top: None, cell };
    let batch = Batch { cells: vec![write], ..Batch::default() };
    assert_eq!(storage.write(&batch).await.unwrap(), []);
    bucket
}

#[tokio::test(start_paused = true)]
async fn a_catalog_that_is_published_between_checkpoints_is_seen() {
    let storage = store().await;
    let bucket = bucket(&storage).await;
    let views = Views::new(storage.clone());
    let floor = async || {
        let view = views.latest().await.unwrap();
        let contents = view.contents(&storage, std::slice::from_ref(&bucket)).await;
        contents.unwrap()[0].catalog.floor
    };
    assert_eq!(floor().await, OpId::ZERO);
    let published = OpId::new(Epoch::new(1).unwrap(), 1);
    let catalog: Bytes = Catalog { floor: published, ..Catalog::default() }.encode();
    assert!(storage.swap_catalog(&bucket, 0, &catalog).await.unwrap());
    // What was read at a checkpoint is shared for a while,
    assert_eq!(floor().await, OpId::ZERO);
    // but not for as long as no checkpoint comes.
    tokio::time::advance(AGE_MAX).await;
    assert_eq!(floor().await, published);
}
