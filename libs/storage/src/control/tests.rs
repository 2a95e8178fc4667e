use super::*;
use crate::change_ring::ChangeName;

fn epoch(number: u32) -> Epoch {
    Epoch::new(number).unwrap()
}

fn op(number: u32, sequence: u64) -> OpId {
    OpId::new(epoch(number), sequence)
}

fn nonce(text: &str) -> Nonce {
    Nonce(text.into())
}

fn first() -> Control {
    let source = SourceIdentity {
        system_id: "1".into(),
        database: "app".into(),
        timeline: 1,
        slot: "tidewater".into(),
        slot_generation: 1,
    };
    Control::first(epoch(1), nonce("a"), source, Lsn(5))
}

fn committed(op: OpId, lsn: u64) -> Committed {
    Committed { op, lsn: Lsn(lsn), ticket: Ticket(lsn) }
}

/// After a commit of `sequence` by the epoch at work.
fn after(control: &Control, sequence: u64) -> Control {
    let at = committed(OpId::new(control.epoch, sequence), control.committed.lsn.0 + 1);
    control.after_commit(at, Vec::new(), control.visibility_barrier)
}

#[test]
fn a_takeover_closes_the_epoch_at_what_it_committed() {
    let control = after(&after(&first(), 7), 9);
    let (next, archived) = control.after_takeover(nonce("b")).unwrap();
    assert_eq!(next.recent, [ClosedEpoch { epoch: epoch(1), last_committed: op(1, 9) }]);
    assert_eq!((next.epoch, next.revision, archived), (epoch(2), control.revision + 1, vec![]));
    assert_eq!((&next.owner, next.committed), (&nonce("b"), control.committed));
    assert_eq!(next.visible, control.visible);
    let committed_ops = next.committed_ops(&[]);
    assert!(
        committed_ops.is_committed(op(1, 9))
            && !committed_ops.is_committed(op(1, 10))
            && !committed_ops.is_committed(op(2, 1))
    );
}

#[test]
fn an_epoch_that_committed_nothing_gets_no_entry() {
    let control = after(&first(), 7);
    let (second, _) = control.after_takeover(nonce("b")).unwrap();
    let (third, _) = second.after_takeover(nonce("c")).unwrap();
    assert_eq!(third.recent, [ClosedEpoch { epoch: epoch(1), last_committed: op(1, 7) }]);
    assert!(
        !third.committed_ops(&[]).is_committed(op(2, 0))
            && !third.committed_ops(&[]).is_committed(op(2, 1))
    );
    let (second, _) = first().after_takeover(nonce("b")).unwrap();
    assert_eq!(second.recent, []);
}

#[test]
fn the_latest_sixteen_closed_epochs_are_kept_and_older_ones_archived() {
    let mut control = after(&first(), 1);
    let mut archived = Vec::new();
    for run in 2..=40_u64 {
        let (next, surplus) = control.after_takeover(nonce("n")).unwrap();
        archived.extend(surplus);
        assert!(next.recent.len() <= RECENT_EPOCHS);
        control = after(&next, run);
    }

    assert_eq!(control.recent.len(), RECENT_EPOCHS);
    let expected: Vec<_> = (1..40 - 16)
        .map(|run| ClosedEpoch { epoch: epoch(run), last_committed: op(run, u64::from(run)) })
        .collect();
    assert_eq!(archived, expected);

    let committed_ops = control.committed_ops(&archived);
    for run in 1..=40 {
        assert!(committed_ops.is_committed(op(run, u64::from(run))), "of epoch {run}");
        assert!(!committed_ops.is_committed(op(run, u64::from(run) + 1)), "of epoch {run}");
    }
}

#[test]
fn there_is_no_takeover_after_the_last_epoch() {
    let control = Control { epoch: Epoch::MAX, ..first() };
    assert_eq!(control.after_takeover(nonce("b")), Err(EpochError));
}

#[test]
fn visible_follows_a_commit_without_a_barrier() {
    let control = first();
    let truncated = vec![Truncation { table: 2, op: op(1, 3) }];
    let next = control.after_commit(committed(op(1, 3), 8), truncated.clone(), None);
    let visible = next.visible.clone().unwrap();
    assert_eq!((visible.at, visible.truncated), (next.committed, truncated));
    assert_eq!((visible.generation, next.revision), (control.generation, 2));
}

