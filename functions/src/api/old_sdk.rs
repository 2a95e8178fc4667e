//! Replies for versions of SDKs with known faults.

use std::convert::Infallible;
use std::future::ready;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tidewater_protocol::{LineFormat, SyncLine, write_line};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::request::user_agent;
use crate::stream_log::StreamLog;

/// The JavaScript SDKs' version from which a 401 of a stream makes them fetch another token. Older
/// ones send the expired token again and again.
const FIXED_IN: [u32; 3] = [1, 57, 2];

/// Lifetime in seconds that is sent for an expired token. With 1 to 30 seconds left, SDKs fetch another
/// token. 0 would make these versions send the old one again.
const SECONDS_TOLD: i64 = 1;

/// Time for which the stream with this line stays open. The SDK closes it as soon as it has another token.
/// If the server closed it first, `@powersync/node` 0.15 would throw an error that nothing catches, which
/// ends the process of the app.
const HOLD: Duration = Duration::from_secs(10);

/// Returns whether the client would send an expired token again after a 401.
pub(super) fn repeats_expired_tokens(headers: &HeaderMap) -> bool {
    let version = user_agent(headers).and_then(javascript_sdk);
    version.is_some_and(|version| version < FIXED_IN)
}

/// Returns the stream for such a client, with one line that makes it fetch another token. It says
/// nothing that the 401 would not say.
pub(super) fn expired_stream(
    permit: OwnedSemaphorePermit,
    deadline: Option<Instant>,
    shutdown: CancellationToken,
    log: StreamLog,
) -> Response {
    let end = Instant::now() + HOLD;
    let end = deadline.map_or(end, |deadline| end.min(deadline));
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")),
        // Tells reverse proxies not to buffer the response.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    let lines = log.attach_counting(held_line(permit, end, shutdown));
    (headers, Body::from_stream(lines)).into_response()
}

/// Returns the line, and the end of the stream after the client has had time to react.
fn held_line(
    permit: OwnedSemaphorePermit,
    end: Instant,
    shutdown: CancellationToken,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let mut line = Vec::new();
    write_line(&mut line, &SyncLine::TokenExpiresIn(SECONDS_TOLD), LineFormat::Json);

    let held = async move {
        tokio::select! {
            () = tokio::time::sleep_until(end) => {}
            () = shutdown.cancelled() => {}
        }
        drop(permit);
        None
    };
    stream::once(ready(Ok(line.into()))).chain(stream::once(held).filter_map(ready))
}

/// Returns the version in `powersync-js/1.45.0 powersync-node ...`.
fn javascript_sdk(agent: &str) -> Option<[u32; 3]> {
    let version = agent.split(' ').find_map(|part| part.strip_prefix("powersync-js/"))?;
    let release = version.split(['-', '+']).next()?;
    let mut parts = release.split('.').map(str::parse);

    let version = [parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?];
    parts.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    fn check(agents: &[(&'static str, &'static str)], expected: bool) {
        let mut headers = HeaderMap::new();
        for (name, agent) in agents {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(agent));
        }
        assert_eq!(repeats_expired_tokens(&headers), expected, "{agents:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_is_followed_by_a_pause_in_which_the_client_can_close_the_stream() {
        let places = Arc::new(Semaphore::new(1));
        let line = Bytes::from_static(b"{\"token_expires_in\":1}\n");
        let hold = async |shutdown: &CancellationToken| {
            let permit = Arc::clone(&places).try_acquire_owned().unwrap();
            let started = Instant::now();
            let mut stream = pin!(held_line(permit, started + HOLD, shutdown.clone()));
            assert_eq!(stream.next().await, Some(Ok(line.clone())));
            assert_eq!(started.elapsed(), Duration::ZERO);
            assert_eq!(stream.next().await, None);
            assert_eq!(places.available_permits(), 1, "the place is free again");
            started.elapsed()
        };

        let shutdown = CancellationToken::new();
        assert!(hold(&shutdown).await >= HOLD);
        shutdown.cancel();
        assert_eq!(hold(&shutdown).await, Duration::ZERO);
    }

    #[test]
    fn only_old_javascript_sdks_repeat_expired_tokens() {
        for old in [
            "powersync-js/1.45.0 powersync-node node/20.20.2 linux/6.1",
            "powersync-js/1.57.1 powersync-web chrome/130",
            "powersync-js/0.9.0",
            "powersync-js/1.57.1-dev.3",
        ] {
            check(&[("x-user-agent", old)], true);
            check(&[("user-agent", old)], true);
            check(&[("x-user-agent", old), ("user-agent", "Mozilla/5.0")], true);
        }
        for other in [
            "powersync-js/1.57.2 powersync-web",
            "powersync-js/2.3.0 powersync-node",
            "powersync-js/1.45",
            "powersync-js/new",
            "powersync-js/1.2.3.4",
            "powersync-kotlin/1.0.0",
            "Mozilla/5.0",
            "",
        ] {
            check(&[("x-user-agent", other)], false);
        }
        check(&[], false);
        check(&[("x-user-agent", "powersync-kt/1"), ("user-agent", "powersync-js/1.1.1")], false);
    }
}
