//! BSON and compressed streams.

use std::io::Read;

use axum::http::StatusCode;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::client::Device;
use crate::coding::Decoder;
use crate::deployment;
use crate::server::{Server, token};
use crate::worker::{Worker, put};

const BSON: &str = "application/vnd.powersync.bson-stream";

/// Returns a deployment with some rows.
async fn with_rows() -> (Worker, Server) {
    let (mut worker, server) = deployment().await;
    let text = "the same text again and again, ".repeat(20);
    for number in 0..20 {
        worker.commit(&[put("everyone", "[]", &format!("n{number}"), &text)]).await;
    }
    (worker, server)
}

/// Takes BSON documents from the beginning of the bytes, as far as they are whole.
fn documents(bytes: &mut Vec<u8>) -> Vec<Value> {
    let mut found = Vec::new();
    while let Some(length) = bytes.first_chunk::<4>() {
        let length = usize::try_from(i32::from_le_bytes(*length)).unwrap();
        if bytes.len() < length {
            break;
        }
        let rest = bytes.split_off(length);
        let document = bson::Document::from_reader(&bytes[..]).unwrap();
        found.push(bson::Bson::Document(document).into_relaxed_extjson());
        *bytes = rest;
    }
    found
}

#[tokio::test]
async fn a_client_that_prefers_bson_gets_the_same_lines_in_bson() {
    let (_worker, server) = with_rows().await;
    let json = Device::default().sync(&server, &token("u1")).await;

    let accept = "application/vnd.powersync.bson-stream;q=0.9,application/x-ndjson;q=0.8";
    let body = Device::default().request();
    let response = server.stream_as(&token("u1"), &body, &[("accept", accept)]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], BSON, "SDKs compare it for equality");

    let mut chunks = response.bytes_stream();
    let mut buffer = Vec::new();
    let mut lines: Vec<Value> = Vec::new();
    while lines.last().is_none_or(|line| line.get("checkpoint_complete").is_none()) {
        buffer.extend_from_slice(&chunks.next().await.unwrap().unwrap());
        lines.extend(documents(&mut buffer));
    }
    assert!(buffer.is_empty());
    assert_eq!(integers(&Value::from(lines)), integers(&Value::from(json)));
}

/// Returns the value with every number as an integer: a large checksum is a double in BSON.
fn integers(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(format!("{:.0}", number.as_f64().unwrap())),
        Value::Array(items) => items.iter().map(integers).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, member)| (name.clone(), integers(member))).collect()
        }
        other @ (Value::Null | Value::Bool(_) | Value::String(_)) => other.clone(),
    }
}

#[tokio::test]
async fn a_client_that_does_not_prefer_bson_gets_json() {
    let (_worker, server) = with_rows().await;
    for accept in ["*/*", "application/x-ndjson", "application/json"] {
        let body = Device::default().request();
        let response = server.stream_as(&token("u1"), &body, &[("accept", accept)]).await;
        assert_eq!(response.headers()["content-type"], "application/x-ndjson", "{accept}");
        assert!(!response.headers().contains_key("content-encoding"));
    }
}

#[tokio::test]
async fn a_compressed_stream_holds_no_line_back() {
    let (mut worker, server) = with_rows().await;
    let mut encodings = Vec::new();
    for (accepted, coding) in [("gzip, deflate, br, zstd", "zstd"), ("gzip, deflate", "gzip")] {
        let body = Device::default().request();
        let token = token("u1");
        let response = server.stream_as(&token, &body, &[("accept-encoding", accepted)]).await;
        assert_eq!(response.headers()["content-encoding"], coding);
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");

        let mut chunks = response.bytes_stream();
        let mut decoder = Decoder::new(coding);
        let mut received = 0;
        for round in 1..=3 {
            // Each checkpoint arrives whole before the next one is made.
            loop {
                let chunk = chunks.next().await.unwrap().unwrap();
                received += chunk.len();
                let text = String::from_utf8(decoder.push(&chunk).to_vec()).unwrap();
                if text.matches("checkpoint_complete").count() == round {
                    assert!(text.ends_with('\n'));
                    break;
                }
            }
            worker.commit(&[put("everyone", "[]", "live", &round.to_string())]).await;
        }
        let restored = decoder.push(b"").len();
        assert!(received * 4 < restored, "{received} bytes for {restored}");
        encodings.push(coding);
    }
    assert_eq!(encodings, ["zstd", "gzip"]);
}

#[tokio::test]
async fn a_compressed_stream_ends_as_its_coding_requires() {
    let (_worker, server) = with_rows().await;
    // The stream of an expired token ends by itself.
    let now = crate::server::unix_now();
    let claims = json!({ "sub": "u1", "iat": now - 60, "exp": now - 1, "aud": "app" });
    let token = crate::server::token_with(&claims);

    for coding in ["zstd", "gzip"] {
        let response = server.stream_as(&token, &json!({}), &[("accept-encoding", coding)]).await;
        let body = response.bytes().await.unwrap();
        let mut text = String::new();
        match coding {
            "zstd" => {
                let mut decoder = zstd::stream::read::Decoder::new(&body[..]).unwrap();
                decoder.read_to_string(&mut text).unwrap();
            }
            _ => {
                let mut decoder = flate2::read::GzDecoder::new(&body[..]);
                decoder.read_to_string(&mut text).unwrap();
            }
        }
        assert_eq!(text, "{\"token_expires_in\":0}\n");
    }
}
