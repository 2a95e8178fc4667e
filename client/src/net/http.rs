//! Requests to the sync API.

use std::io::BufRead;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, RANGE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use tidewater_protocol::{ErrorChain, OpId, StreamRequest};

use super::content_coding::{self, ContentDecoder};
use crate::core::{Closed, RequestFailed};
use crate::error::ClientError;

/// The timeout for a TCP and TLS handshake: several retransmissions on a poor mobile network.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The timeout for requests that the server answers at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The time without a byte after which a stream counts as dead. The server sends a keep-alive every
/// 20 s, so three of them are missing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest wait that a server may request. It bounds the damage of a wrong header.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
/// The longest accepted line, in bytes. A server sends a few MB in one line, and a single row may
/// have 15 MB, which escaping can multiply.
const LINE_BYTES_MAX: usize = 128 << 20;
/// The greatest number of bytes that wait to be split into lines: a line, and what one read brings of
/// later ones.
const BUFFER_BYTES_MAX: usize = 2 * LINE_BYTES_MAX;
/// The part of an error's body that is read and kept, in bytes.
const ERROR_BYTES_MAX: usize = 16 << 10;

/// Returns a client for all requests of a session.
pub(crate) fn client() -> Result<reqwest::Client, ClientError> {
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        // A redirected POST becomes a GET. Its 200, from a sign-in page for example, would look
        // like the answer.
        .redirect(Policy::none())
        .user_agent(concat!("tidewater-client/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(ClientError::Http)
}

/// The addresses of the sync API.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    stream: Url,
    write_checkpoint: Url,
}

impl Endpoint {
    pub(crate) fn new(endpoint: &str) -> Result<Self, ClientError> {
        let base = endpoint.trim_end_matches('/');
        let [stream, write_checkpoint] = ["sync/stream", "write-checkpoint2.json"].map(|path| {
            Url::parse(&format!("{base}/{path}"))
                .map_err(|error| ClientError::Endpoint(format!("{endpoint} ({error})")))
        });
        Ok(Self { stream: stream?, write_checkpoint: write_checkpoint? })
    }

    /// Returns the address that relative addresses in a stream are relative to.
    pub(crate) fn stream(&self) -> &Url {
        &self.stream
    }
}

/// An open stream, split into lines.
pub(crate) struct Lines {
    response: futures::stream::BoxStream<'static, reqwest::Result<Bytes>>,
    decoder: ContentDecoder,
    buffer: BytesMut,
    /// The length of the buffer's beginning that is known to hold no line end.
    searched: usize,
}

/// Opens the stream.
pub(crate) async fn open(
    client: &reqwest::Client,
    endpoint: &Endpoint,
    token: &str,
    request: &StreamRequest,
) -> Result<Lines, RequestFailed> {
    let sent = client
        .post(endpoint.stream.clone())
        .header(AUTHORIZATION, format!("Token {token}"))
        .header(ACCEPT, "application/x-ndjson")
        .header(ACCEPT_ENCODING, content_coding::ACCEPTED)
        .json(request)
        .send();

    let response = tokio::time::timeout(IDLE_TIMEOUT, sent)
        .await
        .map_err(|_| unanswered("the server does not answer".to_owned()))?
        .map_err(|error| unanswered(error_text(&error)))?;
    if response.status() != StatusCode::OK {
        return Err(refusal(response).await);
    }

    let decoder = ContentDecoder::of(response.headers())
        .map_err(|error| unanswered(format!("a stream cannot be decompressed: {error}")))?
        .ok_or_else(|| unanswered("the server's Content-Encoding was not requested".to_owned()))?;
    let response = response.bytes_stream().boxed();
    Ok(Lines { response, decoder, buffer: BytesMut::new(), searched: 0 })
}

impl Lines {
    /// Returns the next line without its end.
    pub(crate) async fn next(&mut self) -> Result<Bytes, Closed> {
        loop {
            if let Some(end) = line_end(&self.buffer[self.searched..]) {
                let line = self.buffer.split_to(self.searched + end);
                self.buffer.advance(1);
                self.searched = 0;
                return Ok(line.freeze());
            }

            self.searched = self.buffer.len();
            if self.searched > LINE_BYTES_MAX {
                return Err(Closed::Broken(format!("a line has more than {LINE_BYTES_MAX} bytes")));
            }

            let chunk = tokio::time::timeout(IDLE_TIMEOUT, self.response.next())
                .await
                .map_err(|_| Closed::Broken("the server sent nothing for a minute".to_owned()))?;
            match chunk {
                Some(Ok(chunk)) => {
                    let restored = self.decoder.push(&chunk, &mut self.buffer, BUFFER_BYTES_MAX);
                    restored.map_err(|error| {
                        Closed::Broken(format!("the stream cannot be decompressed: {error}"))
                    })?;
                }
                Some(Err(error)) => return Err(Closed::Broken(error_text(&error))),
                // A line that was cut off does not count: its operations are sent again.
                None => return Err(Closed::Ended),
            }
        }
    }
}

/// Returns the position of the first newline. The standard library's search is many times faster
/// than a loop over bytes.
fn line_end(mut bytes: &[u8]) -> Option<usize> {
    let all = bytes;
    let read = bytes.skip_until(b'\n').ok()?;
    all[..read].ends_with(b"\n").then(|| read - 1)
}

#[derive(Deserialize)]
struct WriteCheckpointReply {
    data: WriteCheckpoint,
}

#[derive(Deserialize)]
struct WriteCheckpoint {
    write_checkpoint: OpId,
}

/// Asks for a write checkpoint: a number that the first checkpoint with all acknowledged uploads
/// will carry.
pub(crate) async fn write_checkpoint(
    client: &reqwest::Client,
    endpoint: &Endpoint,
    token: &str,
    client_id: &str,
) -> Result<OpId, RequestFailed> {
    let response = client
        .get(endpoint.write_checkpoint.clone())
        .query(&[("client_id", client_id)])
        .header(AUTHORIZATION, format!("Token {token}"))
        .timeout(REQUEST_TIMEOUT)
        .send()
        .await
        .map_err(|error| unanswered(error_text(&error)))?;
    if response.status() != StatusCode::OK {
        return Err(refusal(response).await);
    }

    let reply: WriteCheckpointReply =
        response.json().await.map_err(|error| unanswered(error_text(&error)))?;
    Ok(reply.data.write_checkpoint)
}

/// The reason why a range of a file was not fetched.
#[derive(Debug)]
pub(crate) enum RangeError {
    Failed(RequestFailed),
    /// The file ends before the range does.
    Short,
}

/// Fetches a range of a file. Sends no token: the address is the permission.
pub(crate) async fn range(
    client: &reqwest::Client,
    url: Url,
    offset: u64,
    bytes: u64,
) -> Result<Vec<u8>, RangeError> {
    let range = format!("bytes={offset}-{}", offset + bytes - 1);
    let sent = client.get(url).header(RANGE, range).send();
    let response = tokio::time::timeout(REQUEST_TIMEOUT, sent)
        .await
        .map_err(|_| range_failed("the snapshot's server does not answer".to_owned()))?
        .map_err(|error| range_failed(error_text(&error)))?;

    let is_range = response.status() == StatusCode::PARTIAL_CONTENT
        && response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|range| range.to_str().ok())
            .is_some_and(|range| range.strip_prefix(&format!("bytes {offset}-")).is_some());
    match response.status() {
        _ if is_range => {}
        // The server ignores ranges, but the file begins with this one.
        StatusCode::OK if offset == 0 => {}
        StatusCode::RANGE_NOT_SATISFIABLE => return Err(RangeError::Short),
        StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
            return Err(range_failed("the snapshot's server does not serve ranges".to_owned()));
        }
        _ => return Err(RangeError::Failed(refusal(response).await)),
    }

    let is_short = response.content_length().is_some_and(|length| length < bytes);
    let bytes =
        usize::try_from(bytes).map_err(|_| range_failed("a frame is too large".to_owned()))?;
    let mut chunks = response.bytes_stream();
    let mut body = Vec::with_capacity(bytes);
    // Stops reading as soon as the range is there.
    while !is_short && body.len() < bytes {
        let chunk = tokio::time::timeout(IDLE_TIMEOUT, chunks.next()).await.map_err(|_| {
            range_failed("the snapshot's server sent nothing for a minute".to_owned())
        })?;
        match chunk {
            Some(chunk) => {
                let chunk = chunk.map_err(|error| range_failed(error_text(&error)))?;
                body.extend_from_slice(&chunk[..chunk.len().min(bytes - body.len())]);
            }
            None => break,
        }
    }

    if body.len() == bytes { Ok(body) } else { Err(RangeError::Short) }
}

