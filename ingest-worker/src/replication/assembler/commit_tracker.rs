//! The commit's part of the assembler: positions, the visibility barrier, and when to commit.

use std::time::Duration;

use tidewater_storage::{Control, LastTransaction, Lsn, Ticket};

use crate::initial_copy::state::CopyState;
use crate::replication::events::{
    Action, AssemblyError, BARRIER_UNKNOWN, CommitRequest, StreamPosition, WriterState,
};

/// An idle source's position is committed this often, at its next keepalive. Each such commit costs
/// one conditional write. Without it the slot would keep the WAL of the whole idle time, and readers
/// would not know that their checkpoint is still current.
const IDLE_COMMIT_INTERVAL: Duration = Duration::from_secs(10);

/// The positions of a run, from what was received to what is committed.
///
/// `received.lsn >= requested.lsn >= committed.lsn`, and none of them goes back.
#[derive(Debug)]
pub(super) struct CommitTracker {
    /// The end of the last transaction received whole.
    received: StreamPosition,
    /// The position of the last commit that was requested.
    requested: StreamPosition,
    /// The position of the last commit that has landed.
    committed: StreamPosition,
    writer: WriterState,
    /// True if a commit is needed although the stream has not moved: with the cursor of a chunk.
    must_commit: bool,
    /// Actions that follow the next commit.
    after_commit: Vec<Action>,
    /// The time of the last commit of this run.
    last_commit_at: Option<Duration>,
    /// True once a commit of this run has told readers that what they see is current. The commit
    /// that opens the barrier is requested too early to know that.
    is_confirmed: bool,
    /// Readers stay at the former checkpoint until a commit has reached this position.
    barrier: Option<Lsn>,
    /// Readers keep the generation that they have until a commit has reached this position.
    switch_barrier: Option<Lsn>,
}

/// Circumstances that decide whether a commit is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct CommitConditions {
    /// The time since the run began.
    pub(super) now: Duration,
    /// True during a shutdown.
    pub(super) is_closing: bool,
    /// True while the record of the initial copy is stored with each commit.
    pub(super) is_copying: bool,
}

impl CommitTracker {
    /// Returns a tracker that continues where the control record says.
    pub(super) fn new(control: &Control) -> Self {
        let committed = &control.committed;
        let position = StreamPosition { lsn: committed.lsn, ticket: committed.ticket };
        Self {
            received: position,
            requested: position,
            committed: position,
            writer: WriterState::default(),
            must_commit: false,
            after_commit: Vec::new(),
            last_commit_at: None,
            is_confirmed: false,
            barrier: control.visibility_barrier,
            switch_barrier: control.switch_barrier,
        }
    }

    pub(super) fn received(&self) -> StreamPosition {
        self.received
    }

    pub(super) fn committed(&self) -> StreamPosition {
        self.committed
    }

    /// Returns whether a copy is not visible yet, or rows are ahead of the stream.
    pub(super) fn has_barrier(&self) -> bool {
        self.barrier.is_some() || self.switch_barrier.is_some()
    }

    /// Returns whether something waits for the end of the copy, whose position is not known yet.
    pub(super) fn waits_for_copy(&self) -> bool {
        let waits = |barrier: Option<Lsn>| barrier == Some(BARRIER_UNKNOWN);
        waits(self.barrier) || waits(self.switch_barrier)
    }

    pub(super) fn is_writing(&self) -> bool {
        self.writer.is_writing
    }

    /// Returns whether a commit is needed although the stream has not moved.
    pub(super) fn must_commit(&self) -> bool {
        self.must_commit
    }

    /// Notes the end of a transaction that was received whole.
    ///
    /// # Errors
    /// When the stream goes back.
    pub(super) fn note_received(
        &mut self,
        end_lsn: Lsn,
        ticket: Ticket,
    ) -> Result<(), AssemblyError> {
        if end_lsn < self.received.lsn {
            return Err(AssemblyError::OutOfOrder("a transaction before one that it sent earlier"));
        }
        self.received.lsn = end_lsn;
        self.received.ticket = self.received.ticket.max(ticket);
        Ok(())
    }

