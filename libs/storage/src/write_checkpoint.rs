//! Write checkpoints: they tell a client that a checkpoint contains its uploaded writes.

use serde::{Deserialize, Serialize};

/// A number of the deployment's ticket counter. It orders write-checkpoint requests relative to the
/// source's write-ahead log.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Ticket(pub u64);

/// The owner of write checkpoints: the token's subject and the client id of the request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey {
    /// The `sub` claim as text.
    pub user_id: String,
    /// The `client_id` of the request, or an empty text.
    pub client_id: String,
}

/// An issued write checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteRequest {
    /// The number that the client waits for, at least 1.
    pub number: i64,
    /// The ticket: the first checkpoint that covers it acknowledges the number.
    pub ticket: Ticket,
}

/// The latest requests of one client, oldest first. Numbers and tickets increase together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteRequests {
    /// The revision; each write increments it. 0 means that nothing is stored.
    pub revision: u64,
    /// The requests, at most eight.
    pub entries: Vec<WriteRequest>,
}

impl WriteRequests {
    /// The maximum number of stored requests. A client waits for one at a time, so a few are enough
    /// even when requests overtake each other.
    const ENTRIES_MAX: usize = 8;

    /// Returns the greatest number that a checkpoint covering `ticket` acknowledges.
    #[must_use]
    pub fn acknowledged(&self, ticket: Ticket) -> Option<i64> {
        self.entries.iter().rev().find(|entry| entry.ticket <= ticket).map(|entry| entry.number)
    }

    /// Returns the greatest issued number.
    #[must_use]
    pub fn last_number(&self) -> i64 {
        self.entries.last().map_or(0, |entry| entry.number)
    }

    /// Returns the record with one more request, or `None` if `ticket` or `number` is not greater
    /// than all stored ones.
    ///
    /// In the case of `None` another request has overtaken this one and has a later ticket. A greater
    /// number with an earlier ticket would acknowledge a write too early: take a new ticket.
    #[must_use]
    pub fn with(&self, number: i64, ticket: Ticket) -> Option<Self> {
        if self.entries.last().is_some_and(|last| last.ticket >= ticket || last.number >= number) {
            return None;
        }
        let mut entries = self.entries.clone();
        entries.push(WriteRequest { number, ticket });
        if entries.len() > Self::ENTRIES_MAX {
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
    fn a_ticket_that_was_overtaken_is_rejected() {
        let requests = WriteRequests::default().with(1, Ticket(10)).unwrap();
        assert_eq!(requests.with(2, Ticket(10)), None);
        assert_eq!(requests.with(2, Ticket(9)), None);
        assert_eq!(requests.with(1, Ticket(11)), None);
    }

    #[test]
    fn the_latest_eight_requests_are_kept() {
        let requests = (1..=9).fold(WriteRequests::default(), |requests, n| {
            requests.with(n, Ticket(n.unsigned_abs())).unwrap()
        });
        assert_eq!((requests.entries.len(), requests.entries[0].number), (8, 2));
        assert_eq!((requests.last_number(), requests.revision), (9, 9));
    }
}
