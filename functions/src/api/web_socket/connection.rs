//! The loop of one connection: performs what the session decides, and sends the lines of its streams.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tracing::debug;

use super::served_stream::{Next, ServedStream, StreamFailure};
use crate::api::error::ApiError;
use crate::api::request::{authorise, parse_stream_request};
use crate::api::sync_stream::{Carrier, LineStream, Transport, permit};
use crate::app_state::{AppState, SyncStore};
use crate::auth::AuthError;
use crate::clock::unix_now;
use crate::metrics::OpenSocket;
use crate::rsocket::{
    Action, Credits, ErrorCode, Limits, Session, StreamRequestFrames, error_frame, payload_head,
    stream_end,
};
use crate::stream_log::{StreamEnd, StreamTally};

/// Number of streams of one connection at a time. SDKs have one, or two for a moment.
const STREAMS_MAX: usize = 4;

/// Time until the SETUP frame must arrive. SDKs send it at once.
const SETUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Time that a connection may be without a stream.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Bounds of the time after which a silent client counts as lost. The client chooses the time; SDKs
/// send a keep-alive every 20 seconds.
const SILENCE_MIN: Duration = Duration::from_secs(30);
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// Time in which a client must take a part of a line, as by HTTP. One that does not read is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Time in which a client must take the end of its connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Size in bytes of the WebSocket frames in which a line is sent. The buffer of a connection grows to
/// this size and stays.
const WRITE_BYTES: usize = 16 << 10;

/// Time from a token's expiry until a stream is dropped whose client asks for no more lines. Otherwise
/// the stream ends by itself at the expiry.
const EXPIRY_GRACE: Duration = Duration::from_secs(30);

/// Time that streams have to end after the shutdown begins.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// The client is gone, or is no longer served.
struct Closed;

type Io = WebSocketStream<TokioIo<Upgraded>>;

/// One connection.
pub(super) struct Connection<S> {
    app: Arc<AppState<S>>,
    io: Io,
    session: Session,
    /// The token of the SETUP frame, once it has been accepted. It is checked again for each stream, so
    /// that its claims, which take many times the memory, need not be kept.
    accepted: Option<Accepted>,
    streams: Vec<ServedStream>,
    silence_max: Duration,
    last_received: Instant,
    /// The time from which the connection is closed if it has no stream.
    idle_until: Instant,
    /// The time at which streams must have ended; set by the shutdown.
    end_by: Option<Instant>,
    _open: OpenSocket,
    _permit: OwnedSemaphorePermit,
}

/// A token that has been accepted.
#[derive(Clone)]
struct Accepted {
    headers: HeaderMap,
    /// The user agent of the SDK.
    sdk: Option<Box<str>>,
    /// The time from which a stream is dropped although its client asks for no more lines.
    drop_at: Instant,
}

/// The next event of a connection.
enum Event {
    Received(Bytes),
    /// A ping, which the library answers when it writes or reads next, or a pong.
    Alive,
    /// The client has closed the connection, or it is lost.
    Gone,
    Stream {
        index: usize,
        next: Next,
    },
    Deadline,
    Shutdown,
}

impl<S: SyncStore> Connection<S> {
    pub(super) fn new(app: Arc<AppState<S>>, io: Io, permit: OwnedSemaphorePermit) -> Self {
        let request_bytes_max = app.settings.quotas.body_bytes_max;
        let now = Instant::now();
        Self {
            app,
            io,
            session: Session::new(Limits { streams_max: STREAMS_MAX, request_bytes_max }),
            accepted: None,
            streams: Vec::new(),
            silence_max: SILENCE_MIN,
            last_received: now,
            idle_until: now + SETUP_TIMEOUT,
            end_by: None,
            _open: OpenSocket::new(),
            _permit: permit,
        }
    }

    /// Serves the connection until it ends.
    pub(super) async fn serve(mut self) {
        while let Ok(()) = self.step().await {}
        // The client may be gone, so nobody waits long for it.
        let _ = timeout(CLOSE_TIMEOUT, self.io.close(None)).await;
    }

