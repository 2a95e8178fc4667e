//! The source database: connections, its catalog, the replication slot, and reads of its tables.

pub(crate) mod catalog;
pub(crate) mod catalog_watcher;
pub(crate) mod column_types;
pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod copy_rows;
pub(crate) mod database;
pub(crate) mod dsn;
pub(crate) mod error;
pub(crate) mod inspection;
pub(crate) mod pg_snapshot;
pub(crate) mod pgoutput;
pub(crate) mod preflight;
pub(crate) mod publication;
pub(crate) mod quote;
pub(crate) mod retained_wal;
pub(crate) mod shape;
pub(crate) mod slot;
pub(crate) mod table_check;
pub(crate) mod table_queries;
pub(crate) mod table_reader;
pub(crate) mod tables;
pub(crate) mod text_check;
pub(crate) mod tls;
