//! The guarantees of [`ControlStore`].

use std::time::Duration;

use tidewater_protocol::{Epoch, OpId};

use super::{FOREVER, control_at, empty_generation, generation, op, soon, tag};
use crate::{
    BucketKey, ChangeName, ChangeRing, ChangedNames, ClosedEpoch, Committed, Control, ControlStore,
    Generation, GenerationId, Lsn, Nonce, SwapOutcome, Ticket, Truncation, Visible,
};

fn conflict(stored: &Control) -> SwapOutcome {
    SwapOutcome::Conflict(Some(Box::new(stored.clone())))
}

fn owned_by(revision: u64, owner: &str) -> Control {
    Control { owner: Nonce(owner.into()), ..control_at(revision) }
}

fn closed(epoch: u32, sequence: u64) -> ClosedEpoch {
    let epoch = Epoch::new(epoch).unwrap();
    ClosedEpoch { epoch, last_committed: OpId::new(epoch, sequence) }
}

pub async fn an_empty_store_has_no_control_record([a, b]: [impl ControlStore; 2]) {
    assert_eq!(a.control().await.unwrap(), None);
    assert_eq!(b.archived_epochs().await.unwrap(), []);
    assert_eq!(a.swap_control(Some(0), &control_at(1)).await.unwrap(), SwapOutcome::Conflict(None));
    assert_eq!(b.control().await.unwrap(), None);
}

pub async fn a_swap_needs_the_stored_revision([a, b]: [impl ControlStore; 2]) {
    assert_eq!(a.swap_control(None, &control_at(1)).await.unwrap(), SwapOutcome::Swapped);
    assert_eq!(b.swap_control(Some(1), &control_at(2)).await.unwrap(), SwapOutcome::Swapped);
    for stale in [Some(0), Some(1), Some(3)] {
        let late = owned_by(3, "late");
        assert_eq!(a.swap_control(stale, &late).await.unwrap(), conflict(&control_at(2)));
    }
    assert_eq!(b.control().await.unwrap(), Some(control_at(2)));
}

pub async fn only_one_first_record_is_stored([a, b]: [impl ControlStore; 2]) {
    assert_eq!(a.swap_control(None, &owned_by(1, "a")).await.unwrap(), SwapOutcome::Swapped);
    let second = b.swap_control(None, &owned_by(1, "b")).await.unwrap();
    assert_eq!(second, conflict(&owned_by(1, "a")));
}

pub async fn a_repeated_swap_succeeds([a, b]: [impl ControlStore; 2]) {
    for _ in 0..2 {
        assert_eq!(a.swap_control(None, &owned_by(1, "a")).await.unwrap(), SwapOutcome::Swapped);
    }
    for _ in 0..2 {
        assert_eq!(a.swap_control(Some(1), &owned_by(2, "a")).await.unwrap(), SwapOutcome::Swapped);
    }

    // The revision alone does not tell whose record it is.
    let rival = b.swap_control(Some(1), &owned_by(2, "b")).await.unwrap();
    assert_eq!(rival, conflict(&owned_by(2, "a")));
}

