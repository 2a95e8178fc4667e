//! Tickets, and the write-checkpoint requests of clients.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::connection_pool::Durability;
use super::control::{from_record, to_record};
use super::{Embedded, failure};
use crate::error::StorageError;
use crate::ports::WriteCheckpointStore;
use crate::write_checkpoint::{ClientKey, Ticket, WriteRequests};

/// Number of clients of one user whose requests are kept. A user who opens the app in a browser without
/// storage has a new client id each time. A client that is deleted has long seen its last write.
const CLIENTS_OF_USER_MAX: u32 = 1_000;

// All writes here are durable. If a ticket were issued twice, the source's message for the first one
// would acknowledge the second one too early.
impl WriteCheckpointStore for Embedded {
    async fn last_ticket(&self) -> Result<Ticket, StorageError> {
        self.reading(|connection| {
            let ticket = connection
                .prepare_cached("SELECT ticket FROM bell")
                .and_then(|mut select| select.query_row((), |row| row.get::<_, i64>(0)).optional())
                .map_err(failure::of_sqlite)?;
            Ok(ticket.map_or_else(Ticket::default, |ticket| Ticket(ticket.cast_unsigned())))
        })
        .await
    }

    async fn take_ticket(&self) -> Result<Ticket, StorageError> {
        let ticket = self
            .writing(Durability::Machine, |transaction| {
                let next = "INSERT INTO bell VALUES (1, 1)
                    ON CONFLICT (id) DO UPDATE SET ticket = ticket + 1 RETURNING ticket";
                let ticket = transaction
                    .prepare_cached(next)
                    .and_then(|mut next| next.query_row((), |row| row.get::<_, i64>(0)))
                    .map_err(failure::of_sqlite)?;
                Ok(Ticket(ticket.cast_unsigned()))
            })
            .await?;
        self.inner.changes.ticket_advanced_to(ticket);
        Ok(ticket)
    }

    async fn wait_for_ticket(
        &self,
        seen: Ticket,
        timeout: Duration,
    ) -> Result<Ticket, StorageError> {
        let changes = &self.inner.changes;
        if changes.newest().ticket < seen {
            // The caller has seen a later ticket than this process, or the store was restored from a
            // backup. Only the stored counter tells which.
            let last = self.last_ticket().await?;
            changes.ticket_advanced_to(last);
            if last != seen {
                return Ok(last);
            }
        }
        changes.wait(timeout, |newest| newest.ticket > seen).await;
        Ok(changes.newest().ticket)
    }

    async fn write_requests(&self, client: &ClientKey) -> Result<WriteRequests, StorageError> {
        let client = client.clone();
        self.reading(move |connection| stored_requests(connection, &client)).await
    }

    async fn swap_write_requests(
        &self,
        client: &ClientKey,
        requests: &WriteRequests,
    ) -> Result<bool, StorageError> {
        let client = client.clone();
        let requests = requests.clone();

        self.writing(Durability::Machine, move |transaction| {
            let stored = stored_requests(transaction, &client)?;
            if stored == requests {
                return Ok(true);
            }
            if stored.revision.checked_add(1) != Some(requests.revision) {
                return Ok(false);
            }

            let put = "INSERT OR REPLACE INTO write_request VALUES (?1, ?2, ?3, ?4)";
            let revision = requests.revision.cast_signed();
            transaction
                .prepare_cached(put)
                .and_then(|mut put| {
                    put.execute((
                        &client.user_id,
                        &client.client_id,
                        revision,
                        to_record(&requests),
                    ))
                })
                .map_err(failure::of_sqlite)?;
            if requests.revision == 1 {
                delete_oldest_clients(transaction, &client.user_id)?;
            }
            Ok(true)
        })
        .await
    }
}

/// Deletes the clients of a user that are beyond the bound, those without requests for longest first.
/// Tickets increase over the whole store, so the last one tells how long ago a request was.
fn delete_oldest_clients(connection: &Connection, user_id: &str) -> Result<(), StorageError> {
    let delete = "DELETE FROM write_request WHERE user_id = ?1 AND client_id IN (
        SELECT client_id FROM write_request WHERE user_id = ?1
        ORDER BY json_extract(record, '$.entries[#-1].ticket') DESC LIMIT -1 OFFSET ?2)";
    connection
        .prepare_cached(delete)
        .and_then(|mut delete| delete.execute((user_id, CLIENTS_OF_USER_MAX)))
        .map_err(failure::of_sqlite)?;
    Ok(())
}

fn stored_requests(
    connection: &Connection,
    client: &ClientKey,
) -> Result<WriteRequests, StorageError> {
    let stored = connection
        .prepare_cached("SELECT record FROM write_request WHERE user_id = ?1 AND client_id = ?2")
        .and_then(|mut select| {
            select
                .query_row((&client.user_id, &client.client_id), |row| row.get::<_, String>(0))
                .optional()
        })
        .map_err(failure::of_sqlite)?;
    let requests = stored.map(|record| from_record("write-checkpoint requests", &record));
    requests.transpose().map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn request(storage: &Embedded, user_id: &str, client_id: &str) {
        let client = ClientKey { user_id: user_id.to_owned(), client_id: client_id.to_owned() };
        let ticket = storage.take_ticket().await.unwrap();
        let requests = storage.write_requests(&client).await.unwrap();
        let next = requests.with(requests.last_number() + 1, ticket).unwrap();
        assert!(storage.swap_write_requests(&client, &next).await.unwrap());
    }

    async fn last_number(storage: &Embedded, user_id: &str, client_id: &str) -> i64 {
        let client = ClientKey { user_id: user_id.to_owned(), client_id: client_id.to_owned() };
        storage.write_requests(&client).await.unwrap().last_number()
    }

    #[tokio::test]
    async fn the_clients_of_a_user_are_bounded_and_the_latest_are_kept() {
        let storage = Embedded::temporary().unwrap();
        request(&storage, "other", "c").await;
        request(&storage, "u", "gone").await;
        request(&storage, "u", "active").await;
        for number in 0..CLIENTS_OF_USER_MAX - 2 {
            request(&storage, "u", &number.to_string()).await;
        }
        request(&storage, "u", "active").await;
        assert_eq!(last_number(&storage, "u", "gone").await, 1);

        request(&storage, "u", "new").await;
        assert_eq!(last_number(&storage, "u", "gone").await, 0);
        assert_eq!(last_number(&storage, "u", "active").await, 2);
        assert_eq!(last_number(&storage, "u", "0").await, 1);
        assert_eq!(last_number(&storage, "other", "c").await, 1);
    }
}
