//! Settings of the router.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::auth::Authenticator;

/// The settings of a router.
pub struct Settings {
    /// Checks tokens.
    pub auth: Authenticator,
    /// Time that a stream stays open once its client is up to date; `None` keeps it open until the
    /// token expires. A client that waits for a write checkpoint is given at least ten seconds.
    pub keep_open: Option<Duration>,
    /// Bounds on what one client and one process may use.
    pub quotas: Quotas,
    /// Shutdown signal: when it is cancelled, streams end after a whole line and new ones are refused.
    pub shutdown: CancellationToken,
}

/// The time when a stream must have ended, as an extension of its request. A Lambda function is
/// stopped at its time limit, in the middle of a line if need be.
///
/// A client that is still behind gets a warning some seconds earlier, so that it connects again at
/// once.
#[derive(Clone, Copy, Debug)]
pub struct StreamDeadline(pub Instant);

/// Bounds on what one client or one process may use.
#[derive(Clone, Debug)]
pub struct Quotas {
    /// Number of distinct buckets of one client.
    pub buckets_max: usize,
    /// Number of distinct rows that the parameter lookups of one client yield.
    pub lookup_rows_max: usize,
    /// Number of streams that are open at a time.
    pub connections_max: usize,
    /// Size of a request's body, in bytes.
    pub body_bytes_max: usize,
}

impl Default for Quotas {
    /// Returns PowerSync's limits on buckets and lookup rows, and what a process with 512 MB serves.
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
    /// Creates settings with the default quotas, which keep streams open until the token expires.
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