#[test]
fn a_barrier_delays_visible_until_the_commit_reaches_it() {
    let visibility_barrier = Some(Lsn(20));
    let before = first().after_commit(committed(op(1, 1), 19), Vec::new(), visibility_barrier);
    assert_eq!((&before.visible, before.visibility_barrier), (&None, visibility_barrier));
    let at = before.after_commit(committed(op(1, 2), 20), Vec::new(), before.visibility_barrier);
    assert_eq!((at.visible.clone().unwrap().at, at.visibility_barrier), (at.committed, None));
    // A later gate holds what is visible by then.
    let held = at.after_commit(committed(op(1, 3), 21), Vec::new(), Some(Lsn(30)));
    assert_eq!(held.visible, at.visible);
    assert_eq!(held.committed.op, op(1, 3));
}

#[test]
fn a_stored_record_stays_readable_by_later_versions() {
    let control = after(&first(), 7).after_takeover(nonce("b")).unwrap().0;
    let record = serde_json::to_string_pretty(&control).unwrap();

    expect_test::expect![[r#"
        {
          "revision": 3,
          "epoch": 2,
          "owner": "b",
          "committed": {
            "op": "1099511627783",
            "lsn": "0/6",
            "ticket": 6
          },
          "visible": {
            "at": {
              "op": "1099511627783",
              "lsn": "0/6",
              "ticket": 6
            },
            "generation": 1,
            "truncated": []
          },
          "gate": null,
          "generation": 1,
          "truncated": [],
          "recent": [
            {
              "epoch": 1,
              "limit": "1099511627783"
            }
          ],
          "source": {
            "system_id": "1",
            "database": "app",
            "timeline": 1,
            "slot": "tidewater",
            "slot_generation": 1
          }
        }"#]]
    .assert_eq(&record);
    assert_eq!(serde_json::from_str::<Control>(&record).unwrap(), control);
}

/// A record whose readers have the first generation while the second is copied.
fn copying(switch_barrier: Option<Lsn>) -> Control {
    let control = after(&first(), 7);
    let maintained = vec![MaintainedGeneration { id: control.generation, until: None }];
    let generation = GenerationId(epoch(2));
    Control { switch_barrier, generation, maintained, ..control }
}

#[test]
fn readers_keep_their_generation_until_the_switch_barrier_is_reached() {
    let control = copying(Some(Lsn(20)));
    let former = control.visible.clone().unwrap().generation;
    let before = control.after_commit(committed(op(1, 8), 19), Vec::new(), None);
    let visible = before.visible.clone().unwrap();
    assert_eq!((visible.generation, visible.at), (former, before.committed), "it advances");
    assert!(before.is_switch_delayed());

    let at = before.after_commit(committed(op(1, 9), 20), Vec::new(), None).with_former_until(50);
    assert_eq!(at.visible.as_ref().unwrap().generation, at.generation);
    assert_eq!(at.maintained, [MaintainedGeneration { id: former, until: Some(50) }]);
    assert!(!at.is_switch_delayed() && !at.has_expired(49) && at.has_expired(50));

    // A later commit does not prolong the time.
    assert_eq!(at.clone().with_former_until(90).maintained, at.maintained);
}

#[test]
fn a_checkpoint_that_is_held_back_keeps_its_generation() {
    let control = copying(None);
    let held = control.after_commit(committed(op(1, 8), 19), Vec::new(), Some(Lsn(30)));
    assert_eq!(held.visible, control.visible);
    assert_eq!(held.with_former_until(50).maintained[0].until, None, "readers have it");
}

#[test]
fn generations_that_nobody_has_are_not_needed() {
    let control = Control { epoch: epoch(4), ..copying(Some(Lsn(20))) };
    let needed: Vec<_> = (1..7).filter(|&id| control.needs(GenerationId(epoch(id)))).collect();
    assert_eq!(needed, [1, 2, 5, 6], "3 and 4 were given up, and later ones may begin");
}

/// Returns the names that the last of these records has, of one bucket each.
fn written(bucket: &str) -> ChangedNames {
    let mut names = ChangedNames::default();
    names.insert(ChangeName::of_bucket(&crate::BucketKey::from_stored(bucket)));
    names
}

/// Returns the record after a commit that has written a bucket, and the revision before it.
fn after_writing(former: &Control, sequence: u64, bucket: &str) -> Control {
    after(former, sequence).naming_changes(former, &written(bucket))
}

/// Returns whether a record names exactly these buckets as changed since `seen`.
fn names_since(control: &Control, seen: u64, buckets: &[&str]) -> bool {
    let Some(changed) = control.changes.between(seen, control.revision) else { return false };
    let buckets =
        buckets.iter().map(|one| ChangeName::of_bucket(&crate::BucketKey::from_stored(one)));
    changed.concat() == buckets.collect::<Vec<_>>()
}

fn is_unknown_since(control: &Control, seen: u64) -> bool {
    control.changes.between(seen, control.revision).is_none()
}

#[test]
fn a_record_names_what_each_commit_has_written() {
    let visible = after(&first(), 1);
    let second = after_writing(&visible, 2, "a[]");
    let third = after_writing(&second, 3, "b[]");
    assert!(names_since(&third, visible.revision, &["a[]", "b[]"]));
    assert!(names_since(&third, second.revision, &["b[]"]));
    assert!(is_unknown_since(&third, first().revision), "the first checkpoint named nothing");
}

#[test]
fn a_commit_whose_names_are_not_given_is_unknown() {
    let visible = after(&first(), 1);
    let second = after_writing(&visible, 2, "a[]");
    let third = after(&second, 3);
    assert!(is_unknown_since(&third, second.revision));
    let fourth = after_writing(&third, 4, "b[]");
    assert!(names_since(&fourth, third.revision, &["b[]"]));
    assert!(is_unknown_since(&fourth, second.revision));
}

#[test]
fn a_takeover_and_the_first_commit_after_it_are_unknown_to_readers_of_the_former_run() {
    let visible = after_writing(&after(&first(), 1), 2, "a[]");
    let (next, _) = visible.after_takeover(nonce("b")).unwrap();
    assert!(is_unknown_since(&next, visible.revision));
    let committed = after_writing(&next, 1, "b[]");
    assert!(is_unknown_since(&committed, visible.revision));
    assert!(names_since(&committed, next.revision, &["b[]"]));
}

#[test]
fn the_commit_that_opens_a_barrier_is_unknown() {
    let visible = after(&first(), 1);
    let held_at = |former: &Control, sequence, lsn, bucket| {
        former
            .after_commit(committed(op(1, sequence), lsn), Vec::new(), Some(Lsn(50)))
            .naming_changes(former, &written(bucket))
    };
    let held = held_at(&visible, 2, 20, "a[]");
    let still_held = held_at(&held, 3, 30, "b[]");
    assert!(names_since(&still_held, visible.revision, &[]), "readers see nothing of them");

    let opened = held_at(&still_held, 4, 60, "c[]");
    assert_eq!(opened.visible.as_ref().unwrap().at, opened.committed);
    for seen in [visible.revision, held.revision, still_held.revision] {
        assert!(is_unknown_since(&opened, seen));
    }
    assert!(names_since(&after_writing(&opened, 5, "d[]"), opened.revision, &["d[]"]));
}

#[test]
fn a_truncation_and_a_switch_of_generations_are_unknown() {
    let visible = after(&first(), 1);
    let truncated = vec![Truncation { table: 1, op: op(1, 2) }];
    let truncation = visible
        .after_commit(committed(op(1, 2), 20), truncated.clone(), None)
        .naming_changes(&visible, &written("a[]"));
    assert!(is_unknown_since(&truncation, visible.revision));
    let later = truncation
        .after_commit(committed(op(1, 3), 30), truncated, None)
        .naming_changes(&truncation, &written("b[]"));
    assert!(names_since(&later, truncation.revision, &["b[]"]));

    let latest = Control { generation: GenerationId(epoch(2)), ..later.clone() };
    let switched = after_writing(&latest, 4, "c[]");
    assert!(is_unknown_since(&switched, later.revision));
}

#[test]
fn the_names_are_part_of_the_stored_record_and_may_be_missing() {
    let control = after_writing(&after(&first(), 1), 2, "a[]");
    let stored = serde_json::to_string(&control).unwrap();
    assert_eq!(serde_json::from_str::<Control>(&stored).unwrap(), control);

    // A program of an earlier version drops the field.
    let mut record: serde_json::Value = serde_json::from_str(&stored).unwrap();
    assert!(record.as_object_mut().unwrap().remove("changes").is_some());
    let read: Control = serde_json::from_value(record).unwrap();
    assert!(is_unknown_since(&read, control.revision - 1));
}
