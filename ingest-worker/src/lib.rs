//! The ingest worker: PostgreSQL's write-ahead log in, bucket operations out.
//!
//! One run holds the replication slot, which makes it the only worker, and owns one epoch of the
//! log. Transactions are applied in commit order; everything a commit needs is stored before the
//! one write of the control record that makes it count. The first copy is read in chunks between
//! the stream's transactions, behind a visibility barrier.

mod apply;
mod config;
mod error;
mod initial_copy;
mod log;
mod replication;
mod run;
mod source;
mod start;

pub use apply::applier::{Applier, RowRef, SyncedTable};
pub use config::{Config, Progress};
pub use error::{RunError, SyncConfigErrors};
pub use log::record_cache::RecordRef;
pub use log::writer::{CommitOptions, LogWriter, WriteError};
pub use run::{check_schema, run};
pub use source::catalog::SourceTable;
pub use source::connect::ConnectError;
pub use source::connection::SourceError;
pub use source::dsn::DsnError;
pub use source::preflight::{Finding, NotReady};
pub use source::table_reader::Reading;
pub use source::tls::TlsError;
