//! S3 as it answers a role without `s3:ListBucket`: 403 for an object that does not exist.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tidewater_storage::{ObjectStore, RecordStore, StorageError};
use tidewater_storage_aws::{AwsStore, S3Objects};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};

use crate::given::{put, record, records, row, write};
use crate::{emulator, sdk};

/// A length in bytes from which a record is an object.
const LONG: usize = 310_000;

/// S3 with the objects of one bucket. It ends with the runtime of its test.
struct Service {
    objects: Mutex<HashMap<String, Bytes>>,
    /// Notified of each GET when it arrives.
    arrived: Notify,
    /// Each GET waits for the permit, and returns it.
    reads: Semaphore,
    /// True if the role may not read objects either.
    refuses_reads: bool,
}

/// Returns two handles of an empty store whose objects are in this service.
async fn two_handles(refuses_reads: bool) -> ([AwsStore<S3Objects>; 2], Arc<Service>) {
    let service = Arc::new(Service {
        objects: Mutex::default(),
        arrived: Notify::new(),
        reads: Semaphore::new(1),
        refuses_reads,
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let app = axum::Router::new().fallback(answer).with_state(Arc::clone(&service));
    tokio::spawn(async move { axum::serve(listener, app).await });

    let prefix = sdk::random_prefix();
    let stores = [(), ()].map(|()| {
        let objects = S3Objects::new(&sdk::for_endpoint(&endpoint), "objects", &prefix);
        AwsStore::with_objects(&sdk::for_endpoint(emulator::endpoint()), &prefix, objects)
    });
    stores[0].create_tables().await.unwrap();
    (stores, service)
}

async fn answer(
    State(service): State<Arc<Service>>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response {
    let name = uri.path().to_owned();
    match method {
        Method::PUT => {
            service.objects.lock().unwrap().insert(name, body);
            StatusCode::OK.into_response()
        }
        Method::DELETE => {
            service.objects.lock().unwrap().remove(&name);
            StatusCode::NO_CONTENT.into_response()
        }
        _ => {
            service.arrived.notify_one();
            let _turn = service.reads.acquire().await.unwrap();
            let found = service.objects.lock().unwrap().get(&name).cloned();
            match found.filter(|_| !service.refuses_reads) {
                Some(content) => content.into_response(),
                None => (
                    StatusCode::FORBIDDEN,
                    "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
                )
                    .into_response(),
            }
        }
    }
}

#[tokio::test]
async fn a_record_that_is_replaced_while_it_is_read_is_read_again() {
    let ([reader, writer], service) = two_handles(false).await;
    put(&writer, records(vec![write(&row("a"), None, record(1, LONG))])).await;

    // The reader has the item, and is about to read the object that it names.
    let turn = service.reads.acquire().await.unwrap();
    let reading = tokio::spawn(async move { reader.records(&[row("a")]).await });
    service.arrived.notified().await;
    put(&writer, records(vec![write(&row("a"), Some(1), record(2, LONG))])).await;
    drop(turn);

    assert_eq!(reading.await.unwrap().unwrap(), [Some(record(2, LONG))]);
}

#[tokio::test]
async fn an_object_that_the_item_names_still_is_refused_with_the_missing_right() {
    let ([store, _], _) = two_handles(true).await;
    put(&store, records(vec![write(&row("a"), None, record(1, LONG))])).await;
    let read = store.records(&[row("a")]).await.unwrap_err();
    let missing = store.object_range("absent", 0..1).await.unwrap_err();
    for error in [read, missing] {
        assert!(matches!(error, StorageError::Refused(_)), "{error:?}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("s3:GetObject") && cause.contains("s3:ListBucket"), "{cause}");
    }
}
