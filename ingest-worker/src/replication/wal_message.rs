//! The worker's own messages in the write-ahead log.

use tidewater_storage::Ticket;

use crate::source::connection;

/// The prefix of the worker's messages in `pg_logical_emit_message`.
pub const MESSAGE_PREFIX: &str = connection::MESSAGE_PREFIX;
/// The content of a barrier message.
const BARRIER: &str = "gate";
/// The verbs of requests to copy a table again.
const COPY_AGAIN: &str = "copy";
const REPLACE_ROWS: &str = "replace";

/// A message that the worker writes into the log, in a transaction of its own, to learn when the
/// stream passes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalMessage {
    /// All write-checkpoint tickets up to this one were taken before the message was written.
    Ticket(Ticket),
    /// Makes the stream pass a commit behind a visibility barrier, even if nobody else writes.
    Barrier,
    /// A request to copy a table again.
    CopyTable(CopyRequest),
}

/// A request to copy a table again. `tidewater verify` writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyRequest {
    /// The table's id in `pg_class`.
    pub table: u32,
    /// All rows are stored again, and those that are stored are removed. Otherwise rows are compared
    /// with what is stored of them.
    pub replaces_rows: bool,
}

impl WalMessage {
    /// Returns the message's content for a worker on this replication slot.
    #[must_use]
    pub fn content(self, slot: &str) -> String {
        match self {
            Self::Ticket(ticket) => format!("{slot}:{}", ticket.0),
            Self::Barrier => BARRIER.to_owned(),
            Self::CopyTable(CopyRequest { table, replaces_rows }) => {
                let verb = if replaces_rows { REPLACE_ROWS } else { COPY_AGAIN };
                format!("{slot}:{verb} {table}")
            }
        }
    }

    /// Reads a message's content; `None` if it is not from a worker on this slot. Several
    /// deployments may share a database: only the slot tells their messages apart.
    #[must_use]
    pub fn parse(content: &[u8], slot: &str) -> Option<Self> {
        let text = std::str::from_utf8(content).ok()?;
        if text == BARRIER {
            return Some(Self::Barrier);
        }
        let (named_slot, content) = text.rsplit_once(':')?;
        if named_slot != slot {
            return None;
        }
        let Some((verb, table)) = content.split_once(' ') else {
            return Some(Self::Ticket(Ticket(content.parse().ok()?)));
        };
        let replaces_rows = match verb {
            COPY_AGAIN => false,
            REPLACE_ROWS => true,
            _ => return None,
        };
        Some(Self::CopyTable(CopyRequest { table: table.parse().ok()?, replaces_rows }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_by_the_worker_of_the_same_slot_only() {
        let message = WalMessage::Ticket(Ticket(7));
        for slot in ["tidewater", "with:colon", ""] {
            let content = message.content(slot);
            assert_eq!(WalMessage::parse(content.as_bytes(), slot), Some(message), "{slot}");
            assert_eq!(WalMessage::parse(content.as_bytes(), "another"), None, "{slot}");
        }
        assert_eq!(
            WalMessage::parse(WalMessage::Barrier.content("a").as_bytes(), "b"),
            Some(WalMessage::Barrier)
        );
    }

    #[test]
    fn a_request_to_copy_is_read_as_it_was_written() {
        for replaces_rows in [false, true] {
            let message = WalMessage::CopyTable(CopyRequest { table: 16_384, replaces_rows });
            let content = message.content("slot");
            assert_eq!(WalMessage::parse(content.as_bytes(), "slot"), Some(message));
            assert_eq!(WalMessage::parse(content.as_bytes(), "another"), None);
        }
    }

    #[test]
    fn foreign_messages_are_ignored() {
        let requests = [b"slot:copy".as_slice(), b"slot:copy x", b"slot:drop 1", b"slot:copy 1 2"];
        for content in requests {
            assert_eq!(WalMessage::parse(content, "slot"), None, "{content:?}");
        }
        for content in [b"".as_slice(), b"slot", b"slot:", b"slot:x", b"slot:-1", b"\xff:1"] {
            assert_eq!(WalMessage::parse(content, "slot"), None, "{content:?}");
        }
    }
}
