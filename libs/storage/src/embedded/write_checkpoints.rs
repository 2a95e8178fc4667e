//! Tickets, and the write-checkpoint requests of clients.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::connection_pool::Durability;
use super::control::{from_record, to_record};
use super::{Embedded, failure};
use crate::error::StorageError;
use crate::ports::WriteCheckpointStore;
use crate::write_checkpoint::{ClientKey, Ticket, WriteRequests};

// All writes here outlive the machine: were a ticket given out twice, the source's message with
// the first would acknowledge the second too soon.
impl WriteCheckpointStore for Embedded {
    async fn last_ticket(&self) -> Result<Ticket, StorageError> {
        self.reading(|connection| {
            let read = || {
                connection
                    .prepare_cached("SELECT ticket FROM bell")?
                    .query_row((), |row| row.get::<_, i64>(0))
                    .optional()
            };
            let ticket = read().map_err(failure::of_sqlite)?;
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

    async fn wait_for_ticket(&self, seen: Ticket, timeout: Duration) -> Result<(), StorageError> {
        let changes = &self.inner.changes;
        if changes.newest().ticket < seen {
            // Either the caller is ahead of us, or the store was put back to an older state.
            let last = self.last_ticket().await?;
            changes.ticket_advanced_to(last);
            if last != seen {
                return Ok(());
            }
        }
        changes.wait(timeout, |newest| newest.ticket > seen).await;
        Ok(())
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
        let (client, requests) = (client.clone(), requests.clone());
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
            Ok(true)
        })
        .await
    }
}

fn stored_requests(
    connection: &Connection,
    client: &ClientKey,
) -> Result<WriteRequests, StorageError> {
    let read = || {
        connection
            .prepare_cached(
                "SELECT record FROM write_request WHERE user_id = ?1 AND client_id = ?2",
            )?
            .query_row((&client.user_id, &client.client_id), |row| row.get::<_, String>(0))
            .optional()
    };
    let stored = read().map_err(failure::of_sqlite)?;
    let requests = stored.map(|record| from_record("write-checkpoint requests", &record));
    requests.transpose().map(Option::unwrap_or_default)
}
