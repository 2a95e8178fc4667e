//! Tickets, and the write-checkpoint requests of clients.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::connection_pool::Durability;
use super::control::{from_record, to_record};
use super::{Embedded, failure};
use crate::error::StorageError;
use crate::ports::WriteCheckpointStore;
use crate::write_checkpoint::{ClientKey, Ticket, WriteRequests};

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

    async fn wait_for_ticket(&self, seen: Ticket, timeout: Duration) -> Result<(), StorageError> {
        let changes = &self.inner.changes;
        if changes.newest().ticket < seen {
            // The caller has seen a later ticket than this process, or the store was restored from a
            // backup. Only the stored counter tells which.
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
            Ok(true)
        })
        .await
    }
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
