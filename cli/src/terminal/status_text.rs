//! The state of a deployment as text of at most 80 columns.

use std::time::Duration;

use tidewater_ingest_worker::{
    BucketStatus, ConfigState, ConfigStatus, CopyStage, SlotStatus, SnapshotStatus, Status,
    TableStatus, WorkerStatus,
};

use super::bytes;
use super::duration;
use super::format::{counted, grouped};
use super::labelled::{push, push_line};

/// Width of a name in a list. Longer ones are cut in the middle, since both ends tell them apart.
const NAME_WIDTH: usize = 34;
/// Tables that are listed. Those whose copy is not complete come first.
const TABLES_MAX: usize = 30;
/// Hexadecimal digits of a config's hash: enough to compare it with a file.
const HASH_DIGITS: usize = 12;

/// Returns the text.
pub(crate) fn render(status: &Status) -> String {
    let mut out = String::new();
    push(&mut out, "state", if status.healthy { "healthy" } else { "not healthy" });
    for problem in &status.problems {
        push(&mut out, "problem", problem);
    }
    for warning in &status.warnings {
        push(&mut out, "warning", warning);
    }

    if let Some(worker) = &status.worker {
        push(&mut out, "worker", &worker_text(worker));
    }
    if let Some(slot) = &status.slot {
        push(&mut out, "slot", &slot_text(slot));
    }
    for config in &status.configs {
        push(&mut out, "config", &config_text(config));
    }
    if let Some(store) = &status.store {
        let total = store.database_bytes + store.log_bytes + store.object_bytes;
        let text = format!(
            "{}: database {}, its WAL {}, snapshots {}",
            bytes::format(total),
            bytes::format(store.database_bytes),
            bytes::format(store.log_bytes),
            bytes::format(store.object_bytes)
        );
        push(&mut out, "store", &text);
    }
    if let Some(compaction) = &status.compaction {
        let more = if compaction.is_complete { "" } else { " or more" };
        let noun = if compaction.due == 1 && compaction.is_complete { "bucket" } else { "buckets" };
        push(&mut out, "compaction", &format!("{}{more} {noun} due", grouped(compaction.due)));
    }
    if let Some(streams) = status.streams {
        push(&mut out, "streams", &format!("{} open", grouped(streams)));
    }

    push_tables(&mut out, &status.tables);
    push_definitions(&mut out, status);
    push_buckets(&mut out, &status.largest_buckets);
    out
}

fn worker_text(worker: &WorkerStatus) -> String {
    let checkpoint = match worker.age_ms {
        _ if !worker.has_checkpoint => "no checkpoint yet".to_owned(),
        None => "checkpoint not confirmed".to_owned(),
        Some(age) => {
            format!("devices had everything {} ago", duration::format(Duration::from_millis(age)))
        }
    };
    format!("{checkpoint}; epoch {}, at {}", worker.epoch, worker.committed_lsn)
}

fn slot_text(slot: &SlotStatus) -> String {
    let mut parts = Vec::new();
    parts.push(if slot.active { "active" } else { "no worker streams from it" }.to_owned());
    parts.extend(slot.wal_status.clone());
    if let Some(lag) = slot.lag_bytes {
        parts.push(format!("{} behind", bytes::format(lag)));
    }
    if let Some(retained) = slot.retained_bytes {
        let budget = bytes::format(slot.budget_bytes);
        parts.push(format!("keeps {} of WAL (budget {budget})", bytes::format(retained)));
    }

    if let Some(left) = slot.left_bytes {
        parts.push(format!("{} left", bytes::format(left)));
    }
    format!("{}: {}", slot.name, parts.join(", "))
}

fn config_text(config: &ConfigStatus) -> String {
    let state = match config.state {
        ConfigState::InUse => "in use",
        ConfigState::OnItsWay => "on its way",
        ConfigState::Kept => "kept for a rollback",
    };
    format!(
        "{state}: generation {}, {}, sha256 {}",
        config.generation,
        counted(config.definitions, "definition"),
        config.sha256.get(..HASH_DIGITS).unwrap_or(&config.sha256)
    )
}

