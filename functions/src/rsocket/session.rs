//! The state machine of one connection.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use tidewater_protocol::bson_to_json;

use super::frame::{ErrorCode, Frame, Malformed, Part, Setup, error_frame, keep_alive_answer};

/// Bounds on one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Number of streams at a time.
    pub(crate) streams_max: usize,
    /// Bytes of a request, over all of its fragments.
    pub(crate) request_bytes_max: usize,
}

/// The next step of the caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing.
    Nothing,
    /// Check the token of the SETUP frame, which is the value of an `Authorization` header.
    Authorise { token: Option<String>, user_agent: Option<String>, lifetime: Duration },
    /// Open a stream.
    Open(StreamRequestFrames),
    /// Let a stream send more lines.
    AddCredits { stream: u32, credits: u32 },
    /// Drop a stream.
    Cancel { stream: u32 },
    /// Send a frame.
    Send(Bytes),
    /// Send a frame, and close the connection.
    Close(Bytes),
}

/// A whole request for a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StreamRequestFrames {
    pub(crate) stream: u32,
    pub(crate) credits: u32,
    /// The body, as JSON.
    pub(crate) body: Bytes,
}

/// A refusal that SDKs show. They look for the code in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A MIME type is not supported.
    MimeType,
    /// The route or the kind of interaction is not supported.
    Route,
    /// The request cannot be read.
    Request,
    /// The request is too large.
    TooLarge,
    /// Too many streams are open.
    TooManyStreams,
}

impl Refusal {
    /// Returns the text of the ERROR frame.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::MimeType => {
                "[PSYNC_S2004] The MIME types must be application/json or application/bson"
            }
            Self::Route => {
                "[PSYNC_S2002] This route does not exist: only a stream of /sync/stream is served"
            }
            Self::Request => "[PSYNC_S2001] The request is not a valid document",
            Self::TooLarge => "[PSYNC_S2001] The request is too large",
            Self::TooManyStreams => "[PSYNC_S2304] Too many streams are open on this connection",
        }
    }
}

/// The number of lines that a client has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credits(u32);

impl Credits {
    /// The number that stands for no limit.
    const UNLIMITED: u32 = i32::MAX.unsigned_abs();

    pub(crate) fn new(credits: u32) -> Self {
        Self(credits.min(Self::UNLIMITED))
    }

    /// Adds what the client asked for. The number can become unlimited, but does not overflow.
    pub(crate) fn add(&mut self, credits: u32) {
        *self = Self::new(self.0.saturating_add(credits));
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Takes one credit.
    pub(crate) fn spend(&mut self) {
        if self.0 < Self::UNLIMITED {
            self.0 = self.0.saturating_sub(1);
        }
    }
}

/// The form of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MimeType {
    Json,
    Bson,
}

impl MimeType {
    fn read(name: &[u8]) -> Option<Self> {
        match name {
            b"application/json" => Some(Self::Json),
            b"application/bson" => Some(Self::Bson),
            _ => None,
        }
    }

    fn to_json(self, bytes: Bytes) -> Result<Bytes, Refusal> {
        match self {
            Self::Json => Ok(bytes),
            Self::Bson => bson_to_json(&bytes).map(Bytes::from).map_err(|_| Refusal::Request),
        }
    }
}

/// The state of one connection.
pub(crate) struct Session {
    limits: Limits,
    types: Option<Types>,
    /// Streams that are open, or whose request is arriving.
    streams: BTreeMap<u32, Option<Arriving>>,
    last_stream: u32,
}

#[derive(Clone, Copy)]
struct Types {
    metadata: MimeType,
    data: MimeType,
}

/// A request whose fragments are arriving.
struct Arriving {
    credits: u32,
    metadata: BytesMut,
    data: BytesMut,
}

#[derive(Deserialize)]
struct SetupMetadata {
    token: Option<String>,
    user_agent: Option<String>,
}

#[derive(Deserialize)]
struct RequestMetadata {
    path: String,
}

