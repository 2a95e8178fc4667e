//! The sync stream over a WebSocket, for SDKs that use RSocket.
//!
//! A connection is a task of its own, since the response that began it is over. It needs a server that
//! hands over its connections: a plain server does, a function does not.

mod connection;
mod served_stream;
mod upgrade;

pub(super) use upgrade::upgrade;
