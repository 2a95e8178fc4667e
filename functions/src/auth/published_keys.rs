//! The keys that a URL publishes, cached until newer ones arrive.
//!
//! A request that needs keys starts a fetch and waits for it. The fetch is a task of its own: a client
//! that hangs up does not cancel it. Nothing is fetched without a request, because a function's process
//! is frozen between requests. Ages are measured by the wall clock, which also counts that time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::counter;
use tidewater_protocol::ErrorChain;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::error::AuthConfigError;
use super::fetch_rate::FetchRate;
use super::key::Key;
use super::key_source::KeySource;
use crate::metrics::KEY_FETCHES;

/// Age from which keys are fetched again, in seconds. They are used meanwhile, and while fetching
/// fails. Owners publish a new key minutes before they sign with it.
const OLD_SECONDS: u64 = 5 * 60;

/// Time that a fetch may take. Requests wait for less; a slow server is not fetched from again and
/// again, and its answer serves the requests that come after.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Age from which a fetch in flight is given up, in seconds by the wall clock. Its own timeout has
/// passed, unless the process was frozen: then its connection is probably closed.
const FROZEN_SECONDS: u64 = 15;

/// The keys of one URL.
pub(super) struct PublishedKeys {
    source: KeySource,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cached: Option<CachedKeys>,
    /// True if the last fetch that ended has failed.
    has_failed: bool,
    in_flight: Option<Fetch>,
    /// Number of fetches that were started.
    started: u64,
    rate: FetchRate,
}

#[derive(Clone)]
struct CachedKeys {
    keys: Arc<[Key]>,
    fetched_at: i64,
}

impl CachedKeys {
    fn is_old(&self, now: i64) -> bool {
        // The distance, so that a clock that was set back does not keep keys young.
        now.abs_diff(self.fetched_at) >= OLD_SECONDS
    }
}

/// A fetch in flight.
struct Fetch {
    started_at: i64,
    task: AbortHandle,
    end: FetchEnd,
}

/// The end of a fetch: its sender is dropped when the result is stored.
type FetchEnd = watch::Receiver<()>;

/// The reason to fetch.
#[derive(Clone, Copy)]
enum Need {
    /// The keys are old or missing.
    Fresh,
    /// A token names a key that is not among them.
    UnknownKey,
}

/// The fetch that serves a need.
enum Serving {
    /// The caller started it.
    Started(FetchEnd),
    /// Another caller started it before.
    Joined(FetchEnd),
    /// There is none: the keys are young, or fetches were too many.
    None,
}

impl PublishedKeys {
    /// Checks the URL. Nothing is fetched yet.
    pub(super) fn new(url: &str) -> Result<Self, AuthConfigError> {
        Ok(Self { source: KeySource::new(url)?, state: Mutex::default() })
    }

    /// Returns the keys of the last fetch that succeeded; `None` if none has.
    pub(super) fn current(&self) -> Option<Arc<[Key]>> {
        self.state().cached.as_ref().map(|cached| Arc::clone(&cached.keys))
    }

    /// Returns the number of fetches that were started.
    pub(super) fn fetches_started(&self) -> u64 {
        self.state().started
    }

    /// Returns whether the set that is published now is not known, so that a key may be missing.
    pub(super) fn is_uncertain(&self) -> bool {
        let state = self.state();
        state.cached.is_none() || state.has_failed || state.in_flight.is_some()
    }

    /// Returns whether a fetch is in flight.
    #[cfg(test)]
    pub(super) fn is_fetching(&self) -> bool {
        self.state().in_flight.is_some()
    }

    /// Fetches the keys if they are old or missing. A caller that finds old keys while another
    /// fetches them uses the old ones. A caller without keys waits, but not beyond the deadline.
    pub(super) async fn refresh_if_old(self: &Arc<Self>, now: i64, deadline: Instant) {
        let has_keys = self.current().is_some();
        match self.serve(Need::Fresh, now) {
            // A function runs only while a request waits, so one request waits for each fetch.
            Serving::Started(end) => drop(ended(end, deadline).await),
            Serving::Joined(end) if !has_keys => drop(ended(end, deadline).await),
            Serving::Joined(_) | Serving::None => {}
        }
    }

