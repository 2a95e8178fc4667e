//! Fixtures for the end-to-end tests and the benchmark, and the reference model of the random tests.
//!
//! A fixture runs a real program and stops it when it is dropped, even if the test panics or is
//! killed:
//!
//! - [`Postgres`] is a PostgreSQL cluster of its own, [`Tidewater`] is `tidewater dev`, [`Device`] is
//!   a database file that `tidewater sync` syncs, and [`OfficialSdk`] is PowerSync's SDK in
//!   Node or in a browser.
//! - [`LocalStack`] and [`Stack`] are AWS on this machine and the deployed template.
//! - [`SyncReader`] is a client of the protocol that verifies every line; [`RecordingProxy`] records
//!   and cuts connections.
//!
//! In the random tests, a [`Writer`] commits random transactions and announces them to the
//! [`History`]. Each [`Reader`] and [`App`] adds the checkpoints that it sees to the
//! [`Observations`], and these are compared with [`expected_rows`].
#![warn(missing_docs)]

mod admin_client;
mod app;
mod backend;
mod device;
mod history;
mod http_requests;
mod http_responses;
mod local_buckets;
mod localstack;
mod model;
mod node_backend;
mod official_sdk;
mod postgres;
mod process;
mod readers;
mod recording_proxy;
mod schema;
mod schema_loader;
mod sdk_app;
mod sdk_client;
mod settings;
mod small_disk;
mod sync_reader;
mod tidewater;
mod token;
mod wait;
mod wall_clock;
mod workload;

pub use admin_client::admin_calls;
pub use app::{App, AppOptions};
pub use backend::Backend;
pub use device::Device;
pub use history::{Effect, History, Pending};
pub use local_buckets::{Completed, LineEffect, LocalBuckets, Rows};
pub use localstack::{LocalStack, Stack};
pub use model::{User, expected_rows};
pub use node_backend::NodeBackend;
pub use official_sdk::{Endpoints, OfficialSdk};
pub use postgres::{Auth, Postgres, PostgresOptions};
pub use process::{Lodging, Output, Process, Scratch, Signal};
pub use readers::{Observations, Reader, ReaderOptions, RowsDiffer, VerifiedCheckpoints};
pub use recording_proxy::{RecordingProxy, StreamLimit};
pub use schema::{CREATE_SQL, SYNC_CONFIG, Table};
pub use schema_loader::load_typescript_schema;
pub use sdk_app::{SdkApp, SdkAppOptions};
pub use sdk_client::{Sdk, SdkClient, Transport};
pub use settings::{Browser, Settings};
pub use small_disk::SmallDisk;
pub use sync_reader::{Connection, SyncReader};
pub use tidewater::{DevOptions, Tidewater, built_binary};
pub use token::{AUDIENCE, SigningKey, Token};
pub use wait::eventually;
pub use wall_clock::WallClock;
pub use workload::{Writer, WriterOptions};
