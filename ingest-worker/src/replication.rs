//! The replication stream: decodes it, and applies it transaction by transaction.

pub(crate) mod assembler;
pub(crate) mod commit_flag;
pub(crate) mod copy_report;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod history_check;
pub(crate) mod lag;
pub(crate) mod relations;
pub(crate) mod session;
pub(crate) mod silence;
pub(crate) mod stream_event;
pub(crate) mod wal_budget;
pub(crate) mod wal_message;
