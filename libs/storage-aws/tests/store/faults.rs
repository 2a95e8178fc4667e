//! A proxy in front of the DynamoDB emulator. Like DynamoDB, and unlike emulators, it throttles, fails,
//! leaves parts of batches unprocessed, and loses replies.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Maximum number of faults that one repeated request meets. The SDK makes eight attempts.
const FAULTS_OF_ONE: u32 = 3;

/// A fault of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    Throttled,
    Failed,
    Unprocessed,
    ReplyLost,
}

/// A proxy. It ends with the runtime of its test.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    state: Arc<Faults>,
}

struct Faults {
    behind: String,
    client: reqwest::Client,
    /// Number of requests in a thousand that meet each kind of fault.
    per_mille: u32,
    /// The call whose replies are all lost.
    mute: Option<&'static str>,
    random: Mutex<StdRng>,
    done: Mutex<HashMap<Fault, u32>>,
    of_one: Mutex<HashMap<u64, u32>>,
}

impl Proxy {
    /// Starts a proxy in front of an endpoint. Of a thousand requests, `per_mille` meet each kind of fault.
    pub(crate) async fn start(behind: &str, per_mille: u32, seed: u64) -> Self {
        Self::start_with(Faults::new(behind, per_mille, seed)).await
    }

    /// Starts a proxy in front of an endpoint. The replies to this call never arrive.
    pub(crate) async fn start_mute(behind: &str, call: &'static str) -> Self {
        Self::start_with(Faults { mute: Some(call), ..Faults::new(behind, 0, 0) }).await
    }

    async fn start_with(faults: Faults) -> Self {
        let state = Arc::new(faults);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(handle).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { endpoint, state }
    }

    pub(crate) fn done(&self, fault: Fault) -> u32 {
        self.state.done.lock().unwrap().get(&fault).copied().unwrap_or(0)
    }
}

async fn handle(State(faults): State<Arc<Faults>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let call = target.and_then(|target| target.rsplit('.').next()).unwrap_or_default();

    match faults.draw(call, &body) {
        Some(Fault::Throttled) => {
            refusal(StatusCode::BAD_REQUEST, "ProvisionedThroughputExceededException")
        }
        Some(Fault::Failed) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError"),
        Some(Fault::Unprocessed) => faults.half(&headers, &body).await,
        Some(Fault::ReplyLost) => {
            faults.forward(&headers, body).await;
            // The connection is closed before the body is sent.
            let lost = std::io::Error::other("lost");
            let body = futures::stream::once(async { Err::<Bytes, _>(lost) });
            Response::builder().header("content-length", 2).body(Body::from_stream(body)).unwrap()
        }
        None => {
            let (status, reply) = faults.forward(&headers, body).await;
            reply_with(status, reply)
        }
    }
}

impl Faults {
    fn new(behind: &str, per_mille: u32, seed: u64) -> Self {
        Self {
            behind: behind.to_owned(),
            client: reqwest::Client::new(),
            per_mille,
            mute: None,
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            done: Mutex::default(),
            of_one: Mutex::default(),
        }
    }

    fn draw(&self, call: &str, body: &Bytes) -> Option<Fault> {
        if call.contains("Table") || call.contains("TimeToLive") {
            return None;
        }
        if self.mute == Some(call) {
            return Some(Fault::ReplyLost);
        }

        let kinds = [Fault::Throttled, Fault::Failed, Fault::ReplyLost, Fault::Unprocessed];
        let drawn = self.random.lock().unwrap().random_range(0..1_000_u32);
        let fault = *kinds.get(drawn.checked_div(self.per_mille)? as usize)?;

        // Repeating these calls has another result: a ticket stays unused, and a completed task is
        // not completed again. Neither does harm, but the conformance suite counts tickets and tasks.
        let text = String::from_utf8_lossy(body);
        let is_counted = call == "DeleteItem" || text.contains("\"ADD ");
        if fault == Fault::ReplyLost && is_counted
            || fault == Fault::Unprocessed && !call.starts_with("Batch")
        {
            return None;
        }

        let mut hash = DefaultHasher::new();
        (call, body).hash(&mut hash);
        let mut of_one = self.of_one.lock().unwrap();
        let before = of_one.entry(hash.finish()).or_default();
        *before += 1;
        if *before > FAULTS_OF_ONE {
            return None;
        }
        *self.done.lock().unwrap().entry(fault).or_default() += 1;
        Some(fault)
    }

    async fn forward(&self, headers: &HeaderMap, body: Bytes) -> (StatusCode, Bytes) {
        let mut headers = headers.clone();
        headers.remove("host");
        headers.remove("content-length");
        let call = self.client.post(&self.behind).headers(headers).body(body);
        let reply = call.send().await.unwrap();
        (reply.status(), reply.bytes().await.unwrap())
    }

    /// Has every second item of a batch processed, and nothing of a batch of one.
    async fn half(&self, headers: &HeaderMap, body: &Bytes) -> Response {
        let mut request: Value = serde_json::from_slice(body).unwrap();
        let mut left = request["RequestItems"].clone();
        for (table, asked) in request["RequestItems"].as_object_mut().unwrap() {
            keep_every_second(asked, 1);
            keep_every_second(&mut left[table], 0);
        }

        let asked = request["RequestItems"].as_object_mut().unwrap();
        asked.retain(|_, asked| {
            let list = if asked.is_array() { &*asked } else { &asked["Keys"] };
            !list.as_array().unwrap().is_empty()
        });

        let mut reply = json!({});
        if !asked.is_empty() {
            let body = serde_json::to_vec(&request).unwrap().into();
            let (status, bytes) = self.forward(headers, body).await;
            if !status.is_success() {
                return reply_with(status, bytes);
            }
            reply = serde_json::from_slice(&bytes).unwrap();
        }

        let is_write = left.as_object().unwrap().values().any(Value::is_array);
        let unprocessed = if is_write { "UnprocessedItems" } else { "UnprocessedKeys" };
        reply[unprocessed] = left;
        reply_with(StatusCode::OK, serde_json::to_vec(&reply).unwrap().into())
    }
}

/// Removes all items of a table's part of a batch but every second one, starting with `first`.
fn keep_every_second(part: &mut Value, first: usize) {
    let list = if part.is_array() { part } else { &mut part["Keys"] };
    let list = list.as_array_mut().unwrap();
    *list = std::mem::take(list).into_iter().skip(first).step_by(2).collect();
}

fn refusal(status: StatusCode, code: &str) -> Response {
    let body = json!({
        "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"),
        "message": "a fault of the test",
    });
    reply_with(status, serde_json::to_vec(&body).unwrap().into())
}

fn reply_with(status: StatusCode, body: Bytes) -> Response {
    (status, [("content-type", "application/x-amz-json-1.0")], body).into_response()
}
