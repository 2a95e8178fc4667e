//! Creation of the tables, for local use.

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType as DynamoKeyType,
    ScalarAttributeType, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
};
use tidewater_storage::StorageError;

use crate::AwsStore;
use crate::attributes::{PARTITION, SORT};
use crate::dynamo::Dynamo;
use crate::failure;
use crate::tables::{KeyType, Table};

/// The poll interval and the maximum number of polls until a new table is active: two minutes.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
const POLLS_MAX: u32 = 480;

/// Maximum number of attempts without a reply. LocalStack starts its DynamoDB with the first one.
const ATTEMPTS_MAX: u32 = 5;

impl<O> AwsStore<O> {
    /// Creates the tables that do not exist, and waits until all are active. For local use: a
    /// deployment's template creates them.
    ///
    /// # Errors
    /// If DynamoDB cannot be reached, or a table takes longer than two minutes.
    pub async fn create_tables(&self) -> Result<(), StorageError> {
        let dynamo = self.dynamo();
        futures::future::try_join_all(Table::ALL.map(|table| dynamo.create_with_retries(table)))
            .await?;
        futures::future::try_join_all(Table::ALL.map(|table| dynamo.make_ready(table))).await?;
        Ok(())
    }
}

impl Dynamo {
    async fn create_with_retries(&self, table: Table) -> Result<(), StorageError> {
        let mut attempts = 1;
        loop {
            match self.create(table).await {
                Err(StorageError::Unknown(_)) if attempts < ATTEMPTS_MAX => attempts += 1,
                created => return created,
            }
        }
    }

    async fn create(&self, table: Table) -> Result<(), StorageError> {
        let name = self.name(table);
        let schema = table.schema();
        let mut call =
            self.client.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);

        let partition = Some((PARTITION, schema.partition, DynamoKeyType::Hash));
        let sort = schema.sort.map(|sort| (SORT, sort, DynamoKeyType::Range));
        for (attribute, holds, key) in partition.into_iter().chain(sort) {
            let definition = AttributeDefinition::builder()
                .attribute_name(attribute)
                .attribute_type(scalar(holds))
                .build()
                .expect("it has a name and a type");
            let element = KeySchemaElement::builder()
                .attribute_name(attribute)
                .key_type(key)
                .build()
                .expect("it has a name and a type");
            call = call.attribute_definitions(definition).key_schema(element);
        }

        match call.send().await {
            Ok(_) => Ok(()),
            Err(error)
                if error.as_service_error().is_some_and(|e| e.is_resource_in_use_exception()) =>
            {
                Ok(())
            }
            Err(error) => Err(failure::of_write("CreateTable", name, error)),
        }
    }

    /// Waits until a table is active, then enables the expiry of its items if the schema has one.
    async fn make_ready(&self, table: Table) -> Result<(), StorageError> {
        let name = self.name(table);
        for _ in 0..POLLS_MAX {
            let reply = self.client.describe_table().table_name(name).send().await;
            let reply = reply.map_err(|error| failure::of_read("DescribeTable", name, error))?;

            let status = reply.table.and_then(|table| table.table_status);
            if status == Some(TableStatus::Active) {
                return match table.schema().expires_by {
                    Some(attribute) => self.expire(name, attribute).await,
                    None => Ok(()),
                };
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Err(StorageError::Unavailable(format!("table {name} did not become active in time").into()))
    }

    async fn expire(&self, name: &str, attribute: &str) -> Result<(), StorageError> {
        let reply = self.client.describe_time_to_live().table_name(name).send().await;
        let reply = reply.map_err(|error| failure::of_read("DescribeTimeToLive", name, error))?;
        let status = reply.time_to_live_description.and_then(|found| found.time_to_live_status);
        if matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)) {
            return Ok(());
        }

        let specification = TimeToLiveSpecification::builder()
            .enabled(true)
            .attribute_name(attribute)
            .build()
            .expect("it has a name and a state");
        let call = self.client.update_time_to_live().table_name(name);
        call.time_to_live_specification(specification)
            .send()
            .await
            .map_err(|error| failure::of_write("UpdateTimeToLive", name, error))?;
        Ok(())
    }
}

const fn scalar(holds: KeyType) -> ScalarAttributeType {
    match holds {
        KeyType::Text => ScalarAttributeType::S,
        KeyType::Number => ScalarAttributeType::N,
    }
}
