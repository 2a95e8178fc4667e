//! The time limit of a function: Lambda stops it there, whatever it is doing.

use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::http::Request;
use lambda_http::RequestExt;
use lambda_runtime::Context;
use tidewater_functions::StreamDeadline;
use tokio::time::Instant;

/// The part of a function's time that is reserved for the last line. A line has about 4 MB, and
/// Lambda sends 2 MB a second.
const LAST_LINE: Duration = Duration::from_secs(5);

/// Returns how long the function may still run.
#[must_use]
pub fn time_left(context: &Context) -> Duration {
    #[expect(clippy::disallowed_methods, reason = "Lambda's deadline is wall-clock time")]
    let now = SystemTime::now();
    context.deadline().duration_since(now).unwrap_or_default()
}

/// Tells the router when the stream must end that a request may ask for.
#[must_use]
pub fn set_stream_deadline(mut request: Request<Body>) -> Request<Body> {
    if let Some(context) = request.lambda_context_ref() {
        let left = time_left(context);
        // Of a short limit, only half is reserved.
        let left = left - LAST_LINE.min(left / 2);
        request.extensions_mut().insert(StreamDeadline(Instant::now() + left));
    }
    request
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn limited_to(seconds: u64) -> Request<Body> {
        #[expect(clippy::disallowed_methods, reason = "as Lambda does")]
        let deadline = SystemTime::now() + Duration::from_secs(seconds);
        let mut context = Context::default();
        let since = deadline.duration_since(UNIX_EPOCH).unwrap();
        context.deadline = u64::try_from(since.as_millis()).unwrap();
        Request::new(Body::empty()).with_lambda_context(context)
    }

    fn left(request: Request<Body>) -> Option<Duration> {
        let deadline = set_stream_deadline(request).extensions().get::<StreamDeadline>().copied();
        deadline.map(|StreamDeadline(at)| at - Instant::now())
    }

    #[test]
    fn a_stream_ends_before_its_function_is_stopped() {
        let left = left(limited_to(900)).unwrap();
        assert!((894..=895).contains(&left.as_secs()), "{left:?}");
    }

    #[test]
    fn a_stream_of_a_short_function_has_half_of_its_time() {
        let left = left(limited_to(4)).unwrap();
        assert!((1_900..=2_000).contains(&left.as_millis()), "{left:?}");
    }

    #[test]
    fn a_request_outside_lambda_has_no_deadline() {
        assert!(left(Request::new(Body::empty())).is_none());
    }
}
