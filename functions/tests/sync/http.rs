//! Replies other than streams.

use futures::StreamExt;
use serde_json::{Value, json};
use tidewater_storage::{Embedded, Fault, FaultPlan, Faulty, PortMethod};

use crate::server::{Server, settings, token, token_with, unix_now};
use crate::worker::{Worker, put};
use crate::{CONFIG, deployment};

fn error(body: &Value) -> (String, u64) {
    let error = &body["error"];
    let members: Vec<_> = error.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["name", "code", "status", "description"]);
    (error["code"].as_str().unwrap().to_owned(), error["status"].as_u64().unwrap())
}

/// Returns a token of `u1` that was issued now, with some claims replaced.
fn token_with_change(now: i64, change: &Value) -> String {
    let mut claims = json!({ "sub": "u1", "iat": now, "exp": now + 60, "aud": "app" });
    claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    token_with(&claims)
}

#[tokio::test]
async fn every_path_refuses_a_token_with_the_same_reply() {
    let (_worker, server) = deployment().await;
    let now = unix_now();
    let cases = [
        ("garbage".to_owned(), "PSYNC_S2101"),
        (token_with_change(now, &json!({ "exp": (now + 60).to_string() })), "PSYNC_S2101"),
        (token_with_change(now, &json!({ "iat": now - 600, "exp": now - 500 })), "PSYNC_S2103"),
        (token_with_change(now, &json!({ "exp": now + 90_000 })), "PSYNC_S2104"),
        (token_with_change(now, &json!({ "aud": "other" })), "PSYNC_S2105"),
    ];

    for (token, code) in cases {
        let (status, body) = server.refusal(&token, "{}").await;
        assert_eq!((status.as_u16(), error(&body)), (401, (code.to_owned(), 401)));

        let (status, body) = server.get("/write-checkpoint2.json", Some(&token)).await;
        assert_eq!((status.as_u16(), error(&body)), (401, (code.to_owned(), 401)));

        let reply = server.post("/sync/checkpoint-request", &token, "{").await;
        assert_eq!(reply.status().as_u16(), 401, "the token is checked before the body is read");

        let text = body.to_string();
        assert!(
            !text.contains("k1") && !text.contains(&now.to_string()) && !text.contains(&token),
            "{text}"
        );
    }

    let (status, body) = server.get("/write-checkpoint2.json", None).await;
    assert_eq!((status.as_u16(), error(&body)), (401, ("PSYNC_S2106".to_owned(), 401)));
}

#[tokio::test]
async fn an_old_sdk_with_an_expired_token_is_told_to_fetch_another() {
    let (_worker, server) = deployment().await;
    let now = unix_now();
    let expired = token_with_change(now, &json!({ "iat": now - 600, "exp": now - 500 }));
    let old = "powersync-js/1.45.0 powersync-node";

    let reply = server.post_as("/sync/stream", &expired, "{}", old).await;
    assert_eq!(reply.status().as_u16(), 200);
    assert_eq!(header(&reply, "content-type"), "application/x-ndjson");
    // The stream stays open until the SDK, or this test, closes it.
    let line = reply.bytes_stream().next().await.unwrap().unwrap();
    assert_eq!(&line[..], b"{\"token_expires_in\":1}\n");

    // Only a token that is merely expired, only the stream, and only SDKs that need it.
    let forged = format!("{}x", expired);
    let cases = [
        ("/sync/stream", &*forged, old),
        ("/sync/checkpoint-request", &*expired, old),
        ("/sync/stream", &*expired, "powersync-js/1.57.2 powersync-node"),
    ];
    for (path, token, agent) in cases {
        let status = server.post_as(path, token, "{}", agent).await.status();
        assert_eq!(status.as_u16(), 401, "{path} {agent}");
    }
}