pub async fn exactly_one_concurrent_swap_succeeds(
    [a, b]: [impl ControlStore + Clone + 'static; 2],
) {
    a.swap_control(None, &control_at(1)).await.unwrap();
    let rivals = (0..8).map(|n| {
        let store = if n % 2 == 0 { a.clone() } else { b.clone() };
        tokio::spawn(
            async move { store.swap_control(Some(1), &owned_by(2, &format!("{n}"))).await },
        )
    });

    let mut winners = 0;
    for rival in rivals.collect::<Vec<_>>() {
        if rival.await.unwrap().unwrap() == SwapOutcome::Swapped {
            winners += 1;
        }
    }

    assert_eq!(winners, 1);
    assert_eq!(a.control().await.unwrap(), b.control().await.unwrap());
}

pub async fn a_control_record_round_trips([a, b]: [impl ControlStore; 2]) {
    let at = Committed { op: OpId::MAX, lsn: Lsn(u64::MAX), ticket: Ticket(u64::MAX) };
    let truncated = vec![Truncation { table: u16::MAX, op: op(7) }];
    let mut changed = ChangedNames::default();
    changed.insert(ChangeName::of_bucket(&BucketKey::from_stored("aaaaaa[]")));
    let full = Control {
        epoch: Epoch::MAX,
        committed: at,
        visible: Some(Visible {
            at,
            generation: generation(),
            truncated: truncated.clone(),
            current_at: Some(1_700_000_000_000),
        }),
        visibility_barrier: Some(Lsn(1)),
        truncated,
        recent: (1..=16).map(|epoch| closed(epoch, 3)).collect(),
        changes: ChangeRing::default().with(1, &changed),
        ..owned_by(1, "\"ünïcode\"")
    };
    a.swap_control(None, &full).await.unwrap();
    assert_eq!(b.control().await.unwrap(), Some(full));
}

pub async fn a_swap_wakes_a_waiting_call([a, b]: [impl ControlStore + Clone + 'static; 2]) {
    a.swap_control(None, &control_at(1)).await.unwrap();
    for revision in 1..4 {
        let waiting = a.clone();
        let waiter = tokio::spawn(async move {
            while waiting.control().await.unwrap().unwrap().revision == revision {
                waiting.wait_for_control_change(revision, FOREVER * 2).await.unwrap();
            }
        });

        tokio::task::yield_now().await;
        b.swap_control(Some(revision), &control_at(revision + 1)).await.unwrap();
        soon(waiter).await.unwrap();
    }
}

pub async fn a_wait_for_an_outdated_revision_returns_immediately([a, b]: [impl ControlStore; 2]) {
    a.swap_control(None, &control_at(1)).await.unwrap();
    a.swap_control(Some(1), &control_at(2)).await.unwrap();
    soon(b.wait_for_control_change(1, FOREVER * 2)).await.unwrap();
    soon(a.wait_for_control_change(0, FOREVER * 2)).await.unwrap();
    // A store that was restored from a backup has a lower revision than the caller has seen.
    soon(b.wait_for_control_change(3, FOREVER * 2)).await.unwrap();
}

pub async fn a_wait_for_a_swap_times_out([a, b]: [impl ControlStore; 2]) {
    soon(a.wait_for_control_change(0, Duration::from_millis(20))).await.unwrap();
    a.swap_control(None, &control_at(1)).await.unwrap();
    soon(b.wait_for_control_change(1, Duration::from_millis(20))).await.unwrap();
    soon(a.wait_for_control_change(1, Duration::ZERO)).await.unwrap();
}

pub async fn each_closed_epoch_is_archived_once([a, b]: [impl ControlStore; 2]) {
    a.archive_epochs(&[closed(1, 5), closed(3, 7)]).await.unwrap();
    b.archive_epochs(&[closed(3, 7), closed(2, 1)]).await.unwrap();
    b.archive_epochs(&[]).await.unwrap();
    let mut archived = a.archived_epochs().await.unwrap();
    archived.sort_by_key(|closed| closed.epoch);
    assert_eq!(archived, [closed(1, 5), closed(2, 1), closed(3, 7)]);
}

pub async fn a_generation_is_found_by_its_id([a, b]: [impl ControlStore; 2]) {
    let stored = Generation {
        identity: "hash".into(),
        sync_config: "streams:\n  a: \u{1F600}".into(),
        definitions: vec![tag(1), tag(2)],
        lookups: vec![tag(3)],
        ..empty_generation(generation())
    };

    assert_eq!(a.generation(stored.id).await.unwrap(), None);
    for _ in 0..2 {
        a.put_generation(&stored).await.unwrap();
    }

    assert_eq!(b.generation(stored.id).await.unwrap(), Some(stored));
    assert_eq!(b.generation(GenerationId(Epoch::MAX)).await.unwrap(), None);
}
