//! A store that fails on cue, for tests of everything above it.

mod call_scheduler;
mod plan;
mod ports;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Storage;
use crate::error::StorageError;

pub use call_scheduler::CallScheduler;
pub use plan::{Fault, FaultPlan, FaultPlanError, PlannedFault, PortMethod};

/// A store whose calls fail, are late, lose their replies or end the process, as a plan says.
///
/// Clones are the same store and count their calls together.
#[derive(Clone, Debug)]
pub struct Faulty<S> {
    store: S,
    plan: Arc<FaultPlan>,
    calls: Arc<[AtomicU64; PortMethod::ALL.len()]>,
    scheduler: Option<Arc<CallScheduler>>,
}

/// The cause of an error that a plan asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("call {nth} of {method} was to fail")]
struct Injected {
    method: PortMethod,
    nth: u64,
}

impl<S: Storage> Storage for Faulty<S> {}

impl<S> Faulty<S> {
    /// The store with these faults.
    pub fn new(store: S, plan: FaultPlan) -> Self {
        let calls = [const { AtomicU64::new(0) }; PortMethod::ALL.len()];
        Self { store, plan: Arc::new(plan), calls: Arc::new(calls), scheduler: None }
    }

    /// The store, whose every call also waits for its turn.
    #[must_use]
    pub fn with_scheduler(self, scheduler: Arc<CallScheduler>) -> Self {
        Self { scheduler: Some(scheduler), ..self }
    }

    /// The store without its faults. What is done there is not counted.
    pub const fn inner(&self) -> &S {
        &self.store
    }

    /// Returns the number of calls of a method.
    #[must_use]
    pub fn calls(&self, method: PortMethod) -> u64 {
        self.calls[method as usize].load(Ordering::Relaxed)
    }

    /// Makes one call, or what the plan has in its place. A call does nothing before it is awaited.
    async fn call<T>(
        &self,
        method: PortMethod,
        call: impl Future<Output = Result<T, StorageError>>,
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
            Fault::Full => Err(StorageError::Full(cause)),
            Fault::LoseReply => {
                call.await?;
                // A read has no outcome to be in doubt of.
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
