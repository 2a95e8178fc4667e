//! The transactions that were applied and that new snapshots of the source may not see yet.

use crate::source::pg_snapshot::PgSnapshot;

/// The list is shortened beyond this length. It is scanned at each read of the source and, during
/// a copy, stored with each commit.
pub(super) const XIDS_MAX: usize = 10_000;

/// Applied transactions that no snapshot was seen to contain.
///
/// A commit is decoded an instant before new snapshots see it, so rows are read only from a
/// snapshot that sees all of these.
#[derive(Debug)]
pub(super) struct NotYetVisible {
    xids: Vec<u32>,
}

impl NotYetVisible {
    pub(super) fn new(xids: Vec<u32>) -> Self {
        Self { xids }
    }

    /// Notes a transaction that is applied, or of which a part is.
    pub(super) fn note(&mut self, xid: u32) {
        self.xids.push(xid);
    }

    /// Forgets the transactions that a snapshot sees.
    pub(super) fn forget(&mut self, snapshot: &PgSnapshot) {
        self.xids.retain(|&xid| !snapshot.sees(xid));
    }

    pub(super) fn xids(&self) -> &[u32] {
        &self.xids
    }

    /// Returns whether a snapshot should be taken to shorten the list.
    pub(super) fn is_long(&self) -> bool {
        self.xids.len() > XIDS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_listed_until_a_snapshot_sees_it() {
        let mut list = NotYetVisible::new(vec![10]);
        list.note(12);
        list.note(11);
        list.forget(&PgSnapshot::parse("10:12:10").unwrap());
        assert_eq!(list.xids(), [10, 12], "10 was in progress, and 12 had not begun");
        list.forget(&PgSnapshot::parse("13:13:").unwrap());
        assert_eq!(list.xids(), [0; 0]);
    }

    #[test]
    fn the_list_is_long_beyond_its_bound() {
        let mut list = NotYetVisible::new((0..10_000).collect());
        assert!(!list.is_long());
        list.note(10_000);
        assert!(list.is_long());
    }
}
