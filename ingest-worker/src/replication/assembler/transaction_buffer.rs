//! The stream's part of the assembler: the open transaction, and changes that are not applied yet.

use tidewater_storage::Ticket;

use crate::apply::changes::Change;
use crate::replication::events::AssemblyError;
use crate::replication::relations::TransactionAge;

/// A transaction whose end has not come yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenTransaction {
    pub(super) xid: u32,
    /// The time of its commit, in microseconds since 2000.
    pub(super) commit_time: i64,
    pub(super) age: TransactionAge,
    /// The highest ticket of its messages.
    pub(super) ticket: Ticket,
    /// True once a part of it has been applied. From then on nothing can be committed before its
    /// end.
    pub(super) is_part_applied: bool,
}

/// Changes that were received and not applied, in the order of the stream.
///
/// Changes of complete transactions come first. The others belong to the open transaction.
#[derive(Debug)]
pub(super) struct TransactionBuffer {
    changes_max: usize,
    bytes_max: usize,
    changes: Vec<Change>,
    bytes: usize,
    /// The number of changes that belong to complete transactions.
    complete: usize,
    open: Option<OpenTransaction>,
}

impl TransactionBuffer {
    /// Returns an empty buffer that is full with this many changes, or this many bytes of them.
    pub(super) fn new(changes_max: usize, bytes_max: usize) -> Self {
        Self { changes_max, bytes_max, changes: Vec::new(), bytes: 0, complete: 0, open: None }
    }

    /// Returns whether nothing waits to be applied.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Returns whether something must be applied before more is received.
    pub(super) fn is_full(&self) -> bool {
        self.changes.len() >= self.changes_max || self.bytes >= self.bytes_max
    }

    /// Returns whether changes of complete transactions wait to be applied.
    pub(super) fn has_complete(&self) -> bool {
        self.complete > 0
    }

    /// Returns whether the stream is within a transaction.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Returns whether a part of the open transaction has been applied.
    pub(super) fn is_part_applied(&self) -> bool {
        self.open.is_some_and(|open| open.is_part_applied)
    }

    /// Begins a transaction.
    pub(super) fn begin(
        &mut self,
        xid: u32,
        commit_time: i64,
        age: TransactionAge,
    ) -> Result<(), AssemblyError> {
        if self.open.is_some() {
            return Err(AssemblyError::OutOfOrder("a transaction within a transaction"));
        }
        let ticket = Ticket::default();
        self.open = Some(OpenTransaction { xid, commit_time, age, ticket, is_part_applied: false });
        Ok(())
    }

    /// Returns the open transaction, to which a change belongs.
    pub(super) fn open(&self) -> Result<OpenTransaction, AssemblyError> {
        self.open.ok_or(AssemblyError::OutOfOrder("a change outside of a transaction"))
    }

    /// Adds a change of the open transaction.
    pub(super) fn push(&mut self, change: Change) {
        self.bytes += change.len();
        self.changes.push(change);
    }

    /// Notes a ticket whose message is part of the open transaction. It is reported with the end of
    /// that transaction.
    pub(super) fn note_ticket(&mut self, ticket: Ticket) {
        if let Some(open) = &mut self.open {
            open.ticket = open.ticket.max(ticket);
        }
    }

    /// Ends the open transaction and returns it. Its changes are complete.
    pub(super) fn end(&mut self) -> Result<OpenTransaction, AssemblyError> {
        let open = self.open.take();
        self.complete = self.changes.len();
        open.ok_or(AssemblyError::OutOfOrder("a commit without a transaction"))
    }

    /// Takes the changes of all complete transactions.
    pub(super) fn take_complete(&mut self) -> Vec<Change> {
        let rest = self.changes.split_off(self.complete);
        self.complete = 0;
        self.bytes = rest.iter().map(Change::len).sum();
        std::mem::replace(&mut self.changes, rest)
    }

    /// Takes what there is of the open transaction. Returns the transaction's id with its first
    /// part.
    ///
    /// # Panics
    /// When complete transactions wait, or no transaction is open.
    pub(super) fn take_part(&mut self) -> (Vec<Change>, Option<u32>) {
        assert_eq!(self.complete, 0, "complete transactions are applied first");
        let open = self.open.as_mut().expect("incomplete changes belong to an open transaction");
        let is_first = !std::mem::replace(&mut open.is_part_applied, true);
        self.bytes = 0;
        (std::mem::take(&mut self.changes), is_first.then_some(open.xid))
    }