impl Session {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, types: None, streams: BTreeMap::new(), last_stream: 0 }
    }

    /// Processes one message of the client.
    pub(crate) fn on_message(&mut self, message: Bytes) -> Action {
        let frame = match Frame::read(message) {
            Ok(frame) => frame,
            Err(Malformed) => return closing(ErrorCode::ConnectionError, "a frame is malformed"),
        };
        let Some(types) = self.types else { return self.on_first(frame) };

        match frame {
            Frame::KeepAlive { wants_answer: true, data } => Action::Send(keep_alive_answer(&data)),
            Frame::KeepAlive { wants_answer: false, .. } | Frame::Ignored => Action::Nothing,
            Frame::RequestStream { stream, credits, part } => {
                self.on_request(types, stream, credits, part)
            }
            Frame::Payload { stream, part } => self.on_payload(types, stream, part),
            Frame::RequestN { stream, credits } => self.on_credits(stream, credits),
            Frame::Cancel { stream } => self.on_cancel(stream),
            Frame::Error { stream: 0 } => {
                closing(ErrorCode::ConnectionClose, "the client reported an error")
            }
            Frame::Error { stream } => self.on_cancel(stream),
            Frame::OtherRequest { stream, wants_answer: true } => refused(stream, Refusal::Route),
            Frame::OtherRequest { wants_answer: false, .. } => Action::Nothing,
            Frame::Setup(_) | Frame::Resume => {
                closing(ErrorCode::ConnectionError, "a connection has one SETUP frame")
            }
        }
    }

    /// Forgets a stream that the server has ended.
    pub(crate) fn ended(&mut self, stream: u32) {
        self.streams.remove(&stream);
    }

    fn on_first(&mut self, frame: Frame) -> Action {
        match frame {
            Frame::Setup(setup) => self.on_setup(setup),
            Frame::Resume => closing(ErrorCode::UnsupportedSetup, "connections cannot be resumed"),
            Frame::KeepAlive { .. }
            | Frame::RequestStream { .. }
            | Frame::OtherRequest { .. }
            | Frame::RequestN { .. }
            | Frame::Cancel { .. }
            | Frame::Payload { .. }
            | Frame::Error { .. }
            | Frame::Ignored => closing(ErrorCode::InvalidSetup, "the first frame must be SETUP"),
        }
    }

    fn on_setup(&mut self, setup: Setup) -> Action {
        if setup.major_version != 1 || setup.wants_resume || setup.wants_lease {
            let problem = "only RSocket 1.0 without resumption and leases is served";
            return closing(ErrorCode::UnsupportedSetup, problem);
        }
        let types = (MimeType::read(&setup.metadata_type), MimeType::read(&setup.data_type));
        let (Some(metadata), Some(data)) = types else {
            let text = Refusal::MimeType.text();
            return Action::Close(error_frame(0, ErrorCode::UnsupportedSetup, text));
        };

        let given = metadata.to_json(setup.part.metadata).ok();
        let given = given.and_then(|json| serde_json::from_slice::<SetupMetadata>(&json).ok());
        let given = given.unwrap_or(SetupMetadata { token: None, user_agent: None });
        self.types = Some(Types { metadata, data });
        Action::Authorise {
            token: given.token,
            user_agent: given.user_agent,
            lifetime: Duration::from_millis(setup.lifetime_ms.into()),
        }
    }

    fn on_request(&mut self, types: Types, stream: u32, credits: u32, part: Part) -> Action {
        // A client numbers its streams by increasing odd numbers.
        if stream.is_multiple_of(2) || stream <= self.last_stream {
            return closing(ErrorCode::ConnectionError, "the number of a stream is not valid");
        }
        self.last_stream = stream;
        if self.streams.len() >= self.limits.streams_max {
            return refused(stream, Refusal::TooManyStreams);
        }
        let arriving = Arriving { credits, metadata: BytesMut::new(), data: BytesMut::new() };
        self.streams.insert(stream, Some(arriving));
        self.on_payload(types, stream, part)
    }

    /// Adds a part of a request. A payload of any other stream is ignored, as the specification wants.
    fn on_payload(&mut self, types: Types, stream: u32, part: Part) -> Action {
        let Some(arriving @ Some(_)) = self.streams.get_mut(&stream) else {
            return Action::Nothing;
        };
        let Some(mut request) = arriving.take() else { return Action::Nothing };

        let bytes = request.metadata.len() + request.data.len();
        if bytes + part.metadata.len() + part.data.len() > self.limits.request_bytes_max {
            self.streams.remove(&stream);
            return refused(stream, Refusal::TooLarge);
        }
        request.metadata.extend_from_slice(&part.metadata);
        request.data.extend_from_slice(&part.data);
        if part.follows {
            *arriving = Some(request);
            return Action::Nothing;
        }

        match request.complete(types) {
            Ok((credits, body)) => Action::Open(StreamRequestFrames { stream, credits, body }),
            Err(refusal) => {
                self.streams.remove(&stream);
                refused(stream, refusal)
            }
        }
    }

    fn on_credits(&mut self, stream: u32, credits: u32) -> Action {
        match self.streams.get_mut(&stream) {
            None => Action::Nothing,
            Some(None) => Action::AddCredits { stream, credits },
            Some(Some(arriving)) => {
                arriving.credits = arriving.credits.saturating_add(credits);
                Action::Nothing
            }
        }
    }

    fn on_cancel(&mut self, stream: u32) -> Action {
        match self.streams.remove(&stream) {
            Some(_) => Action::Cancel { stream },
            None => Action::Nothing,
        }
    }
}

impl Arriving {
    /// Returns the credits and the body of a request that has arrived.
    fn complete(self, types: Types) -> Result<(u32, Bytes), Refusal> {
        let metadata = types.metadata.to_json(self.metadata.freeze())?;
        let metadata: RequestMetadata =
            serde_json::from_slice(&metadata).map_err(|_| Refusal::Request)?;
        if metadata.path != "/sync/stream" {
            return Err(Refusal::Route);
        }
        Ok((self.credits, types.data.to_json(self.data.freeze())?))
    }
}

fn refused(stream: u32, refusal: Refusal) -> Action {
    let code = match refusal {
        Refusal::TooManyStreams => ErrorCode::Rejected,
        Refusal::MimeType | Refusal::Route | Refusal::Request | Refusal::TooLarge => {
            ErrorCode::ApplicationError
        }
    };
    Action::Send(error_frame(stream, code, refusal.text()))
}

/// Closes the connection of a client that violates the protocol. Without a code in the text, SDKs
/// would take their token for refused.
fn closing(code: ErrorCode, problem: &str) -> Action {
    Action::Close(error_frame(0, code, &format!("[PSYNC_S2001] RSocket: {problem}")))
}

#[cfg(test)]
mod tests;
