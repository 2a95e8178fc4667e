//! Write checkpoints: how a client learns that its upload has come back.

use serde::{Deserialize, Serialize};

/// A number from the one counter that orders write-checkpoint requests against the source's log.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Ticket(pub u64);

/// Whose write checkpoints: the token's subject and the client id of the request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey {
    /// `sub`, as text.
    pub user_id: String,
    /// `client_id`, or nothing.
    pub client_id: String,
}

/// A write checkpoint that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteRequest {
    /// The number that the client waits for; at least 1.
    pub number: i64,
    /// It is reached by the first checkpoint that covers this ticket.
    pub ticket: Ticket,
}

/// The latest requests of one client, oldest first; numbers and tickets rise together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteRequests {
    /// Raised by one with every write; 0 is "not stored".
    pub revision: u64,
    /// At most eight.
    pub entries: Vec<WriteRequest>,
}

impl WriteRequests {
    /// How many requests are remembered. A client has one outstanding at a time.
    const KEPT: usize = 8;

    /// The greatest number that a checkpoint covering `ticket` acknowledges.
    #[must_use]
    pub fn acknowledged(&self, ticket: Ticket) -> Option<i64> {
        self.entries.iter().rev().find(|entry| entry.ticket <= ticket).map(|entry| entry.number)
    }

    /// The greatest number handed out.
    #[must_use]
    pub fn last_number(&self) -> i64 {
        self.entries.last().map_or(0, |entry| entry.number)
    }

    /// The record with one more request, if `ticket` is newer than all it has. Otherwise `None`:
    /// a request that overtook this one holds a later ticket, and giving a greater number to an
    /// earlier ticket would acknowledge a write too soon. Then a new ticket must be drawn.
    #[must_use]
    pub fn with(&self, number: i64, ticket: Ticket) -> Option<Self> {
        if self.entries.last().is_some_and(|last| last.ticket >= ticket || last.number >= number) {
            return None;
        }
        let mut entries = self.entries.clone();
        entries.push(WriteRequest { number, ticket });
        if entries.len() > Self::KEPT {
            entries.remove(0);
        }
        Some(Self { revision: self.revision + 1, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_acknowledged_by_the_checkpoint_that_covers_its_ticket() {
        let requests = WriteRequests::default().with(1, Ticket(10)).unwrap();
        let requests = requests.with(2, Ticket(20)).unwrap();
        assert_eq!(requests.acknowledged(Ticket(9)), None);
        assert_eq!(requests.acknowledged(Ticket(19)), Some(1));
        assert_eq!(requests.acknowledged(Ticket(20)), Some(2));
    }

    #[test]
    fn an_overtaken_ticket_is_refused() {
        let requests = WriteRequests::default().with(1, Ticket(10)).unwrap();
        assert_eq!(requests.with(2, Ticket(10)), None);
        assert_eq!(requests.with(2, Ticket(9)), None);
        assert_eq!(requests.with(1, Ticket(11)), None);
    }

    #[test]
    fn the_latest_eight_are_remembered() {
        let requests = (1..=9).fold(WriteRequests::default(), |requests, n| {
            requests.with(n, Ticket(n.unsigned_abs())).unwrap()
        });
        assert_eq!((requests.entries.len(), requests.entries[0].number), (8, 2));
        assert_eq!((requests.last_number(), requests.revision), (9, 9));
    }
}