    /// Notes that the idle source has sent everything up to a position, if that is worth a commit: of
    /// the position, or, where it is the former one, of the time. Returns whether it is.
    pub(super) fn note_idle(&mut self, wal_end: Lsn, now: Duration) -> bool {
        // Behind a barrier readers wait for the position itself.
        let is_due = self.has_barrier() || self.is_idle_commit_due(now);
        if is_due && wal_end > self.received.lsn {
            self.received.lsn = wal_end;
            return true;
        }

        // A new run, and a new checkpoint after a copy, tell readers at once that it is current.
        let is_confirmation_due = !self.is_confirmed || self.is_idle_commit_due(now);
        let is_still_current = self.barrier.is_none() && is_confirmation_due;
        if is_still_current {
            self.must_commit = true;
        }
        is_still_current
    }

    /// Notes the state of the log writer. Returns the position to confirm if a commit has landed:
    /// it has when nothing is in flight.
    pub(super) fn note_writer(&mut self, writer: WriterState) -> Option<Lsn> {
        self.writer = writer;
        let has_landed = !writer.is_writing && self.committed != self.requested;
        if has_landed {
            self.committed = self.requested;
        }
        has_landed.then_some(self.committed.lsn)
    }

    /// Notes that the write in flight has landed. Returns the position to confirm.
    pub(super) fn note_write_finished(&mut self) -> Option<Lsn> {
        self.note_writer(WriterState { is_writing: false, ..self.writer })
    }

    /// Demands a commit although the stream has not moved.
    pub(super) fn require_commit(&mut self) {
        self.must_commit = true;
    }

    /// Adds an action that follows the next commit.
    pub(super) fn after_commit(&mut self, action: Action) {
        self.after_commit.push(action);
    }

    /// Notes that the copy is complete, and the position that the stream must pass before readers see
    /// what has waited for it.
    pub(super) fn note_copied(&mut self, position: Lsn) {
        for barrier in [&mut self.barrier, &mut self.switch_barrier] {
            if *barrier == Some(BARRIER_UNKNOWN) {
                *barrier = Some(position);
            }
        }
    }

    /// Raises the barrier to a position, unless it is beyond it already.
    pub(super) fn raise_barrier(&mut self, position: Lsn) {
        self.barrier = Some(self.barrier.map_or(position, |barrier| barrier.max(position)));
    }

    /// Returns whether there is something to commit that somebody waits for. The caller has
    /// checked that no part of a transaction would be committed.
    ///
    /// A shutdown commits the position in any case, so that the next run need not receive the same
    /// again.
    pub(super) fn is_commit_due(&self, conditions: CommitConditions) -> bool {
        let has_moved = self.received.lsn > self.requested.lsn;
        has_moved && (conditions.is_closing || !self.is_position_only(conditions))
    }

    /// Returns whether a commit would store nothing but a position that nobody waits for: the next
    /// commit contains it, or that of the idle source.
    fn is_position_only(&self, conditions: CommitConditions) -> bool {
        !self.writer.has_uncommitted
            && self.received.ticket <= self.requested.ticket
            && !self.has_barrier()
            && !conditions.is_copying
            && !self.is_idle_commit_due(conditions.now)
    }

    fn is_idle_commit_due(&self, now: Duration) -> bool {
        now.saturating_sub(self.last_commit_at.unwrap_or_default()) >= IDLE_COMMIT_INTERVAL
    }

    /// Requests a commit of everything that was applied, and returns the actions that follow it.
    ///
    /// # Panics
    /// When a write is in flight.
    pub(super) fn request(
        &mut self,
        copy: Option<CopyState>,
        last_transaction: Option<LastTransaction>,
        now: Duration,
    ) -> (CommitRequest, Vec<Action>) {
        assert!(!self.writer.is_writing, "one write is in flight at a time");
        let request = CommitRequest {
            position: self.received,
            visibility_barrier: self.barrier,
            switch_barrier: self.switch_barrier,
            copy,
            last_transaction,
        };

        self.requested = self.received;
        self.writer = WriterState { has_uncommitted: false, is_writing: true };
        self.must_commit = false;
        self.last_commit_at = Some(now);
        self.is_confirmed = self.barrier.is_none();
        // A commit at or beyond the barrier makes everything visible.
        self.barrier = self.barrier.filter(|&barrier| self.received.lsn < barrier);
        self.switch_barrier = self.switch_barrier.filter(|&barrier| self.received.lsn < barrier);

        (request, std::mem::take(&mut self.after_commit))
    }

