//! The state that all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidewater_storage::{
    BucketStore, ControlStore, LookupStore, ObjectStore, OpLog, WriteCheckpointStore,
};
use tokio::sync::Semaphore;

use crate::checkpoint::ViewCache;
use crate::following::Follower;
use crate::open_streams::OpenStreams;
use crate::rate_limiter::RateLimiter;
use crate::settings::Settings;
use crate::snapshot_url::SnapshotUrls;

/// Number of requests of `/write-checkpoint.json` that wait at a time. Each polls the control record.
/// Only the oldest SDKs send them, and PowerSync's service lets as many wait.
const WAITING_REQUESTS_MAX: usize = 100;

/// Number of streams of expired tokens that are open at a time. Each lasts ten seconds at most. They have
/// no places among the other streams, so whoever has an expired token cannot take these.
const EXPIRED_STREAMS_MAX: usize = 1_000;

/// The ports that the sync API uses. Every store that has them implements this trait.
pub trait SyncStore:
    ControlStore
    + BucketStore
    + LookupStore
    + OpLog
    + ObjectStore
    + WriteCheckpointStore
    + Clone
    + 'static
{
}

impl<S> SyncStore for S where
    S: ControlStore
        + BucketStore
        + LookupStore
        + OpLog
        + ObjectStore
        + WriteCheckpointStore
        + Clone
        + 'static
{
}

/// The state that all requests share.
pub(crate) struct AppState<S> {
    pub(crate) storage: S,
    pub(crate) settings: Settings,
    pub(crate) views: Arc<ViewCache<S>>,
    pub(crate) follower: Arc<Follower<S>>,
    pub(crate) snapshot_urls: SnapshotUrls,
    /// Has one permit for each stream that may be open.
    pub(crate) connections: Arc<Semaphore>,
    /// Has one permit for each WebSocket that may be open, besides those of their streams.
    pub(crate) sockets: Arc<Semaphore>,
    /// Has one permit for each stream that tells an old SDK that its token has expired.
    pub(crate) expired_streams: Arc<Semaphore>,
    /// Has one permit for each request that may wait for replication.
    pub(crate) waiting_requests: Semaphore,
    pub(crate) streams: Arc<OpenStreams>,
    pub(crate) user_requests: RateLimiter,
    pub(crate) address_requests: RateLimiter,
    next_seed: AtomicU64,
}

impl<S: ControlStore + Clone + 'static> AppState<S> {
    /// Creates the state of a process. It draws the key that signs snapshot addresses.
    pub(crate) fn new(storage: S, settings: Settings) -> Self {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).expect("the operating system gives random bytes");
        let permits = settings.quotas.connections_max.min(Semaphore::MAX_PERMITS);
        let views = Arc::new(ViewCache::new(storage.clone()));
        Self {
            follower: Arc::new(Follower::new(storage.clone(), Arc::clone(&views))),
            views,
            snapshot_urls: SnapshotUrls::new(&secret),
            storage,
            streams: Arc::new(OpenStreams::new(
                settings.quotas.user_streams_max,
                settings.open_streams.clone(),
            )),
            user_requests: RateLimiter::new(settings.quotas.user_rate),
            address_requests: RateLimiter::new(settings.quotas.address_rate),
            settings,
            connections: Arc::new(Semaphore::new(permits)),
            sockets: Arc::new(Semaphore::new(permits)),
            expired_streams: Arc::new(Semaphore::new(EXPIRED_STREAMS_MAX)),
            waiting_requests: Semaphore::new(WAITING_REQUESTS_MAX),
            next_seed: AtomicU64::new(0),
        }
    }

    /// Returns another number for each stream, which spreads the streams' keep-alives.
    pub(crate) fn next_seed(&self) -> u64 {
        self.next_seed.fetch_add(1, Ordering::Relaxed)
    }
}