    async fn step(&mut self) -> Result<(), Closed> {
        match self.next_event().await {
            Event::Received(message) => {
                self.last_received = Instant::now();
                let action = self.session.on_message(message);
                self.perform(action).await
            }
            Event::Alive => {
                self.last_received = Instant::now();
                Ok(())
            }
            Event::Gone => Err(Closed),
            Event::Stream { index, next } => self.on_stream(index, next).await,
            Event::Deadline => self.on_deadline().await,
            Event::Shutdown => {
                // Streams end by themselves, after a whole line.
                self.end_by = Some(Instant::now() + SHUTDOWN_GRACE);
                self.close_if_done().await
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        let deadline = self.next_deadline();
        let shutdown = self.app.settings.shutdown.clone();
        let is_ending = self.end_by.is_some();

        // Each of these futures can be dropped without a loss: a stream keeps its state.
        let streams = &mut self.streams;
        let next = poll_fn(|context| {
            for (index, stream) in streams.iter_mut().enumerate() {
                if let Poll::Ready(next) = stream.poll_next(context) {
                    return Poll::Ready(Event::Stream { index, next });
                }
            }
            Poll::Pending
        });
        tokio::select! {
            received = self.io.next() => match received {
                Some(Ok(Message::Binary(message))) => Event::Received(message),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => Event::Alive,
                Some(Ok(Message::Text(_) | Message::Close(_) | Message::Frame(_)) | Err(_)) | None => {
                    Event::Gone
                }
            },
            event = next => event,
            () = sleep_until(deadline) => Event::Deadline,
            () = shutdown.cancelled(), if !is_ending => Event::Shutdown,
        }
    }

    fn next_deadline(&self) -> Instant {
        let silence = self.last_received + self.silence_max;
        let idle = if self.streams.is_empty() { self.idle_until } else { silence };
        let drops = self.streams.iter().map(|stream| stream.drop_at);
        drops.chain(self.end_by).chain([idle]).fold(silence, Instant::min)
    }

    async fn on_deadline(&mut self) -> Result<(), Closed> {
        let now = Instant::now();
        if now >= self.last_received + self.silence_max {
            debug!("a silent client counts as lost");
            self.note_end(StreamEnd::Silent);
            return Err(Closed);
        }
        if self.end_by.is_some_and(|end| now >= end) {
            self.streams.clear();
            return self.close_if_done().await;
        }

        let expired = self.streams.iter().position(|stream| now >= stream.drop_at);
        if let Some(index) = expired {
            self.streams[index].tally.end(StreamEnd::TokenExpired);
            let expired = StreamFailure::Refused(ApiError::Unauthorized(AuthError::Expired));
            return self.on_stream(index, Next::Failed(expired)).await;
        }
        if self.streams.is_empty() && now >= self.idle_until {
            let text = "[PSYNC_S2001] RSocket: the connection has no stream";
            return self.close_with(error_frame(0, ErrorCode::ConnectionClose, text)).await;
        }
        Ok(())
    }

    async fn perform(&mut self, action: Action) -> Result<(), Closed> {
        match action {
            Action::Nothing => Ok(()),
            Action::Send(frame) => self.send(frame, Bytes::new()).await,
            Action::Close(frame) => self.close_with(frame).await,
            Action::Authorise { token, user_agent, lifetime } => {
                self.silence_max = lifetime.clamp(SILENCE_MIN, SILENCE_MAX);
                self.authorise(token, user_agent).await
            }
            Action::Open(request) => self.open(request),
            Action::AddCredits { stream, credits } => {
                let found = self.streams.iter_mut().find(|served| served.id == stream);
                if let Some(served) = found {
                    served.credits.add(credits);
                }
                Ok(())
            }
            Action::Cancel { stream } => {
                self.streams.retain(|served| served.id != stream);
                self.note_streams();
                Ok(())
            }
        }
    }

    /// Checks the token of the SETUP frame, which is that of all streams of the connection.
    async fn authorise(
        &mut self,
        token: Option<String>,
        user_agent: Option<String>,
    ) -> Result<(), Closed> {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            // What cannot be a header cannot be a token.
            let value =
                HeaderValue::from_str(&token).unwrap_or(HeaderValue::from_static("invalid"));
            headers.insert(AUTHORIZATION, value);
        }
        match authorise(&self.app, &headers, unix_now()).await {
            Ok(verified) => {
                let valid = u64::try_from(verified.expires_at.saturating_sub(unix_now()));
                let valid = Duration::from_secs(valid.unwrap_or(0));
                let now = Instant::now();
                let drop_at = now + valid + EXPIRY_GRACE;
                let sdk = user_agent.map(String::into_boxed_str);
                self.accepted = Some(Accepted { headers, sdk, drop_at });
                self.idle_until = now + IDLE_TIMEOUT;
                Ok(())
            }
            Err(error) => {
                let text = error.rsocket_text();
                self.close_with(error_frame(0, ErrorCode::RejectedSetup, &text)).await
            }
        }
    }

    /// Opens a stream. The request is checked and evaluated while the loop goes on.
    fn open(&mut self, request: StreamRequestFrames) -> Result<(), Closed> {
        let StreamRequestFrames { stream, credits, body } = request;
        let Some(Accepted { headers, sdk, drop_at }) = self.accepted.clone() else {
            return Err(Closed);
        };

        let app = Arc::clone(&self.app);
        let tally = Arc::new(StreamTally::default());
        let shared_tally = Arc::clone(&tally);
        let opened = async move {
            let verified = authorise(&app, &headers, unix_now()).await?;
            let transport = Transport {
                carrier: Carrier::WebSocket,
                coding: None,
                sdk,
                deadline: None,
                permit: permit(&app)?,
                stall: None,
                tally: shared_tally,
            };
            let bytes_max = app.settings.quotas.body_bytes_max;
            // As JSON, a request may be longer than it was as BSON.
            if body.len() > bytes_max {
                return Err(ApiError::BodyTooLarge(bytes_max));
            }
            let request = parse_stream_request(&body, &app.settings.quotas)?;
            LineStream::open(app, verified, request, transport).await
        };
        let lines = async {
            let opened = opened.await.map_err(StreamFailure::Refused)?;
            let (log, chunks) = opened.into_chunks();
            Ok(log.attach(chunks.map_err(|_| StreamFailure::Cut)))
        };
        let chunks = futures::stream::once(lines).try_flatten().boxed();
        let credits = Credits::new(credits);
        self.streams.push(ServedStream::new(stream, credits, drop_at, tally, chunks));
        Ok(())
    }

    async fn on_stream(&mut self, index: usize, next: Next) -> Result<(), Closed> {
        let id = self.streams[index].id;
        match next {
            Next::Line(line) => {
                let bytes = line.len();
                self.send(payload_head(id), line).await?;
                self.streams[index].tally.add_bytes(bytes);
                return Ok(());
            }
            Next::End => {
                self.remove(index);
                self.send(stream_end(id), Bytes::new()).await?;
            }
            Next::Failed(failure) => {
                self.remove(index);
                let text = match failure {
                    StreamFailure::Refused(error) => error.rsocket_text(),
                    StreamFailure::Cut => {
                        "[PSYNC_S2001] Something went wrong on the server".to_owned()
                    }
                };
                let frame = error_frame(id, ErrorCode::ApplicationError, &text);
                self.send(frame, Bytes::new()).await?;
            }
        }
        self.close_if_done().await
    }

    fn remove(&mut self, index: usize) {
        let stream = self.streams.remove(index);
        self.session.ended(stream.id);
        self.note_streams();
    }

    /// Notes why all streams of the connection end.
    fn note_end(&self, end: StreamEnd) {
        for stream in &self.streams {
            stream.tally.end(end);
        }
    }

    /// A connection may be without a stream for some time from now on.
    fn note_streams(&mut self) {
        if self.streams.is_empty() {
            self.idle_until = Instant::now() + IDLE_TIMEOUT;
        }
    }

    /// Closes the connection if the server shuts down and no stream is left.
    async fn close_if_done(&mut self) -> Result<(), Closed> {
        if self.end_by.is_none() || !self.streams.is_empty() {
            return Ok(());
        }
        let text = ApiError::ShuttingDown.rsocket_text();
        self.close_with(error_frame(0, ErrorCode::ConnectionClose, &text)).await
    }

    async fn close_with(&mut self, frame: Bytes) -> Result<(), Closed> {
        self.send(frame, Bytes::new()).await?;
        Err(Closed)
    }

    /// Sends an RSocket frame, which is one message: its head and its data, in WebSocket frames of
    /// limited size. A client must take each of them in time.
    async fn send(&mut self, head: Bytes, mut data: Bytes) -> Result<(), Closed> {
        let mut part =
            Bytes::from([&head[..], &data.split_to(data.len().min(WRITE_BYTES))].concat());
        let mut opcode = OpCode::Data(Data::Binary);
        loop {
            let is_last = data.is_empty();
            let frame = Frame::message(part, opcode, is_last);
            match timeout(WRITE_TIMEOUT, self.io.send(Message::Frame(frame))).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    debug!(%error, "a WebSocket is lost");
                    if is_timeout(&error) {
                        self.note_end(StreamEnd::WriteTimeout);
                    }
                    return Err(Closed);
                }
                Err(_) => {
                    debug!("a client does not read");
                    self.note_end(StreamEnd::WriteTimeout);
                    return Err(Closed);
                }
            }

            if is_last {
                return Ok(());
            }
            part = data.split_to(data.len().min(WRITE_BYTES));
            opcode = OpCode::Data(Data::Continue);
        }
    }
}

/// Returns whether whoever serves the connection has given up a client that does not read.
fn is_timeout(error: &SocketError) -> bool {
    matches!(error, SocketError::Io(error) if error.kind() == ErrorKind::TimedOut)
}
