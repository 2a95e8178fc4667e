//! Places for connections: a bounded number, and some more for probes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::limits::ConnectionLimits;
use super::log_pause::LogPause;

/// The places of a server.
pub(super) struct Places {
    ordinary: Arc<Semaphore>,
    /// The connections in reserved places, oldest first.
    reserved: Mutex<VecDeque<CancellationToken>>,
    reserved_max: usize,
    full: Mutex<LogPause>,
    connections_max: usize,
}

/// The place of one connection.
pub(super) enum Place {
    /// All requests are served.
    Ordinary(OwnedSemaphorePermit),
    /// Only probes are answered. A later connection may take the place at any time.
    Reserved(CancellationToken),
}

impl Places {
    pub(super) fn new(limits: &ConnectionLimits) -> Self {
        let permits = limits.connections_max.min(Semaphore::MAX_PERMITS);
        Self {
            ordinary: Arc::new(Semaphore::new(permits)),
            reserved: Mutex::default(),
            reserved_max: limits.reserved,
            full: Mutex::default(),
            connections_max: limits.connections_max,
        }
    }

    /// Returns a place for a connection. If all are taken, the oldest connection in a reserved place
    /// ends: a probe takes a millisecond, so what has been there for long is none.
    pub(super) fn take(&self) -> Option<Place> {
        if let Ok(permit) = Arc::clone(&self.ordinary).try_acquire_owned() {
            return Some(Place::Ordinary(permit));
        }
        if self.full.lock().unwrap_or_else(PoisonError::into_inner).may_log() {
            tracing::warn!(
                connections_max = self.connections_max,
                "all connections are in use: further ones are refused, except probes. Raise \
                 --max-connections, or run more servers"
            );
        }

        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        if reserved.len() >= self.reserved_max {
            reserved.pop_front()?.cancel();
        }
        let ended = CancellationToken::new();
        reserved.push_back(ended.clone());
        Some(Place::Reserved(ended))
    }
}
