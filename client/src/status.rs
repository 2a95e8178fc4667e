//! What an app can show its user: is the data current, what is left to do, what is wrong and why.

use tidewater_protocol::OpId;

/// The client's condition. Read it from [`crate::Client::status`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// How the client stands with the server.
    pub connection: Connection,
    /// Set while operations of a checkpoint are being received.
    pub downloading: Option<Progress>,
    /// A local transaction is being sent.
    pub uploading: bool,
    /// Local transactions that wait to be sent, or to be sent again.
    pub queue_length: u64,
    /// The checkpoint whose state is visible; none before the first.
    pub checkpoint: Option<OpId>,
    /// When it became visible, in milliseconds since 1970.
    pub synced_at_ms: Option<i64>,
    /// How many checkpoints were made visible since this client was opened.
    pub published: u64,
    /// Local transactions that the backend refused; see [`crate::Client::rejected`].
    pub rejected: u64,
    /// Buckets that had to be downloaded again since their sums were wrong.
    pub checksum_mismatches: u64,
    /// Attempts that failed since the last that did not, of downloads or of uploads: the greater.
    pub failures_in_a_row: u32,
    /// Why downloading does not get on; none when the last attempt did.
    pub download_problem: Option<Problem>,
    /// Why uploading does not get on; none when the last attempt did.
    pub upload_problem: Option<Problem>,
}

/// How the client stands with the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connection {
    /// Not asked to connect.
    #[default]
    Disconnected,
    /// A token or the stream is being obtained.
    Connecting,
    /// The stream is open, or was ended by a server that had nothing more to say and is asked
    /// again in a few seconds.
    Connected,
    /// After a failure, until the next attempt.
    Waiting,
}

/// Progress of a download, in operations. It survives a reconnect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Operations received.
    pub downloaded: u64,
    /// Operations of this checkpoint that were not there at the last.
    pub total: u64,
}

/// Something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What sort of trouble.
    pub kind: ProblemKind,
    /// For people.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// Sorts of trouble, by who can mend them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The network or the server: it is tried again by itself.
    Network,
    /// The token is refused or cannot be had: the user has to sign in.
    Credentials,
    /// What was received is not what the server says it sent: it is downloaded again.
    Checksum,
    /// The server does not speak as it should, or refuses the request.
    Protocol,
    /// The app's tables refuse a row from the server: the app's schema has to change.
    Schema,
    /// The database file: disk full, I/O error, lock.
    Storage,
    /// The app's backend or the way to it: it is tried again by itself.
    Upload,
}
