use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::bson::bson_to_json;
use crate::write::{DataLineWriter, LineFormat, write_line};

fn to_json(line: &SyncLine<'_>) -> String {
    let mut out = Vec::new();
    write_line(&mut out, line, LineFormat::Json);
    assert_eq!(out.pop(), Some(b'\n'));
    String::from_utf8(out).unwrap()
}

fn check(line: &SyncLine<'_>, text: &str) {
    assert_eq!(to_json(line), text);
    assert_eq!(&SyncLine::parse(text.as_bytes()).unwrap(), line);
}

fn op(id: i64) -> OpId {
    OpId::from_i64(id).unwrap()
}

#[test]
fn a_checkpoint_lists_buckets_and_streams() {
    check(
        &SyncLine::Checkpoint(Checkpoint {
            last_op_id: op(20),
            write_checkpoint: Some(op(7)),
            buckets: vec![BucketDescription {
                bucket: "todos|0.k3[\"u1\"]".into(),
                checksum: Checksum(4_000_000_000),
                count: 8,
                priority: Priority::new(1).unwrap(),
                subscriptions: vec![Subscription::Default(0), Subscription::Sub(2)],
            }],
            streams: vec![StreamDescription {
                name: "todos".into(),
                is_default: true,
                errors: vec![
                    StreamError { subscription: SubscriptionRef::DEFAULT, message: "a".into() },
                    StreamError { subscription: SubscriptionRef::Explicit(2), message: "b".into() },
                ],
            }],
        }),
        concat!(
            r#"{"checkpoint":{"last_op_id":"20","write_checkpoint":"7","buckets":[{"bucket":"#,
            r#""todos|0.k3[\"u1\"]","checksum":4000000000,"count":8,"priority":1,"#,
            r#""subscriptions":[{"default":0},{"sub":2}]}],"streams":[{"name":"todos","#,
            r#""is_default":true,"errors":[{"subscription":"default","message":"a"},"#,
            r#"{"subscription":2,"message":"b"}]}]}}"#
        ),
    );
}

#[test]
fn a_diff_has_both_lists_even_if_they_are_empty() {
    check(
        &SyncLine::CheckpointDiff(CheckpointDiff {
            last_op_id: op(30),
            write_checkpoint: None,
            updated_buckets: vec![],
            removed_buckets: vec!["b[]".into()],
        }),
        r#"{"checkpoint_diff":{"last_op_id":"30","updated_buckets":[],"removed_buckets":["b[]"]}}"#,
    );
}

#[test]
fn completions_and_keepalives_are_single_members() {
    check(
        &SyncLine::CheckpointComplete(CheckpointComplete { last_op_id: op(3) }),
        r#"{"checkpoint_complete":{"last_op_id":"3"}}"#,
    );
    check(
        &SyncLine::PartialCheckpointComplete(PartialCheckpointComplete {
            last_op_id: op(3),
            priority: Priority::new(0).unwrap(),
        }),
        r#"{"partial_checkpoint_complete":{"last_op_id":"3","priority":0}}"#,
    );
    check(&SyncLine::TokenExpiresIn(3579), r#"{"token_expires_in":3579}"#);
}

#[test]
fn a_line_of_an_unknown_kind_is_not_an_error() {
    assert_eq!(SyncLine::parse(br#"{"news":{"a":1}}"#).unwrap(), SyncLine::Unknown);
    assert!(SyncLine::parse(b"[1]").is_err());
    assert!(SyncLine::parse(br#"{"checkpoint":{"last_op_id":5,"buckets":[]}}"#).is_err());
}

#[test]
fn the_error_names_the_operation_and_what_it_lacks() {
    let line = br#"{"data":{"bucket":"b","data":[{"op_id":"9","op":"PUT","checksum":1}]}}"#;
    let error = SyncLine::parse(line).unwrap_err().to_string();
    assert_eq!(error, "operation 9 (PUT) lacks object_type or object_id");

    let line = br#"{"data":{"bucket":"b","data":[{"op_id":"9","op":"GROW","checksum":1}]}}"#;
    let error = SyncLine::parse(line).unwrap_err().to_string();
    assert_eq!(error, "operation 9 has the unknown kind 'GROW'");
}

fn operations() -> impl Strategy<Value = Vec<Operation<'static>>> {
    let row = (".{0,9}", ".{0,9}", ".{0,9}").prop_map(|(object_type, object_id, subkey)| RowKey {
        object_type: object_type.into(),
        object_id: object_id.into(),
        subkey: subkey.into(),
    });

    let body = prop_oneof![
        (row.clone(), ".{0,40}").prop_map(|(row, data)| Body::Put { row, data: data.into() }),
        row.prop_map(|row| Body::Remove { row }),
        Just(Body::Move),
        Just(Body::Clear),
    ];

    let operation = (0..i64::MAX, any::<u32>(), body).prop_map(|(id, sum, body)| Operation {
        op_id: op(id),
        checksum: Checksum(sum),
        body,
    });

    proptest::collection::vec(operation, 0..6)
}

proptest! {
    #[test]
    fn a_written_data_line_is_read_back(bucket in ".{0,12}", operations in operations()) {
        let mut out = Vec::new();
        let mut writer = DataLineWriter::begin(&mut out, &bucket, op(0), LineFormat::Json);
        for operation in &operations {
            writer.push(operation);
        }
        writer.finish(op(9), false);
        prop_assert_eq!(out.pop(), Some(b'\n'));
        prop_assert!(!out.contains(&b'\n'));
        let line = SyncLine::Data(DataLine { bucket, operations });
        prop_assert_eq!(SyncLine::parse(&out).unwrap(), line);
    }

    /// SDKs get the same stream in both forms.
    #[test]
    fn a_line_of_bson_has_the_values_of_the_line_of_json(line in lines()) {
        let json: Value = serde_json::from_str(&to_json(&line)).unwrap();
        let mut bson = Vec::new();
        write_line(&mut bson, &line, LineFormat::Bson);

        let document = bson::Document::from_reader(&bson[..]).unwrap();
        let length = i32::from_le_bytes(bson[..4].try_into().unwrap());
        prop_assert_eq!(usize::try_from(length).unwrap(), bson.len());
        let decoded = bson::Bson::Document(document).into_relaxed_extjson();
        prop_assert_eq!(with_doubles(decoded), with_doubles(json.clone()));

        let own: Value = serde_json::from_slice(&bson_to_json(&bson).unwrap()).unwrap();
        prop_assert_eq!(own, json);
    }
}

/// Compares numbers by value: an independent reader returns a double for a large integer.
fn with_doubles(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::from(number.as_f64().unwrap()),
        Value::Array(items) => items.into_iter().map(with_doubles).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, member)| (name, with_doubles(member))).collect()
        }
        other @ (Value::Null | Value::Bool(_) | Value::String(_)) => other,
    }
}

