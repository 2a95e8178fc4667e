//! Fixtures for the end-to-end tests, and the reference model they compare everything with.
//!
//! A fixture starts real things: a PostgreSQL cluster of its own, the `tidewater` binary, the
//! official Node SDK. Whatever it starts ends with it, also when the test panics or is killed.
#![warn(missing_docs)]

mod app;
mod backend;
mod device;
mod history;
mod http_answers;
mod local_buckets;
mod localstack;
mod model;
mod official_sdk;
mod postgres;
mod process;
mod readers;
mod recording_proxy;
mod schema;
mod settings;
mod small_disk;
mod sync_reader;
mod tidewater;
mod token;
mod wait;
mod workload;

pub use app::{App, AppOptions};
pub use backend::Backend;
pub use device::Device;
pub use history::{Effect, History, Pending};
pub use local_buckets::{Completed, LineEffect, LocalBuckets, Rows};
pub use localstack::{LocalStack, Stack};
pub use model::{User, expected_rows};
pub use official_sdk::{Endpoints, OfficialSdk, SdkVersion};
pub use postgres::{Auth, Postgres, PostgresOptions};
pub use process::{Lodging, Output, Process, Scratch, Signal};
pub use readers::{Differs, Observations, Reader, ReaderOptions};
pub use recording_proxy::{Hold, RecordingProxy};
pub use schema::{CREATE_SQL, SYNC_CONFIG, Table};
pub use settings::Settings;
pub use small_disk::SmallDisk;
pub use sync_reader::{Connection, SyncReader};
pub use tidewater::{DevOptions, Tidewater};
pub use token::{AUDIENCE, SigningKey, Token};
pub use wait::eventually;
pub use workload::{Writer, WriterOptions};
