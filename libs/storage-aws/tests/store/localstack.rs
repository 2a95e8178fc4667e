//! The conformance suite on LocalStack, the only emulator with S3.
//!
//! `TIDEWATER_TEST_LOCALSTACK` is its address, which `./test` sets. Without it, these tests print that
//! they were skipped, or fail if `TIDEWATER_TEST_REQUIRE_LOCALSTACK` is 1.

use std::time::Duration;

use bytes::Bytes;
use tidewater_storage::{ObjectStore, storage_conformance};
use tidewater_storage_aws::{AwsConfig, AwsStore};

use crate::sdk;

/// The S3 bucket of all tests. Each test has a prefix of its own in it.
const BUCKET: &str = "tidewater-tests";

mod conformance {
    use super::storage_conformance;
    storage_conformance!(match crate::localstack::handles().await {
        Some(handles) => std::future::ready(handles),
        None => return,
    });
}

/// Returns two handles of an empty store, or `None` without LocalStack.
#[expect(clippy::disallowed_methods, reason = "the environment tells tests its address")]
async fn handles() -> Option<[AwsStore; 2]> {
    let Ok(endpoint) = std::env::var("TIDEWATER_TEST_LOCALSTACK") else {
        let required = std::env::var("TIDEWATER_TEST_REQUIRE_LOCALSTACK").is_ok_and(|it| it == "1");
        assert!(!required, "TIDEWATER_TEST_LOCALSTACK is not set");
        println!("skipped: TIDEWATER_TEST_LOCALSTACK is not set");
        return None;
    };
    let config = AwsConfig { prefix: sdk::random_prefix(), ..AwsConfig::new(BUCKET) };
    let stores = [(), ()].map(|()| AwsStore::with_sdk(&sdk::for_endpoint(&endpoint), &config));
    stores[0].create_tables().await.unwrap();
    stores[0].objects().create_bucket().await.unwrap();
    Some(stores)
}

#[tokio::test]
async fn a_presigned_url_gives_the_object_and_cannot_be_extended() {
    let Some([store, _]) = handles().await else { return };
    store.put_object("a/b c+d%", Bytes::from_static(b"0123456789")).await.unwrap();
    let url = store.object_url("a/b c+d%", Duration::from_secs(60)).await.unwrap().unwrap();
    let client = reqwest::Client::new();

    let all = client.get(&url).send().await.unwrap();
    assert_eq!((all.status().as_u16(), all.text().await.unwrap().as_str()), (200, "0123456789"));
    let part = client.get(&url).header("range", "bytes=3-5").send().await.unwrap();
    assert_eq!((part.status().as_u16(), part.text().await.unwrap().as_str()), (206, "345"));

    // A lifetime beyond S3's maximum is cut.
    let year = store.object_url("a/b c+d%", Duration::from_secs(365 * 86_400)).await.unwrap();
    assert!(year.unwrap().contains("X-Amz-Expires=604800"));

    let forged = client.get(url.replace("X-Amz-Expires=60", "X-Amz-Expires=600"));
    assert_eq!(forged.send().await.unwrap().status().as_u16(), 403);
}

#[tokio::test]
async fn a_large_object_is_sent_in_parts() {
    let Some([store, _]) = handles().await else { return };
    let content = crate::given::noise(1, 40 << 20);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &content).unwrap();
    store.put_object_file("file", file.path()).await.unwrap();
    store.put_object("bytes", content.clone()).await.unwrap();
    for name in ["file", "bytes"] {
        let found = store.object_range(name, 0..u64::MAX).await.unwrap().unwrap();
        assert!(found == content, "{name}: {} bytes", found.len());
    }
    let missing = store.put_object_file("none", std::path::Path::new("/no/such/file")).await;
    assert!(missing.is_err());
}

#[tokio::test]
async fn an_object_name_that_is_no_plain_path_is_rejected() {
    let Some([store, _]) = handles().await else { return };
    for name in ["", "/a", "a//b", "a/..", "./a", "a/"] {
        assert!(store.put_object(name, Bytes::new()).await.is_err(), "'{name}'");
        assert!(store.object_range(name, 0..1).await.is_err(), "'{name}'");
    }
}
