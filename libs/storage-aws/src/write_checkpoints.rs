//! Tickets, and the write-checkpoint requests of clients.

use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::types::ReturnValue;
use tidewater_storage::{
    ClientKey, ObjectStore, StorageError, Ticket, WriteCheckpointStore, WriteRequests,
};

use crate::AwsStore;
use crate::attributes::json_record::REVISION;
use crate::attributes::ticket_counter::LAST_TICKET;
use crate::attributes::write_requests::EXPIRES;
use crate::dynamo::{Consistency, ItemWrite, WriteAction, WriteOutcome};
use crate::items::{self, number};
use crate::keys::{Item, ItemKey};

/// Time for which write requests are kept. A client that has not uploaded for 90 days has long seen
/// its last write, so its requests are not needed any more.
const KEPT_FOR: Duration = Duration::from_secs(90 * 24 * 60 * 60);

impl<O: ObjectStore + 'static> WriteCheckpointStore for AwsStore<O> {
    async fn last_ticket(&self) -> Result<Ticket, StorageError> {
        self.ticket_counter(Consistency::Strong).await
    }

    async fn take_ticket(&self) -> Result<Ticket, StorageError> {
        let update = format!("ADD {LAST_TICKET} :one");
        let write = ItemWrite {
            key: ItemKey::ticket_counter(),
            action: WriteAction::Update(update, ReturnValue::UpdatedNew),
            condition: None,
            values: vec![(":one", number(1))],
        };
        let WriteOutcome::Written(now) = self.dynamo().write(write).await? else {
            return Err(StorageError::Unknown(
                "the condition of a write without a condition failed".into(),
            ));
        };

        let ticket = read_ticket_counter(&now)?;
        self.changes().ticket_advanced_to(ticket);
        Ok(ticket)
    }

    async fn wait_for_ticket(
        &self,
        seen: Ticket,
        timeout: Duration,
    ) -> Result<Ticket, StorageError> {
        let watched = self.changes().tickets();
        if watched.newest() < seen.0 {
            // The caller has seen a later ticket than this process, or the store was restored from a
            // backup. Only the stored counter tells which.
            let last = self.last_ticket().await?;
            watched.advance_to(last.0);
            if last != seen {
                return Ok(last);
            }
        }

        watched
            .wait(seen.0, timeout, async || Ok(self.ticket_counter(Consistency::Eventual).await?.0))
            .await?;
        Ok(Ticket(watched.newest()))
    }

    async fn write_requests(&self, client: &ClientKey) -> Result<WriteRequests, StorageError> {
        let key = ItemKey::write_requests(client);
        let stored = self.dynamo().get(&key, Consistency::Strong, None).await?;
        stored.map_or_else(|| Ok(WriteRequests::default()), |stored| read_requests(&stored))
    }

    async fn swap_write_requests(
        &self,
        client: &ClientKey,
        requests: &WriteRequests,
    ) -> Result<bool, StorageError> {
        let Some(expected) = requests.revision.checked_sub(1) else {
            return Ok(self.write_requests(client).await? == *requests);
        };

        let key = ItemKey::write_requests(client);
        let attributes = [
            (REVISION, number(requests.revision)),
            items::json_attribute(requests),
            (EXPIRES, number(expiry())),
        ];
        let action = WriteAction::Put(items::item(&key, attributes));
        // A client without requests has revision 0 and no item.
        let (condition, values) = items::revision_condition((expected > 0).then_some(expected));

        let write = ItemWrite { key, action, condition: Some(condition), values };
        match self.dynamo().write(write).await? {
            WriteOutcome::Written(_) => Ok(true),
            WriteOutcome::ConditionFailed(None) => Ok(false),
            // If exactly these requests are stored, an earlier attempt succeeded without a reply.
            WriteOutcome::ConditionFailed(Some(stored)) => Ok(read_requests(&stored)? == *requests),
        }
    }
}

impl<O> AwsStore<O> {
    async fn ticket_counter(&self, read: Consistency) -> Result<Ticket, StorageError> {
        let item = self.dynamo().get(&ItemKey::ticket_counter(), read, None).await?;
        item.map_or(Ok(Ticket::default()), |item| read_ticket_counter(&item))
    }
}

fn read_ticket_counter(item: &Item) -> Result<Ticket, StorageError> {
    items::parse_unsigned(item, LAST_TICKET).map(Ticket).ok_or_else(|| items::damaged("bell", item))
}

fn read_requests(item: &Item) -> Result<WriteRequests, StorageError> {
    items::read_json("write-checkpoint requests", item)
}

/// Returns the time at which a record that is written now expires.
#[expect(clippy::disallowed_methods, reason = "DynamoDB deletes by the wall clock")]
fn expiry() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (now + KEPT_FOR).as_secs()
}
