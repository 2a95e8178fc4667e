//! Calls of DynamoDB. Each adds up its consumed capacity and returns errors of the ports.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::{RetryPartition, TokenBucket};
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
use crate::service_calls::{CallCounter, CallLimits, boxed};
use crate::tables::Table;

/// The limits of calls. DynamoDB answers in milliseconds, and an attempt moves at most 16 MB. The
/// pauses of all attempts add up to about 5 seconds, which a burst of throttling rarely exceeds.
const LIMITS: CallLimits = CallLimits {
    attempts_max: 8,
    first_pause: Duration::from_millis(50),
    longest_pause: Duration::from_secs(2),
    connect_timeout: Duration::from_secs(2),
    attempt_timeout: Duration::from_secs(5),
    call_timeout: Duration::from_secs(20),
};

/// The detail in which replies report consumed capacity. The sum for each table is enough.
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
    /// The read finds all writes that were acknowledged before it.
    Strong,
    /// The read may miss recent writes. It costs half as much.
    Eventual,
}

/// A write of one item.
#[derive(Debug)]
pub(crate) struct ItemWrite {
    pub(crate) key: ItemKey,
    pub(crate) action: WriteAction,
    /// The condition under which the item is written.
    pub(crate) condition: Option<String>,
    /// The values that the expressions of action and condition name.
    pub(crate) values: Values,
}

/// The action of a write.
#[derive(Debug)]
pub(crate) enum WriteAction {
    /// Replaces the whole item.
    Put(Item),
    /// Changes some attributes by an update expression. The reply contains their former or new values.
    Update(String, ReturnValue),
    Delete,
}

/// The outcome of a conditional write.
#[derive(Debug, PartialEq)]
pub(crate) enum WriteOutcome {
    /// The item was written. Contains the attributes that the action returns.
    Written(Item),
    /// The condition failed for this item. Nothing was written.
    ConditionFailed(Option<Item>),
}

/// A query of items of one partition, in ascending order of their sort keys.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) table: Table,
    pub(crate) partition: KeyPart,
    pub(crate) sort: SortKeys,
    pub(crate) read: Consistency,
    /// The attributes to return; all of them if `None`.
    pub(crate) attributes: Option<String>,
    /// The filter that returned items satisfy, with the values that it names.
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
    /// Returns the query of all items of a partition, with strong consistency.
    pub(crate) fn all(table: Table, partition: KeyPart) -> Self {
        Self {
            table,
            partition,
            sort: SortKeys::All,
            read: Consistency::Strong,
            attributes: None,
            filter: None,
            limit: None,
        }
    }
}

impl Dynamo {
    pub(crate) fn new(sdk: &SdkConfig, prefix: &str) -> Self {
        // By default all calls share a budget of 100 retries. An initial copy into new tables is
        // throttled for minutes. The number of calls in flight is limited in other ways.
        let unlimited =
            RetryPartition::custom("tidewater").token_bucket(TokenBucket::unlimited()).build();
        let config = aws_sdk_dynamodb::config::Builder::from(&LIMITS.apply(sdk))
            .retry_partition(unlimited)
            .interceptor(CallCounter)
            .build();

        Self {
            client: Client::from_conf(config),
            meter: CapacityMeter::default(),
            prefix: prefix.to_owned(),
            names: Table::ALL.map(|table| table.name(prefix)),
        }
    }

    pub(crate) fn name(&self, table: Table) -> &str {
        &self.names[table as usize]
    }

    /// Returns the table with this name.
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

        let reply = boxed(call.send()).await;
        let reply = reply.map_err(|error| failure::of_read("Query", name, error))?;
        self.meter.read(query.table, reply.consumed_capacity());
        Ok(QueryPage { items: reply.items.unwrap_or_default(), next: reply.last_evaluated_key })
    }

    /// Returns the items of all pages of a query.
    pub(crate) async fn query_all(&self, query: &Query) -> Result<Vec<Item>, StorageError> {
        let mut items = Vec::new();
        let mut from = None;
        loop {
            let page = self.query(query, from).await?;
            items.extend(page.items);
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(items),
            }
        }
    }

    /// Writes one item on its condition.
    pub(crate) async fn write(&self, write: ItemWrite) -> Result<WriteOutcome, StorageError> {
        let ItemWrite { key, action, condition, values } = write;
        let values_bytes: usize = values.iter().map(|(_, value)| items::size_of_value(value)).sum();

        match action {
            WriteAction::Put(item) => {
                check_size(&key, items::size(&item))?;
                self.put(key.table, item, condition, values).await
            }
            WriteAction::Update(expression, returned) => {
                check_size(&key, key.len() + values_bytes)?;
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
                Some(PutItemError::ConditionalCheckFailedException(failure)) => {
                    Ok(self.condition_failed(table, failure))
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
                Some(UpdateItemError::ConditionalCheckFailedException(failure)) => {
                    Ok(self.condition_failed(key.table, failure))
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
                Some(DeleteItemError::ConditionalCheckFailedException(failure)) => {
                    Ok(self.condition_failed(key.table, failure))
                }
                _ => Err(failure::of_write("DeleteItem", name, error)),
            },
        }
    }

    fn condition_failed(
        &self,
        table: Table,
        failure: &ConditionalCheckFailedException,
    ) -> WriteOutcome {
        let stored = failure.item().filter(|item| !item.is_empty()).cloned();
        self.meter.condition_failed(table, stored.as_ref().map_or(0, items::size));
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

/// Fails for an item that exceeds DynamoDB's limit, with an error that names its kind.
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
