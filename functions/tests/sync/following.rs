//! The first sync, resuming, and following checkpoints.

use serde_json::{Value, json};

use crate::client::{Device, kinds};
use crate::server::{Next, token};
use crate::worker::{answer, put, remove};
use crate::{deployment, rows, synced};

/// Returns the number of operations of each data line.
fn operation_counts(lines: &[Value]) -> Vec<usize> {
    lines.iter().filter_map(|line| line["data"]["data"].as_array().map(Vec::len)).collect()
}

#[tokio::test]
async fn a_first_sync_sends_the_most_urgent_buckets_first() {
    let (mut worker, server) = deployment().await;
    let changes = [
        put("everyone", "[]", "n1", "hello"),
        answer(r#"["u1"]"#, "m1", Some(r#"["o2"]"#)),
        answer(r#"["u1"]"#, "m2", Some(r#"["o1"]"#)),
        answer(r#"["u2"]"#, "m3", Some(r#"["o3"]"#)),
        put("org", r#"["o1"]"#, "d1", "one"),
        put("org", r#"["o2"]"#, "d2", "two"),
        put("org", r#"["o3"]"#, "d3", "not theirs"),
        put("own", r#"["u1"]"#, "a1", "mine"),
        put("own", r#"["u2"]"#, "a2", "not theirs"),
    ];

    let checkpoint = worker.commit(&changes).await;
    let mut device = Device::default();
    let token = token("u1");
    let lines = device.sync(&server, &token).await;

    let expected = [
        "checkpoint",
        "data",
        "partial_checkpoint_complete",
        "data",
        "data",
        "partial_checkpoint_complete",
        "data",
        "checkpoint_complete",
    ];
    assert_eq!(kinds(&lines), expected);

    let buckets: Vec<_> = lines.iter().filter_map(|line| line["data"]["bucket"].as_str()).collect();
    let own = worker.name("own", r#"["u1"]"#);
    let org1 = worker.name("org", r#"["o1"]"#);
    let org2 = worker.name("org", r#"["o2"]"#);
    let all = worker.name("everyone", "[]");
    assert_eq!(buckets, [&*own, &*org1, &*org2, &*all]);

    for (index, priority) in [(2, json!(1)), (5, json!(2))] {
        assert_eq!(lines[index]["partial_checkpoint_complete"]["priority"], priority);
    }
    assert_eq!(device.rows(&own), rows([("a1", "mine")]));
    assert_eq!(device.rows(&org2), rows([("d2", "two")]));
    assert_eq!(device.completed, Some(checkpoint));
    assert_eq!(device.write_checkpoint, None);

    let first = &lines[0]["checkpoint"];
    assert_eq!(first["last_op_id"], json!(checkpoint.to_string()));

    let streams: Vec<_> = first["streams"].as_array().unwrap().iter().collect();
    assert_eq!(streams[0], &json!({ "name": "everyone", "is_default": true, "errors": [] }));

    let described: Vec<_> = first["buckets"].as_array().unwrap().iter().collect();
    let described = described.iter().find(|bucket| bucket["bucket"] == json!(own)).unwrap();
    assert_eq!((&described["count"], &described["priority"]), (&json!(1), &json!(1)));
    assert_eq!(described["subscriptions"], json!([{ "default": 1 }]));
}

#[tokio::test]
async fn an_empty_bucket_is_announced_and_has_no_data_line() {
    let (mut worker, server) = deployment().await;
    worker.publish().await;
    let mut device = Device::default();
    let lines = device.sync(&server, &token("u1")).await;
    assert_eq!(kinds(&lines), ["checkpoint", "checkpoint_complete"]);
    assert_eq!(lines[0]["checkpoint"]["last_op_id"], json!("0"));

    for bucket in lines[0]["checkpoint"]["buckets"].as_array().unwrap() {
        assert_eq!((&bucket["checksum"], &bucket["count"]), (&json!(0), &json!(0)));
    }

    // The first operation ever reaches the same client.
    worker.commit(&[put("everyone", "[]", "n1", "hello")]).await;
    let lines = device.sync(&server, &token("u1")).await;
    assert_eq!(kinds(&lines), ["checkpoint", "data", "checkpoint_complete"]);
}

#[tokio::test]
async fn a_device_resumes_where_its_last_checkpoint_ended() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("everyone", "[]", "n1", "one"), put("own", r#"["u1"]"#, "a1", "x")]).await;

    // The checkpoint lies above the last operation of either bucket.
    worker.commit(&[put("own", r#"["u2"]"#, "a2", "y")]).await;
    let (mut device, token) = synced(&server).await;
    let lines = device.sync(&server, &token).await;
    assert_eq!(kinds(&lines), ["checkpoint", "checkpoint_complete"], "nothing is sent twice");

    worker.commit(&[put("everyone", "[]", "n1", "two"), remove("own", r#"["u1"]"#, "a1")]).await;
    let lines = device.sync(&server, &token).await;
    assert_eq!(operation_counts(&lines), [1, 1]);
    assert_eq!(device.rows(&worker.name("everyone", "[]")), rows([("n1", "two")]));
    assert_eq!(device.rows(&worker.name("own", r#"["u1"]"#)), rows([]));
}

#[tokio::test]
async fn a_change_reaches_an_open_stream_as_a_diff() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let mut device = Device::default();
    let token = token("u1");
    let mut lines = device.connect(&server, &token).await;
    device.until_complete(&mut lines).await;

    // Changes of other users' buckets are not announced.
    worker.commit(&[put("own", r#"["u2"]"#, "a2", "not theirs")]).await;
    let checkpoint = worker
        .commit(&[put("everyone", "[]", "n1", "two"), put("own", r#"["u1"]"#, "a", "b")])
        .await;
    let seen = device.until_complete(&mut lines).await;
    let expected =
        ["checkpoint_diff", "data", "partial_checkpoint_complete", "data", "checkpoint_complete"];
    assert_eq!(kinds(&seen), expected);

    let diff = &seen[0]["checkpoint_diff"];
    assert_eq!(diff["last_op_id"], json!(checkpoint.to_string()));
    assert_eq!(diff["updated_buckets"].as_array().unwrap().len(), 2);
    assert_eq!(diff["removed_buckets"], json!([]));
    assert_eq!(device.rows(&worker.name("everyone", "[]")), rows([("n1", "two")]));
}

#[tokio::test]
async fn a_client_without_raw_data_gets_rows_as_objects() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let mut lines = server.stream(&token("u1"), &json!({})).await;
    loop {
        let Next::Line(line) = lines.next().await else { panic!("no data line") };
        let line: Value = serde_json::from_slice(&line).unwrap();
        if line.get("data").is_some() {
            let row = &line["data"]["data"][0]["data"];
            assert_eq!(row, &json!({ "id": "n1", "text": "one" }));
            break;
        }
    }
}

#[tokio::test]
async fn a_line_takes_many_commits_and_ends_where_a_segment_ends() {
    let (mut worker, server) = deployment().await;
    for batch in 0..12 {
        let rows = batch * 1_000..(batch + 1) * 1_000;
        let changes: Vec<_> =
            rows.map(|row| put("everyone", "[]", &format!("n{row}"), "x")).collect();
        worker.commit(&changes).await;
    }

    let mut device = Device::default();
    let token = token("u1");
    let lines = device.sync(&server, &token).await;
    assert_eq!(operation_counts(&lines), [10_000, 2_000]);
    assert_eq!(lines[1]["data"]["has_more"], json!(true));
    assert_eq!(lines[2]["data"]["has_more"], json!(false));
    assert_eq!(device.rows(&worker.name("everyone", "[]")).len(), 12_000);

    // A device cut off after the first line goes on with the second.
    let mut device = Device::default();
    let mut lines = device.connect(&server, &token).await;
    for _ in 0..2 {
        let Next::Line(line) = lines.next().await else { panic!("the stream ended") };
        device.take(&line);
    }
    drop(lines);

    let lines = device.sync(&server, &token).await;
    assert_eq!(operation_counts(&lines), [2_000]);
    assert_eq!(device.rows(&worker.name("everyone", "[]")).len(), 12_000);
}

#[tokio::test]
async fn a_new_generation_ends_the_stream() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let mut device = Device::default();
    let token = token("u1");
    let mut lines = device.connect(&server, &token).await;
    device.until_complete(&mut lines).await;
    let old = worker.name("everyone", "[]");
    worker.deploy(crate::CONFIG).await;

    // The switch comes without an operation.
    worker.publish().await;
    assert!(matches!(lines.next().await, Next::End));

    worker.commit(&[put("everyone", "[]", "n1", "again")]).await;

    // The buckets of another generation have other names, so nothing of the old ones is mixed in.
    device.sync(&server, &token).await;
    let new = worker.name("everyone", "[]");
    assert_ne!(old, new);
    assert_eq!(device.rows(&new), rows([("n1", "again")]));
    assert!(!device.buckets.contains_key(&old));
}
