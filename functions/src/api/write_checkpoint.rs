//! Write checkpoints: numbers by which clients learn that their uploads have come back.
//!
//! A request stores a pair of the client's number and a ticket. The worker writes a logical message with the
//! newest ticket into the WAL. The checkpoint that contains the message covers the ticket, and with it
//! every write that was committed before the request.

use tidewater_storage::{ClientKey, ControlStore, StorageError, Ticket, WriteCheckpointStore};

use super::error::ApiError;

/// Number of attempts to store one request when other requests of the same client overtake it. A
/// client sends one at a time, so even one attempt rarely fails.
const ATTEMPTS_MAX: usize = 16;

/// Returns the client's next number, and registers it.
pub(super) async fn next_number<S: ControlStore + WriteCheckpointStore>(
    storage: &S,
    client: &ClientKey,
) -> Result<i64, ApiError> {
    for _ in 0..ATTEMPTS_MAX {
        // The ticket is taken before the stored requests are read. A request that overtakes this one
        // then has a later ticket, and `with` refuses to store a greater number with an earlier one.
        let ticket = storage.take_ticket().await?;
        let requests = storage.write_requests(client).await?;
        let number = requests.last_number().checked_add(1).ok_or_else(used_up)?;

        if let Some(next) = requests.with(number, ticket)
            && storage.swap_write_requests(client, &next).await?
        {
            renew_covered_ticket(storage, ticket).await?;
            return Ok(number);
        }
    }
    Err(ApiError::Internal("a client's write-checkpoint requests keep overtaking each other"))
}

fn used_up() -> ApiError {
    ApiError::Invalid("The numbers of this client_id are used up: use another client_id".to_owned())
}

/// Registers a number that the client chose. Returns the greatest number that the client ever had.
pub(super) async fn register<S: ControlStore + WriteCheckpointStore>(
    storage: &S,
    client: &ClientKey,
    number: i64,
) -> Result<i64, ApiError> {
    for _ in 0..ATTEMPTS_MAX {
        let requests = storage.write_requests(client).await?;
        if let Some(last) = requests.entries.last()
            && last.number >= number
        {
            // The same number again: its first request may have failed before the renewal.
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

/// Makes sure that an open stream finds the request that was just stored.
///
/// A stream reads the requests only when the visible ticket moves. If a checkpoint covered the ticket
/// before the request was stored, the stream may have read them too early. So the ticket is moved
/// once more. If no checkpoint covers the ticket yet, a later one will, and the stream reads after it.
async fn renew_covered_ticket<S: ControlStore + WriteCheckpointStore>(
    storage: &S,
    ticket: Ticket,
) -> Result<(), StorageError> {
    let control = storage.control().await?;
    let visible = control.and_then(|control| control.visible);
    if visible.is_some_and(|visible| visible.at.ticket >= ticket) {
        storage.take_ticket().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
