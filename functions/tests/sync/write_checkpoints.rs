//! Write checkpoints, as clients see them.

use futures::future::join_all;
use serde_json::{Value, json};
use tidewater_storage::{Ticket, WriteCheckpointStore};

use crate::client::{Device, kinds};
use crate::server::{Server, body_of, token};
use crate::worker::put;
use crate::{deployment, rows};

async fn requested(server: &Server, token: &str) -> String {
    let (status, body) = server.get("/write-checkpoint2.json?client_id=c1", Some(token)).await;
    assert_eq!(status, 200, "{body}");
    body["data"]["write_checkpoint"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_write_checkpoint_appears_once_its_ticket_is_covered() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let mut device = Device::default();
    let token = token("u1");
    let mut lines = device.connect(&server, &token).await;
    device.until_complete(&mut lines).await;
    assert_eq!(requested(&server, &token).await, "1");

    // A commit that does not cover the ticket yet.
    worker.commit(&[put("everyone", "[]", "n2", "two")]).await;
    device.until_complete(&mut lines).await;
    assert_eq!(device.write_checkpoint, None);

    // A commit that covers it, and changes nothing else.
    let ticket = worker.storage.last_ticket().await.unwrap();
    worker.cover(ticket).await;
    let seen = device.until_complete(&mut lines).await;
    assert_eq!(kinds(&seen), ["checkpoint_diff", "checkpoint_complete"]);

    let diff = json!({
        "last_op_id": worker.control.committed.op.to_string(),
        "write_checkpoint": "1", "updated_buckets": [], "removed_buckets": [],
    });
    assert_eq!(seen[0]["checkpoint_diff"], diff);

    // The number is repeated from then on, here and on the next connection.
    worker.commit(&[put("everyone", "[]", "n3", "three")]).await;
    let seen = device.until_complete(&mut lines).await;
    assert_eq!(seen[0]["checkpoint_diff"]["write_checkpoint"], json!("1"));

    let seen = device.sync(&server, &token).await;
    assert_eq!(seen[0]["checkpoint"]["write_checkpoint"], json!("1"));

    let name = worker.name("everyone", "[]");
    assert_eq!(device.rows(&name), rows([("n1", "one"), ("n2", "two"), ("n3", "three")]));
}

#[tokio::test]
async fn the_oldest_sdks_wait_until_the_source_is_replicated() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let token = token("u1");
    let storage = worker.storage.clone();

    let covered = async {
        while storage.last_ticket().await.unwrap() == Ticket(0) {
            tokio::task::yield_now().await;
        }
        // A checkpoint that does not cover the ticket is not enough.
        worker.commit(&[put("everyone", "[]", "n2", "two")]).await;
        worker.flush(&[put("everyone", "[]", "n3", "three")]).await;
        worker.cover(Ticket(1)).await;
    };
    let ((status, body), ()) =
        tokio::join!(server.get("/write-checkpoint.json?client_id=c1", Some(&token)), covered);
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["data"]["checkpoint"], json!(worker.control.committed.op.to_string()));
}

#[tokio::test]
async fn a_bounded_number_of_requests_waits_for_replication() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let token = token("u1");

    let waiting = (0..100).map(|_| server.get("/write-checkpoint.json", Some(&token)));
    let refused = async {
        while worker.storage.last_ticket().await.unwrap() < Ticket(100) {
            tokio::task::yield_now().await;
        }
        let (status, _) = server.get("/write-checkpoint.json", Some(&token)).await;
        worker.cover(Ticket(100)).await;
        status
    };
    let (replies, refused) = tokio::join!(join_all(waiting), refused);
    assert_eq!(refused, 429);
    assert!(replies.iter().all(|(status, _)| *status == 200));
}

#[tokio::test]
async fn a_write_checkpoint_is_not_shown_to_other_clients() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    requested(&server, &token("u1")).await;
    worker.cover(Ticket(1)).await;
    let mut other_user = Device::default();
    other_user.sync(&server, &token("u2")).await;
    assert_eq!(other_user.write_checkpoint, None);
    let request = json!({ "client_id": "c2", "raw_data": true });
    let mut lines = server.stream(&token("u1"), &request).await;
    let mut other_client = Device::default();
    other_client.until_complete(&mut lines).await;
    assert_eq!(other_client.write_checkpoint, None);
}

#[tokio::test]
async fn an_open_stream_sees_a_request_that_was_covered_before_it_was_stored() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let mut device = Device::default();
    let token = token("u1");
    let mut lines = device.connect(&server, &token).await;
    device.until_complete(&mut lines).await;

    // The worker is so fast that its checkpoint covers the ticket before the request is stored.
    worker.cover(Ticket(1)).await;
    worker.commit(&[put("everyone", "[]", "n2", "two")]).await;
    device.until_complete(&mut lines).await;
    assert_eq!(requested(&server, &token).await, "1");

    // The ticket was renewed, and the worker covers it.
    let ticket = worker.storage.last_ticket().await.unwrap();
    assert_eq!(ticket, Ticket(2));

    worker.cover(ticket).await;
    device.until_complete(&mut lines).await;
    assert_eq!(device.write_checkpoint.map(|n| n.get()), Some(1));
}

/// Returns the reply that registers a number.
fn answered(id: &str) -> (u16, Value) {
    (200, json!({ "data": { "checkpoint_request_id": id } }))
}

async fn chosen(server: &Server, token: &str, number: Value) -> (u16, Value) {
    let body = json!({ "client_id": "c1", "checkpoint_request_id": number }).to_string();
    let (status, body) = body_of(server.post("/sync/checkpoint-request", token, body).await).await;
    (status.as_u16(), body)
}

#[tokio::test]
async fn a_client_may_choose_its_numbers() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    let token = token("u1");

    assert_eq!(chosen(&server, &token, json!("41")).await, answered("41"));
    assert_eq!(chosen(&server, &token, json!(3)).await, answered("41"));
    assert_eq!(chosen(&server, &token, json!("41")).await, answered("41"));

    let most = (1_i64 << 62).to_string();
    worker.cover(worker.storage.last_ticket().await.unwrap()).await;
    let mut device = Device::default();
    device.sync(&server, &token).await;
    assert_eq!(device.write_checkpoint.map(|n| n.get()), Some(41));
    assert_eq!(chosen(&server, &token, json!(most)).await, answered(&most));

    // The greatest number of all would leave no further one, and the client would fail for ever.
    let greatest = i64::MAX.to_string();
    assert_eq!(chosen(&server, &token, json!(greatest)).await.0, 400);
    assert_eq!(requested(&server, &token).await, ((1_i64 << 62) + 1).to_string());

    for wrong in [json!(0), json!(-1), json!("0"), json!("x"), json!(1.5), json!(null)] {
        let (status, body) = chosen(&server, &token, wrong.clone()).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!("PSYNC_S2001")), "{wrong}");
        let text = body["error"]["description"].as_str().unwrap();
        assert!(text.contains("checkpoint_request_id"), "{text}");
    }
}
