//! Long keys and values: the store at and beyond DynamoDB's limits.

use std::error::Error as _;

use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use tidewater_protocol::OpId;
use tidewater_storage::conformance::empty_generation;
use tidewater_storage::{
    Batch, BucketStore, ClientKey, CompactionQueue, CompactionTask, ControlStore, Embedded,
    Generation, LookupKey, LookupStore, ObjectStore, OpLog, RecordKey, RecordStore, Registry,
    Segment, StorageError, Sweep, Ticket, WriteCheckpointStore, WriteRequests,
};
use tidewater_storage_aws::{AwsStore, Table};

use crate::given::{
    bucket, first_control, generation, lookup, op, put, record, records, row, segment, tag, write,
};
use crate::{emulator, sdk};

/// A page size that every log fits into.
const EVERYTHING: usize = usize::MAX;

/// Returns texts of lengths around the limits of keys. Some differ only beyond a limit.
fn long_texts() -> Vec<String> {
    let mut texts = Vec::new();
    for length in [0, 1, 330, 340, 420, 530, 540, 950, 953, 956, 957, 1_024, 1_980, 2_048, 5_000] {
        for end in ["", "a", "b", "\u{e9}", "\u{10FFFF}"] {
            texts.push(format!("{}{end}", "x".repeat(length)));
            texts.push(format!("{}{end}", "\u{20AC}".repeat(length / 3)));
        }
    }
    texts.sort();
    texts.dedup();
    texts
}

#[tokio::test]
async fn records_with_long_keys_are_distinct() {
    let store = emulator::empty_store().await;
    let kinds: [fn(&str) -> RecordKey; 4] = [
        |text| RecordKey::Bucket(bucket(&format!("[{text}]"))),
        |text| lookup(&format!("[{text}]"), "s"),
        |text| lookup("[1]", text),
        row,
    ];
    let keys: Vec<_> =
        kinds.iter().flat_map(|key| long_texts().into_iter().map(|t| key(&t))).collect();
    let writes = (1..).zip(&keys).map(|(n, key)| write(key, None, record(n, 9))).collect();
    put(&store, records(writes)).await;
    let expected: Vec<_> = (1..).zip(&keys).map(|(n, _)| Some(record(n, 9))).collect();
    assert_eq!(store.records(&keys).await.unwrap(), expected);
}

#[tokio::test]
async fn long_names_of_source_rows_are_read_back() {
    let store = emulator::empty_store().await;
    let texts = long_texts();
    for values in ["[1]", &format!("[{}]", "v".repeat(3_000))] {
        let writes = texts.iter().map(|text| write(&lookup(values, text), None, record(1, 9)));
        put(&store, records(writes.collect())).await;
        let found = store.lookup_rows(&[LookupKey::new(&tag(), values)]).await.unwrap().remove(0);
        let mut found: Vec<_> = found.iter().map(|row| row.answer_name.to_string()).collect();
        found.sort();
        assert_eq!(found, texts);
    }
}

#[tokio::test]
async fn long_buckets_are_listed_in_order() {
    let store = emulator::empty_store().await;
    let mut keys: Vec<_> = long_texts().iter().map(|text| bucket(text)).collect();
    keys.sort();
    let tasks = keys.iter().map(|key| CompactionTask::immediate(key.clone(), op(1))).collect();
    let batch = Batch { registry: keys.clone(), compaction_tasks: tasks, ..Batch::default() };
    put(&store, batch).await;

    for limit in [9, 50, 1_000] {
        let mut listed = Vec::new();
        let mut after = None;
        while listed.len() < keys.len() {
            let page = store.registered_buckets(&tag(), after.as_ref(), limit).await.unwrap();
            assert_eq!(page.len(), limit.min(keys.len() - listed.len()));
            after = page.last().cloned();
            listed.extend(page);
        }
        assert_eq!(listed, keys, "{limit} at once");
    }

    let tasks = store.due_tasks(0, 1_000).await.unwrap();
    let mut due: Vec<_> = tasks.into_iter().map(|task| task.bucket).collect();
    due.sort();
    assert_eq!(due, keys);
}

#[tokio::test]
async fn buckets_that_differ_only_beyond_the_limit_are_listed_in_order() {
    let store = emulator::empty_store().await;
    let keys: Vec<_> =
        (100..500).map(|n| bucket(&format!("[\"{}{n}\"]", "x".repeat(1_000)))).collect();
    put(&store, Batch { registry: keys.clone(), ..Batch::default() }).await;
    let first = store.registered_buckets(&tag(), None, 100).await.unwrap();
    assert_eq!(first, keys[..100]);
    let second = store.registered_buckets(&tag(), first.last(), 100).await.unwrap();
    assert_eq!(second, keys[100..200]);
}

