//! Entry points for the fuzz targets: the parsers of what PostgreSQL sends.

use crate::source::copy_rows::CopyRows;
use crate::source::pgoutput::Message;

/// Decodes a message with all values of its rows. Returns whether it is well-formed.
#[must_use]
pub fn decode_pgoutput(message: &[u8]) -> bool {
    let Ok(decoded) = Message::decode(message) else { return false };
    let tuples = match decoded {
        Message::Insert { new, .. } => vec![new],
        Message::Update { old, new, .. } => old.into_iter().chain([new]).collect(),
        Message::Delete { old, .. } => vec![old],
        Message::Relation(_) | Message::Truncate { .. } | Message::Other => Vec::new(),
    };
    tuples.iter().all(|tuple| tuple.read(message).is_ok())
}

/// Reads a row in the text form of COPY. Returns whether its values are text.
#[must_use]
pub fn read_copy_row(row: &[u8]) -> bool {
    let mut rows = CopyRows::default();
    rows.push(row);
    rows.values().is_ok()
}
