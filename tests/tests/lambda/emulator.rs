//! AWS Lambda for one function: the Runtime API of its processes, and its URL.
//!
//! It does what LocalStack does not: it streams answers, throttles them, cuts them at their maximum length, and
//! kills a process at its time limit. As on AWS, a process serves one invocation at a time and is kept for
//! the next one, and an invocation goes on if its client leaves.
#![expect(clippy::unwrap_used, reason = "a helper of tests")]

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::{StreamExt, stream};
use serde_json::{Map, Value, json};
use tidewater_tests::{Lodging, Process, Scratch, Signal};
use tokio::net::TcpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Host of the function's URL.
const HOST: &str = "abcdefghij.lambda-url.us-east-1.on.aws";

/// Ends the head of a streamed answer.
const HEAD_END: [u8; 8] = [0; 8];

/// Size of the buffers of sockets.
pub(super) const SOCKET_BYTES: u32 = 64 << 10;

/// Bytes at the end of an answer that are kept.
const KEPT_BYTES: usize = 200;

/// What Lambda grants an invocation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Time after which its process is killed.
    pub(super) time: Duration,
    /// Length of the part of an answer that is sent at full speed.
    pub(super) burst_bytes: usize,
    /// Bytes a second that are sent of the rest.
    pub(super) bytes_per_second: usize,
    /// Maximum length of an answer.
    pub(super) bytes_max: usize,
}

/// The limits of Lambda: <https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html>.
pub(super) const LAMBDA: Limits = Limits {
    time: Duration::from_secs(900),
    burst_bytes: 6 << 20,
    bytes_per_second: 2 << 20,
    bytes_max: 200 << 20,
};

/// How an invocation has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The function has ended its answer.
    Complete,
    /// The process was killed at its time limit.
    TimedOut,
    /// The answer was cut at its maximum length.
    TooLong,
    /// The function has failed.
    Failed,
}

/// An invocation that has ended.
#[derive(Clone, Debug)]
pub(super) struct Invocation {
    /// The path of the request.
    pub(super) path: String,
    pub(super) end: End,
    /// Length of the answer's body.
    pub(super) bytes: usize,
    /// The last bytes of the body.
    pub(super) last_bytes: Vec<u8>,
    /// Time from the request to the end.
    pub(super) took: Duration,
    /// Number of the process, from 0.
    pub(super) process: u64,
}

/// A function that is deployed. Its processes end with this.
pub(super) struct Function {
    url: String,
    service: Arc<Service>,
}

/// Makes the command of a process, which has everything but the variables of Lambda.
type Program = Box<dyn Fn() -> Result<Command> + Send + Sync>;

struct Service {
    program: Program,
    limits: Limits,
    idle: Mutex<Vec<Sandbox>>,
    ended: Mutex<Vec<Invocation>>,
    started: AtomicU64,
    logs: Scratch,
}

/// A process, and its Runtime API.
struct Sandbox {
    number: u64,
    process: Process,
    runtime: Arc<Runtime>,
    invocations: mpsc::Sender<Task>,
}

/// An invocation, as it is handed to a process.
struct Task {
    id: String,
    event: Bytes,
    deadline_ms: u128,
    answer: oneshot::Sender<Response>,
    sent: mpsc::Sender<Sent>,
}

/// What a process sends as its answer.
enum Sent {
    Chunk(Bytes),
    End(End),
}

/// The Runtime API of one process.
struct Runtime {
    tasks: tokio::sync::Mutex<mpsc::Receiver<Task>>,
    current: Mutex<Option<Task>>,
    limits: Limits,
}

