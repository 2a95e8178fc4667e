//! The ports to Tidewater's stored state on DynamoDB and S3.
//!
//! # Core types
//!
//! - [`AwsStore`] implements all ports of `tidewater-storage`. [`AwsConfig`] names a deployment's tables
//!   and S3 bucket.
//! - [`Table`] lists the tables with their keys, against which deployments are tested.
//! - [`S3Objects`] is the object store. Tests replace it by another one.
//! - [`ConsumedUnits`] are the request units that a process has consumed. [`metrics`] counts them, and
//!   the retries and throttled attempts that the SDK makes silently.
//!
//! # Errors
//!
//! The SDK retries throttled calls, failed calls and calls without a reply. After the last attempt a read
//! is `Unavailable`. A write is `Unknown`, because an earlier attempt may have succeeded without a reply.
//! A call that a service refuses until somebody changes something is `Refused`. Its cause names the
//! service's error code, the table or S3 bucket, and the IAM action to allow.
//!
//! # Example
//!
//! ```no_run
//! use tidewater_storage::ControlStore;
//! use tidewater_storage_aws::{AwsConfig, AwsStore};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // Region, credentials and endpoints come from the standard AWS environment.
//! let store = AwsStore::connect(&AwsConfig::new("my-bucket")).await?;
//!
//! if let Some(control) = store.control().await? {
//!     println!("committed up to {}", control.committed.op);
//! }
//! println!("this cost {} read request units", store.consumed().total().read);
//! # Ok(())
//! # }
//! ```
//!
//! `LAYOUT.md` beside `tidewater-storage` specifies in section 6 exactly what is stored.
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
mod probe;
mod records;
mod registry;
mod s3_objects;
mod service_calls;
mod source_rows;
mod sweep;
mod tables;
mod write_checkpoints;

pub use attributes::{PARTITION, SORT};
pub use aws::{AwsConfig, AwsStore};
pub use consumed::{ConsumedUnits, RequestUnits};
pub use metrics::describe_metrics;
pub use s3_objects::S3Objects;
pub use tables::{KeyType, Table, TableSchema};
