//! Rows as the writer takes them and the reader returns them.

use tidewater_protocol::{Checksum, OpId};

/// A current row of the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRow<'a> {
    /// Name of the row's table on the client.
    pub object_type: &'a str,
    /// Text of the row's `id`.
    pub object_id: &'a str,
    /// Text that distinguishes rows of the same type and id.
    pub subkey: &'a str,
    /// Id of the operation that put the row.
    pub op_id: OpId,
    /// Checksum of that operation.
    pub checksum: Checksum,
    /// Content of the row as JSON text.
    pub data: &'a str,
}
