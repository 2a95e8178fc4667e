//! The store of an actor: its calls wait for turns, fail as planned, and are logged.

use std::future::Future;
use std::sync::Arc;

use tidewater_storage::{
    CallInterceptor, CallScheduler, Embedded, FaultPlan, Faulty, Intercepted, PortMethod,
    StorageError,
};

use crate::world::Shared;

pub(crate) type Store = Intercepted<Faulty<Embedded>, CallLog>;

/// An interceptor that logs the calls that write or fail. Reads that succeed would hide the rest.
#[derive(Clone)]
pub(crate) struct CallLog {
    actor: String,
    world: Shared,
}

/// Returns the store of an actor.
pub(crate) fn store_of(
    actor: &str,
    store: &Embedded,
    faults: FaultPlan,
    scheduler: Arc<CallScheduler>,
    world: &Shared,
) -> Store {
    let faulty = Faulty::new(store.clone(), faults).with_scheduler(scheduler);
    let log = CallLog { actor: actor.to_owned(), world: world.clone() };
    Intercepted::with_interceptor(faulty, log)
}

impl CallInterceptor for CallLog {
    async fn call<T: Send>(
        &self,
        method: PortMethod,
        call: impl Future<Output = Result<T, StorageError>> + Send,
    ) -> Result<T, StorageError> {
        let result = call.await;
        let outcome = match &result {
            Ok(_) if method.writes() => "ok".to_owned(),
            Ok(_) => return result,
            Err(StorageError::Unknown(_)) => "reply lost".to_owned(),
            Err(StorageError::Unavailable(cause)) => format!("failed: {cause}"),
            Err(error) => format!("failed: {error}"),
        };

        self.world.lock().unwrap().log(&format!("{}: call {method}: {outcome}", self.actor));
        result
    }
}