impl Function {
    pub(super) fn deploy(
        limits: Limits,
        program: impl Fn() -> Result<Command> + Send + Sync + 'static,
    ) -> Result<Self> {
        let service = Arc::new(Service {
            program: Box::new(program),
            limits,
            idle: Mutex::default(),
            ended: Mutex::default(),
            started: AtomicU64::new(0),
            logs: Scratch::new()?,
        });
        let app = axum::Router::new().fallback(invoke).with_state(Arc::clone(&service));
        let url = format!("http://{}", serve(app)?);
        Ok(Self { url, service })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Returns the streams that have ended.
    pub(super) fn streams(&self) -> Vec<Invocation> {
        let ended = self.service.ended.lock().unwrap();
        ended.iter().filter(|one| one.path == "/sync/stream").cloned().collect()
    }
}

/// Serves on a free port, by sockets with small buffers: on one machine, those of the kernel would take
/// megabytes at once.
fn serve(app: axum::Router) -> Result<SocketAddr> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(SOCKET_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BYTES)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener = socket.listen(64)?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

/// Serves the function's URL.
async fn invoke(State(service): State<Arc<Service>>, request: Request<Body>) -> Response {
    let path = request.uri().path().to_owned();
    let event = event(request).await;
    let idle = service.idle.lock().unwrap().pop();
    let sandbox = match idle {
        Some(sandbox) => sandbox,
        None => service.start().unwrap(),
    };

    let began = Instant::now();
    let deadline = began + service.limits.time;
    let (answer, answered) = oneshot::channel();
    let (sent, received) = mpsc::channel(1);
    let task = Task {
        id: format!("{:032x}", rand::random::<u128>()),
        event,
        deadline_ms: unix_ms() + service.limits.time.as_millis(),
        answer,
        sent,
    };
    // A process that has ended takes no task: then nothing answers.
    let _ = sandbox.invocations.send(task).await;

    let (to_client, body) = mpsc::channel(1);
    let invocation = Invocation {
        path,
        end: End::Failed,
        bytes: 0,
        last_bytes: Vec::new(),
        took: Duration::ZERO,
        process: sandbox.number,
    };
    tokio::spawn(follow(
        service,
        sandbox,
        invocation,
        Stream { received, to_client, began, deadline },
    ));
    match answered.await {
        Ok(head) => {
            let chunks =
                stream::unfold(body, |mut body| async move { Some((body.recv().await?, body)) });
            (head.into_parts().0, Body::from_stream(chunks)).into_response()
        }
        // As the URL of a function answers if its process fails, or is killed before it answers.
        Err(_) => (StatusCode::BAD_GATEWAY, "Internal Server Error").into_response(),
    }
}

/// The stream of an answer from a process to a client.
struct Stream {
    received: mpsc::Receiver<Sent>,
    to_client: mpsc::Sender<std::io::Result<Bytes>>,
    began: Instant,
    deadline: Instant,
}

/// Passes an answer on until it ends, or until the process must be killed.
async fn follow(
    service: Arc<Service>,
    mut sandbox: Sandbox,
    mut invocation: Invocation,
    mut stream: Stream,
) {
    invocation.end = tokio::select! {
        end = pass_on(&mut stream.received, &stream.to_client, &mut invocation) => end,
        () = tokio::time::sleep_until(stream.deadline) => End::TimedOut,
    };
    invocation.took = stream.began.elapsed();
    if invocation.end == End::Complete {
        service.ended.lock().unwrap().push(invocation);
        service.idle.lock().unwrap().push(sandbox);
        return;
    }

    sandbox.process.kill().unwrap();
    sandbox.runtime.current.lock().unwrap().take();
    service.ended.lock().unwrap().push(invocation);
    // Whatever the client has not received yet is lost, too.
    let cut = std::io::Error::other("the function was stopped");
    let _ = stream.to_client.send(Err(cut)).await;
}

async fn pass_on(
    received: &mut mpsc::Receiver<Sent>,
    to_client: &mpsc::Sender<std::io::Result<Bytes>>,
    invocation: &mut Invocation,
) -> End {
    loop {
        match received.recv().await {
            Some(Sent::Chunk(chunk)) => {
                invocation.bytes += chunk.len();
                invocation.last_bytes.extend_from_slice(&chunk);
                let surplus = invocation.last_bytes.len().saturating_sub(KEPT_BYTES);
                invocation.last_bytes.drain(..surplus);
                // The function goes on if its client has left.
                let _ = to_client.send(Ok(chunk)).await;
            }
            Some(Sent::End(end)) => return end,
            None => return End::Failed,
        }
    }
}

impl Service {
    fn start(&self) -> Result<Sandbox> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let (invocations, tasks) = mpsc::channel(1);
        let runtime = Arc::new(Runtime {
            tasks: tokio::sync::Mutex::new(tasks),
            current: Mutex::default(),
            limits: self.limits,
        });
        let app = axum::Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(respond))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(fail))
            .with_state(Arc::clone(&runtime));
        let address = serve(app)?;

        let mut command = (self.program)()?;
        command
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "sync-api")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST");
        let name = format!("sandbox-{number}");
        let lodging = Lodging { name: &name, logs: self.logs.path(), end: Signal::Kill };
        let process = Process::spawn(&mut command, lodging)?;
        Ok(Sandbox { number, process, runtime, invocations })
    }
}

/// Returns a request as the event that the URL of a function makes of it, in format 2.0.
async fn event(request: Request<Body>) -> Bytes {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 6 << 20).await.unwrap();
    let mut headers = Map::new();
    for (name, value) in &head.headers {
        headers.insert(name.to_string(), value.to_str().unwrap().into());
    }
    headers.insert("host".to_owned(), HOST.into());
    headers.insert("x-forwarded-for".to_owned(), "192.0.2.1".into());
    headers.insert("x-forwarded-proto".to_owned(), "https".into());
    headers.insert("x-forwarded-port".to_owned(), "443".into());

    let event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": head.uri.path(),
        "rawQueryString": head.uri.query().unwrap_or_default(),
        "headers": headers,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abcdefghij",
            "domainName": HOST,
            "domainPrefix": "abcdefghij",
            "http": {
                "method": head.method.as_str(),
                "path": head.uri.path(),
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": headers.get("user-agent").unwrap_or(&Value::Null),
            },
            "requestId": "e1506fd5-9e7b-434f-bd42-4f8fa224b599",
            "routeKey": "$default",
            "stage": "$default",
            "time": "12/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1_583_348_638_390_u64,
        },
        "body": String::from_utf8(body.into()).unwrap(),
        "isBase64Encoded": false,
    });
    event.to_string().into()
}

