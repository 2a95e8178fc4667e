//! The state of a deployment: its flags, and how commands read it.

use std::future::Future;

use anyhow::Context;
use clap::Args;
use tidewater_ingest_worker::{KnownFacts, Status, StatusOptions, StoreSize, read_status};
use tidewater_storage::Embedded;
#[cfg(feature = "aws")]
use tidewater_storage_aws::AwsStore;

use super::api::ReadinessArgs;
use super::database::LoginArgs;
use super::store::{self, StoreArg, StoreArgs};
use crate::terminal::bytes;
use crate::terminal::failure::Failure;

/// The flags of commands that read the state of a deployment.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Source database, for the replication slot and the names of tables [default: the store alone]
    #[arg(long, env = "TIDEWATER_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    #[command(flatten)]
    login: LoginArgs,
    #[command(flatten)]
    readiness: ReadinessArgs,
    /// WAL that the replication slot may retain on the server before a warning
    #[arg(long, env = "TIDEWATER_WAL_BUDGET", value_name = "SIZE", default_value = "10GB",
          value_parser = bytes::parse_positive)]
    wal_budget: u64,
}

/// The store of a deployment, opened once for any number of looks.
pub(crate) enum StatusStore {
    Embedded(Embedded),
    #[cfg(feature = "aws")]
    Aws(AwsStore),
}

impl StatusArgs {
    /// Opens the store. An embedded one must exist.
    pub(crate) async fn open(&self) -> Result<StatusStore, Failure> {
        self.store.must_exist()?;
        match &self.store.store {
            StoreArg::Embedded(dir) => Ok(StatusStore::Embedded(store::open(dir)?)),
            #[cfg(feature = "aws")]
            StoreArg::Aws => Ok(StatusStore::Aws(self.store.aws().await?)),
        }
    }

    /// Reads the state of a deployment, with the heads of at most `buckets` buckets.
    pub(crate) async fn read(
        &self,
        store: &StatusStore,
        buckets: usize,
    ) -> Result<Status, Failure> {
        let database = match &self.database_url {
            Some(url) => Some(self.login.database(url).await),
            None => None,
        };
        let mut options = StatusOptions {
            database,
            wal_budget_bytes: self.wal_budget,
            max_staleness: self.readiness.max_staleness,
            buckets_examined_max: buckets,
            known: KnownFacts::default(),
        };

        let status = match store {
            StatusStore::Embedded(storage) => {
                options.known.store = size_of(storage).await;
                Box::pin(read_status(storage, options)).await
            }
            #[cfg(feature = "aws")]
            StatusStore::Aws(storage) => Box::pin(read_status(storage, options)).await,
        };
        Ok(status.context("cannot read the store")?)
    }
}

/// Returns the size of a store; `None` while its files cannot be listed.
pub(crate) fn size_of(storage: &Embedded) -> impl Future<Output = Option<StoreSize>> {
    let storage = storage.clone();
    async move {
        let usage = storage.disk_usage().await.ok()?;
        Some(StoreSize {
            database_bytes: usage.database_bytes,
            log_bytes: usage.log_bytes,
            object_bytes: usage.object_bytes,
        })
    }
}
