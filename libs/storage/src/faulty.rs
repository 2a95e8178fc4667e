//! A store with planned faults, for tests of the code that uses stores.

mod call_scheduler;
mod plan;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::StorageError;
use crate::intercepted::{CallInterceptor, Intercepted};
use crate::port_method::PortMethod;

pub use call_scheduler::CallScheduler;
pub use plan::{Fault, FaultPlan, FaultPlanError, PlannedFault};

/// A store whose calls fail, are delayed, lose their replies or kill the process, according to a plan.
///
/// Clones share one store and count their calls together.
pub type Faulty<S> = Intercepted<S, FaultInjector>;

/// The interceptor of a [`Faulty`] store.
#[derive(Clone, Debug)]
pub struct FaultInjector {
    plan: Arc<FaultPlan>,
    calls: Arc<[AtomicU64; PortMethod::ALL.len()]>,
    scheduler: Option<Arc<CallScheduler>>,
}

/// The cause of a planned error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("call {nth} of {method} was planned to fail")]
struct Injected {
    method: PortMethod,
    nth: u64,
}

impl<S> Intercepted<S, FaultInjector> {
    /// Adds faults to a store.
    pub fn new(store: S, plan: FaultPlan) -> Self {
        let calls = [const { AtomicU64::new(0) }; PortMethod::ALL.len()];
        let interceptor =
            FaultInjector { plan: Arc::new(plan), calls: Arc::new(calls), scheduler: None };
        Self { store, interceptor }
    }

    /// Makes every call wait until the scheduler admits it.
    #[must_use]
    pub fn with_scheduler(mut self, scheduler: Arc<CallScheduler>) -> Self {
        self.interceptor.scheduler = Some(scheduler);
        self
    }

    /// Returns the number of calls of a method.
    #[must_use]
    pub fn calls(&self, method: PortMethod) -> u64 {
        self.interceptor.calls[method as usize].load(Ordering::Relaxed)
    }
}

impl CallInterceptor for FaultInjector {
    async fn call<T: Send>(
        &self,
        method: PortMethod,
        call: impl Future<Output = Result<T, StorageError>> + Send,
    ) -> Result<T, StorageError> {
        let _passed = match &self.scheduler {
            Some(scheduler) => Some(scheduler.pass().await),
            None => None,
        };

        let nth = self.calls[method as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let Some(fault) = self.plan.fault(method, nth) else { return call.await };

        let cause = Box::new(Injected { method, nth });
        match fault {
            Fault::Fail => Err(StorageError::Unavailable(cause)),
            Fault::Refuse => Err(StorageError::Refused(cause)),
            Fault::Full => Err(StorageError::Full(cause)),
            Fault::LoseReply => {
                call.await?;
                // The outcome of a read is never in doubt.
                let error =
                    if method.writes() { StorageError::Unknown } else { StorageError::Unavailable };
                Err(error(cause))
            }
            Fault::Delay(duration) => {
                tokio::time::sleep(duration).await;
                call.await
            }
            Fault::KillBefore => std::process::abort(),
            Fault::KillAfter => {
                let _ = call.await;
                std::process::abort()
            }
        }
    }
}