/// Hands the next invocation to the process.
async fn next(State(runtime): State<Arc<Runtime>>) -> Response {
    let Some(task) = runtime.tasks.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", task.id.clone()),
        ("lambda-runtime-deadline-ms", task.deadline_ms.to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:us-east-1:123456789012:function:sync-api".to_owned(),
        ),
        ("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700".to_owned()),
    ];
    let event = task.event.clone();
    *runtime.current.lock().unwrap() = Some(task);
    (headers, event).into_response()
}

/// Takes the answer of the process as it is made: status and headers as JSON, eight zero bytes, and the body.
async fn respond(
    State(runtime): State<Arc<Runtime>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> StatusCode {
    let Some(Task { answer, sent, .. }) = runtime.take(&id) else { return StatusCode::BAD_REQUEST };
    if headers.get("lambda-runtime-function-response-mode").is_none_or(|mode| mode != "streaming") {
        let _ = sent.send(Sent::End(End::Failed)).await;
        return StatusCode::BAD_REQUEST;
    }

    let mut chunks = body.into_data_stream();
    let mut head = Vec::new();
    let end = loop {
        if let Some(end) = head.windows(HEAD_END.len()).position(|bytes| bytes == HEAD_END) {
            break end;
        }
        match chunks.next().await {
            Some(Ok(chunk)) => head.extend_from_slice(&chunk),
            Some(Err(_)) | None => {
                let _ = sent.send(Sent::End(End::Failed)).await;
                return StatusCode::BAD_REQUEST;
            }
        }
    };
    let rest = Bytes::from(head.split_off(end + HEAD_END.len()));
    let _ = answer.send(response_head(&head[..end]));

    let rest = stream::iter((!rest.is_empty()).then_some(Ok(rest)));
    let mut chunks = rest.chain(chunks);
    let mut meter = Meter { limits: runtime.limits, bytes: 0, throttled_since: None };
    loop {
        let next = match chunks.next().await {
            Some(Ok(chunk)) if meter.admit(chunk.len()).await => Sent::Chunk(chunk),
            Some(Ok(_)) => Sent::End(End::TooLong),
            Some(Err(_)) => Sent::End(End::Failed),
            None => Sent::End(End::Complete),
        };
        let is_end = matches!(next, Sent::End(_));
        let _ = sent.send(next).await;
        if is_end {
            return StatusCode::ACCEPTED;
        }
    }
}

/// Takes the error of a process that has failed.
async fn fail(State(runtime): State<Arc<Runtime>>, Path(id): Path<String>) -> StatusCode {
    if let Some(Task { sent, .. }) = runtime.take(&id) {
        let _ = sent.send(Sent::End(End::Failed)).await;
    }
    StatusCode::ACCEPTED
}

impl Runtime {
    /// Returns the invocation that the process works at.
    fn take(&self, id: &str) -> Option<Task> {
        self.current.lock().unwrap().take_if(|task| task.id == id)
    }
}

/// The length and the pace of an answer.
struct Meter {
    limits: Limits,
    bytes: usize,
    throttled_since: Option<Instant>,
}

impl Meter {
    /// Waits until a chunk may pass. Returns false if it exceeds the maximum length.
    async fn admit(&mut self, length: usize) -> bool {
        let Limits { burst_bytes, bytes_per_second, bytes_max, .. } = self.limits;
        self.bytes += length;
        if self.bytes > bytes_max {
            return false;
        }
        if let Some(throttled_bytes) = self.bytes.checked_sub(burst_bytes) {
            let since = *self.throttled_since.get_or_insert_with(Instant::now);
            let seconds = throttled_bytes as f64 / bytes_per_second as f64;
            tokio::time::sleep_until(since + Duration::from_secs_f64(seconds)).await;
        }
        true
    }
}

fn response_head(head: &[u8]) -> Response {
    let head: Value = serde_json::from_slice(head).unwrap();
    let mut response = Response::builder();
    let status = head["statusCode"].as_u64().unwrap_or(200);
    response = response.status(u16::try_from(status).unwrap());
    for (name, value) in head["headers"].as_object().into_iter().flatten() {
        response = response.header(name, value.as_str().unwrap());
    }
    response.body(Body::empty()).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "Lambda's deadline is wall-clock time")]
fn unix_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}
