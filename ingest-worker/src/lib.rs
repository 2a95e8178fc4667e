//! The ingest worker: PostgreSQL's write-ahead log in, bucket operations out.
//!
//! One run holds the replication slot, which makes it the only worker, and owns one epoch of the
//! log. Transactions are applied in commit order; everything a commit needs is stored before the
//! one write of the control record that makes it count. The first copy is read in chunks between
//! the stream's transactions, behind a gate.

mod apply;
mod catalog;
mod cells;
mod changes;
mod chunk;
mod column_types;
mod config;
mod connect;
mod copy;
mod dsn;
mod error;
mod first_copy;
mod log_writer;
mod pgoutput;
mod preflight;
mod reading;
mod run;
mod session;
mod slot;
mod source;
mod source_row;
mod start;
mod tables;
mod tls;
mod under_way;
mod visibility;
mod watch;

pub use apply::{Applier, RowRef, SyncedTable};
pub use catalog::Table;
pub use cells::CellRef;
pub use config::{Config, Progress};
pub use connect::ConnectError;
pub use dsn::DsnError;
pub use error::{RunError, SyncConfigErrors};
pub use log_writer::{Hold, LogWriter, WriteError};
pub use preflight::{Finding, NotReady};
pub use reading::Reading;
pub use run::{check_schema, run};
pub use source::SourceError;
pub use tls::TlsError;
