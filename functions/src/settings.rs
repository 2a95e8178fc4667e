//! What whoever runs the router decides.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::auth::Authenticator;

/// How the router behaves.
pub struct Settings {
    /// Checks tokens.
    pub auth: Authenticator,
    /// How long a stream stays open once its client is up to date; `None` is for ever (until the
    /// token expires). A client whose write checkpoint is outstanding is given ten seconds.
    pub keep_open: Option<Duration>,
    /// Bounds.
    pub quotas: Quotas,
    /// When cancelled, streams end cleanly and new ones are refused.
    pub shutdown: CancellationToken,
}

/// When a stream has to end at the latest, as an extension of its request: a function is cut off at
/// its time limit, in the middle of a line.
///
/// A client that is still behind is told somewhat before, so that it connects anew by itself.
#[derive(Clone, Copy, Debug)]
pub struct StreamDeadline(pub Instant);

/// Bounds, each on what one client or one process may use.
#[derive(Clone, Debug)]
pub struct Quotas {
    /// Buckets of one client, each counted once.
    pub buckets_max: usize,
    /// Rows that the parameter lookups of one client yield, each counted once.
    pub lookup_rows_max: usize,
    /// Streams open at a time.
    pub connections_max: usize,
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            buckets_max: 1_000,
            lookup_rows_max: 1_000,
            connections_max: 10_000,
            body_bytes_max: 2 << 20,
        }
    }
}

impl Settings {
    /// Connections are held for ever, within the default quotas.
    #[must_use]
    pub fn new(auth: Authenticator) -> Self {
        Self {
            auth,
            keep_open: None,
            quotas: Quotas::default(),
            shutdown: CancellationToken::new(),
        }
    }
}
