//! Writes the metrics of each invocation into the function's log.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use http_body::{Frame, SizeHint};
use tidewater_cloudwatch::EmfRecorder;

/// Writes metrics to stdout, from where CloudWatch reads them.
#[derive(Clone)]
pub struct MetricsLog {
    recorder: EmfRecorder,
    function: String,
}

impl MetricsLog {
    /// Records the metrics of this process. `function` becomes their dimension.
    ///
    /// # Errors
    /// When the process already has a recorder.
    pub fn install(function: String) -> Result<Self> {
        let recorder = EmfRecorder::default();
        metrics::set_global_recorder(recorder.clone())?;
        Ok(Self { recorder, function })
    }

    /// Writes a line with everything that was recorded since the last one.
    pub fn write(&self) {
        #[expect(clippy::disallowed_methods, reason = "CloudWatch wants the wall-clock time")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        if let Some(line) = self.recorder.take_line(&self.function, timestamp_ms) {
            // If nobody reads stdout, nobody misses the line.
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        }
    }

    /// Writes the metrics of an invocation when its response has been sent or dropped. A stream does
    /// its work while its body is sent, long after the handler has returned.
    #[must_use]
    pub fn after(self, response: Response) -> Response {
        response.map(|body| Body::new(LoggedBody { body, log: self }))
    }
}

/// A body whose end writes the metrics.
struct LoggedBody {
    body: Body,
    log: MetricsLog,
}

impl Drop for LoggedBody {
    fn drop(&mut self) {
        // A stream counts as closed when its body is dropped, so that goes first.
        self.body = Body::empty();
        self.log.write();
    }
}

impl HttpBody for LoggedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use metrics::{counter, with_local_recorder};

    use super::*;

    #[tokio::test]
    async fn metrics_are_written_after_the_body_is_sent() {
        let recorder = EmfRecorder::default();
        let log = MetricsLog { recorder: recorder.clone(), function: "f".to_owned() };
        with_local_recorder(&recorder, || counter!("calls").increment(1));

        let body = log.after(Response::new(Body::from("sent"))).into_body();
        assert_eq!(body.size_hint().exact(), Some(4), "the length is still known");
        with_local_recorder(&recorder, || counter!("calls").increment(1));
        assert_eq!(&axum::body::to_bytes(body, 100).await.unwrap()[..], b"sent");
        assert_eq!(recorder.take_line("f", 1), None, "everything was written at the end");
    }
}
