//! The common set-up of calls to both services: retries, timeouts, and the count of attempts.

use std::pin::Pin;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::interceptors::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::retries::RequestAttempts;
use tidewater_storage::BoxError;

use crate::failure::THROTTLING_CODES;
use crate::metrics;

/// The limits of the calls to one service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallLimits {
    /// Maximum number of attempts that the SDK makes of one call.
    pub(crate) attempts_max: u32,
    /// The pause before the second attempt. It doubles with each further one, with jitter.
    pub(crate) first_pause: Duration,
    /// The maximum of a pause.
    pub(crate) longest_pause: Duration,
    /// Time to establish a connection.
    pub(crate) connect_timeout: Duration,
    /// Time of one attempt.
    pub(crate) attempt_timeout: Duration,
    /// Time of a call with all its attempts.
    pub(crate) call_timeout: Duration,
}

impl CallLimits {
    /// Returns a configuration with these limits.
    pub(crate) fn apply(&self, sdk: &SdkConfig) -> SdkConfig {
        let retries = RetryConfig::standard()
            .with_max_attempts(self.attempts_max)
            .with_initial_backoff(self.first_pause)
            .with_max_backoff(self.longest_pause);
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(self.connect_timeout)
            .operation_attempt_timeout(self.attempt_timeout)
            .operation_timeout(self.call_timeout)
            .build();
        sdk.to_builder().retry_config(retries).timeout_config(timeouts).build()
    }
}

/// Moves a call of the SDK to the heap. Such a future has many kilobytes, and the calls of a batch are
/// in flight side by side.
pub(crate) fn boxed<F: Future>(call: F) -> Pin<Box<F>> {
    Box::pin(call)
}

/// An interceptor that counts the calls and attempts of an SDK client. Calls of the SDK that no
/// caller awaits to the end are not counted.
#[derive(Debug)]
pub(crate) struct CallCounter;

impl Intercept for CallCounter {
    fn name(&self) -> &'static str {
        "CallCounter"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if config.load::<RequestAttempts>().is_some_and(|attempts| attempts.attempts() > 1) {
            metrics::count_retry(call_name(config));
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if result(context) == "throttled" {
            metrics::count_throttle(call_name(config));
        }
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        metrics::count_call(call_name(config), result(context));
        Ok(())
    }
}

fn call_name(config: &ConfigBag) -> &str {
    config.load::<Metadata>().map_or("unknown", Metadata::name)
}

/// Returns `ok` or the kind of the failure of the last attempt.
fn result(context: &FinalizerInterceptorContextRef<'_>) -> &'static str {
    if matches!(context.output_or_error(), Some(Ok(_))) {
        return "ok";
    }
    let Some(response) = context.response() else { return "no_reply" };

    // The SDK has read the body of an error by now. It contains the error code, as JSON or XML.
    let body = String::from_utf8_lossy(response.body().bytes().unwrap_or_default());
    let status = response.status().as_u16();
    if THROTTLING_CODES.iter().any(|code| body.contains(code)) {
        "throttled"
    } else if body.contains("ConditionalCheckFailedException") {
        "condition_failed"
    } else if (400..500).contains(&status) {
        "refused"
    } else if status >= 500 {
        "service_error"
    } else {
        // The reply was successful, but broke off.
        "no_reply"
    }
}
