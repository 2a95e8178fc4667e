//! Rows as the writer takes them and the reader gives them.

use tidewater_protocol::{Checksum, OpId};

/// A live row of the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRow<'a> {
    /// Its type.
    pub object_type: &'a str,
    /// Its id.
    pub object_id: &'a str,
    /// Its subkey.
    pub subkey: &'a str,
    /// The operation that put it there.
    pub op_id: OpId,
    /// That operation's checksum.
    pub checksum: Checksum,
    /// The row as JSON text.
    pub data: &'a str,
}
