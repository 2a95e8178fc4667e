//! Stores whose writer was killed.
//!
//! With the arguments `write DIR PLAN` this program is the writer. It prints the revision of each
//! acknowledged control record on a line of its own, until it is killed.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test of the whole program")]

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use bytes::Bytes;
use tidewater_protocol::{Body, Checksum, Epoch, OpId, Operation, RowKey};
use tidewater_storage::{
    Batch, BucketKey, Committed, CompactionTask, Control, ControlStore, Embedded, FaultPlan,
    Faulty, GenerationId, Lsn, Nonce, ObjectStore, OpLog, ReadResult, RecordKey, RecordStore,
    RecordWrite, SegmentWriter, SourceIdentity, SwapOutcome, Tag, Ticket, Version, VersionedRecord,
    WriteCheckpointStore, WriteContext,
};

/// Number of rows that each commit replaces: enough that a kill often interrupts a transaction.
const ROWS: u64 = 500;

type Claim = (&'static str, fn());

const CLAIMS: &[Claim] = &[
    ("acknowledged_commits_survive_a_kill", acknowledged_commits_survive_a_kill),
    ("a_kill_does_not_affect_another_process", a_kill_does_not_affect_another_process),
    (
        "a_kill_before_a_swap_leaves_the_former_record",
        a_kill_before_a_swap_leaves_the_former_record,
    ),
    ("a_kill_after_a_swap_leaves_the_new_record", a_kill_after_a_swap_leaves_the_new_record),
    (
        "no_unfinished_object_of_a_killed_process_remains",
        no_unfinished_object_of_a_killed_process_remains,
    ),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, dir, plan] = &arguments[..]
        && mode == "write"
    {
        return runtime().block_on(write(Path::new(dir), plan.parse().unwrap()));
    }

    // This is the part of the standard test runner's command line that nextest and cargo use.
    let only_ignored = arguments.iter().any(|argument| argument == "--ignored");
    let only_list = arguments.iter().any(|argument| argument == "--list");
    let names: Vec<_> = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-') && *argument != "terse")
        .collect();

    for (name, claim) in CLAIMS {
        let is_chosen = names.is_empty() || names.iter().any(|part| name.contains(part.as_str()));
        if only_ignored || !is_chosen {
            continue;
        }
        if only_list {
            println!("{name}: test");
        } else {
            claim();
            println!("test {name} ... ok");
        }
    }
}

fn acknowledged_commits_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    // Each round takes over the store that the previous writer has left.
    for round in 0..12 {
        let mut writer = Writer::start(dir.path(), "");
        let acknowledged = writer.killed_after(3 + round * 2 % 7);
        runtime().block_on(async {
            let store = Embedded::open(dir.path()).unwrap();
            check(&store, acknowledged, acknowledged + 1).await;
        });
    }
}

fn a_kill_does_not_affect_another_process() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let store = Embedded::open(dir.path()).unwrap();
        for round in 1..=6 {
            let mut writer = Writer::start(dir.path(), "");
            let acknowledged = writer.killed_after(4);
            check(&store, acknowledged, acknowledged + 1).await;
            assert_eq!(store.take_ticket().await.unwrap(), Ticket(round));
        }
    });
}

fn a_kill_before_a_swap_leaves_the_former_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::start(dir.path(), "swap_control:4:kill_before");
    assert_eq!(writer.ended(None), 3);
    runtime().block_on(async {
        let store = Embedded::open(dir.path()).unwrap();
        check(&store, 3, 3).await;
        // The batch before the swap is stored and uncommitted.
        let stored = store.records(&[row(0)]).await.unwrap().remove(0).unwrap();
        assert_eq!(stored.newest_op().sequence(), 4);
    });
}

fn a_kill_after_a_swap_leaves_the_new_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::start(dir.path(), "swap_control:4:kill_after");
    assert_eq!(writer.ended(None), 3);
    runtime().block_on(async {
        check(&Embedded::open(dir.path()).unwrap(), 4, 4).await;
    });
}

fn no_unfinished_object_of_a_killed_process_remains() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..8 {
        Writer::start(dir.path(), "").killed_after(2);
        let _store = Embedded::open(dir.path()).unwrap();
        let unfinished = std::fs::read_dir(dir.path().join("unfinished")).unwrap().count();
        assert_eq!(unfinished, 0);
    }
}

/// The process that is killed.
struct Writer {
    process: Child,
    reports: Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(dir: &Path, plan: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .arg("write")
            .arg(dir)
            .arg(plan)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let reports = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, reports }
    }

    /// Kills the process after this number of reports. Returns the last revision that it reported.
    fn killed_after(&mut self, reports: usize) -> u64 {
        let last = self.reports.by_ref().take(reports).map(Result::unwrap).last();
        self.process.kill().unwrap();
        self.ended(last)
    }

    /// Waits for the end of the process. Returns the last revision that it reported: `last`, unless a
    /// later one follows.
    fn ended(&mut self, last: Option<String>) -> u64 {
        let last = self.reports.by_ref().map(Result::unwrap).last().or(last);
        assert!(!self.process.wait().unwrap().success(), "the process was killed");
        last.unwrap().parse().unwrap()
    }
}

