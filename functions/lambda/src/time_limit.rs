//! A function is cut off at its time limit, whatever it is doing.

use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::http::Request;
use lambda_http::RequestExt;
use lambda_runtime::Context;
use tidewater_functions::StreamDeadline;
use tokio::time::Instant;

/// What is left at the end for a line that has been begun: of four megabytes or so, and Lambda
/// lets two megabytes a second out of a function.
const LAST_LINE: Duration = Duration::from_secs(5);

/// How long the function may go on.
#[must_use]
pub fn time_left(context: &Context) -> Duration {
    #[expect(clippy::disallowed_methods, reason = "Lambda says when by the clock of the wall")]
    let now = SystemTime::now();
    context.deadline().duration_since(now).unwrap_or_default()
}

/// Tells the router when the stream that a request may ask for has to end.
#[must_use]
pub fn set_stream_deadline(mut request: Request<Body>) -> Request<Body> {
    if let Some(context) = request.lambda_context_ref() {
        let left = time_left(context);
        // Of a short limit half: there is more to a stream than its end.
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
    fn a_stream_ends_before_its_function_is_cut_off() {
        let left = left(limited_to(900)).unwrap();
        assert!((894..=895).contains(&left.as_secs()), "{left:?}");
    }

    #[test]
    fn a_function_with_a_short_limit_serves_for_half_of_it() {
        let left = left(limited_to(4)).unwrap();
        assert!((1_900..=2_000).contains(&left.as_millis()), "{left:?}");
    }

    #[test]
    fn a_request_from_elsewhere_has_no_limit() {
        assert!(left(Request::new(Body::empty())).is_none());
    }
}
