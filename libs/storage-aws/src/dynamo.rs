//! Calls of DynamoDB: each counts what it cost, and fails as the ports fail.

use std::pin::Pin;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::{RetryConfig, RetryPartition, TokenBucket};
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::error::ConditionalCheckFailedException;
use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure,
};
use tidewater_storage::StorageError;

use crate::attributes::{PARTITION, SORT};
use crate::consumed::CapacityMeter;
use crate::failure::{self, ITEM_BYTES_MAX};
use crate::items::{self, Values};
use crate::keys::{Item, ItemKey, KeyPart};
use crate::tables::Table;

/// Attempts that the SDK makes of one call, with pauses from 50 ms on: 5 seconds' worth at most.
const ATTEMPTS_MAX: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// An attempt moves 16 MB at most; DynamoDB answers in milliseconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Every reply says what its call cost.
pub(crate) const COUNTED: ReturnConsumedCapacity = ReturnConsumedCapacity::Total;

/// The tables of a deployment.
#[derive(Debug)]
pub(crate) struct Dynamo {
    pub(crate) client: Client,
    pub(crate) meter: CapacityMeter,
    pub(crate) prefix: String,
    names: [String; Table::ALL.len()],
}

/// The consistency of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consistency {
    /// All that were done before it.
    Strong,
    /// It may miss the latest, at half the price.
    Eventual,
}

/// A write of one item.
#[derive(Debug)]
pub(crate) struct ItemWrite {
    pub(crate) key: ItemKey,
    pub(crate) action: WriteAction,
    /// The item is written only if this holds.
    pub(crate) condition: Option<String>,
    /// Values that expression and condition name.
    pub(crate) values: Values,
}

#[derive(Debug)]
pub(crate) enum WriteAction {
    /// The whole item.
    Put(Item),
    /// Some of its attributes, by an update expression; what they were before, or are now, is
    /// returned.
    Update(String, ReturnValue),
    Delete,
}

/// The outcome of a conditional write.
#[derive(Debug, PartialEq)]
pub(crate) enum WriteOutcome {
    /// Done; with the attributes that were asked for.
    Written(Item),
    /// The condition does not hold for this item.
    ConditionFailed(Option<Item>),
}

/// Some items of a partition, ascending.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) table: Table,
    pub(crate) partition: KeyPart,
    pub(crate) sort: SortKeys,
    pub(crate) read: Consistency,
    /// The attributes to return, or all.
    pub(crate) attributes: Option<String>,
    /// Only items for which this holds, with its values.
    pub(crate) filter: Option<(String, Values)>,
    /// The maximum number of items evaluated for a page, besides DynamoDB's limit of 1 MB.
    pub(crate) limit: Option<i32>,
}

/// A range of sort keys.
#[derive(Clone, Debug)]
pub(crate) enum SortKeys {
    All,
    From(KeyPart),
    UpTo(KeyPart),
    Between(KeyPart, KeyPart),
    StartingWith(String),
}

/// A part of a query's items.
#[derive(Debug)]
pub(crate) struct QueryPage {
    pub(crate) items: Vec<Item>,
    /// The start of the next page, if there may be one.
    pub(crate) next: Option<Item>,
}

impl Query {
    /// All items of a partition, read strongly.
    pub(crate) fn all(table: Table, partition: KeyPart) -> Self {
        let (sort, read) = (SortKeys::All, Consistency::Strong);
        Self { table, partition, sort, read, attributes: None, filter: None, limit: None }
    }
}

impl Dynamo {
    pub(crate) fn new(config: &SdkConfig, prefix: &str) -> Self {
        let retries = RetryConfig::standard()
            .with_max_attempts(ATTEMPTS_MAX)
            .with_initial_backoff(FIRST_PAUSE)
            .with_max_backoff(LONGEST_PAUSE);
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(OPERATION_TIMEOUT)
            .build();
        let config = aws_sdk_dynamodb::config::Builder::from(config)
            .retry_config(retries)
            // By default all calls share a budget of 100 repetitions. A copy into new tables is
            // throttled for minutes; how many calls are under way is bounded here in other ways.
            .retry_partition(
                RetryPartition::custom("tidewater").token_bucket(TokenBucket::unlimited()).build(),
            )
            .timeout_config(timeouts)
            .build();
        let names = Table::ALL.map(|table| table.name(prefix));
        let (client, meter) = (Client::from_conf(config), CapacityMeter::default());
        Self { client, meter, prefix: prefix.to_owned(), names }
    }

