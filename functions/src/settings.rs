//! Settings of the router.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidewater_sync_config::RequestLimits;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::auth::Authenticator;
use crate::client_address::Network;
use crate::open_streams::OpenStreamCount;

/// The settings of a router.
pub struct Settings {
    /// Checks tokens.
    pub auth: Authenticator,
    /// Time that a stream stays open once its client is up to date; `None` keeps it open until the
    /// token expires. A client that waits for a write checkpoint is given at least ten seconds.
    pub keep_open: Option<Duration>,
    /// Maximum length of an answer of `/sync/stream` in bytes, after compression; `None` for no limit. The
    /// answer ends at the end of a line, and a client that has more to receive is told to connect again. The
    /// first chunk of lines is sent whatever its length.
    pub answer_bytes_max: Option<usize>,
    /// Bounds on what one client and one process may use.
    pub quotas: Quotas,
    /// Time since the visible checkpoint was last known to be current, beyond which the readiness probe
    /// fails.
    pub max_staleness: Duration,
    /// The problem of the ingest worker of this process, if it runs one: part of the readiness probe.
    pub worker_problem: WorkerProblem,
    /// The admin API; `None` switches it off.
    pub admin: Option<Admin>,
    /// The number of open streams, shared with who asks for it.
    pub open_streams: OpenStreamCount,
    /// Shutdown signal: when it is cancelled, streams end after a whole line and new ones are refused.
    pub shutdown: CancellationToken,
}

/// Default of [`Settings::max_staleness`]. The worker confirms an idle checkpoint every 10 to 25 seconds.
pub const DEFAULT_MAX_STALENESS: Duration = Duration::from_secs(60);

/// Greatest value of [`Quotas::buckets_max`]. A checkpoint line names all buckets, and takes some 10 MB
/// then.
pub const BUCKETS_MAX: usize = 50_000;

/// Default of [`Quotas::buckets_max`], which is PowerSync's.
pub const DEFAULT_BUCKETS_MAX: usize = 1_000;

/// The reason why the worker of this process does not replicate now, and its warnings while it does,
/// shared with who runs it.
#[derive(Clone, Debug, Default)]
pub struct WorkerProblem(Arc<Mutex<WorkerState>>);

#[derive(Debug, Default)]
struct WorkerState {
    problem: Option<String>,
    warnings: BTreeMap<&'static str, String>,
}

impl WorkerProblem {
    /// Sets the problem, or that there is none.
    pub fn set(&self, problem: Option<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).problem = problem;
    }

    /// Sets the warning about a subject, or that there is none.
    pub fn set_warning(&self, subject: &'static str, warning: Option<String>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match warning {
            Some(warning) => state.warnings.insert(subject, warning),
            None => state.warnings.remove(subject),
        };
    }

    /// Returns the problem, if there is one.
    #[must_use]
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).problem.clone()
    }

    /// Returns the warnings, in the order of their subjects.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.warnings.values().cloned().collect()
    }
}

/// The time when a stream must have ended, as an extension of its request. A Lambda function is
/// stopped at its time limit, in the middle of a line if need be.
///
/// A client that is still behind gets a warning some seconds earlier, so that it connects again at
/// once.
#[derive(Clone, Copy, Debug)]
pub struct StreamDeadline(pub Instant);

/// The address of the client that sent a request, as an extension of the request.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

/// A mark that the client of a connection does not read what it is sent, as an extension of each of its
/// requests. Whoever runs the router sets it before it closes such a connection. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ClientStall(Arc<AtomicBool>);

impl ClientStall {
    /// Notes that the connection is closed for this reason.
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether this has been noted.
    #[must_use]
    pub fn is_noted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

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
    /// Number of streams of one user that are open at a time.
    pub user_streams_max: usize,
    /// Requests of one user; `None` for any number.
    pub user_rate: Option<Rate>,
    /// Requests from one address; `None` for any number.
    pub address_rate: Option<Rate>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
}

/// A rate of requests, and how many may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests per second in the long run.
    pub per_second: u32,
    /// Requests that may come at once.
    pub burst: u32,
}

impl Rate {
    /// Returns a rate whose burst is that of twenty seconds. Devices that lost their server connect
    /// again within the ten seconds after its return, each by two or three requests.
    #[must_use]
    pub const fn per_second(per_second: u32) -> Self {
        Self { per_second, burst: per_second.saturating_mul(20) }
    }
}

impl Quotas {
    /// Returns the default quotas with another limit on buckets. What a client must send for its
    /// buckets grows with it.
    #[must_use]
    pub fn for_buckets(buckets_max: usize) -> Self {
        let default = Self::default();
        let scale = buckets_max.max(DEFAULT_BUCKETS_MAX);
        Self {
            buckets_max,
            lookup_rows_max: scale,
            // A position takes some 100 bytes, and more with long parameters.
            body_bytes_max: default.body_bytes_max.max(scale.saturating_mul(512)),
            ..default
        }
    }

    /// Returns the limits on the evaluation of one request.
    pub(crate) fn request_limits(&self) -> RequestLimits {
        let limits = RequestLimits::for_buckets(self.buckets_max);
        RequestLimits { outputs_max: self.lookup_rows_max, ..limits }
    }

    /// Returns the number of values that a request may have in its parameters and subscriptions: ten
    /// and more for each bucket.
    pub(crate) fn request_values_max(&self) -> usize {
        self.buckets_max.max(DEFAULT_BUCKETS_MAX).saturating_mul(20)
    }
}

impl Default for Quotas {
    /// Returns PowerSync's limits on buckets and lookup rows, and what a process with 512 MB serves.
    fn default() -> Self {
        Self {
            buckets_max: DEFAULT_BUCKETS_MAX,
            lookup_rows_max: DEFAULT_BUCKETS_MAX,
            connections_max: 10_000,
            body_bytes_max: 2 << 20,
            // Apps may share one user id among many devices.
            user_streams_max: 1_000,
            user_rate: Some(Rate::per_second(100)),
            // Thousands of devices may be behind one address.
            address_rate: Some(Rate::per_second(1_000)),
            trusted_proxies: Vec::new(),
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
            answer_bytes_max: None,
            quotas: Quotas::default(),
            max_staleness: DEFAULT_MAX_STALENESS,
            worker_problem: WorkerProblem::default(),
            admin: None,
            open_streams: OpenStreamCount::default(),
            shutdown: CancellationToken::new(),
        }
    }
}