#[tokio::test]
async fn long_buckets_have_segments_of_their_own() {
    let store = emulator::empty_store().await;
    let keys: Vec<_> = long_texts().iter().map(|text| bucket(text)).collect();
    let segments = keys.iter().map(|key| segment(key, 5, 10)).collect();
    put(&store, Batch { segments, ..Batch::default() }).await;
    for key in &keys {
        let page = store.segments(key, OpId::ZERO, OpId::MAX, EVERYTHING).await.unwrap();
        assert_eq!(page.segments, [segment(key, 5, 10)]);
    }
}

#[tokio::test]
async fn requests_of_clients_with_long_names_are_distinct() {
    let store = emulator::empty_store().await;
    let texts = ["", "\"", "\",\"", &"u".repeat(2_000), &"u".repeat(2_001)];
    let clients = texts.iter().flat_map(|user_id| {
        texts.map(|client_id| ClientKey { user_id: (*user_id).into(), client_id: client_id.into() })
    });
    let clients: Vec<_> = clients.collect();
    for (n, client) in (1..).zip(&clients) {
        let requests = WriteRequests::default().with(n, Ticket(1)).unwrap();
        assert!(store.swap_write_requests(client, &requests).await.unwrap());
    }
    for (n, client) in (1..).zip(&clients) {
        assert_eq!(store.write_requests(client).await.unwrap().last_number(), n);
    }
}

async fn object_bytes(store: &AwsStore<Embedded>) -> u64 {
    store.objects().disk_usage().await.unwrap().object_bytes
}

#[tokio::test]
async fn a_record_too_long_for_an_item_is_an_object_until_it_is_replaced() {
    let store = emulator::empty_store().await;
    for key in [row("[1]"), lookup("[1]", "s"), RecordKey::Copy(generation())] {
        for (n, bytes) in [(1, 1_000_000), (2, 500_000), (3, 299_000), (4, 400_000), (5, 10)] {
            let expected = (n > 1).then_some(n - 1);
            for _ in 0..2 {
                put(&store, records(vec![write(&key, expected, record(n, bytes))])).await;
            }
            let found = store.records(std::slice::from_ref(&key)).await.unwrap();
            assert_eq!(found, [Some(record(n, bytes))]);

            let conflicts = store
                .write(records(vec![write(&key, Some(9), record(10, 1))]).into())
                .await
                .unwrap();
            assert_eq!(conflicts[0].stored, Some(record(n, bytes)));

            let is_object = object_bytes(&store).await > 0;
            assert_eq!(is_object, bytes > 300_000, "{bytes} bytes");
        }
    }
}

#[tokio::test]
async fn long_payloads_are_objects_that_are_deleted_with_their_items() {
    let store = emulator::empty_store().await;
    let key = bucket("[]");
    let lengths = [10, 4_096, 4_097, 3_000_000];
    let segments: Vec<_> = (1..).zip(lengths).map(|(n, bytes)| segment(&key, n, bytes)).collect();
    put(&store, Batch { segments: segments.clone(), ..Batch::default() }).await;

    let page = store.segments(&key, OpId::ZERO, OpId::MAX, EVERYTHING).await.unwrap();
    assert_eq!(page.segments, segments);
    assert_eq!(object_bytes(&store).await, 4_097 + 3_000_000);

    // A page's size includes the payloads that are objects.
    let page = store.segments(&key, op(2), OpId::MAX, 4_000).await.unwrap();
    assert_eq!((page.segments.len(), page.has_more), (1, true));

    store.delete_segments(&key, op(3)).await.unwrap();
    assert_eq!(object_bytes(&store).await, 3_000_000);
    store.delete_bucket(&key).await.unwrap();
    assert_eq!(object_bytes(&store).await, 0);
}

#[tokio::test]
async fn a_payload_is_an_object_by_its_compressed_length_and_fills_a_page_by_its_own() {
    let store = emulator::empty_store().await;
    let key = bucket("[]");
    let similar = |n| Segment { payload: vec![0xA5; 100_000].into(), ..segment(&key, n, 1) };
    let segments = vec![similar(1), similar(2), similar(3)];
    put(&store, Batch { segments: segments.clone(), ..Batch::default() }).await;
    assert_eq!(object_bytes(&store).await, 0);

    let page = store.segments(&key, OpId::ZERO, OpId::MAX, EVERYTHING).await.unwrap();
    assert_eq!(page.segments, segments);
    let page = store.segments(&key, OpId::ZERO, OpId::MAX, 150_000).await.unwrap();
    assert_eq!((page.segments.len(), page.has_more), (2, true));
}

#[tokio::test]
async fn objects_of_records_are_deleted_with_their_generation_and_lookup() {
    let store = emulator::empty_store().await;
    let keys = [row("[1]"), lookup("[1]", "s"), RecordKey::Copy(generation())];
    let writes = keys.iter().map(|key| write(key, None, record(1, 400_000))).collect();
    put(&store, records(writes)).await;
    store.delete_generation(generation()).await.unwrap();
    assert!((400_000..500_000).contains(&object_bytes(&store).await));
    store.delete_lookup(&tag()).await.unwrap();
    assert_eq!(object_bytes(&store).await, 0);
    assert_eq!(store.records(&keys).await.unwrap(), [None, None, None]);
}

