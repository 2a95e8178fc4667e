//! The store while DynamoDB throttles, fails, leaves parts of batches unprocessed, and loses replies.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tidewater_storage::{
    AccessProbe, Batch, BucketKey, BucketStore, CompactionQueue, Control, ControlStore, Embedded,
    FaultPlan, Faulty, Lsn, PortMethod, RecordKey, RecordStore, Registry, StorageError,
    SwapOutcome, Tag, storage_conformance,
};
use tidewater_storage_aws::AwsStore;

use crate::faults::{Fault, Proxy};
use crate::given::{self, record, write};
use crate::{emulator, sdk};

/// Number of requests in a thousand that meet each kind of fault.
const PER_MILLE: u32 = 150;

mod conformance {
    use super::storage_conformance;
    // All guarantees of the ports hold under faults.
    storage_conformance!(async {
        let proxy = crate::unreliable::proxy().await;
        crate::emulator::two_handles(&proxy.endpoint).await
    });
}

async fn proxy() -> Proxy {
    let seed = rand::random();
    eprintln!("seed {seed}");
    Proxy::start(emulator::endpoint(), PER_MILLE, seed).await
}

fn row(n: u64) -> RecordKey {
    given::row(&format!("[{n}]"))
}

#[tokio::test]
async fn every_kind_of_fault_occurs_and_nothing_is_lost() {
    let proxy = proxy().await;
    let [store, _] = emulator::two_handles(&proxy.endpoint).await;
    let tag = Tag::from_bits(1);
    let buckets: Vec<_> = (0..500).map(|n| BucketKey::new(&tag, &format!("[{n}]"))).collect();
    let batch = Batch {
        records: (1..=500).map(|n| write(&row(n), None, record(n, 9))).collect(),
        registry: buckets.clone(),
        ..Batch::default()
    };
    assert_eq!(store.write(batch.into()).await.unwrap(), []);

    let keys: Vec<_> = (1..=500).map(row).collect();
    let records = store.records(&keys).await.unwrap();
    assert_eq!(records, (1..=500).map(|n| Some(record(n, 9))).collect::<Vec<_>>());
    let listed = store.registered_buckets(&tag, None, 1_000).await.unwrap();
    assert_eq!(listed.into_iter().collect::<HashSet<_>>(), buckets.into_iter().collect());

    for fault in [Fault::Throttled, Fault::Failed, Fault::Unprocessed, Fault::ReplyLost] {
        assert!(proxy.done(fault) > 0, "{fault:?} did not happen");
    }
}

/// Starts a server that answers every call in the same way. Returns its address.
pub(crate) async fn always(status: u16, body: impl Into<String>) -> String {
    let body = body.into();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let status = axum::http::StatusCode::from_u16(status).unwrap();
    let app = axum::Router::new().fallback(move || std::future::ready((status, body)));
    tokio::spawn(async move { axum::serve(listener, app).await });
    endpoint
}

pub(crate) fn store_at(endpoint: &str) -> AwsStore<Embedded> {
    AwsStore::with_objects(&sdk::for_endpoint(endpoint), "test", Embedded::temporary().unwrap())
}

async fn outcomes(endpoint: &str) -> (StorageError, StorageError) {
    let store = store_at(endpoint);
    let key = BucketKey::new(&Tag::from_bits(1), "[]");
    let read = store.buckets(std::slice::from_ref(&key)).await.unwrap_err();
    let batch = Batch { records: vec![write(&row(1), None, record(1, 9))], ..Batch::default() };
    (read, store.write(batch.into()).await.unwrap_err())
}

fn all_causes(error: &StorageError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}

#[tokio::test]
async fn after_all_retries_a_read_is_unavailable_and_a_write_unknown() {
    let throttled = r#"{"__type": "x#ProvisionedThroughputExceededException"}"#;
    let broken = r#"{"__type": "x#InternalServerError"}"#;
    for (status, body) in [(400, throttled), (500, broken), (503, "")] {
        let (read, write) = outcomes(&always(status, body).await).await;
        assert!(matches!(read, StorageError::Unavailable(_)), "{}", all_causes(&read));
        assert!(matches!(write, StorageError::Unknown(_)), "{}", all_causes(&write));
    }
}

#[tokio::test]
async fn a_refused_call_does_not_pass_and_its_cause_names_what_to_change() {
    let cases = [
        ("ResourceNotFoundException", "check the name of the table"),
        ("AccessDeniedException", "allow dynamodb:"),
        ("ValidationException", "check whether the table is the one"),
        ("UnrecognizedClientException", "check the AWS credentials"),
        ("ExpiredTokenException", "check the AWS credentials"),
    ];
    for (code, remedy) in cases {
        let body = format!(r#"{{"__type": "com.amazon.coral.service#{code}", "message": "no"}}"#);
        let (read, write) = outcomes(&always(400, body).await).await;
        for error in [read, write] {
            assert!(matches!(error, StorageError::Refused(_)) && !error.may_pass(), "{error:?}");
            let text = all_causes(&error);
            assert!([code, remedy, "test-"].iter().all(|part| text.contains(part)), "{text}");
        }
    }
}

#[tokio::test]
async fn a_process_without_credentials_is_refused_and_one_whose_provider_fails_is_not() {
    use aws_credential_types::provider::error::CredentialsError;
    use aws_credential_types::provider::{SharedCredentialsProvider, future};

    #[derive(Debug)]
    struct Failing(fn() -> CredentialsError);
    impl aws_credential_types::provider::ProvideCredentials for Failing {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::ready(Err((self.0)()))
        }
    }

    let cases: [(fn() -> CredentialsError, bool); 2] = [
        (|| CredentialsError::not_loaded("no provider in the chain has any"), false),
        (|| CredentialsError::provider_error("the metadata service answered 500"), true),
    ];
    for (error, may_pass) in cases {
        let provider = SharedCredentialsProvider::new(Failing(error));
        let sdk = sdk::for_endpoint(emulator::endpoint()).to_builder();
        let sdk = sdk.credentials_provider(provider).build();
        let store = AwsStore::with_objects(&sdk, "test", Embedded::temporary().unwrap());
        let error = store.control().await.unwrap_err();
        assert_eq!(error.may_pass(), may_pass, "{}", all_causes(&error));
    }
}

