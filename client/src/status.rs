//! The client's condition, for the app to show: is the data current, what remains, what is wrong.

use tidewater_protocol::OpId;

/// The condition of the client. Read it from [`crate::Client::status`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The state of the connection to the server.
    pub connection: Connection,
    /// Progress, set while operations of a checkpoint are being received.
    pub downloading: Option<Progress>,
    /// Set while a local transaction is being sent.
    pub uploading: bool,
    /// The number of local transactions that wait to be sent, or to be sent again.
    pub queue_length: u64,
    /// The visible checkpoint; none before the first.
    pub checkpoint: Option<OpId>,
    /// The time at which it became visible, in milliseconds since 1970.
    pub synced_at_ms: Option<i64>,
    /// The number of checkpoints that became visible since this client was opened.
    pub published: u64,
    /// The number of local transactions that the backend rejected. See
    /// [`crate::Client::rejected`].
    pub rejected: u64,
    /// The number of buckets that were downloaded again because of a wrong checksum.
    pub checksum_mismatches: u64,
    /// The number of failures since the last success, of downloads or of uploads: the greater.
    pub failures_in_a_row: u32,
    /// The problem of the last download attempt; none if it succeeded.
    pub download_problem: Option<Problem>,
    /// The problem of the last upload attempt; none if it succeeded.
    pub upload_problem: Option<Problem>,
}

/// The state of the connection to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connection {
    /// The app has not called [`crate::Client::connect`].
    #[default]
    Disconnected,
    /// A token or the stream is being obtained.
    Connecting,
    /// The stream is open. Or a server that does not keep streams open ended it, and is polled
    /// again in a few seconds.
    Connected,
    /// A failure happened. The client waits until the next attempt.
    Waiting,
}

/// Progress of a download, in operations. It survives a reconnect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Operations received.
    pub downloaded: u64,
    /// Operations of this checkpoint since the last one.
    pub total: u64,
}

/// A problem that keeps the client from syncing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The kind of problem.
    pub kind: ProblemKind,
    /// A message for people.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// Kinds of problems, by who can solve them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The network or the server failed. The client retries.
    Network,
    /// The token is refused, or there is none: the user has to sign in.
    Credentials,
    /// The token is of another user than the local writes that wait. That user has to sign in, or the
    /// app discards them: [`crate::Client::discard_queued`],
    /// [`crate::Client::disconnect_and_clear`].
    OtherUser,
    /// Received data is not what the server says it sent. The client downloads it again.
    Checksum,
    /// The server breaks the protocol, or refuses the request.
    Protocol,
    /// The app's tables refuse a row from the server: the app's schema has to change.
    Schema,
    /// The database file failed: full disk, I/O error, lock.
    Storage,
    /// The app's backend or the network to it failed. The client retries.
    Upload,
}