#[tokio::test]
async fn a_segment_whose_object_was_deleted_is_left_out() {
    let store = emulator::empty_store().await;
    let key = bucket("[]");
    let segments = (1..=3).map(|n| segment(&key, n, 5_000)).collect();
    put(&store, Batch { segments, ..Batch::default() }).await;
    let name = raw(&store, Table::Segments).await.iter().find_map(|item| {
        (item["s"] == AttributeValue::N(op(2).get().to_string()))
            .then(|| item["o"].as_s().unwrap().clone())
    });
    store.delete_object(&name.unwrap()).await.unwrap();
    let page = store.segments(&key, OpId::ZERO, OpId::MAX, EVERYTHING).await.unwrap();
    assert_eq!(page.segments, [segment(&key, 1, 5_000), segment(&key, 3, 5_000)]);
}

#[tokio::test]
async fn a_record_whose_object_does_not_exist_is_damaged() {
    let store = emulator::empty_store().await;
    put(&store, records(vec![write(&row("[1]"), None, record(1, 400_000))])).await;
    let name = raw(&store, Table::SourceRows).await[0]["o"].as_s().unwrap().clone();
    store.delete_object(&name).await.unwrap();
    let error = store.records(&[row("[1]")]).await.unwrap_err();
    assert!(matches!(error, StorageError::Damaged("source row", _)), "{error:?}");
}

#[tokio::test]
async fn an_item_that_is_too_large_is_an_error_that_names_it() {
    let store = emulator::empty_store().await;
    let key = bucket("[]");
    put(&store, records(vec![write(&RecordKey::Bucket(key.clone()), None, record(1, 20))])).await;
    let catalog = Bytes::from(vec![0; 420_000]);
    let of_bucket = store.swap_catalog(&key, 0, &catalog).await.unwrap_err();
    assert!(of_bucket.source().unwrap().to_string().starts_with("the bucket takes 420"));

    let noise: String =
        crate::given::noise(1, 900_000).iter().map(|b| char::from(b % 90 + 33)).collect();
    let too_long = Generation {
        identity: "hash".into(),
        sync_config: noise,
        ..empty_generation(generation())
    };
    let of_config = store.put_generation(&too_long).await.unwrap_err();
    assert!(of_config.source().unwrap().to_string().starts_with("the generation takes "));

    // A config of a million characters fits if it can be compressed.
    let long = Generation { sync_config: "streams: {}\n".repeat(90_000), ..too_long };
    store.put_generation(&long).await.unwrap();
    assert_eq!(store.generation(long.id).await.unwrap(), Some(long));
}

#[tokio::test]
async fn a_store_of_a_newer_layout_is_rejected() {
    let store = emulator::empty_store().await;
    store.swap_control(None, &first_control()).await.unwrap();
    let mut item = raw(&store, Table::Control).await.remove(0);
    item.insert("y".into(), AttributeValue::N("3".into()));
    let put = client().put_item().table_name(name(&store, Table::Control)).set_item(Some(item));
    put.send().await.unwrap();
    let error = store.control().await.unwrap_err();
    assert!(matches!(error, StorageError::TooNew { found: 3, known: 2 }), "{error:?}");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "items expire by the wall clock")]
async fn requests_expire_after_90_days_and_the_ticket_counter_never() {
    let store = emulator::empty_store().await;
    let client = ClientKey { user_id: "u".into(), client_id: "c".into() };
    let requests = WriteRequests::default().with(1, store.take_ticket().await.unwrap()).unwrap();
    assert!(store.swap_write_requests(&client, &requests).await.unwrap());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for item in raw(&store, Table::WriteCheckpoints).await {
        let expires = item.get("x").map(|at| at.as_n().unwrap().parse::<u64>().unwrap());
        let is_ticket_counter = item["p"] == AttributeValue::S("bell".into());
        assert_eq!(expires.is_none(), is_ticket_counter);
        assert!(expires.is_none_or(|at| at.abs_diff(now + 90 * 86_400) < 60), "{expires:?}");
    }
}

fn client() -> aws_sdk_dynamodb::Client {
    aws_sdk_dynamodb::Client::new(&sdk::for_endpoint(emulator::endpoint()))
}

fn name(store: &AwsStore<Embedded>, table: Table) -> String {
    table.name(store.prefix())
}

/// Returns all items of a table.
async fn raw(
    store: &AwsStore<Embedded>,
    table: Table,
) -> Vec<std::collections::HashMap<String, AttributeValue>> {
    let scan = client().scan().table_name(name(store, table)).send().await.unwrap();
    scan.items.unwrap()
}