fn push_tables(out: &mut String, tables: &[TableStatus]) {
    if tables.is_empty() {
        return;
    }
    let mut sorted: Vec<_> = tables.iter().collect();
    sorted.sort_by_key(|table| table.copy == CopyStage::Done);

    push_line(out, "");
    push_line(out, &format!("{:<NAME_WIDTH$}  {:>14}  copy", "table", "rows"));
    for table in sorted.iter().take(TABLES_MAX) {
        let name = table.name.clone().unwrap_or_else(|| format!("table {}", table.oid));
        let rows = table.estimated_rows.map(|rows| format!("~{}", grouped(rows)));
        let line = format!(
            "{:<NAME_WIDTH$}  {:>14}  {}",
            cut(&name),
            rows.unwrap_or_default(),
            copy_text(table)
        );
        push_line(out, &line);
        if let Some(unsynced) = table.unsynced_rows.filter(|count| *count > 0) {
            push_line(out, &format!("  rows that are not synced: {}", grouped(unsynced)));
        }
    }
    if tables.len() > TABLES_MAX {
        push_line(out, &format!("and {} more", tables.len() - TABLES_MAX));
    }
}

fn copy_text(table: &TableStatus) -> String {
    let mut text = match table.copy {
        CopyStage::Waiting => "waiting".to_owned(),
        CopyStage::Copying => "copying".to_owned(),
        CopyStage::Removing => "removing rows".to_owned(),
        CopyStage::Done => "done".to_owned(),
    };

    if let Some(progress) = table.progress {
        text.push_str(&format!(" {}", grouped(progress.rows)));
        if let Some(seconds) = progress.seconds_left {
            let left = duration::format(Duration::from_secs(seconds));
            text.push_str(&format!(", {left} left"));
        }
    }
    text
}

fn push_definitions(out: &mut String, status: &Status) {
    if status.definitions.is_empty() {
        return;
    }
    push_line(out, "");
    push_line(
        out,
        &format!("{:<NAME_WIDTH$}  {:>14}  {:>14}", "definition", "buckets", "operations"),
    );
    for definition in &status.definitions {
        let more = if definition.is_complete { " " } else { "+" };
        let line = format!(
            "{:<NAME_WIDTH$}  {:>14}{more} {:>14}{more}",
            cut(&definition.name),
            grouped(definition.buckets),
            grouped(definition.operations),
        );
        push_line(out, &line);
    }

    if let Some(scan) = status.bucket_scan.filter(|scan| !scan.is_complete) {
        let text = format!(
            "+ there are more: {} buckets were examined (--scan-buckets)",
            grouped(scan.examined)
        );
        push_line(out, &text);
    }
}

fn push_buckets(out: &mut String, buckets: &[BucketStatus]) {
    if buckets.is_empty() {
        return;
    }

    push_line(out, "");
    push_line(out, &format!("{:<NAME_WIDTH$}  {:>14}  snapshot", "largest buckets", "operations"));
    for bucket in buckets {
        let snapshot = bucket.snapshot.as_ref().map_or_else(|| "none".to_owned(), snapshot_text);
        let line = format!(
            "{:<NAME_WIDTH$}  {:>14}  {snapshot}",
            cut(&bucket.name),
            grouped(bucket.operations)
        );
        push_line(out, &line);
    }
}

fn snapshot_text(snapshot: &SnapshotStatus) -> String {
    let mut text = format!("{} rows", grouped(snapshot.rows));
    if let Some(size) = snapshot.bytes {
        text.push_str(&format!(", {}", bytes::format(size)));
    }
    if let Some(age) = snapshot.age_seconds {
        text.push_str(&format!(", {}", duration::format(Duration::from_secs(age))));
    }
    text
}

/// Shortens a name to the width of its column. Control characters are replaced: a name has values of
/// rows, and must not reach the terminal as commands.
fn cut(name: &str) -> String {
    let chars: Vec<char> =
        name.chars().map(|char| if char.is_control() { '?' } else { char }).collect();
    if chars.len() <= NAME_WIDTH {
        return chars.into_iter().collect();
    }
    let tail = (NAME_WIDTH - 3) / 2;
    let head = NAME_WIDTH - 3 - tail;
    let first: String = chars[..head].iter().collect();
    let last: String = chars[chars.len() - tail..].iter().collect();
    format!("{first}...{last}")
}

#[cfg(test)]
mod tests {
    use tidewater_ingest_worker::{
        BucketScan, CompactionStatus, CopyProgress, DefinitionStatus, SourceAnswer, StoreSize,
    };

    use super::*;

