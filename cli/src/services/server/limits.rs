//! Bounds on the connections of a server.

use std::time::Duration;

use super::file_limit;

/// Bounds on the connections of a server.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionLimits {
    /// Number of connections, besides those that are reserved for probes.
    pub(crate) connections_max: usize,
    /// Number of connections beyond that, which answer probes only.
    pub(crate) reserved: usize,
    /// Time from the start of a connection to the end of the first request's head. A proxy or SDK
    /// sends it at once.
    pub(crate) first_head: Duration,
    /// The same for connections that are reserved for probes.
    pub(crate) reserved_head: Duration,
    /// Time from the end of a reply to the end of the next request's head. It is longer than the 60 s
    /// for which common load balancers keep idle connections, since these must close them first.
    pub(crate) idle: Duration,
    /// Time in which a client must take 64 KiB while it has more to read.
    pub(crate) write: Duration,
    /// Bytes of a request's head. Tokens of SDKs have some KB.
    pub(crate) head_bytes_max: usize,
    /// Time that open connections have to end after the shutdown begins. A stream ends at its next
    /// line; the timeout is for clients that do not read.
    pub(crate) shutdown: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            reserved: 32,
            first_head: Duration::from_secs(10),
            reserved_head: Duration::from_secs(2),
            idle: Duration::from_secs(75),
            write: Duration::from_secs(60),
            head_bytes_max: 64 << 10,
            shutdown: Duration::from_secs(10),
        }
    }
}

impl ConnectionLimits {
    /// Raises the limit on open files as far as it may be, and returns what fits below it, but at most
    /// `wanted` connections.
    pub(crate) fn within_file_limit(wanted: usize) -> Self {
        let limits = Self::default();
        let files = file_limit::raise();
        let fits = file_limit::connections(files, limits.reserved);
        if fits < wanted {
            tracing::warn!(
                open_files_max = files,
                connections_max = fits,
                wanted,
                "the limit on open files allows fewer connections than --max-connections: raise the \
                 hard limit (ulimit -Hn, LimitNOFILE)"
            );
        }
        Self { connections_max: fits.min(wanted), ..limits }
    }
}
