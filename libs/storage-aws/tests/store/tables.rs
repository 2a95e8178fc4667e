//! The creation of tables.

use tidewater_storage::Embedded;
use tidewater_storage_aws::AwsStore;

use crate::{emulator, sdk};

#[tokio::test]
async fn creating_tables_is_idempotent() {
    let objects = Embedded::temporary().unwrap();
    let sdk = sdk::for_endpoint(emulator::endpoint());
    let store = AwsStore::with_objects(&sdk, &sdk::random_prefix(), objects);
    for _ in 0..2 {
        store.create_tables().await.unwrap();
    }
    let both = tokio::join!(store.create_tables(), store.create_tables());
    assert!(both.0.is_ok() && both.1.is_ok());
}
