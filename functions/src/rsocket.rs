//! RSocket 1.0, as far as SDKs use it: one connection with request/stream interactions.
//!
//! The module does no I/O. `frame` reads and writes frames, and `session` decides what a client's
//! frames cause.

mod frame;
mod session;

pub(crate) use frame::{ErrorCode, error_frame, payload_head, stream_end};
pub(crate) use session::{Action, Credits, Limits, Session, StreamRequestFrames};
