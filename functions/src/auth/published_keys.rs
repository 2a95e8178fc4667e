//! The keys that a URL publishes, cached for a while.
//!
//! Only requests that wait for keys fetch them; nothing is fetched in the background, because a
//! function's process is frozen between requests. Ages are measured by the wall clock, which also
//! counts that time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidewater_protocol::ErrorChain;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::error::AuthConfigError;
use super::fetch_rate::FetchRate;
use super::key::Key;
use super::key_source::KeySource;

/// Age from which keys are fetched again, in seconds. They are used meanwhile, and while fetching
/// fails. Owners publish a new key minutes before they sign with it.
const OLD_SECONDS: u64 = 5 * 60;

/// Age from which keys are no longer used, in seconds. A key may have been withdrawn, so an outage of
/// the owner's server must not keep it for ever.
const EXPIRED_SECONDS: u64 = 60 * 60;

/// The keys of one URL.
pub(super) struct PublishedKeys {
    source: KeySource,
    state: Mutex<State>,
    /// Locked while keys are fetched: one fetch at a time.
    fetching: tokio::sync::Mutex<()>,
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
    /// Checks the URL. Nothing is fetched yet.
    pub(super) fn new(url: &str) -> Result<Self, AuthConfigError> {
        Ok(Self {
            source: KeySource::new(url)?,
            state: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        })
    }

    /// Returns the keys that may be used; `None` if no set is recent enough.
    pub(super) fn current(&self, now: i64) -> Option<Arc<[Key]>> {
        let cached = self.state().cached.clone();
        cached.filter(|cached| cached.is_younger(EXPIRED_SECONDS, now)).map(|cached| cached.keys)
    }

    /// Fetches the keys if they are old or missing. A caller that finds old keys while another
    /// fetches them uses the old ones. A caller without keys waits, but not beyond the deadline.
    /// Returns whether this caller fetched.
    pub(super) async fn refresh_if_old(&self, now: i64, deadline: Instant) -> bool {
        if self.state().cached.as_ref().is_some_and(|cached| cached.is_younger(OLD_SECONDS, now)) {
            return false;
        }

        let fetching = match self.current(now) {
            Some(_) => self.fetching.try_lock().ok(),
            None => timeout_at(deadline, self.fetching.lock()).await.ok(),
        };
        let Some(_fetching) = fetching else { return false };

        // The caller before may have fetched the keys meanwhile.
        let may_fetch = {
            let state = &mut *self.state();
            match &state.cached {
                Some(cached) if cached.is_younger(OLD_SECONDS, now) => false,
                Some(cached) if cached.is_younger(EXPIRED_SECONDS, now) => {
                    state.rate.attempt_old(now)
                }
                _ => state.rate.attempt_missing(now),
            }
        };

        if may_fetch {
            self.fetch(now, deadline).await;
        }
        may_fetch
    }

    /// Fetches the keys because a token names none of `seen`, unless that happened too often recently,
    /// or another caller did it meanwhile. Returns whether there are other keys now.
    pub(super) async fn refetch_for_unknown_key(
        &self,
        seen: &Arc<[Key]>,
        now: i64,
        deadline: Instant,
    ) -> bool {
        let fetching = timeout_at(deadline, self.fetching.lock()).await;
        let Ok(_fetching) = fetching else { return false };

        let may_fetch = {
            let state = &mut *self.state();
            let is_unchanged =
                state.cached.as_ref().is_some_and(|cached| Arc::ptr_eq(&cached.keys, seen));
            is_unchanged && state.rate.attempt_unknown(now)
        };
        if may_fetch {
            self.fetch(now, deadline).await;
        }
        self.current(now).is_some_and(|keys| !Arc::ptr_eq(&keys, seen))
    }

    /// Fetches the keys. The caller has locked `fetching`.
    async fn fetch(&self, now: i64, deadline: Instant) {
        let url = self.source.redacted_url();
        match self.source.fetch(deadline).await {
            Ok(keys) if keys.is_empty() => {
                warn!(url, "the JWK Set has no key that verifies tokens");
                self.cache(keys, now);
            }

            Ok(keys) => {
                info!(url, keys = keys.len(), "fetched the JWK Set");
                self.cache(keys, now);
            }

            Err(error) => {
                let uses_old_keys = self.current(now).is_some();
                warn!(url, error = %ErrorChain(&error), uses_old_keys, "cannot fetch the JWK Set");
            }
        }
    }

    fn cache(&self, keys: Vec<Key>, now: i64) {
        self.state().cached = Some(CachedKeys { keys: keys.into(), fetched_at: now });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No change of the state can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