fn range_failed(message: String) -> RangeError {
    RangeError::Failed(unanswered(message))
}

fn unanswered(message: String) -> RequestFailed {
    RequestFailed { status: None, retry_after: None, message }
}

async fn refusal(response: Response) -> RequestFailed {
    let status = response.status();
    let retry_after = retry_after(&response);
    let body = body_start(response).await;
    let message = format!("the server answered {status}: {}", described(&body));
    RequestFailed { status: Some(status.as_u16()), retry_after, message }
}

/// Returns the wait that a reply requests, if it is given in seconds.
pub(crate) fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// Returns the beginning of a reply's body.
pub(crate) async fn body_start(response: Response) -> String {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while body.len() < ERROR_BYTES_MAX
        && let Ok(Some(Ok(chunk))) = tokio::time::timeout(REQUEST_TIMEOUT, chunks.next()).await
    {
        body.extend_from_slice(&chunk[..chunk.len().min(ERROR_BYTES_MAX - body.len())]);
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// Returns the message of an error's body: `{"error":{"code","description"}}`, or the text itself.
fn described(body: &str) -> String {
    #[derive(Deserialize)]
    struct Reply {
        error: Description,
    }
    #[derive(Deserialize)]
    struct Description {
        code: String,
        #[serde(default)]
        description: String,
    }

    match serde_json::from_str::<Reply>(body) {
        Ok(Reply { error }) => format!("{} {}", error.code, error.description),
        Err(_) => body.chars().take(200).collect(),
    }
}

/// Returns the text of an error with its causes. Leaves out the URL, which reqwest would add: it
/// may hold secrets.
pub(crate) fn error_text(error: &reqwest::Error) -> String {
    let summary = match (error.is_timeout(), error.is_connect()) {
        (true, _) => "timed out",
        (false, true) => "cannot connect",
        (false, false) => "the connection failed",
    };

    match std::error::Error::source(error) {
        Some(cause) => format!("{summary}: {}", ErrorChain(cause)),
        None => summary.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_at_its_newline() {
        assert_eq!(line_end(b"ab\ncd\n"), Some(2));
        assert_eq!(line_end(b"\n"), Some(0));
        assert_eq!((line_end(b""), line_end(b"ab")), (None, None));
    }

    #[test]
    fn an_body_start_is_described_by_its_code() {
        let body = r#"{"error":{"code":"PSYNC_S2103","description":"expired","more":1}}"#;
        assert_eq!(described(body), "PSYNC_S2103 expired");
        assert_eq!(described("<html>").as_str(), "<html>");
        assert_eq!(described(&"é".repeat(300)).chars().count(), 200);
    }

    #[test]
    fn an_endpoint_may_end_with_a_slash() {
        for endpoint in ["http://h:1/base", "http://h:1/base/"] {
            let endpoint = Endpoint::new(endpoint).unwrap();
            assert_eq!(endpoint.stream.as_str(), "http://h:1/base/sync/stream");
        }
        assert!(Endpoint::new("nonsense").is_err());
    }
}
