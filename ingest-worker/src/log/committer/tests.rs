use tidewater_storage::conformance::first_control;
use tidewater_storage::{Embedded, Nonce};

use super::*;

/// Returns the committer of a run whose checkpoints are visible at once.
async fn committer() -> Committer<Embedded> {
    let storage = Embedded::temporary().unwrap();
    Committer::take_over(storage, None, first_control(), Vec::new(), None).await.unwrap()
}

fn op(sequence: u64) -> OpId {
    OpId::new(first_control().epoch, sequence)
}

/// Commits up to an op id, with nothing to store.
async fn commit(committer: &mut Committer<Embedded>, sequence: u64) {
    let position = committer.position_after(Some(op(sequence)), Lsn(sequence), Ticket(0));
    let next = committer.control().after_commit(position, Vec::new(), None);
    committer.start_commit(Batch::default(), next);
    assert!(committer.finish().await.unwrap().unwrap().committed.is_some());
}

#[tokio::test]
async fn a_position_never_falls() {
    let mut committer = committer().await;
    commit(&mut committer, 7).await;
    let committed = committer.control().committed;

    let same = committer.position_after(None, Lsn(3), Ticket(0));
    assert_eq!(same, committed, "an older position, and no op id of its own");
    let later = committer.position_after(Some(op(9)), Lsn(8), Ticket(2));
    assert_eq!((later.op, later.lsn, later.ticket), (op(9), Lsn(8), Ticket(2)));
    assert_eq!(committer.position_after(Some(op(2)), Lsn(8), Ticket(0)).op, op(7));
}

#[tokio::test]
async fn a_commit_advances_the_committed_operations_only_when_it_is_done() {
    let mut committer = committer().await;
    let position = committer.position_after(Some(op(5)), Lsn(5), Ticket(0));
    let next = committer.control().after_commit(position, Vec::new(), None);
    committer.start_commit(Batch::default(), next);
    assert!(committer.is_busy());
    assert_eq!(committer.latest_control().committed.op, op(5));
    assert!(!committer.committed_ops().is_committed(op(5)));

    committer.finish().await.unwrap();
    assert!(!committer.is_busy());
    assert!(committer.committed_ops().is_committed(op(5)));
    assert!(!committer.committed_ops().is_committed(op(6)));
}

/// Takes over from a record, as another run. Returns its error.
async fn refused_takeover(storage: &Embedded, former: &Control) -> WriteError {
    let (next, archived) = former.after_takeover(Nonce("other".to_owned())).unwrap();
    let storage = storage.clone();
    Committer::take_over(storage, Some(former.clone()), next, archived, None).await.unwrap_err()
}

#[tokio::test]
async fn a_late_commit_of_the_former_run_is_no_other_worker() {
    let mut committer = committer().await;
    let storage = committer.storage().clone();
    let read = committer.control().clone();
    commit(&mut committer, 7).await;

    // The commit was in flight when the record was read: the next run reads it again.
    let error = refused_takeover(&storage, &read).await;
    assert!(matches!(error, WriteError::Overtaken) && error.is_transient(), "{error:?}");

    // A worker that took over in between is one.
    let former = committer.control().clone();
    let (next, archived) = former.after_takeover(Nonce("winner".to_owned())).unwrap();
    let winner = Committer::take_over(storage.clone(), Some(former.clone()), next, archived, None);
    winner.await.unwrap();
    let error = refused_takeover(&storage, &former).await;
    assert!(matches!(error, WriteError::Fenced) && !error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn finishing_without_a_batch_in_flight_does_nothing() {
    let mut committer = committer().await;
    assert!(committer.finish().await.unwrap().is_none());
}

#[tokio::test]
#[should_panic(expected = "one batch at a time")]
async fn a_second_batch_in_flight_is_a_bug() {
    let mut committer = committer().await;
    committer.start_store(Batch::default());
    committer.start_store(Batch::default());
}

#[tokio::test]
async fn former_checkpoints_are_retained_as_long_as_readers_may_use_them() {
    let mut committer = committer().await;
    commit(&mut committer, 1).await;
    commit(&mut committer, 2).await;
    commit(&mut committer, 3).await;
    let retention = committer.retention();
    assert_eq!((retention.visible, retention.recent), (Some(op(3)), vec![op(1), op(2)]));

    for (replaced_at, _) in &mut committer.recent_checkpoints {
        *replaced_at -= READER_LIFETIME;
    }
    commit(&mut committer, 4).await;
    let retention = committer.retention();
    assert_eq!((retention.visible, retention.recent), (Some(op(4)), vec![op(3)]));
}
