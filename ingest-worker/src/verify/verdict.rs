//! The comparison of one place, as a pure function.
//!
//! The source was read in a snapshot, and the store at a checkpoint after it. In between, the place may
//! have changed rightly. So the store's side is a history, from a checkpoint `since` before the snapshot
//! to the checkpoint after it.

use tidewater_protocol::OpId;

/// The content of a place: the digest of its row or answer; `None` if it is empty.
pub(super) type Content = Option<u64>;

/// A stored change of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredChange {
    pub(super) op: OpId,
    /// The content from this operation on.
    pub(super) content: Content,
    /// True if an earlier change may be missing: the row comes from a base, or the version is the oldest
    /// that is kept.
    pub(super) is_oldest_kept: bool,
}

/// The history of a place in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredHistory {
    /// The content at the checkpoint `since`; `None` if it is not known any more.
    before: Option<Content>,
    /// The contents after it, oldest first.
    after: Vec<Content>,
}

/// The result of comparing a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The store had the source's content at the time of the snapshot.
    Equal,
    /// It had another content during all of the time.
    Different,
    /// It had other contents, and changed meanwhile.
    Changing,
}

impl StoredHistory {
    /// Creates the history of a place from its changes in any order, some of them perhaps twice. The
    /// changes of the container are complete from `complete_from` on, and include the content there.
    pub(super) fn new(mut changes: Vec<StoredChange>, since: OpId, complete_from: OpId) -> Self {
        // An interrupted read of a container was repeated, so changes may be there twice: from the log,
        // and from the base that has replaced it.
        changes.sort_unstable_by_key(|change| (change.op, !change.is_oldest_kept));
        changes.dedup_by_key(|change| change.op);

        let is_complete = complete_from <= since;
        let mut history = Self { before: is_complete.then_some(None), after: Vec::new() };
        let starts_empty = !changes.iter().any(|change| change.is_oldest_kept);
        if !is_complete && starts_empty {
            // Whatever was before: the place was empty where the changes begin.
            history.after.push(None);
        }

        for change in changes {
            if change.op <= since {
                // The content is that of the newest change, so it was the content at `since`.
                history.before = Some(change.content);
            } else {
                history.after.push(change.content);
            }
        }
        history
    }

    /// Compares the history with the content in the source.
    pub(super) fn compare(&self, source: Content) -> Verdict {
        if self.before == Some(source) || self.after.contains(&source) {
            Verdict::Equal
        } else if self.before.is_some() && self.after.is_empty() {
            Verdict::Different
        } else {
            Verdict::Changing
        }
    }
}

#[cfg(test)]
mod tests {
    use tidewater_protocol::Epoch;

    use super::Verdict::{Changing, Different, Equal};
    use super::*;

    fn op(number: u64) -> OpId {
        OpId::new(Epoch::ZERO, number)
    }

    /// The checkpoint before the snapshot.
    const SINCE: u64 = 10;

    fn change(number: u64, content: Content) -> StoredChange {
        StoredChange { op: op(number), content, is_oldest_kept: false }
    }

    fn from_base(number: u64, content: u64) -> StoredChange {
        StoredChange { is_oldest_kept: true, ..change(number, Some(content)) }
    }

    /// Compares a source content with changes in a log that begins at 0.
    fn check(changes: &[StoredChange], source: Content) -> Verdict {
        StoredHistory::new(changes.to_vec(), op(SINCE), OpId::ZERO).compare(source)
    }

    /// Compares a source content with changes above a base.
    fn check_above(base: u64, changes: &[StoredChange], source: Content) -> Verdict {
        StoredHistory::new(changes.to_vec(), op(SINCE), op(base)).compare(source)
    }

    #[test]
    fn a_place_that_did_not_change_meanwhile_is_equal_or_different() {
        assert_eq!(check(&[], None), Equal);
        assert_eq!(check(&[], Some(1)), Different, "the store lacks a row");
        let stored = [change(3, Some(1))];
        assert_eq!(check(&stored, Some(1)), Equal);
        assert_eq!(check(&stored, Some(2)), Different, "other data");
        assert_eq!(check(&stored, None), Different, "the source lacks it");
        let removed = [change(3, Some(1)), change(SINCE, None)];
        assert_eq!((check(&removed, None), check(&removed, Some(1))), (Equal, Different));
    }

    #[test]
    fn any_content_after_the_checkpoint_may_be_that_of_the_snapshot() {
        let stored =
            [change(3, Some(1)), change(11, Some(2)), change(12, None), change(13, Some(4))];
        for source in [Some(1), Some(2), None, Some(4)] {
            assert_eq!(check(&stored, source), Equal, "{source:?}");
        }
        // Transactions that were stored together leave one operation.
        assert_eq!(check(&stored, Some(3)), Changing);
    }

    #[test]
    fn what_was_before_the_checkpoint_is_no_excuse() {
        let stored = [change(3, Some(1)), change(4, Some(2))];
        assert_eq!(check(&stored, Some(1)), Different);
        let stored = [change(3, Some(1)), change(4, Some(2)), change(11, Some(3))];
        assert_eq!(check(&stored, Some(1)), Changing);
    }

    #[test]
    fn a_base_after_the_checkpoint_has_the_row_as_it_was_if_the_row_is_old() {
        assert_eq!(check_above(20, &[from_base(3, 1)], Some(1)), Equal);
        assert_eq!(check_above(20, &[from_base(3, 1)], Some(2)), Different);
        assert_eq!(check_above(20, &[from_base(3, 1)], None), Different);
    }

    #[test]
    fn a_base_after_the_checkpoint_may_hide_changes() {
        assert_eq!(check_above(20, &[from_base(15, 1)], Some(1)), Equal);
        assert_eq!(check_above(20, &[from_base(15, 1)], Some(2)), Changing);
        assert_eq!(check_above(20, &[from_base(15, 1)], None), Changing, "it may have been empty");
        assert_eq!(check_above(20, &[], None), Equal);
        assert_eq!(check_above(20, &[], Some(1)), Changing, "its removal may be hidden");
        assert_eq!(check_above(20, &[change(21, Some(1))], None), Equal);
    }

    #[test]
    fn a_base_before_the_checkpoint_hides_nothing() {
        assert_eq!(check_above(5, &[], Some(1)), Different);
        assert_eq!(check_above(SINCE, &[from_base(3, 1)], Some(2)), Different);
    }

    #[test]
    fn a_history_that_was_read_twice_is_the_same() {
        let twice = [change(11, Some(2)), change(3, Some(1)), from_base(11, 2), change(3, Some(1))];
        let once = [change(3, Some(1)), change(11, Some(2))];
        assert_eq!(
            StoredHistory::new(twice.to_vec(), op(SINCE), OpId::ZERO),
            StoredHistory::new(once.to_vec(), op(SINCE), OpId::ZERO)
        );
    }
}
