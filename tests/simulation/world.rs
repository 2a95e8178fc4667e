//! The state that all actors of a run share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use tidewater_protocol::OpId;
use tidewater_storage::{GenerationId, Lsn};

use crate::events::EventLog;
use crate::source::SourceModel;

pub(crate) type Shared = Arc<Mutex<World>>;

/// The shared state of all actors of a run, and its counters.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) source: SourceModel,
    /// The checkpoints that were visible, oldest first.
    pub(crate) visible_checkpoints: Vec<VisibleCheckpoint>,
    /// The generation that is visible.
    pub(crate) visible_generation: Option<GenerationId>,
    /// Turns so far, which are the builders' clock in seconds unless it jumps.
    pub(crate) turns: u64,
    /// The builders' clocks jump, by hours in both directions.
    pub(crate) clocks_jump: bool,
    /// The LSN that the replication slot has confirmed, once it exists.
    pub(crate) confirmed: Option<Lsn>,
    /// Replaced objects are deleted while readers use them: streams may be aborted, but not wrong.
    pub(crate) deletes_early: bool,
    /// The last completions of the readers that hold streams at server processes, by label.
    pub(crate) held: BTreeMap<String, HeldReader>,
    /// Set while held streams must come to the visible checkpoint by themselves: nobody cuts them.
    pub(crate) is_settling: bool,
    pub(crate) events: EventLog,
    pub(crate) counters: Counters,
}

/// A checkpoint that was visible at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VisibleCheckpoint {
    pub(crate) op: OpId,
    pub(crate) lsn: Lsn,
}

/// The last completion of a reader that holds a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeldReader {
    pub(crate) user: &'static str,
    /// The LSN of the last checkpoint that it has completed.
    pub(crate) lsn: Lsn,
    /// The number of its last write checkpoint.
    pub(crate) requested: i64,
    pub(crate) acknowledged: i64,
    /// The write checkpoint that must be acknowledged before the run ends.
    pub(crate) expected: i64,
}

/// The numbers of events, which show that a run has tested something.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Checkpoints that readers have completed.
    pub(crate) completed: usize,
    /// Writes that a completed checkpoint has acknowledged.
    pub(crate) acknowledged: usize,
    /// Times that held streams have come to the visible checkpoint by themselves.
    pub(crate) settled: usize,
    /// Bases that builders have published.
    pub(crate) bases: usize,
    /// Data lines that readers have received from a base.
    pub(crate) lines_of_bases: usize,
    /// Workers that were started.
    pub(crate) workers: usize,
    /// Builders that were started.
    pub(crate) builders: usize,
    /// Workers that were killed.
    pub(crate) killed_workers: usize,
    /// Jumps of a builder's clock.
    pub(crate) clock_jumps: usize,
    /// Checkpoints that became visible while rows were copied for another config.
    pub(crate) live: usize,
    /// Changes of the config that readers have.
    pub(crate) switches: usize,
    /// Deployments of a config that was maintained.
    pub(crate) rollbacks: usize,
    /// The kinds of takeovers.
    pub(crate) takeovers: BTreeSet<String>,
    /// Workers that ended by themselves, by the reason.
    pub(crate) ended_workers: BTreeMap<String, usize>,
    /// Requests that the sync API has refused, by the code of the error.
    pub(crate) refusals: BTreeMap<String, usize>,
    /// Streams that the sync API has aborted, by the error.
    pub(crate) aborts: BTreeMap<String, usize>,
}

impl World {
    /// Adds a line to the log of events.
    pub(crate) fn log(&mut self, line: &str) {
        self.events.push(format!("turn {}: {line}", self.turns));
    }

    /// Returns a held reader of a process that has other rows than the visible checkpoint or, at the end,
    /// waits for a write checkpoint.
    pub(crate) fn outdated_reader(&self, process: usize, is_end: bool) -> Option<String> {
        let visible = self.visible_checkpoints.last()?;
        let suffix = format!(" held-{process}");
        let of_process = self.held.iter().filter(|(label, _)| label.ends_with(&suffix));
        let mut outdated = of_process.filter(|(_, held)| {
            let has = self.source.at(held.lsn).rows_for(held.user);
            has != self.source.at(visible.lsn).rows_for(held.user)
                || (is_end && held.acknowledged < held.expected)
        });
        outdated.next().map(|(label, held)| format!("{label} at LSN {}", held.lsn))
    }

    /// Commits a transaction of random changes to the source.
    pub(crate) fn commit_random(&mut self, rng: &mut StdRng) {
        self.source.commit_random(rng);
        self.log_commit();
    }

    /// Commits a logical message to the source.
    pub(crate) fn emit_message(&mut self, content: String) {
        self.source.message(content);
        self.log_commit();
    }

    fn log_commit(&mut self) {
        let description = self.source.describe_last();
        self.log(&format!("source: {description}"));
    }
}

impl Counters {
    /// Adds the numbers of another run.
    pub(crate) fn add(&mut self, other: &Self) {
        self.completed += other.completed;
        self.acknowledged += other.acknowledged;
        self.settled += other.settled;
        self.bases += other.bases;
        self.lines_of_bases += other.lines_of_bases;
        self.workers += other.workers;
        self.builders += other.builders;
        self.killed_workers += other.killed_workers;
        self.clock_jumps += other.clock_jumps;
        self.live += other.live;
        self.switches += other.switches;
        self.rollbacks += other.rollbacks;

        self.takeovers.extend(other.takeovers.iter().cloned());
        add_each(&mut self.ended_workers, &other.ended_workers);
        add_each(&mut self.refusals, &other.refusals);
        add_each(&mut self.aborts, &other.aborts);
    }
}

fn add_each(sums: &mut BTreeMap<String, usize>, other: &BTreeMap<String, usize>) {
    for (name, count) in other {
        *sums.entry(name.clone()).or_default() += count;
    }
}

/// Prints the last events of a run if the thread panics before this is dropped.
pub(crate) struct PrintEventsOnPanic {
    pub(crate) seed: u64,
    pub(crate) world: Shared,
}

impl Drop for PrintEventsOnPanic {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }

        // An actor that panicked with the lock has left whole lines, so the log can be read.
        let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        eprintln!("seed {} failed after these events:", self.seed);
        for line in world.events.recent() {
            eprintln!("{line}");
        }
        eprintln!("reproduce: TIDEWATER_TEST_SEED={} (see CONTRIBUTING.md)", self.seed);
    }
}

/// Returns an op id as `epoch.sequence`, or a marker as the position inside a base. The number of the
/// base is random, so it is left out: two runs of a seed would differ.
pub(crate) fn op_text(op: OpId) -> String {
    match (op.epoch(), op.as_marker()) {
        (_, Some((_, rows))) => format!("row {rows} of a base"),
        (Some(epoch), None) => format!("{epoch}.{}", op.sequence()),
        (None, None) => op.to_string(),
    }
}