    pub(super) fn assert_invariants(&self) {
        assert!(self.received.lsn >= self.requested.lsn, "a commit is ahead of the stream");
        assert!(self.requested.lsn >= self.committed.lsn, "a commit landed that was not requested");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::wal_message::WalMessage;
    use crate::test_support::control_at;

    const UNCOMMITTED: WriterState = WriterState { has_uncommitted: true, is_writing: false };
    const WRITING: WriterState = WriterState { has_uncommitted: false, is_writing: true };
    const OPEN: CommitConditions =
        CommitConditions { now: Duration::ZERO, is_closing: false, is_copying: false };

    fn tracker() -> CommitTracker {
        CommitTracker::new(&control_at(100))
    }

    /// A tracker that has received a transaction which ends at this position.
    fn received(lsn: u64, ticket: u64) -> CommitTracker {
        let mut tracker = tracker();
        tracker.note_received(Lsn(lsn), Ticket(ticket)).unwrap();
        tracker
    }

    #[test]
    fn only_the_position_of_the_landed_commit_is_confirmed() {
        let mut tracker = received(110, 0);
        let (request, _) = tracker.request(None, None, Duration::ZERO);
        assert_eq!(request.position.lsn, Lsn(110));

        tracker.note_received(Lsn(120), Ticket(0)).unwrap();
        assert_eq!(tracker.note_writer(WRITING), None, "the write is in flight");
        assert_eq!(tracker.note_write_finished(), Some(Lsn(110)), "120 is not committed");
        assert_eq!(tracker.note_write_finished(), None, "it is confirmed once");
        assert_eq!(tracker.committed().lsn, Lsn(110));
    }

    #[test]
    fn a_position_that_nobody_waits_for_is_not_committed() {
        assert!(!tracker().is_commit_due(OPEN), "the stream has not moved");
        assert!(!received(110, 0).is_commit_due(OPEN));

        let closing = CommitConditions { is_closing: true, ..OPEN };
        assert!(received(110, 0).is_commit_due(closing));
        assert!(!tracker().is_commit_due(closing), "there is nothing to commit");
        let copying = CommitConditions { is_copying: true, ..OPEN };
        assert!(received(110, 0).is_commit_due(copying));
        let late = CommitConditions { now: IDLE_COMMIT_INTERVAL, ..OPEN };
        assert!(received(110, 0).is_commit_due(late));
    }

    #[test]
    fn operations_tickets_and_barriers_make_a_commit_due() {
        assert!(received(110, 1).is_commit_due(OPEN));

        let mut with_operations = received(110, 0);
        with_operations.note_writer(UNCOMMITTED);
        assert!(with_operations.is_commit_due(OPEN));

        let mut with_barrier = received(110, 0);
        with_barrier.raise_barrier(Lsn(200));
        assert!(with_barrier.is_commit_due(OPEN));
    }

    #[test]
    fn a_barrier_is_raised_and_never_lowered_until_a_commit_reaches_it() {
        let mut tracker = received(110, 0);
        tracker.raise_barrier(Lsn(150));
        tracker.raise_barrier(Lsn(130));
        assert_eq!(tracker.barrier, Some(Lsn(150)));

        let (request, _) = tracker.request(None, None, Duration::ZERO);
        assert_eq!(request.visibility_barrier, Some(Lsn(150)));
        assert_eq!(tracker.barrier, Some(Lsn(150)), "the commit ends before it");
        tracker.note_write_finished();

        tracker.note_received(Lsn(150), Ticket(0)).unwrap();
        let (request, _) = tracker.request(None, None, Duration::ZERO);
        assert_eq!(request.visibility_barrier, Some(Lsn(150)));
        assert_eq!(tracker.barrier, None, "the commit has reached it");
    }

    #[test]
    fn an_idle_position_is_taken_after_the_interval_or_behind_a_barrier() {
        let mut tracker = tracker();
        tracker.request(None, None, Duration::ZERO);
        tracker.note_write_finished();
        assert!(!tracker.note_idle(Lsn(120), Duration::ZERO));
        assert!(tracker.note_idle(Lsn(120), IDLE_COMMIT_INTERVAL));
        assert_eq!(tracker.received().lsn, Lsn(120));

        tracker.raise_barrier(Lsn(200));
        assert!(tracker.note_idle(Lsn(130), Duration::ZERO));
        assert!(!tracker.note_idle(Lsn(125), Duration::ZERO), "a position never goes back");
    }

    #[test]
    fn an_idle_checkpoint_is_confirmed_at_once_and_then_after_each_interval() {
        let mut tracker = tracker();
        assert!(tracker.note_idle(Lsn(100), Duration::ZERO), "a new run");
        assert!(tracker.must_commit());
        tracker.request(None, None, Duration::ZERO);
        tracker.note_write_finished();

        assert!(!tracker.note_idle(Lsn(100), IDLE_COMMIT_INTERVAL / 2));
        assert!(!tracker.must_commit());
        assert!(tracker.note_idle(Lsn(100), IDLE_COMMIT_INTERVAL));
        assert!(tracker.must_commit());
    }

    #[test]
    fn a_checkpoint_is_confirmed_at_the_first_keepalive_after_its_barrier_has_opened() {
        let mut tracker = tracker();
        tracker.raise_barrier(Lsn(200));
        assert!(tracker.note_idle(Lsn(210), Duration::ZERO));
        tracker.request(None, None, Duration::ZERO);
        assert_eq!(tracker.barrier, None);
        tracker.note_write_finished();

        assert!(tracker.note_idle(Lsn(210), Duration::ZERO), "nobody knows yet that it is current");
        assert!(tracker.must_commit());
        tracker.request(None, None, Duration::ZERO);
        tracker.note_write_finished();
        assert!(!tracker.note_idle(Lsn(210), Duration::ZERO), "it is confirmed");
    }

    #[test]
    fn a_checkpoint_that_is_held_back_is_not_confirmed() {
        let mut tracker = tracker();
        tracker.raise_barrier(Lsn(200));
        assert!(!tracker.note_idle(Lsn(100), IDLE_COMMIT_INTERVAL));
        assert!(!tracker.must_commit());
    }

    #[test]
    fn only_what_waits_for_the_copy_gets_the_position_of_its_end() {
        let mut tracker = received(110, 0);
        tracker.raise_barrier(Lsn(120));
        tracker.switch_barrier = Some(BARRIER_UNKNOWN);
        assert!(tracker.waits_for_copy());
        tracker.note_copied(Lsn(150));
        assert!(!tracker.waits_for_copy());

        let (request, _) = tracker.request(None, None, Duration::ZERO);
        assert_eq!(request.visibility_barrier, Some(Lsn(120)));
        assert_eq!(request.switch_barrier, Some(Lsn(150)));
        tracker.note_write_finished();
        tracker.note_received(Lsn(130), Ticket(0)).unwrap();
        tracker.request(None, None, Duration::ZERO);
        assert!(tracker.has_barrier(), "readers keep their generation");
    }

    #[test]
    fn a_checkpoint_is_confirmed_while_only_the_switch_waits() {
        let mut tracker = tracker();
        tracker.switch_barrier = Some(BARRIER_UNKNOWN);
        assert!(tracker.note_idle(Lsn(100), Duration::ZERO));
        assert!(tracker.must_commit());
    }

    #[test]
    fn actions_that_follow_a_commit_follow_the_next_one_only() {
        let mut tracker = received(110, 0);
        tracker.require_commit();
        tracker.after_commit(Action::EmitMessage(WalMessage::Barrier));

        let (_, following) = tracker.request(None, None, Duration::ZERO);
        assert_eq!(following, [Action::EmitMessage(WalMessage::Barrier)]);
        assert!(!tracker.must_commit());
        tracker.note_write_finished();
        assert_eq!(tracker.request(None, None, Duration::ZERO).1, []);
    }

    #[test]
    fn the_stream_must_not_go_back() {
        let mut tracker = received(110, 3);
        assert!(tracker.note_received(Lsn(109), Ticket(0)).is_err());
        tracker.note_received(Lsn(110), Ticket(2)).unwrap();
        assert_eq!(tracker.received(), StreamPosition { lsn: Lsn(110), ticket: Ticket(3) });
    }

    #[test]
    #[should_panic = "one write is in flight at a time"]
    fn no_commit_is_requested_while_a_write_is_in_flight() {
        let mut tracker = received(110, 0);
        tracker.request(None, None, Duration::ZERO);
        tracker.request(None, None, Duration::ZERO);
    }
}