#[tokio::test]
async fn an_invalid_body_is_refused_with_the_name_of_the_field() {
    let (mut worker, server) = deployment().await;
    worker.publish().await;
    let token = token("u1");
    let cases = [
        ("{bad", "not valid JSON"),
        ("", "not valid JSON"),
        ("{} x", "not valid JSON"),
        ("[]", "must be an object"),
        ("  5", "must be an object"),
        (r#"{"buckets":"x"}"#, "\"buckets\""),
        (r#"{"buckets":[{"name":"a","after":"1"},{"name":"a","after":5}]}"#, "buckets[1].after"),
        (r#"{"buckets":[{"name":"a","after":"-1"}]}"#, "buckets[0].after"),
        (r#"{"buckets":[{"name":"a"}]}"#, "buckets[0]"),
        (r#"{"parameters":"secret"}"#, "parameters"),
        (
            r#"{"streams":{"subscriptions":[{"stream":"own","override_priority":4}]}}"#,
            "streams.subscriptions[0].override_priority",
        ),
    ];
    for (body, field) in cases {
        let (status, reply) = server.refusal(&token, body).await;
        assert_eq!((status.as_u16(), error(&reply)), (400, ("PSYNC_S2001".to_owned(), 400)));
        let text = reply["error"]["description"].as_str().unwrap();
        assert!(text.contains(field), "{body}: {text}");
        assert!(!text.contains("secret"), "{text}");
    }

    let deep = format!("{{\"parameters\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(server.refusal(&token, deep).await.0.as_u16(), 400);

    let large = format!("{{\"parameters\":{{\"a\":\"{}\"}}}}", "x".repeat(3 << 20));
    let (status, reply) = server.refusal(&token, large).await;
    assert_eq!((status.as_u16(), error(&reply)), (413, ("PSYNC_S2001".to_owned(), 413)));

    let long_id = json!({ "client_id": "c".repeat(300) }).to_string();
    assert_eq!(server.refusal(&token, long_id).await.0.as_u16(), 400);
}

#[tokio::test]
async fn an_unknown_path_or_method_is_a_404() {
    let (_worker, server) = deployment().await;
    for path in ["/nothing", "/sync/stream", "/sync", "/write-checkpoint3.json", "/console/"] {
        let (status, body) = server.get(path, Some(&token("u1"))).await;
        assert_eq!((status.as_u16(), error(&body)), (404, ("PSYNC_S2002".to_owned(), 404)));
    }
}

/// A person opens the address of the server in a browser.
#[tokio::test]
async fn the_address_alone_says_what_the_server_is() {
    let (_worker, server) = deployment().await;
    let reply = reqwest::get(&server.url).await.unwrap();
    assert_eq!(reply.status().as_u16(), 200);
    let text = reply.text().await.unwrap();
    assert!(text.contains("the sync API of Tidewater"), "{text}");
    assert!(text.contains("--admin-token-file"), "how to get the console: {text}");
}

#[tokio::test]
async fn readiness_requires_a_visible_checkpoint() {
    let (mut worker, server) = deployment().await;
    for path in ["/probes/startup", "/probes/liveness"] {
        assert_eq!(server.get(path, None).await.0.as_u16(), 200);
    }
    let (status, body) = server.get("/probes/readiness", None).await;
    assert_eq!((status.as_u16(), &body["ready"]), (503, &json!(false)));
    assert!(body["reason"].as_str().unwrap().contains("the initial copy is in progress"), "{body}");
    worker.publish().await;
    let (status, body) = server.get("/probes/readiness", None).await;
    assert_eq!((status.as_u16(), body), (200, json!({ "started": true, "ready": true })));
}

fn header(reply: &reqwest::Response, name: &str) -> String {
    reply.headers()[name].to_str().unwrap().to_ascii_lowercase()
}

#[tokio::test]
async fn browsers_of_any_origin_may_call() {
    let (_worker, server) = deployment().await;
    let reply = server.options("/sync/stream", "https://app.example").await;
    assert_eq!(reply.status().as_u16(), 200);

    assert_eq!(header(&reply, "access-control-allow-origin"), "*");
    assert_eq!(header(&reply, "access-control-max-age"), "3600");
    assert!(header(&reply, "access-control-allow-methods").contains("post"));

    for name in ["content-type", "authorization", "user-agent", "x-user-agent"] {
        assert!(header(&reply, "access-control-allow-headers").contains(name), "{name}");
    }

    let reply = server.post("/nothing", "x", "").await;
    assert_eq!(reply.headers()["access-control-allow-origin"], "*", "errors are readable too");
    assert_eq!(
        reply.headers()["access-control-expose-headers"],
        "content-type,content-range,retry-after"
    );
}

#[tokio::test]
async fn a_failing_store_is_a_500_without_details() {
    let mut worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;

    for method in
        [PortMethod::Control, PortMethod::Generation, PortMethod::Buckets, PortMethod::LookupRows]
    {
        let plan = FaultPlan::default().with(method, 1, Fault::Fail);
        let server = Server::start(Faulty::new(worker.storage.clone(), plan), settings()).await;

        let (status, body) = server.refusal(&token("u1"), "{}").await;
        assert_eq!((status.as_u16(), error(&body)), (500, ("PSYNC_S2001".to_owned(), 500)));
        let text = body["error"]["description"].as_str().unwrap();
        assert_eq!(text, "Something went wrong on the server");

        // Only that one call failed: the next request is served.
        crate::client::Device::default().sync(&server, &token("u1")).await;
    }
}
