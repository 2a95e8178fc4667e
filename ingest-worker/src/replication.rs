//! The replication stream: decodes it, and applies it transaction by transaction.

pub(crate) mod changes;
pub(crate) mod session;
