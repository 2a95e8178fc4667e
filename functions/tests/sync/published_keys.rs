//! Tokens that are signed with published keys, over HTTP.

use std::sync::Arc;

use aws_lc_rs::rsa::KeySize;
use serde_json::{Value, json};
use tidewater_functions::{Authenticator, Settings};
use tidewater_storage::Embedded;
use tokio::sync::Notify;

use crate::CONFIG;
use crate::client::Device;
use crate::issuer::Issuer;
use crate::publisher::{Publisher, Reply, set};
use crate::server::{Server, unix_now};
use crate::worker::{Worker, put};

fn settings(publisher: &Publisher) -> Settings {
    let audiences = vec!["app".to_owned()];
    Settings::new(Authenticator::with_urls(&[] as &[&str], &[&publisher.url], audiences).unwrap())
}

fn claims(change: &Value) -> Value {
    let now = unix_now();
    let mut claims = json!({ "sub": "u1", "iat": now, "exp": now + 60, "aud": "app" });
    claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    claims
}

/// Returns status and code of the refusal, which are the same for each path.
async fn refusal(server: &Server, token: &str) -> (u16, String) {
    let (status, body) = server.refusal(token, "{}").await;
    let (other, its_body) = server.get("/write-checkpoint2.json", Some(token)).await;
    assert_eq!((status, &body), (other, &its_body));
    assert!(!body.to_string().contains("127.0.0.1"), "{body}");
    (status.as_u16(), body["error"]["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn tokens_of_published_keys_open_streams_and_others_do_not() {
    let mut worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    worker.commit(&[put("own", r#"["u1"]"#, "a1", "mine")]).await;
    let rsa = Issuer::rsa("r", "RS256", KeySize::Rsa2048);
    let ec = Issuer::ec("e", "ES256");
    let ed = Issuer::ed25519("d");
    let publisher = Publisher::of(&[&rsa, &ec, &ed]).await;
    let server = Server::start(worker.storage.clone(), settings(&publisher)).await;
    for issuer in [&rsa, &ec, &ed] {
        let mut device = Device::default();
        device.sync(&server, &issuer.token(&claims(&json!({})))).await;
        assert_eq!(device.rows(&worker.name("own", r#"["u1"]"#)).len(), 1);
    }

    let now = unix_now();
    let forged = Issuer::rsa("r", "RS256", KeySize::Rsa2048);
    let secret = Issuer::oct(Some("r"), "HS256", b"a secret that is long enough to be one");
    let mut none = rsa.header();
    none["alg"] = "none".into();
    for (token, code) in [
        (forged.token(&claims(&json!({}))), "PSYNC_S2101"),
        (secret.token(&claims(&json!({}))), "PSYNC_S2101"),
        (Issuer::ec("r", "ES256").token(&claims(&json!({}))), "PSYNC_S2101"),
        (rsa.token_with(&none, &claims(&json!({})).to_string()), "PSYNC_S2101"),
        (rsa.token(&claims(&json!({ "iat": now - 600, "exp": now - 500 }))), "PSYNC_S2103"),
        (rsa.token(&claims(&json!({ "exp": now + 90_000 }))), "PSYNC_S2104"),
        (ec.token(&claims(&json!({ "aud": "other" }))), "PSYNC_S2105"),
    ] {
        assert_eq!(refusal(&server, &token).await, (401, code.to_owned()));
    }

    assert_eq!(publisher.fetches(), 1);
}

#[tokio::test]
async fn a_rotated_key_is_found() {
    let mut worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    worker.publish().await;
    let old = Issuer::ec("old", "ES256");
    let new = Issuer::ec("new", "ES256");
    let publisher = Publisher::of(&[&old]).await;
    let server = Server::start(worker.storage.clone(), settings(&publisher)).await;
    Device::default().sync(&server, &old.token(&claims(&json!({})))).await;
    publisher.answer_with(set(&[&old, &new]));
    Device::default().sync(&server, &new.token(&claims(&json!({})))).await;
    Device::default().sync(&server, &old.token(&claims(&json!({})))).await;
    assert_eq!(publisher.fetches(), 2);
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_cancel_the_fetch_of_its_key() {
    let mut worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    worker.publish().await;
    let issuer = Issuer::ec("k", "ES256");
    let answer = Arc::new(Notify::new());
    let publisher = Publisher::start(Reply::Held(Arc::clone(&answer))).await;
    let server = Server::start(worker.storage.clone(), settings(&publisher)).await;
    let token = issuer.token(&claims(&json!({})));

    let fetching = async {
        while publisher.fetches() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _response = server.post("/sync/stream", &token, "{}") => panic!("it waits for the key"),
        () = fetching => {}
    }

    publisher.answer_with(set(&[&issuer]));
    answer.notify_one();
    Device::default().sync(&server, &token).await;
    assert_eq!(publisher.fetches(), 1);
}

#[tokio::test]
async fn a_key_server_that_fails_never_makes_a_token_invalid() {
    let mut worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    worker.publish().await;
    let issuer = Issuer::ec("k", "ES256");

    for wrong in [
        Reply::Status(500),
        Reply::Text("sign in"),
        Reply::Redirect,
        Reply::Endless,
        Reply::Drip,
        Reply::Silence,
    ] {
        let publisher = Publisher::start(wrong).await;
        let server = Server::start(worker.storage.clone(), settings(&publisher)).await;
        let token = issuer.token(&claims(&json!({})));

        assert_eq!(refusal(&server, &token).await, (503, "PSYNC_S2204".to_owned()));
        let response = server.post("/sync/stream", &token, "{}").await;
        assert_eq!(response.headers()["retry-after"], "5");
        assert_eq!(refusal(&server, "garbage").await, (401, "PSYNC_S2101".to_owned()));
        assert_eq!(publisher.followed(), 0);
    }
}