    /// Returns a state that has everything, with long names.
    fn full() -> Status {
        Status {
            healthy: false,
            problems: vec![
                "the ingest worker confirmed the checkpoint 700 s ago: see whether it runs, \
                            and whether it reaches PostgreSQL"
                    .into(),
            ],
            warnings: vec!["1 table is being copied".into()],
            worker: Some(WorkerStatus {
                epoch: 3,
                committed_lsn: "0/1A2B3C4".into(),
                has_checkpoint: true,
                held_back: false,
                confirmed_at_ms: Some(1),
                age_ms: Some(700_000),
                error: None,
            }),
            source: Some(SourceAnswer { reachable: true, error: None }),

            slot: Some(SlotStatus {
                name: "tidewater_1234abcd".into(),
                active: true,
                wal_status: Some("reserved".into()),
                lag_bytes: Some(2_048),
                retained_bytes: Some(16 << 20),
                left_bytes: Some(50 << 30),
                budget_bytes: 10 << 30,
            }),
            configs: vec![ConfigStatus {
                state: ConfigState::InUse,
                generation: 1,
                sha256: "0123456789abcdef".into(),
                definitions: 2,
                kept_until: None,
                text: String::new(),
            }],

            tables: vec![
                TableStatus {
                    name: Some("public.lists".into()),
                    oid: 1,
                    copy: CopyStage::Done,
                    estimated_rows: Some(1_234_567),
                    progress: None,
                    unsynced_rows: Some(0),
                },
                TableStatus {
                    name: None,
                    oid: 16_400,
                    copy: CopyStage::Copying,
                    estimated_rows: None,
                    progress: Some(CopyProgress { rows: 20_000, seconds_left: Some(130) }),
                    unsynced_rows: Some(2),
                },
            ],

            definitions: vec![DefinitionStatus {
                name: "todos_of_a_stream_with_a_rather_long_name|0".into(),
                buckets: 2_000,
                is_complete: false,
                operations: 1_500_000_000,
            }],
            largest_buckets: vec![BucketStatus {
                name: "todos|0.k7m2qa[\"u1\x1b[2J\"]".into(),
                operations: 12_000,
                snapshot: Some(SnapshotStatus {
                    rows: 1_000,
                    operations_since: 4,
                    age_seconds: Some(7_300),
                    bytes: Some(20 << 10),
                }),
            }],

            bucket_scan: Some(BucketScan { examined: 2_000, is_complete: false }),
            compaction: Some(CompactionStatus { due: 1_000, is_complete: false }),
            store: Some(StoreSize { database_bytes: 5 << 20, log_bytes: 0, object_bytes: 1 << 10 }),
            streams: Some(1_200),
        }
    }

    #[test]
    fn the_text_has_everything_in_80_columns() {
        let text = render(&full());
        for line in text.lines() {
            assert!(line.chars().count() <= 80 && line.trim_end() == line, "{line:?}");
        }

        for part in [
            "state       not healthy\n",
            "            runs, and whether it reaches PostgreSQL\n",
            "worker      devices had everything 11 min ago; epoch 3, at 0/1A2B3C4\n",
            "slot        tidewater_1234abcd: active, reserved, 2 kB behind, keeps 16 MB of\n            WAL (budget 10 GB), 50 GB left\n",
            "config      in use: generation 1, 2 definitions, sha256 0123456789ab\n",
            "store       5121 kB: database 5120 kB, its WAL 0 kB, snapshots 1 kB\n",
            "compaction  1,000 or more buckets due\n",
            "streams     1,200 open\n",
            "table 16400                                         copying 20,000, 2 min left\n",
            "  rows that are not synced: 2\n",
            "public.lists                            ~1,234,567  done\n",
            "todos_of_a_strea...",
            "+ there are more: 2,000 buckets were examined (--scan-buckets)\n",
            "1,000 rows, 20 kB, 2 h\n",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }

    #[test]
    fn tables_that_are_copied_come_first() {
        let text = render(&full());
        assert!(text.find("table 16400") < text.find("public.lists"), "{text}");
    }

    #[test]
    fn values_of_rows_do_not_reach_the_terminal_as_commands() {
        let text = render(&full());
        assert!(text.contains("todos|0.k7m2qa[\"u1?[2J\"]") && !text.contains('\x1b'), "{text}");
    }

    #[test]
    fn what_is_not_known_has_no_line() {
        let text = render(&Status { healthy: true, ..Status::default() });
        assert_eq!(text, "state       healthy\n");
    }
}
