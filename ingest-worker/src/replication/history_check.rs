//! Checks that the server still has the history that the store was filled from.
//!
//! A server that was restored from a copy of its files has the same system identifier and timeline,
//! and its slot is confirmed up to an earlier position. It sends what was committed after that again,
//! as after a crash. If it is the same history, the last transaction that the store has is among it,
//! and no later one is below the position of the store.

use tidewater_storage::{LastTransaction, Lsn};

/// The server sends another history than the one that the store was filled from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server sends other transactions than before, so an earlier state of it was restored; clients \
     stay at the last checkpoint until all tables are copied again"
)]
pub struct HistoryDiverged;

/// The check of a run's stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HistoryCheck {
    /// The last transaction that the store had when the run began; `None` if it is not known.
    last: Option<LastTransaction>,
    /// The last transaction that was received whole.
    latest: Option<LastTransaction>,
    /// True until the server has sent it again, if it must.
    is_awaited: bool,
}

impl HistoryCheck {
    /// Returns the check of a stream that begins at `confirmed`.
    pub(crate) fn new(last: Option<LastTransaction>, confirmed: Lsn) -> Self {
        let is_awaited = last.is_some_and(|last| confirmed < last.end);
        Self { last, latest: last, is_awaited }
    }

    /// Returns whether it is still open whether the server has the same history. Until then the slot
    /// must not be confirmed: the next run could not check any more.
    pub(crate) fn is_open(&self) -> bool {
        self.is_awaited
    }

    /// Takes a transaction that an earlier run has applied, by its position.
    pub(crate) fn take_known(&mut self, known: LastTransaction) -> Result<(), HistoryDiverged> {
        let Some(last) = self.last else { return Ok(()) };
        if known == last {
            self.is_awaited = false;
            return Ok(());
        }
        if known.end < last.end { Ok(()) } else { Err(HistoryDiverged) }
    }

    /// Takes a transaction that no earlier run has applied.
    pub(crate) fn take_new(&mut self, transaction: LastTransaction) {
        self.latest = Some(transaction);
    }

    /// Returns the last transaction that was received whole.
    pub(crate) fn latest(&self) -> Option<LastTransaction> {
        self.latest
    }

    /// Takes a position up to which the server has sent everything.
    pub(crate) fn pass(&self, position: Lsn) -> Result<(), HistoryDiverged> {
        let has_passed = self.last.is_some_and(|last| position >= last.end);
        if self.is_awaited && has_passed { Err(HistoryDiverged) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: LastTransaction = LastTransaction { end: Lsn(100), xid: 7, commit_time: 70 };

    fn earlier() -> LastTransaction {
        LastTransaction { end: Lsn(90), xid: 6, commit_time: 60 }
    }

    #[test]
    fn the_same_history_is_sent_again_up_to_the_last_transaction() {
        let mut check = HistoryCheck::new(Some(LAST), Lsn(80));
        assert!(check.is_open());
        assert_eq!(check.pass(Lsn(85)), Ok(()));
        assert_eq!(check.take_known(earlier()), Ok(()));
        assert_eq!(check.take_known(LAST), Ok(()));
        assert!(!check.is_open());
        assert_eq!(check.pass(Lsn(150)), Ok(()));
    }

    #[test]
    fn another_transaction_at_its_place_is_another_history() {
        for other in [
            LastTransaction { xid: 8, ..LAST },
            LastTransaction { commit_time: 71, ..LAST },
            LastTransaction { end: Lsn(101), ..LAST },
        ] {
            let mut check = HistoryCheck::new(Some(LAST), Lsn(80));
            assert_eq!(check.take_known(other), Err(HistoryDiverged));
        }
    }

    #[test]
    fn a_position_beyond_it_without_it_is_another_history() {
        let check = HistoryCheck::new(Some(LAST), Lsn(80));
        assert_eq!(check.pass(Lsn(99)), Ok(()));
        assert_eq!(check.pass(Lsn(100)), Err(HistoryDiverged));
    }

    #[test]
    fn a_slot_that_is_confirmed_beyond_it_does_not_send_it() {
        let mut check = HistoryCheck::new(Some(LAST), Lsn(100));
        assert!(!check.is_open());
        assert_eq!(check.pass(Lsn(200)), Ok(()));
        // Whatever it sends below the position of the store is not in the store.
        let unknown = LastTransaction { end: Lsn(110), xid: 8, commit_time: 80 };
        assert_eq!(check.take_known(unknown), Err(HistoryDiverged));
    }

    #[test]
    fn a_store_without_a_last_transaction_cannot_be_checked() {
        let mut check = HistoryCheck::new(None, Lsn(0));
        assert!(!check.is_open());
        assert_eq!(check.take_known(LAST), Ok(()));
    }
}
