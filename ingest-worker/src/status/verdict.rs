//! The problems of a deployment, for people.

use std::time::Duration;

use crate::status::report::{CopyStage, SlotStatus, Status};

/// The slot is in danger when what is left is less than a third of what is retained, as for the worker.
const RETAINED_PER_LEFT_MAX: u64 = 3;

/// Returns what somebody must look at now.
pub(super) fn problems(
    status: &Status,
    max_staleness: Duration,
    other_source: Option<String>,
) -> Vec<String> {
    let mut problems = Vec::new();
    problems.extend(staleness(status, max_staleness));
    if let Some(error) = status.worker.as_ref().and_then(|worker| worker.error.as_ref()) {
        problems.push(format!("the ingest worker: {error}"));
    }
    if let Some(error) = status.source.as_ref().and_then(|source| source.error.as_ref()) {
        problems.push(format!("the source database cannot be read: {error}"));
    }

    let is_source_read = status.source.as_ref().is_some_and(|source| source.reachable);
    if let Some(difference) = other_source {
        problems.push(difference);
    } else if is_source_read && status.worker.is_some() && status.slot.is_none() {
        problems.push(
            "the server does not have the replication slot of the store: the next start of the ingest \
             worker copies all tables again"
                .to_owned(),
        );
    }
    if let Some(slot) = &status.slot
        && slot.wal_status.as_deref() == Some("lost")
    {
        problems.push(format!(
            "replication slot {} is lost: the ingest worker copies all tables again with another one",
            slot.name
        ));
    }
    problems
}

/// Returns why devices are not up to date.
fn staleness(status: &Status, max_staleness: Duration) -> Option<String> {
    let Some(worker) = &status.worker else {
        return Some("no ingest worker has started on this store".to_owned());
    };
    if !worker.has_checkpoint {
        return Some("the initial copy is in progress: devices get no rows yet".to_owned());
    }

    let Some(age) = worker.age_ms.map(Duration::from_millis) else {
        return Some("the ingest worker has not confirmed the checkpoint yet".to_owned());
    };
    if age <= max_staleness {
        return None;
    }

    let seconds = age.as_secs();
    Some(if worker.held_back {
        format!("a copy holds the checkpoint back, which was current {seconds} s ago")
    } else {
        format!(
            "the ingest worker confirmed the checkpoint {seconds} s ago: see whether it runs, and \
             whether it reaches PostgreSQL"
        )
    })
}

/// Returns what somebody should look at.
pub(super) fn warnings(status: &Status) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(slot) = &status.slot {
        warnings.extend(slot_warning(slot));
    }
    let unsynced: u64 = status.tables.iter().filter_map(|table| table.unsynced_rows).sum();
    if unsynced > 0 {
        let noun = if unsynced == 1 { "row is" } else { "rows are" };
        warnings
            .push(format!("{unsynced} {noun} not synced: the log of the ingest worker names each"));
    }

    let copied = status.tables.iter().filter(|table| table.copy != CopyStage::Done).count();
    let has_checkpoint = status.worker.as_ref().is_some_and(|worker| worker.has_checkpoint);
    if copied > 0 && has_checkpoint {
        let noun = if copied == 1 { "table is" } else { "tables are" };
        warnings.push(format!("{copied} {noun} being copied"));
    }
    warnings
}