    /// Waits for a fetch, because a token names no known key. Returns whether one has ended. There is
    /// none if a fetch that began after the first `started_before` has ended already: the owner had
    /// not published the key when the request was on its way.
    pub(super) async fn fetch_for_unknown_key(
        self: &Arc<Self>,
        started_before: u64,
        now: i64,
        deadline: Instant,
    ) -> bool {
        let is_answered = {
            let state = self.state();
            state.started > started_before && state.in_flight.is_none()
        };
        if is_answered {
            return false;
        }

        match self.serve(Need::UnknownKey, now) {
            Serving::Started(end) | Serving::Joined(end) => ended(end, deadline).await,
            Serving::None => false,
        }
    }

    /// Returns the fetch that serves a need. Starts it if there is none and the rate allows one.
    fn serve(self: &Arc<Self>, need: Need, now: i64) -> Serving {
        let state = &mut *self.state();
        if let (Need::Fresh, Some(cached)) = (need, &state.cached)
            && !cached.is_old(now)
        {
            return Serving::None;
        }

        // A task that panicked, or whose runtime has gone, leaves an entry behind.
        state.in_flight.take_if(|fetch| fetch.task.is_finished());
        let may_fetch = match &state.in_flight {
            Some(fetch) if now.abs_diff(fetch.started_at) < FROZEN_SECONDS => {
                return Serving::Joined(fetch.end.clone());
            }

            // The attempt was interrupted. It is repeated and not counted again.
            Some(frozen) => {
                frozen.task.abort();
                true
            }

            None => match (need, &state.cached) {
                (Need::Fresh, Some(_)) => state.rate.attempt_old(now),
                (_, None) => state.rate.attempt_missing(now),
                (Need::UnknownKey, Some(_)) => state.rate.attempt_unknown(now),
            },
        };

        if may_fetch { Serving::Started(self.start(state, now)) } else { Serving::None }
    }

    /// Starts a fetch in a task of its own.
    fn start(self: &Arc<Self>, state: &mut State, now: i64) -> FetchEnd {
        let (on_end, end) = watch::channel(());
        state.started += 1;
        let number = state.started;
        let keys = Arc::clone(self);

        let task = tokio::spawn(async move {
            keys.fetch(number, now).await;
            drop(on_end);
        });
        let task = task.abort_handle();
        state.in_flight = Some(Fetch { started_at: now, task, end: end.clone() });
        end
    }

    /// Fetches the keys, and stores them unless a later fetch was started meanwhile. Their age counts
    /// from `now`, the time of the start: the owner may have changed them since.
    async fn fetch(&self, number: u64, now: i64) {
        let url = self.source.redacted_url();
        let fetched = self.source.fetch(Instant::now() + FETCH_TIMEOUT).await;
        let result = if fetched.is_ok() { "ok" } else { "failed" };
        counter!(KEY_FETCHES, "result" => result).increment(1);

        let state = &mut *self.state();
        if state.started != number {
            return;
        }
        state.in_flight = None;
        state.has_failed = fetched.is_err();
        match fetched {
            Ok(keys) => {
                if keys.is_empty() {
                    warn!(url, "the JWK Set has no key that verifies tokens");
                } else {
                    info!(url, keys = keys.len(), "fetched the JWK Set");
                }
                state.cached = Some(CachedKeys { keys: keys.into(), fetched_at: now });
            }
            Err(error) => {
                let age = state.cached.as_ref().map(|cached| now.abs_diff(cached.fetched_at));
                let error = ErrorChain(&error);
                warn!(url, %error, old_keys_seconds = age, "cannot fetch the JWK Set");
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No change of the state can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until a fetch has ended. Returns `false` at the deadline.
async fn ended(mut end: FetchEnd, deadline: Instant) -> bool {
    // Nothing is ever sent: the sender is dropped at the end.
    timeout_at(deadline, end.changed()).await.is_ok()
}
