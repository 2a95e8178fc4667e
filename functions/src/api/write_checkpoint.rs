//! Write checkpoints: numbers by which clients learn that their uploads have come back.

use tidewater_storage::{ClientKey, Storage, StorageError, Ticket};

use super::error::ApiError;

/// Requests of one client that overtake each other more often than this are given up.
const ATTEMPTS_MAX: usize = 16;

/// Hands out the client's next number.
pub(crate) async fn next_number<S: Storage>(
    storage: &S,
    client: &ClientKey,
) -> Result<i64, ApiError> {
    for _ in 0..ATTEMPTS_MAX {
        let ticket = storage.take_ticket().await?;
        let requests = storage.write_requests(client).await?;
        let number = requests.last_number().saturating_add(1);
        if let Some(next) = requests.with(number, ticket)
            && storage.swap_write_requests(client, &next).await?
        {
            renew_covered_ticket(storage, ticket).await?;
            return Ok(number);
        }
    }
    Err(ApiError::Internal("a client's write-checkpoint requests keep overtaking each other"))
}

/// Registers a number that the client chose. Returns the greatest number that it ever had.
pub(crate) async fn register<S: Storage>(
    storage: &S,
    client: &ClientKey,
    number: i64,
) -> Result<i64, ApiError> {
    for _ in 0..ATTEMPTS_MAX {
        let requests = storage.write_requests(client).await?;
        if let Some(last) = requests.entries.last()
            && last.number >= number
        {
            if last.number == number {
                renew_covered_ticket(storage, last.ticket).await?;
            }
            return Ok(last.number);
        }
        let ticket = storage.take_ticket().await?;
        if let Some(next) = requests.with(number, ticket)
            && storage.swap_write_requests(client, &next).await?
        {
            renew_covered_ticket(storage, ticket).await?;
            return Ok(number);
        }
    }
    Err(ApiError::Internal("a client's write-checkpoint requests keep overtaking each other"))
}

/// Makes sure that a stream which is open finds the request just stored.
///
/// A stream looks for requests when the visible ticket moves. If a checkpoint covered the ticket
/// before the request was stored, the stream may have looked in vain: so the ticket is moved once
/// more. If none did, the one that will is still to come, and the stream looks after that.
async fn renew_covered_ticket<S: Storage>(storage: &S, ticket: Ticket) -> Result<(), StorageError> {
    let control = storage.control().await?;
    let visible = control.and_then(|control| control.visible);
    if visible.is_some_and(|visible| visible.at.ticket >= ticket) {
        storage.take_ticket().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
