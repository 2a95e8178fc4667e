//! What all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidewater_storage::Storage;
use tokio::sync::Semaphore;

use crate::settings::Settings;
use crate::view::Views;

pub(crate) struct App<S: Storage> {
    pub(crate) storage: S,
    pub(crate) settings: Settings,
    pub(crate) views: Views<S>,
    /// A permit for each stream.
    pub(crate) connections: Arc<Semaphore>,
    streams: AtomicU64,
}

impl<S: Storage> App<S> {
    pub(crate) fn new(storage: S, settings: Settings) -> Self {
        let permits = settings.limits.connections_max.min(Semaphore::MAX_PERMITS);
        Self {
            views: Views::new(storage.clone()),
            storage,
            settings,
            connections: Arc::new(Semaphore::new(permits)),
            streams: AtomicU64::new(0),
        }
    }

    /// Another number for each stream.
    pub(crate) fn next_seed(&self) -> u64 {
        self.streams.fetch_add(1, Ordering::Relaxed)
    }
}
