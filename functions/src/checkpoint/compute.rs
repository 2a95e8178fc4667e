//! Computations that may take long, besides the threads that serve connections.

use tokio::sync::Semaphore;

use super::error::CheckpointError;

/// Number of long computations at a time. A limit on the steps of a request bounds each of them, to
/// some tens of milliseconds. Small ones do not wait for them: they take none of these places.
static PLACES: Semaphore = Semaphore::const_new(2);

/// Computes a value: in place if that is short, else on a thread that serves no connection.
pub(super) async fn compute<T: Send + 'static>(
    is_long: bool,
    computation: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CheckpointError> {
    if !is_long {
        return Ok(computation());
    }
    let failed = || CheckpointError::Internal("the evaluation of a request has panicked");
    let _place = PLACES.acquire().await.map_err(|_| failed())?;
    tokio::task::spawn_blocking(computation).await.map_err(|_| failed())
}