/// Takes the store over, then replaces all rows with each commit, for ever.
async fn write(dir: &Path, plan: FaultPlan) {
    let store = Faulty::new(Embedded::open(dir).unwrap(), plan);
    let owner = Nonce(std::process::id().to_string());
    let (expected, mut control) = match store.control().await.unwrap() {
        None => (None, Control::first(Epoch::ZERO.next().unwrap(), owner, source(), Lsn(1))),
        Some(found) => {
            let (next, archived) = found.after_takeover(owner).unwrap();
            store.archive_epochs(&archived).await.unwrap();
            (Some(found.revision), next)
        }
    };
    swap(&store, expected, &control).await;

    loop {
        let revision = control.revision + 1;
        let op = OpId::new(control.epoch, revision);
        store.write(batch(&store, &control, op).await.into()).await.unwrap();
        store.put_object(&object(revision), content(revision)).await.unwrap();

        let committed = Committed { op, lsn: Lsn(revision), ticket: Ticket::default() };
        let next = control.after_commit(committed, Vec::new(), None);
        swap(&store, Some(control.revision), &next).await;
        control = next;
    }
}

/// Writes the control record and reports it.
async fn swap(store: &impl ControlStore, expected: Option<u64>, new: &Control) {
    assert_eq!(store.swap_control(expected, new).await.unwrap(), SwapOutcome::Swapped);
    println!("{}", new.revision);
}

/// Returns a batch with the value `op` for all rows, and a segment with that operation.
async fn batch(store: &(impl ControlStore + RecordStore), control: &Control, op: OpId) -> Batch {
    let archived = store.archived_epochs().await.unwrap();
    let committed_ops = control.committed_ops(&archived);
    let context = WriteContext {
        committed_ops: &committed_ops,
        visible: Some(control.committed.op),
        recent: &[],
    };

    let keys: Vec<_> = (0..ROWS).map(row).collect();
    let stored = store.records(&keys).await.unwrap();
    let records = keys.into_iter().zip(stored).map(|(key, stored)| {
        let version = Version { op, value: Some(value(op)) };
        let record = VersionedRecord::with_version(stored.as_ref(), version, &context);
        RecordWrite {
            key,
            expected_newest: stored.map(|stored| stored.newest_op()),
            record: record.into(),
        }
    });

    let mut writer = SegmentWriter::default();
    let body = Body::Put { row: RowKey::new("todos", "t1", "s"), data: op.to_string().into() };
    writer.push(&Operation { op_id: op, checksum: Checksum(1), body });
    let segment = writer.finish(bucket(), control.committed.op, Checksum(0));

    Batch {
        records: records.collect(),
        segments: vec![segment],
        registry: vec![bucket()],
        compaction_tasks: vec![CompactionTask::immediate(bucket(), op)],
    }
}

/// Checks that the store has a revision in this range, and everything that is committed.
async fn check(store: &Embedded, at_least: u64, at_most: u64) {
    let control = store.control().await.unwrap().unwrap();
    let revision = control.revision;
    assert!((at_least..=at_most).contains(&revision), "{revision} in {at_least}..={at_most}");

    let committed_ops = control.committed_ops(&store.archived_epochs().await.unwrap());
    let at = control.committed.op;
    if at == OpId::ZERO {
        return;
    }

    let keys: Vec<_> = (0..ROWS).map(row).collect();
    for record in store.records(&keys).await.unwrap() {
        assert_eq!(record.unwrap().read_at(at, &committed_ops), ReadResult::Found(at, &value(at)));
    }

    let segments = store.segments(&bucket(), OpId::ZERO, at, usize::MAX).await.unwrap().segments;
    let mut last = OpId::ZERO;
    for segment in segments.iter().filter(|segment| committed_ops.is_committed(segment.last)) {
        assert_eq!(segment.prev, last, "the chain of committed segments");
        last = segment.last;
    }
    assert_eq!(last, at, "the chain ends at the checkpoint");

    let name = object(at.sequence());
    let stored = store.object_range(&name, 0..u64::MAX).await.unwrap();
    assert_eq!(stored, Some(content(at.sequence())));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn source() -> SourceIdentity {
    SourceIdentity {
        system_id: "1".into(),
        database: "app".into(),
        timeline: 1,
        slot: "tidewater".into(),
        slot_generation: 1,
    }
}

fn bucket() -> BucketKey {
    BucketKey::new(&Tag::from_bits(1), "[]")
}

fn row(number: u64) -> RecordKey {
    let generation = GenerationId(Epoch::ZERO.next().unwrap());
    RecordKey::SourceRow(generation, 0, format!("[{number}]").into())
}

fn value(op: OpId) -> Bytes {
    op.to_string().into()
}

fn object(revision: u64) -> String {
    format!("written/{revision}")
}

fn content(revision: u64) -> Bytes {
    revision.to_string().repeat(20_000).into()
}
