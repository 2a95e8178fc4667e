//! Tickets, and the write-checkpoint requests of clients.

use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::types::ReturnValue;
use tidewater_storage::{
    ClientKey, ObjectStore, StorageError, Ticket, WriteCheckpointStore, WriteRequests,
};

use crate::AwsStore;
use crate::control::absent;
use crate::dynamo::{Consistency, ItemWrite, WriteAction, WriteOutcome};
use crate::items::{self, EXPIRES, REVISION, TOP, number};
use crate::keys::{Item, ItemKey};

/// A client that has not uploaded for so long has long seen its last write.
const KEPT_FOR: Duration = Duration::from_secs(90 * 24 * 60 * 60);

impl<O: ObjectStore + 'static> WriteCheckpointStore for AwsStore<O> {
    async fn last_ticket(&self) -> Result<Ticket, StorageError> {
        self.ticket_counter(Consistency::Strong).await
    }

    async fn take_ticket(&self) -> Result<Ticket, StorageError> {
        let action = WriteAction::Update("ADD t :n", ReturnValue::UpdatedNew);
        let values = vec![(":n", number(1))];
        let write = ItemWrite { key: ItemKey::ticket_counter(), action, condition: None, values };
        let WriteOutcome::Written(now) = self.dynamo().write(write).await? else {
            return Err(StorageError::Unknown("a write without a condition was refused".into()));
        };
        let ticket = read_ticket_counter(&now)?;
        self.changes().ticket_advanced_to(ticket);
        Ok(ticket)
    }

    async fn wait_for_ticket(&self, seen: Ticket, timeout: Duration) -> Result<(), StorageError> {
        let watched = self.changes().tickets();
        if watched.newest() < seen.0 {
            // Either the caller is ahead of us, or the store was put back to an older state.
            let last = self.last_ticket().await?;
            watched.advance_to(last.0);
            if last != seen {
                return Ok(());
            }
        }
        let look = async || Ok(self.ticket_counter(Consistency::Eventual).await?.0);
        watched.wait(seen.0, timeout, look).await
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
        let record = items::json_attribute(requests);
        let revision = (REVISION, number(requests.revision));
        let item = items::item(&key, [revision, record, (EXPIRES, number(expiry()))]);
        let (condition, values) = match expected {
            0 => (absent(), vec![]),
            _ => ("r = :r", vec![(":r", number(expected))]),
        };
        let write =
            ItemWrite { key, action: WriteAction::Put(item), condition: Some(condition), values };
        match self.dynamo().write(write).await? {
            WriteOutcome::Written(_) => Ok(true),
            WriteOutcome::ConditionFailed(None) => Ok(false),
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
    items::parse_unsigned(item, TOP).map(Ticket).ok_or_else(|| items::damaged("bell", item))
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
