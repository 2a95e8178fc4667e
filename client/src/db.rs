//! What lies on the device: the database file with our tables, and the files beside it.

pub(crate) mod database;
pub(crate) mod file_lock;
pub(crate) mod migrate;
pub(crate) mod queue;
pub(crate) mod snapshot_files;
pub(crate) mod staging;
pub(crate) mod table_plan;
pub(crate) mod triggers;
pub(crate) mod wal_checkpointer;