fn slot_warning(slot: &SlotStatus) -> Option<String> {
    let retained = slot.retained_bytes?;
    let is_in_danger =
        slot.left_bytes.is_some_and(|left| retained > left.saturating_mul(RETAINED_PER_LEFT_MAX));
    if is_in_danger {
        return Some(format!(
            "replication slot {} is nearly lost: max_slot_wal_keep_size leaves {} MB",
            slot.name,
            slot.left_bytes.unwrap_or_default() >> 20
        ));
    }

    (retained > slot.budget_bytes).then(|| {
        format!(
            "replication slot {} retains {} MB of WAL, beyond the budget of {} MB",
            slot.name,
            retained >> 20,
            slot.budget_bytes >> 20
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::report::{SourceAnswer, TableStatus, WorkerStatus};

    const BOUND: Duration = Duration::from_secs(60);

    fn healthy() -> Status {
        Status {
            worker: Some(WorkerStatus {
                epoch: 1,
                committed_lsn: "0/1".into(),
                has_checkpoint: true,
                held_back: false,
                confirmed_at_ms: Some(1),
                age_ms: Some(60_000),
                error: None,
            }),
            ..Status::default()
        }
    }

    fn slot(retained_bytes: u64, left_bytes: Option<u64>) -> SlotStatus {
        SlotStatus {
            name: "s".into(),
            active: true,
            wal_status: Some("reserved".into()),
            lag_bytes: Some(0),
            retained_bytes: Some(retained_bytes),
            left_bytes,
            budget_bytes: 10 << 20,
        }
    }

    /// Returns the problems of a healthy state after a change.
    fn problems_after(change: impl FnOnce(&mut Status)) -> String {
        let mut status = healthy();
        change(&mut status);
        problems(&status, BOUND, None).join("; ")
    }

    fn worker(status: &mut Status) -> &mut WorkerStatus {
        status.worker.as_mut().unwrap()
    }

    #[test]
    fn a_state_within_the_bounds_has_no_problem() {
        assert_eq!(problems_after(|_| {}), "");
        assert_eq!(problems_after(|status| status.slot = Some(slot(0, None))), "");
        assert!(warnings(&healthy()).is_empty());
    }

    #[test]
    fn each_reason_for_stale_devices_is_named() {
        let is_named = |text: &str, problem: String| assert!(problem.contains(text), "{problem}");
        is_named("no ingest worker", problems_after(|status| status.worker = None));
        is_named("initial copy", problems_after(|status| worker(status).has_checkpoint = false));
        is_named("not confirmed", problems_after(|status| worker(status).age_ms = None));
        is_named("61 s ago: see", problems_after(|status| worker(status).age_ms = Some(61_000)));
        let held_back = problems_after(|status| {
            worker(status).age_ms = Some(61_000);
            worker(status).held_back = true;
        });
        is_named("a copy holds", held_back);
        is_named("gone", problems_after(|status| worker(status).error = Some("gone".into())));
    }

    #[test]
    fn a_source_without_the_slot_or_with_a_lost_one_is_a_problem() {
        let reachable = SourceAnswer { reachable: true, error: None };
        let missing = problems_after(|status| status.source = Some(reachable.clone()));
        assert!(missing.contains("does not have the replication slot"), "{missing}");
        let lost = problems_after(|status| {
            status.source = Some(reachable.clone());
            status.slot = Some(SlotStatus { wal_status: Some("lost".into()), ..slot(0, None) });
        });
        assert!(lost.contains("slot s is lost"), "{lost}");
        let down = SourceAnswer { reachable: false, error: Some("refused".into()) };
        let down = problems_after(|status| status.source = Some(down));
        assert_eq!(down, "the source database cannot be read: refused");
    }

    #[test]
    fn a_slot_beyond_its_budget_and_rows_that_are_not_synced_are_warnings() {
        let mut status = healthy();
        status.slot = Some(slot(11 << 20, None));
        status.tables.push(TableStatus {
            name: Some("public.a".into()),
            oid: 1,
            copy: CopyStage::Copying,
            estimated_rows: None,
            progress: None,
            unsynced_rows: Some(2),
        });
        let found = warnings(&status).join("; ");
        assert!(found.contains("retains 11 MB of WAL, beyond the budget of 10 MB"), "{found}");
        assert!(found.contains("2 rows are not synced"), "{found}");
        assert!(found.contains("1 table is being copied"), "{found}");

        status.slot = Some(slot(4 << 20, Some(1 << 20)));
        assert!(warnings(&status).join("; ").contains("nearly lost"));
    }
}
