//! Runs the real router on a free port, and sends requests to it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::StreamExt;
use jsonwebtoken::{EncodingKey, Header};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tidewater_functions::{Authenticator, Settings, router};
use tidewater_storage::Storage;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const SECRET: &[u8] = b"a secret for tests that is long enough";
/// Time in which a line must arrive. Lines arrive within milliseconds; the margin is for busy machines.
pub(crate) const LINE_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    pub(crate) url: String,
    http: reqwest::Client,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn settings() -> Settings {
    let key =
        json!({ "kty": "oct", "alg": "HS256", "kid": "k1", "k": URL_SAFE_NO_PAD.encode(SECRET) });
    let set = json!({ "keys": [key] }).to_string();
    Settings::new(Authenticator::new(&[set], vec!["app".to_owned()]).unwrap())
}

pub(crate) fn unix_now() -> i64 {
    i64::try_from(jsonwebtoken::get_current_timestamp()).unwrap()
}

pub(crate) fn token_with(claims: &Value) -> String {
    let header = Header { kid: Some("k1".to_owned()), ..Header::default() };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

pub(crate) fn token(user: &str) -> String {
    let now = unix_now();
    token_with(&json!({ "sub": user, "iat": now, "exp": now + 3_600, "aud": "app" }))
}

impl Server {
    pub(crate) async fn start<S: Storage>(storage: S, settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = router(storage, settings);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, http: reqwest::Client::new(), task }
    }

    pub(crate) async fn get(&self, path: &str, token: Option<&str>) -> (StatusCode, Value) {
        let mut request = self.http.get(format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.header("authorization", format!("Token {token}"));
        }
        body_of(request.send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: impl Into<String>) -> Response {
        let request = self.http.post(format!("{}{path}", self.url));
        let request = request.header("authorization", format!("Bearer {token}"));
        request.header("content-type", "application/json").body(body.into()).send().await.unwrap()
    }

    /// Posts as a certain SDK.
    pub(crate) async fn post_as(
        &self,
        path: &str,
        token: &str,
        body: &'static str,
        agent: &str,
    ) -> Response {
        let request = self.http.post(format!("{}{path}", self.url)).header("x-user-agent", agent);
        request.header("authorization", format!("Token {token}")).body(body).send().await.unwrap()
    }

    pub(crate) async fn options(&self, path: &str, origin: &str) -> Response {
        let request = self.http.request(reqwest::Method::OPTIONS, format!("{}{path}", self.url));
        let request = request.header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        let headers = "authorization,content-type,x-user-agent";
        request.header("access-control-request-headers", headers).send().await.unwrap()
    }

    /// Requests a stream with headers of its own.
    pub(crate) async fn stream_as(
        &self,
        token: &str,
        body: &Value,
        headers: &[(&'static str, &str)],
    ) -> Response {
        let request = self.http.post(format!("{}/sync/stream", self.url));
        let request = request.header("authorization", format!("Token {token}"));
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .unwrap()
    }

    /// Opens a stream.
    pub(crate) async fn stream(&self, token: &str, body: &Value) -> Lines {
        let response = self.post("/sync/stream", token, body.to_string()).await;
        if response.status() != StatusCode::OK {
            panic!("{:?}", body_of(response).await);
        }
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        Lines { chunks: Box::pin(response.bytes_stream()), buffer: Vec::new() }
    }

    /// Returns the reply to a stream request that is refused.
    pub(crate) async fn refusal(
        &self,
        token: &str,
        body: impl Into<String>,
    ) -> (StatusCode, Value) {
        body_of(self.post("/sync/stream", token, body).await).await
    }
}

pub(crate) async fn body_of(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

type Chunks =
    std::pin::Pin<Box<dyn futures::Stream<Item = Result<bytes::Bytes, reqwest::Error>> + Send>>;

/// The lines of a stream, as they arrive.
pub(crate) struct Lines {
    chunks: Chunks,
    buffer: Vec<u8>,
}

/// The continuation of a stream.
#[derive(Debug)]
pub(crate) enum Next {
    /// The next line.
    Line(Vec<u8>),
    /// The stream ended after a whole line.
    End,
    /// The connection was cut.
    Cut,
}

impl Lines {
    pub(crate) async fn next(&mut self) -> Next {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                return Next::Line(line);
            }

            let chunk = tokio::time::timeout(LINE_TIMEOUT, self.chunks.next()).await;
            match chunk.expect("the stream goes on in time") {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(_)) => return Next::Cut,
                None => {
                    assert!(self.buffer.is_empty(), "a line without an end");
                    return Next::End;
                }
            }
        }
    }
}
