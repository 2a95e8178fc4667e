//! Keys that somebody publishes, cached for a while.
//!
//! All fetching is done by requests that wait for it, none in the background: between requests a
//! function's process is frozen. Ages are told by the wall clock, which goes on meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidewater_protocol::ErrorChain;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::error::AuthConfigError;
use super::fetch_rate::FetchRate;
use super::key::Key;
use super::key_source::KeySource;

/// Keys of this age are fetched again; they serve in the meantime, and while that fails.
const OLD_SECONDS: u64 = 5 * 60;
/// Keys of this age serve no longer: one may have been withdrawn.
const EXPIRED_SECONDS: u64 = 60 * 60;

/// The keys of one URL.
pub(super) struct PublishedKeys {
    source: KeySource,
    state: Mutex<State>,
    /// Held while fetching: one fetch at a time.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    cached: Option<CachedKeys>,
    rate: FetchRate,
}

#[derive(Clone)]
struct CachedKeys {
    keys: Arc<[Key]>,
    fetched_at: i64,
}

impl CachedKeys {
    fn is_younger(&self, seconds: u64, now: i64) -> bool {
        now.abs_diff(self.fetched_at) < seconds
    }
}

impl PublishedKeys {
    /// Nothing is fetched yet.
    pub(super) fn new(url: &str) -> Result<Self, AuthConfigError> {
        Ok(Self {
            source: KeySource::new(url)?,
            state: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// The keys that may be used; `None` if there is no set that is recent enough.
    pub(super) fn keys(&self, now: i64) -> Option<Arc<[Key]>> {
        let cached = self.state().cached.clone();
        cached.filter(|cached| cached.is_younger(EXPIRED_SECONDS, now)).map(|cached| cached.keys)
    }

    /// Fetches the keys if they are old or missing. Whoever finds them old while another fetches
    /// them goes on at once; whoever has none waits, but not beyond the deadline. Whether it asked.
    pub(super) async fn refresh_if_old(&self, now: i64, deadline: Instant) -> bool {
        let is_old = |cached: &CachedKeys| !cached.is_younger(OLD_SECONDS, now);
        if self.state().cached.as_ref().is_some_and(|cached| !is_old(cached)) {
            return false;
        }
        let turn = match self.keys(now) {
            Some(_) => self.turn.try_lock().ok(),
            None => timeout_at(deadline, self.turn.lock()).await.ok(),
        };
        let Some(_turn) = turn else { return false };
        let is_due = {
            let state = &mut *self.state();
            match &state.cached {
                Some(cached) if !is_old(cached) => false,
                Some(cached) if cached.is_younger(EXPIRED_SECONDS, now) => {
                    state.rate.attempt_old(now)
                }
                _ => state.rate.attempt_missing(now),
            }
        };
        if is_due {
            self.fetch(now, deadline).await;
        }
        is_due
    }

    /// Fetches the keys because a token names none of `seen`, unless that has been done too often
    /// of late, or by another meanwhile. Whether there are others now.
    pub(super) async fn refetch_for_unknown_key(
        &self,
        seen: &Arc<[Key]>,
        now: i64,
        deadline: Instant,
    ) -> bool {
        let Ok(_turn) = timeout_at(deadline, self.turn.lock()).await else { return false };
        let is_due = {
            let state = &mut *self.state();
            let is_known = |cached: &CachedKeys| Arc::ptr_eq(&cached.keys, seen);
            state.cached.as_ref().is_some_and(is_known) && state.rate.attempt_unknown(now)
        };
        if is_due {
            self.fetch(now, deadline).await;
        }
        self.keys(now).is_some_and(|keys| !Arc::ptr_eq(&keys, seen))
    }

    /// The caller has its turn.
    async fn fetch(&self, now: i64, deadline: Instant) {
        let url = self.source.redacted_url();
        match self.source.fetch(deadline).await {
            Ok(keys) if keys.is_empty() => {
                warn!(url, "the JWK Set holds no key that tokens could be checked with");
                self.keep(keys, now);
            }
            Ok(keys) => {
                info!(url, keys = keys.len(), "fetched the JWK Set");
                self.keep(keys, now);
            }
            Err(error) => {
                let still_served = self.keys(now).is_some();
                warn!(url, error = %ErrorChain(&error), still_served, "cannot fetch the JWK Set");
            }
        }
    }

    fn keep(&self, keys: Vec<Key>, now: i64) {
        self.state().cached = Some(CachedKeys { keys: keys.into(), fetched_at: now });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