    pub(crate) fn name(&self, table: Table) -> &str {
        &self.names[table as usize]
    }

    /// The table of a name that a reply gives.
    pub(crate) fn table(&self, name: &str) -> Option<Table> {
        Table::ALL.into_iter().find(|&table| self.name(table) == name)
    }

    pub(crate) async fn get(
        &self,
        key: &ItemKey,
        read: Consistency,
        attributes: Option<&str>,
    ) -> Result<Option<Item>, StorageError> {
        let name = self.name(key.table);
        let call = self
            .client
            .get_item()
            .table_name(name)
            .set_key(Some(key.attributes()))
            .consistent_read(read == Consistency::Strong)
            .set_projection_expression(attributes.map(str::to_owned))
            .return_consumed_capacity(COUNTED);
        let reply = boxed(call.send()).await;
        let reply = reply.map_err(|error| failure::of_read("GetItem", name, error))?;
        self.meter.read(key.table, reply.consumed_capacity());
        Ok(reply.item)
    }

    pub(crate) async fn query(
        &self,
        query: &Query,
        from: Option<Item>,
    ) -> Result<QueryPage, StorageError> {
        let name = self.name(query.table);
        let mut call = self
            .client
            .query()
            .table_name(name)
            .key_condition_expression(query.sort.expression())
            .expression_attribute_values(":partition", query.partition.attribute())
            .consistent_read(query.read == Consistency::Strong)
            .set_projection_expression(query.attributes.clone())
            .set_limit(query.limit)
            .set_exclusive_start_key(from)
            .return_consumed_capacity(COUNTED);
        for (name, value) in query.sort.values() {
            call = call.expression_attribute_values(name, value);
        }
        if let Some((filter, values)) = &query.filter {
            call = call.filter_expression(filter);
            for (name, value) in values {
                call = call.expression_attribute_values(*name, value.clone());
            }
        }
        let reply =
            boxed(call.send()).await.map_err(|error| failure::of_read("Query", name, error))?;
        self.meter.read(query.table, reply.consumed_capacity());
        Ok(QueryPage { items: reply.items.unwrap_or_default(), next: reply.last_evaluated_key })
    }

