//! What all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidewater_storage::Storage;
use tokio::sync::Semaphore;

use crate::checkpoint::ViewCache;
use crate::settings::Settings;
use crate::snapshot_url::SnapshotUrls;

pub(crate) struct AppState<S: Storage> {
    pub(crate) storage: S,
    pub(crate) settings: Settings,
    pub(crate) views: ViewCache<S>,
    pub(crate) snapshot_urls: SnapshotUrls,
    /// A permit for each stream.
    pub(crate) connections: Arc<Semaphore>,
    streams: AtomicU64,
}

impl<S: Storage> AppState<S> {
    pub(crate) fn new(storage: S, settings: Settings) -> Self {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).expect("the operating system gives random bytes");
        let permits = settings.quotas.connections_max.min(Semaphore::MAX_PERMITS);
        Self {
            views: ViewCache::new(storage.clone()),
            snapshot_urls: SnapshotUrls::new(&secret),
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