    pub(super) fn assert_invariants(&self) {
        assert!(self.complete <= self.changes.len(), "more changes are complete than buffered");
        assert!(
            self.open.is_some() || self.complete == self.changes.len(),
            "changes are buffered that belong to no transaction"
        );
        assert!(
            !self.is_part_applied() || self.complete == 0,
            "a transaction is applied in parts behind one that is not applied"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::changes::RowChange;
    use tidewater_storage::Lsn;

    const AGE: TransactionAge = TransactionAge::New(Lsn(1));

    /// A change that keeps this many bytes in use.
    fn row(bytes: usize) -> Change {
        let message = vec![0; bytes].into();
        Change::Row(RowChange { table: 0, old: None, new: None, message })
    }

    fn buffer_with(transactions: &[&[usize]]) -> TransactionBuffer {
        let mut buffer = TransactionBuffer::new(4, 100);
        for (xid, rows) in (1..).zip(transactions) {
            buffer.begin(xid, 0, AGE).unwrap();
            for &bytes in *rows {
                buffer.push(row(bytes));
            }
            buffer.end().unwrap();
        }
        buffer
    }

    #[test]
    fn changes_of_the_open_transaction_stay_behind_the_complete_ones() {
        let mut buffer = buffer_with(&[&[1], &[2]]);
        buffer.begin(3, 0, AGE).unwrap();
        buffer.push(row(3));

        assert_eq!(buffer.take_complete(), [row(1), row(2)]);
        buffer.assert_invariants();
        assert!(!buffer.has_complete() && !buffer.is_empty());

        assert_eq!(buffer.end().unwrap().xid, 3);
        assert_eq!(buffer.take_complete(), [row(3)]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_buffer_is_full_by_changes_or_by_bytes() {
        assert!(!buffer_with(&[&[1, 1], &[1]]).is_full());
        assert!(buffer_with(&[&[1, 1], &[1, 1]]).is_full());
        assert!(!buffer_with(&[&[99]]).is_full());
        assert!(buffer_with(&[&[50], &[50]]).is_full());
    }

    #[test]
    fn the_bytes_of_the_open_transaction_remain_after_the_complete_ones_are_taken() {
        let mut buffer = buffer_with(&[&[60]]);
        buffer.begin(2, 0, AGE).unwrap();
        buffer.push(row(40));
        assert!(buffer.is_full());

        buffer.take_complete();
        assert!(!buffer.is_full());
        buffer.push(row(60));
        assert!(buffer.is_full());
    }

    #[test]
    fn only_the_first_part_of_a_transaction_reports_its_id() {
        let mut buffer = TransactionBuffer::new(1, 100);
        buffer.begin(7, 0, AGE).unwrap();
        assert!(!buffer.is_part_applied());

        buffer.push(row(1));
        assert_eq!(buffer.take_part(), (vec![row(1)], Some(7)));
        buffer.push(row(2));
        assert_eq!(buffer.take_part(), (vec![row(2)], None));
        assert!(buffer.is_part_applied() && !buffer.is_full());

        assert!(buffer.end().unwrap().is_part_applied);
        assert!(!buffer.is_part_applied(), "nothing is open any more");
    }

    #[test]
    #[should_panic = "complete transactions are applied first"]
    fn a_part_is_never_taken_before_a_complete_transaction() {
        let mut buffer = buffer_with(&[&[1]]);
        buffer.begin(2, 0, AGE).unwrap();
        buffer.take_part();
    }

    #[test]
    fn a_transaction_keeps_the_highest_ticket_of_its_messages() {
        let mut buffer = buffer_with(&[]);
        buffer.note_ticket(Ticket(9));
        buffer.begin(1, 0, AGE).unwrap();
        for ticket in [3, 5, 4] {
            buffer.note_ticket(Ticket(ticket));
        }
        assert_eq!(buffer.end().unwrap().ticket, Ticket(5), "9 came outside of a transaction");
    }

    #[test]
    fn begin_and_end_must_alternate() {
        let mut buffer = buffer_with(&[]);
        assert!(matches!(buffer.end(), Err(AssemblyError::OutOfOrder(_))));
        assert!(matches!(buffer.open(), Err(AssemblyError::OutOfOrder(_))));
        buffer.begin(1, 0, AGE).unwrap();
        assert!(buffer.open().is_ok());
        assert!(matches!(buffer.begin(2, 0, AGE), Err(AssemblyError::OutOfOrder(_))));
    }
}
