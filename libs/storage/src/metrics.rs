//! The metrics of storage calls. Labels are method names and error kinds, so they have few values.

use std::future::Future;

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use tokio::time::Instant;

use crate::error::StorageError;
use crate::intercepted::{CallInterceptor, Intercepted};
use crate::port_method::PortMethod;

/// Storage calls that ended, by port `method` and `result`: `ok` or the kind of the error. Count.
const CALLS: &str = "tidewater_storage_calls_total";

/// Duration of storage calls, by port `method`. Calls that wait for a change are left out. Seconds.
const CALL_DURATION: &str = "tidewater_storage_call_duration_seconds";

/// Registers the descriptions of all metrics of this crate with the installed recorder.
pub fn describe_metrics() {
    describe_counter!(CALLS, Unit::Count, "storage calls that ended");
    describe_histogram!(CALL_DURATION, Unit::Seconds, "duration of storage calls");
}

/// A store whose calls are counted and timed.
pub type Measured<S> = Intercepted<S, CallRecorder>;

/// The interceptor of a [`Measured`] store.
#[derive(Clone, Copy, Debug)]
pub struct CallRecorder(());

impl<S> Intercepted<S, CallRecorder> {
    /// Adds metrics to a store.
    pub const fn new(store: S) -> Self {
        Self { store, interceptor: CallRecorder(()) }
    }
}

impl CallInterceptor for CallRecorder {
    async fn call<T: Send>(
        &self,
        method: PortMethod,
        call: impl Future<Output = Result<T, StorageError>> + Send,
    ) -> Result<T, StorageError> {
        let start = Instant::now();
        let result = call.await;

        let kind = result.as_ref().map_or_else(StorageError::kind, |_| "ok");
        counter!(CALLS, "method" => method.name(), "result" => kind).increment(1);
        // How long a wait takes says nothing about the store.
        if !method.waits() {
            histogram!(CALL_DURATION, "method" => method.name()).record(start.elapsed());
        }
        result
    }
}
