//! The ports to Tidewater's stored state on DynamoDB and S3.
//!
//! Section 6 of `LAYOUT.md` beside `tidewater-storage` is the specification of what is stored.
//! [`Table`] has the tables as data.
#![warn(missing_docs)]

mod attributes;
mod aws;
mod backoff;
mod batch;
mod buckets;
mod change_notifier;
mod compaction_queue;
mod consumed;
mod control;
mod create;
mod dynamo;
mod failure;
mod items;
mod keys;
mod lookups;
pub mod metrics;
mod objects;
mod op_log;
mod records;
mod registry;
mod s3_objects;
mod service_calls;
mod sweep;
mod tables;
mod write_checkpoints;

pub use attributes::{PARTITION, SORT};
pub use aws::{AwsConfig, AwsStore};
pub use consumed::{ConsumedUnits, RequestUnits};
pub use metrics::describe_metrics;
pub use s3_objects::S3Objects;
pub use tables::{KeyType, Table, TableSchema};