fn descriptions() -> impl Strategy<Value = Vec<BucketDescription>> {
    let subscription = prop_oneof![
        (0..9_usize).prop_map(Subscription::Default),
        (0..9_usize).prop_map(Subscription::Sub)
    ];
    let subscriptions = proptest::collection::vec(subscription, 0..3);
    let description = (".{0,12}", any::<u32>(), 0..1_u64 << 53, 0..4_u8, subscriptions).prop_map(
        |(bucket, sum, count, priority, subscriptions)| BucketDescription {
            bucket,
            checksum: Checksum(sum),
            count,
            priority: Priority::new(priority).unwrap(),
            subscriptions,
        },
    );
    proptest::collection::vec(description, 0..5)
}

fn streams() -> impl Strategy<Value = Vec<StreamDescription>> {
    let subscription = prop_oneof![
        Just(SubscriptionRef::DEFAULT),
        (0..9_usize).prop_map(SubscriptionRef::Explicit)
    ];
    let error = (subscription, ".{0,20}")
        .prop_map(|(subscription, message)| StreamError { subscription, message });
    let stream = (".{0,9}", any::<bool>(), proptest::collection::vec(error, 0..3))
        .prop_map(|(name, is_default, errors)| StreamDescription { name, is_default, errors });
    proptest::collection::vec(stream, 0..3)
}

/// Returns lines of every kind.
fn lines() -> impl Strategy<Value = SyncLine<'static>> {
    let id = || (0..i64::MAX).prop_map(op);
    prop_oneof![
        (id(), proptest::option::of(id()), descriptions(), streams()).prop_map(
            |(last_op_id, write_checkpoint, buckets, streams)| {
                SyncLine::Checkpoint(Checkpoint { last_op_id, write_checkpoint, buckets, streams })
            }
        ),
        (
            id(),
            proptest::option::of(id()),
            descriptions(),
            proptest::collection::vec(".{0,9}", 0..3)
        )
            .prop_map(
                |(last_op_id, write_checkpoint, updated_buckets, removed_buckets)| {
                    SyncLine::CheckpointDiff(CheckpointDiff {
                        last_op_id,
                        write_checkpoint,
                        updated_buckets,
                        removed_buckets,
                    })
                }
            ),
        (".{0,12}", operations())
            .prop_map(|(bucket, operations)| SyncLine::Data(DataLine { bucket, operations })),
        id().prop_map(|last_op_id| SyncLine::CheckpointComplete(CheckpointComplete { last_op_id })),
        (id(), 0..4_u8).prop_map(|(last_op_id, priority)| {
            let priority = Priority::new(priority).unwrap();
            SyncLine::PartialCheckpointComplete(PartialCheckpointComplete { last_op_id, priority })
        }),
        (0..100_000_i64).prop_map(SyncLine::TokenExpiresIn),
        (".{0,9}", id(), any::<u32>(), 0..1_u64 << 53).prop_map(|(bucket, to, sum, bytes)| {
            let frame = SnapshotFrame { bytes, raw_bytes: bytes, sha256: "ab".into() };
            let file = SnapshotFile { url: "/f".into(), raw_bytes: bytes, frames: vec![frame] };
            SyncLine::Snapshot(SnapshotLine {
                bucket,
                id: "k7".into(),
                to,
                checksum: Checksum(sum),
                rows: bytes,
                count: bytes,
                files: vec![file],
            })
        }),
    ]
}
