//! A proxy before the DynamoDB emulator that does what DynamoDB may, and no emulator does: it
//! throttles, fails, leaves parts of batches unprocessed, and loses replies.

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

/// How often one request, sent again and again, meets a fault: the SDK makes eight attempts.
const FAULTS_OF_ONE: u32 = 3;

/// What was done to requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    Throttled,
    Failed,
    Unprocessed,
    ReplyLost,
}

/// The proxy, as long as the runtime of its test runs.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    state: Arc<Faults>,
}

struct Faults {
    behind: String,
    client: reqwest::Client,
    /// Of a thousand requests, how many meet each kind.
    per_mille: u32,
    /// The call whose every reply is lost.
    mute: Option<&'static str>,
    random: Mutex<StdRng>,
    done: Mutex<HashMap<Fault, u32>>,
    of_one: Mutex<HashMap<u64, u32>>,
}

impl Proxy {
    /// Before this endpoint; so many of a thousand requests meet each kind of fault.
    pub(crate) async fn start(behind: &str, per_mille: u32, seed: u64) -> Self {
        Self::start_with(Faults::new(behind, per_mille, seed)).await
    }

    /// Before this endpoint; the replies to this call never arrive.
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
            // The connection breaks off before the body comes.
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
        // Of these only, a repetition comes out another way: a ticket is taken in vain, and a
        // settled entry is not settled again. Both do no harm, and the suite counts them.
        let text = String::from_utf8_lossy(body);
        let counted = call == "DeleteItem" || text.contains("\"ADD ");
        if fault == Fault::ReplyLost && counted
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

    /// Has every other item of a batch processed: of a single one nothing.
    async fn half(&self, headers: &HeaderMap, body: &Bytes) -> Response {
        let mut request: Value = serde_json::from_slice(body).unwrap();
        let mut left = json!({});
        for (table, asked) in request["RequestItems"].as_object_mut().unwrap() {
            let list = if asked.is_array() { asked } else { &mut asked["Keys"] };
            let (kept, mine): (Vec<_>, Vec<_>) = (0..)
                .zip(list.as_array().unwrap().clone())
                .partition::<Vec<(usize, Value)>, _>(|(at, _)| at % 2 == 0);
            let values = |list: Vec<(usize, Value)>| {
                Value::Array(list.into_iter().map(|(_, value)| value).collect())
            };
            *list = values(mine);
            let mut of_table = body_of(body, table);
            if of_table.is_array() {
                of_table = values(kept);
            } else {
                of_table["Keys"] = values(kept);
            }
            left[table] = of_table;
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

/// What a batch asks of a table.
fn body_of(body: &Bytes, table: &str) -> Value {
    let request: Value = serde_json::from_slice(body).unwrap();
    request["RequestItems"][table].clone()
}

fn refusal(status: StatusCode, code: &str) -> Response {
    let body = json!({
        "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"),
        "message": "as the test wants it",
    });
    reply_with(status, serde_json::to_vec(&body).unwrap().into())
}

fn reply_with(status: StatusCode, body: Bytes) -> Response {
    (status, [("content-type", "application/x-amz-json-1.0")], body).into_response()
}