#[tokio::test]
async fn a_probe_succeeds_on_a_deployment_and_stores_no_item() {
    let store = emulator::empty_store().await;
    store.probe_access().await.unwrap();
    store.probe_access().await.unwrap();
    assert_eq!(store.control().await.unwrap(), None);
    assert_eq!(store.archived_epochs().await.unwrap(), []);
    assert_eq!(store.due_tasks(u64::MAX, 10).await.unwrap(), []);

    // The costs that its documentation states.
    let consumed = store.consumed();
    // The control record, the archive, and the shards of the queue.
    let own_reads = 1.0 + 1.0 + 8.0;
    assert!(consumed.total().read <= 2.0 * 10.5 + own_reads, "{consumed:?}");
    assert!(consumed.total().write <= 2.0 * 9.0, "{consumed:?}");
}

#[tokio::test]
async fn a_refused_connection_fails_within_the_timeouts() {
    let (read, _) = tokio::time::timeout(Duration::from_secs(30), outcomes("http://127.0.0.1:1"))
        .await
        .unwrap();
    assert!(matches!(read, StorageError::Unavailable(_)), "{read:?}");
}

#[tokio::test]
async fn a_batch_that_is_never_processed_fails_after_all_retries() {
    let endpoint = always(
        200,
        r#"{"UnprocessedItems": {"test-registry": [
            {"DeleteRequest": {"Key": {"p": {"S": "a"}, "s": {"S": "b"}}}}]}}"#,
    )
    .await;
    let registry = vec![BucketKey::new(&Tag::from_bits(1), "[]")];
    let batch = Batch { registry, ..Batch::default() };
    let error = store_at(&endpoint).write(batch.into()).await.unwrap_err();
    assert!(matches!(error, StorageError::Unknown(_)), "{error:?}");
    assert!(all_causes(&error).contains("1 writes were left unprocessed"), "{error:?}");
}

/// Returns a client that never receives replies to writes of the control record, and one that does.
async fn deaf_and_hearing_clients() -> [AwsStore<Embedded>; 2] {
    let proxy = Proxy::start_mute(emulator::endpoint(), "PutItem").await;
    let prefix = sdk::random_prefix();
    let stores = [proxy.endpoint.as_str(), emulator::endpoint()].map(|endpoint| {
        let objects = Embedded::temporary().unwrap();
        AwsStore::with_objects(&sdk::for_endpoint(endpoint), &prefix, objects)
    });
    stores[1].create_tables().await.unwrap();
    stores
}

#[tokio::test]
async fn a_swap_whose_every_reply_is_lost_is_read_back() {
    let [deaf, hearing] = deaf_and_hearing_clients().await;
    let first = given::first_control();
    assert_eq!(deaf.swap_control(None, &first).await.unwrap(), SwapOutcome::Swapped);
    assert_eq!(hearing.control().await.unwrap(), Some(first.clone()));

    let second = Control { revision: 2, ..first.clone() };
    assert_eq!(hearing.swap_control(Some(1), &second).await.unwrap(), SwapOutcome::Swapped);
    let rival = Control { revision: 2, visibility_barrier: Some(Lsn(9)), ..first };
    let conflict = SwapOutcome::Conflict(Some(Box::new(second)));
    assert_eq!(deaf.swap_control(Some(1), &rival).await.unwrap(), conflict);
}

#[tokio::test]
async fn a_flush_with_an_unknown_outcome_can_be_repeated() {
    let plan = FaultPlan::default()
        .with(PortMethod::Write, 1, tidewater_storage::Fault::LoseReply)
        .with(PortMethod::SwapControl, 1, tidewater_storage::Fault::LoseReply);
    let store = Faulty::new(emulator::empty_store().await, plan);
    let batch = Arc::new(given::records(vec![write(&row(1), None, record(1, 9))]));
    let written = store.write(Arc::clone(&batch)).await;
    assert!(matches!(written, Err(StorageError::Unknown(_))));
    assert_eq!(store.write(batch).await.unwrap(), []);

    let record = given::first_control();
    assert!(matches!(store.swap_control(None, &record).await, Err(StorageError::Unknown(_))));
    assert_eq!(store.swap_control(None, &record).await.unwrap(), SwapOutcome::Swapped);
}
