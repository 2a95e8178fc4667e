//! The admin API: who may use it. What it answers is the matter of the process that serves it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use metrics::counter;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::warn;

use crate::admin::{Admin, AdminError, AdminTokens};
use crate::client_address::{Network, limited_address};
use crate::metrics::{REQUESTS_LIMITED, TOKENS_REFUSED};
use crate::rate_limiter::RateLimiter;
use crate::settings::{ClientAddress, Rate};

/// Requests that are answered at a time, as by PowerSync's service. Some of them ask the source database.
const RUNNING_MAX: usize = 10;

/// Wrong tokens of an address that are answered as such. Beyond them, the answer and the log are short. A
/// right token is not limited by them, so nobody can lock out its owner.
const WRONG_TOKENS: Rate = Rate { per_second: 1, burst: 20 };

/// The paths of the admin API, for a process without one.
const PATHS: [&str; 2] = ["/api/admin/{*path}", "/api/sync-rules/{*path}"];

/// The state that the checks of tokens share.
struct Guard {
    tokens: AdminTokens,
    wrong_tokens: RateLimiter,
    running: Semaphore,
    trusted_proxies: Vec<Network>,
}

/// Returns the routes of an admin API behind the check of its tokens; without one, routes that say that
/// it is off.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(
    admin: Option<Admin>,
    trusted_proxies: &[Network],
) -> Router<S> {
    let Some(Admin { tokens, routes, pages }) = admin else {
        let off = Router::new().route("/", get(about));
        return PATHS.iter().fold(off, |router, path| router.route(path, any(is_off)));
    };
    let guard = Guard {
        tokens,
        wrong_tokens: RateLimiter::new(Some(WRONG_TOKENS)),
        running: Semaphore::new(RUNNING_MAX),
        trusted_proxies: trusted_proxies.to_vec(),
    };
    routes.route_layer(from_fn_with_state(Arc::new(guard), check)).merge(pages).with_state(())
}

/// Says what this server is, to a person who opens its address.
async fn about() -> &'static str {
    "This is the sync API of Tidewater. Apps connect to it with the address as their endpoint and a token of \
     their user.\nIts console and admin API are off: start the server with --admin-token-file or \
     TIDEWATER_ADMIN_TOKEN.\n"
}

async fn is_off() -> AdminError {
    AdminError::new(
        404,
        "PSYNC_S2002",
        "The admin API is off: start the server with --admin-token-file or TIDEWATER_ADMIN_TOKEN",
    )
}

/// Lets a request through that has a right token.
async fn check(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Result<Response, Response> {
    let header = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let Some(header) = header else {
        counter!(TOKENS_REFUSED, "code" => "admin").increment(1);
        return Err(refusal("PSYNC_S2106", "An admin token is required"));
    };
    if !guard.tokens.contain(header) {
        return Err(guard.refuse(&request));
    }

    let Ok(_permit) = guard.running.try_acquire() else {
        counter!(REQUESTS_LIMITED, "limit" => "admin").increment(1);
        return Err(StatusCode::TOO_MANY_REQUESTS.into_response());
    };
    Ok(next.run(request).await)
}

impl Guard {
    /// Returns the reply to a wrong token, and logs it.
    fn refuse(&self, request: &Request) -> Response {
        counter!(TOKENS_REFUSED, "code" => "admin").increment(1);
        // Addresses behind a proxy that nobody declared share one rate.
        let peer = request.extensions().get::<ClientAddress>().map(|ClientAddress(peer)| *peer);
        let address = peer.and_then(|peer| {
            limited_address(peer, request.headers(), &self.trusted_proxies).or(Some(peer))
        });
        if let Err(wait) = self.wrong_tokens.take(&address, Instant::now()) {
            counter!(REQUESTS_LIMITED, "limit" => "admin").increment(1);
            let seconds = wait.as_secs() + u64::from(wait > Duration::from_secs(wait.as_secs()));
            let error = AdminError::new(429, "PSYNC_S2304", "Too many wrong admin tokens");
            return ([(RETRY_AFTER, HeaderValue::from(seconds))], error).into_response();
        }

        let address = address.map(|address| address.to_string());
        warn!(
            address,
            path = request.uri().path(),
            "a request with a wrong admin token was refused"
        );
        refusal("PSYNC_S2101", "The admin token is not valid")
    }
}

fn refusal(code: &'static str, description: &str) -> Response {
    AdminError::new(401, code, description).into_response()
}
