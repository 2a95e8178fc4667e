//! Storage on the device: the database file with our tables, and the files beside it.
//!
//! `internal.sql` and `LAYOUT.md` define the tables. This layer reads and writes them, but does not
//! decide what becomes visible: that is `publish/`.

pub(crate) mod database;
pub(crate) mod file_lock;
pub(crate) mod migrate;
pub(crate) mod queue;
pub(crate) mod snapshot_files;
pub(crate) mod staging;
pub(crate) mod table_plan;
mod triggers;
pub(crate) mod types;
pub(crate) mod wal_checkpointer;

pub(crate) use triggers::{create as create_triggers, drop as drop_triggers};
