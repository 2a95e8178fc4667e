//! Changes as the stream brings them: what is buffered until it can be applied.

use bytes::Bytes;

use crate::source::pgoutput::TupleRange;

/// A change that waits to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A row was inserted, updated or deleted.
    Row(RowChange),
    /// These tables were truncated, by their indexes in the run.
    Truncate(Vec<usize>),
}

/// The change of one row. The message is decoded once; its values are read when it is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    /// Index of the table in the run.
    pub table: usize,
    /// The old key or row: of a DELETE, and of an UPDATE that changed the key.
    pub old: Option<TupleRange>,
    /// The new row: of an INSERT or UPDATE.
    pub new: Option<TupleRange>,
    /// The message that both ranges lie in.
    pub message: Bytes,
}

/// Changes that are applied together, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeBatch {
    /// The changes.
    pub changes: Vec<Change>,
    /// True if a visibility barrier is set. Stored rows may then be ahead of the stream.
    pub has_barrier: bool,
}

impl Change {
    /// Returns the bytes of memory that the change keeps in use.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Row(change) => change.message.len(),
            Self::Truncate(_) => 0,
        }
    }
}