    /// All of a query's items.
    pub(crate) async fn query_all(&self, query: &Query) -> Result<Vec<Item>, StorageError> {
        let (mut items, mut from) = (Vec::new(), None);
        loop {
            let page = self.query(query, from).await?;
            items.extend(page.items);
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(items),
            }
        }
    }

    pub(crate) async fn write(&self, write: ItemWrite) -> Result<WriteOutcome, StorageError> {
        let ItemWrite { key, action, condition, values } = write;
        let given: usize = values.iter().map(|(_, value)| items::size_of_value(value)).sum();
        match action {
            WriteAction::Put(item) => {
                check_size(&key, items::size(&item))?;
                self.put(key.table, item, condition, values).await
            }
            WriteAction::Update(expression, returned) => {
                check_size(&key, key.len() + given)?;
                self.update(&key, (expression, returned), condition, values).await
            }
            WriteAction::Delete => self.delete(&key, condition, values).await,
        }
    }

    async fn put(
        &self,
        table: Table,
        item: Item,
        condition: Option<String>,
        values: Values,
    ) -> Result<WriteOutcome, StorageError> {
        let name = self.name(table);
        let call = self
            .client
            .put_item()
            .table_name(name)
            .set_item(Some(item))
            .set_condition_expression(condition)
            .set_expression_attribute_values(by_name(values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(COUNTED);
        match boxed(call.send()).await {
            Ok(reply) => {
                self.meter.wrote(table, reply.consumed_capacity());
                Ok(WriteOutcome::Written(Item::new()))
            }
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(refusal)) => {
                    Ok(self.condition_failed(table, refusal))
                }
                _ => Err(failure::of_write("PutItem", name, error)),
            },
        }
    }

    async fn update(
        &self,
        key: &ItemKey,
        (expression, returned): (String, ReturnValue),
        condition: Option<String>,
        values: Values,
    ) -> Result<WriteOutcome, StorageError> {
        let name = self.name(key.table);
        let call = self
            .client
            .update_item()
            .table_name(name)
            .set_key(Some(key.attributes()))
            .update_expression(expression)
            .set_condition_expression(condition)
            .set_expression_attribute_values(by_name(values))
            .return_values(returned)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(COUNTED);
        match boxed(call.send()).await {
            Ok(reply) => {
                self.meter.wrote(key.table, reply.consumed_capacity());
                Ok(WriteOutcome::Written(reply.attributes.unwrap_or_default()))
            }
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => {
                    Ok(self.condition_failed(key.table, refusal))
                }
                _ => Err(failure::of_write("UpdateItem", name, error)),
            },
        }
    }

    async fn delete(
        &self,
        key: &ItemKey,
        condition: Option<String>,
        values: Values,
    ) -> Result<WriteOutcome, StorageError> {
        let name = self.name(key.table);
        let call = self
            .client
            .delete_item()
            .table_name(name)
            .set_key(Some(key.attributes()))
            .set_condition_expression(condition)
            .set_expression_attribute_values(by_name(values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(COUNTED);
        match boxed(call.send()).await {
            Ok(reply) => {
                self.meter.wrote(key.table, reply.consumed_capacity());
                Ok(WriteOutcome::Written(Item::new()))
            }
            Err(error) => match error.as_service_error() {
                Some(DeleteItemError::ConditionalCheckFailedException(refusal)) => {
                    Ok(self.condition_failed(key.table, refusal))
                }
                _ => Err(failure::of_write("DeleteItem", name, error)),
            },
        }
    }

    fn condition_failed(
        &self,
        table: Table,
        refusal: &ConditionalCheckFailedException,
    ) -> WriteOutcome {
        let stored = refusal.item().filter(|item| !item.is_empty()).cloned();
        self.meter.refused(table, stored.as_ref().map_or(0, items::size));
        WriteOutcome::ConditionFailed(stored)
    }
}

impl SortKeys {
    fn expression(&self) -> String {
        let sort = match self {
            Self::All => return format!("{PARTITION} = :partition"),
            Self::From(_) => format!("{SORT} >= :first"),
            Self::UpTo(_) => format!("{SORT} <= :last"),
            Self::Between(..) => format!("{SORT} BETWEEN :first AND :last"),
            Self::StartingWith(_) => format!("begins_with({SORT}, :prefix)"),
        };
        format!("{PARTITION} = :partition AND {sort}")
    }

    fn values(&self) -> Values {
        match self {
            Self::All => vec![],
            Self::From(first) => vec![(":first", first.attribute())],
            Self::UpTo(last) => vec![(":last", last.attribute())],
            Self::Between(first, last) => {
                vec![(":first", first.attribute()), (":last", last.attribute())]
            }
            Self::StartingWith(prefix) => vec![(":prefix", AttributeValue::S(prefix.clone()))],
        }
    }
}

/// A call of the SDK is a future of many KB, and there are many of them inside each other and side
/// by side.
pub(crate) fn boxed<F: Future>(call: F) -> Pin<Box<F>> {
    Box::pin(call)
}

/// Refuses what DynamoDB would, with a name for it.
pub(crate) fn check_size(key: &ItemKey, bytes: usize) -> Result<(), StorageError> {
    if bytes > ITEM_BYTES_MAX {
        return Err(failure::too_large(key.holds(), bytes));
    }
    Ok(())
}

fn by_name(values: Values) -> Option<Item> {
    let values: Item = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    (!values.is_empty()).then_some(values)
}
