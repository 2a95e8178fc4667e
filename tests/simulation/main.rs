//! A deterministic simulation of the worker, the builder and the sync API over one store.
//!
//! [`Actor`] runs the worker's state machines, the snapshot builder or a [`Reader`] of the real sync
//! API. Each of its storage calls waits for a turn. A seeded random generator chooses the turns,
//! commits transactions to the [`SourceModel`], kills workers and builders, starts concurrent
//! workers, changes the sync config, loses replies and sets clocks. Only the store keeps two workers apart: in a
//! deployment the replication slot does so too.
//!
//! Every completed checkpoint of every reader must equal the source at exactly one commit, and must
//! contain the writes that it acknowledges. A worker may end, a request may be refused and a stream may
//! be aborted only for a reason that the simulation causes.
//!
//! One seed always gives the same events. A failed run prints the last of them. `TIDEWATER_TEST_SEED=N`
//! runs one seed, and `TIDEWATER_TEST_EVENTS=FILE` writes all of its events to a file.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod actors;
mod builder;
mod events;
mod reader;
mod source;
mod store;
mod worker;
mod world;

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use tidewater_snapshot_builder::Options;
use tidewater_storage::{ControlStore, Embedded, FaultPlan, WriteCheckpointStore};
use tidewater_tests::Settings;

use actors::Actor;
use events::EventLog;
use reader::Reader;
use source::USERS;
use world::{Counters, PrintEventsOnPanic, Shared, VisibleCheckpoint, World, op_text};

/// Turns of one run.
const TURNS: usize = 4_000;

/// The most workers at one time.
const WORKERS_MAX: usize = 3;

/// Server processes that hold streams over many commits.
const PROCESSES: usize = 2;

/// Calls within which a process must have told its streams what is visible: a multiple of what the
/// streams of all users read.
const SETTLE_CALLS_MAX: usize = 600;

/// Commits at the end of a run, each of which the held streams must be told by its names.
const LIVE_COMMITS: usize = 12;

/// One random action.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The source commits a transaction.
    CommitToSource,
    /// A worker is killed, and another one starts.
    ReplaceWorker,
    /// A worker starts beside the others, unless there are [`WORKERS_MAX`].
    AddWorker,
    /// A builder is killed, and another one starts.
    ReplaceBuilder,
    /// A builder makes one storage call.
    Builder,
    /// A worker makes one storage call.
    Worker,
    /// A reader makes one storage call.
    Reader,
    /// A server process that holds streams makes one storage call.
    Process,
    /// A server process that holds streams is killed, and another one starts.
    ReplaceProcess,
    /// The streams that a process holds must come to the visible checkpoint, while all others wait.
    Settle,
}

/// The weight of each action. Kills are rare: a worker must have the time to finish its initial copy.
const WEIGHTS: [(Turn, u32); 10] = [
    (Turn::CommitToSource, 20),
    (Turn::ReplaceWorker, 1),
    (Turn::AddWorker, 1),
    (Turn::ReplaceBuilder, 1),
    (Turn::Builder, 70),
    (Turn::Worker, 230),
    (Turn::Reader, 180),
    (Turn::Process, 120),
    (Turn::ReplaceProcess, 1),
    (Turn::Settle, 3),
];

#[test]
fn every_completed_checkpoint_is_the_source_at_one_commit() {
    let settings = Settings::from_env().unwrap();
    let seeds = match settings.seed {
        Some(seed) => vec![seed],
        None => (1..=settings.simulation_seeds).collect(),
    };
    let file = settings.events.map(|path| Arc::new(File::create(path).unwrap()));

    // Runs share nothing, so each processor takes the next seed.
    let next = AtomicUsize::new(0);
    let sums = Mutex::new(Counters::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(seeds.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let _stop = StopOnPanic { next: &next, end: seeds.len() };
                while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    println!("seed {seed}");
                    let mut events = EventLog::with_file(file.clone());
                    events.push(format!("seed {seed}"));
                    let world = run_seed(seed, World { events, ..World::default() });
                    sums.lock().unwrap().add(&world.lock().unwrap().counters);
                }
            });
        }
    });

    let sums = sums.into_inner().unwrap();
    let runs = seeds.len();
    println!("{runs} runs: {sums:#?}");
    if settings.seed.is_none() {
        assert_enough_was_tested(&sums, runs);
    }
}

/// Lets no thread take another seed after a run has failed.
struct StopOnPanic<'a> {
    next: &'a AtomicUsize,
    end: usize,
}

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.next.store(self.end, Ordering::Relaxed);
        }
    }
}

/// Asserts that many runs together have tested everything. A single run may lack some of it.
fn assert_enough_was_tested(sums: &Counters, runs: usize) {
    let Counters { completed, acknowledged, bases, lines_of_bases, .. } = *sums;
    let Counters { live, switches, rollbacks, .. } = *sums;
    // Few runs differ much: 10 of them had 8, and 60 had 104.
    assert!(live >= runs / 2, "only {live} checkpoints in {runs} runs' copies for another config");
    assert!(switches >= runs / 2, "only {switches} switches in {runs} runs");
    assert!(rollbacks >= runs / 5, "only {rollbacks} rollbacks in {runs} runs");
    assert!(completed >= 10 * runs, "only {completed} checkpoints in {runs} runs");
    assert!(bases >= runs, "only {bases} bases in {runs} runs");
    assert!(lines_of_bases >= runs, "only {lines_of_bases} lines of bases in {runs} runs");
    assert!(sums.settled >= 5 * runs, "only {} settled streams in {runs} runs", sums.settled);
    assert!(acknowledged >= runs / 2, "only {acknowledged} acknowledged writes in {runs} runs");
    assert!(sums.killed_workers >= 5 * runs, "{} kills in {runs} runs", sums.killed_workers);
    assert!(sums.clock_jumps >= runs, "{} jumps of clocks in {runs} runs", sums.clock_jumps);

    for kind in ["Fresh", "Continue", "TablesChanged", "SlotReset", "ConfigChanged"] {
        assert!(sums.takeovers.contains(kind), "no worker has taken over as {kind}");
    }
    for reason in ["fenced", "overtaken", "injected fault"] {
        assert!(sums.ended_workers.contains_key(reason), "no worker has ended as {reason}");
    }
}

/// Without this, a failing seed could not be debugged.
#[test]
fn a_seed_run_twice_gives_the_same_events() {
    let settings = Settings::from_env().unwrap();
    for seed in settings.seed.map_or(1..=3, |seed| seed..=seed) {
        let first = events_of(seed);
        let second = events_of(seed);

        for (number, (first, second)) in first.iter().zip(&second).enumerate() {
            assert_eq!(first, second, "seed {seed}, event {number}");
        }
        assert_eq!(first.len(), second.len(), "seed {seed}");
        assert!(first.len() > 1_000, "seed {seed} has only {} events", first.len());
    }
}

fn events_of(seed: u64) -> Vec<String> {
    let world = World { events: EventLog::keeping_all(), ..World::default() };
    let world = run_seed(seed, world);
    world.lock().unwrap().events.take_lines()
}

fn run_seed(seed: u64, world: World) -> Shared {
    let world = Arc::new(Mutex::new(world));
    let _guard = PrintEventsOnPanic { seed, world: world.clone() };

    // Time is paused: a sleep ends at once when no task can run, so no run depends on the speed of the
    // machine.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut simulation = Simulation::start(seed, &world);
        simulation.wait_until_idle().await;
        for _ in 0..TURNS {
            simulation.turn().await;
        }
        simulation.finish().await;
    });
    world
}

/// The actors of one run.
struct Simulation {
    rng: StdRng,
    store: Embedded,
    world: Shared,
    builder_options: Options,
    builders: Vec<Actor<()>>,
    workers: Vec<Actor<()>>,
    readers: Vec<Actor<Reader>>,
    processes: Vec<Actor<Vec<()>>>,
    // The store is closed before its folder is removed.
    _folder: TempDir,
}

impl Simulation {
    fn start(seed: u64, world: &Shared) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        // No simulated fault concerns the disk, so memory is as good and faster.
        let memory = std::path::Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::tempdir_in(parent).unwrap();
        let store = Embedded::open(folder.path()).unwrap();

        for _ in 0..rng.random_range(0..15) {
            world.lock().unwrap().commit_random(&mut rng);
        }
        // A clock that jumps ahead ends every grace period at once.
        let clocks_jump = rng.random_range(0..4) == 0;
        let deletes_early = clocks_jump || rng.random_range(0..4) == 0;
        {
            let mut world = world.lock().unwrap();
            world.clocks_jump = clocks_jump;
            world.deletes_early = deletes_early;
        }

        let mut simulation = Self {
            builder_options: builder::options(rng.random(), deletes_early),
            rng,
            store,
            world: world.clone(),
            builders: Vec::new(),
            workers: Vec::new(),
            readers: Vec::new(),
            processes: Vec::new(),
            _folder: folder,
        };
        for _ in 0..2 {
            let builder = simulation.new_builder();
            simulation.builders.push(builder);
        }
        let worker = simulation.new_worker();
        simulation.workers.push(worker);
        for user in USERS {
            let reader = Reader::new(user, simulation.rng.random());
            simulation.readers.push(Actor::reader(reader, &simulation.store, world));
        }
        for number in 0..PROCESSES {
            let process = simulation.new_process(number);
            simulation.processes.push(process);
        }
        simulation
    }

    /// Waits until each actor has come to its first call.
    async fn wait_until_idle(&mut self) {
        for actor in self.builders.iter_mut().chain(&mut self.workers) {
            actor.wait_until_idle().await;
        }
        for reader in &mut self.readers {
            reader.wait_until_idle().await;
        }
        for process in &mut self.processes {
            process.wait_until_idle().await;
        }
    }

    /// Performs one random action.
    async fn turn(&mut self) {
        match self.choose_turn() {
            Turn::CommitToSource => self.world.lock().unwrap().commit_random(&mut self.rng),
            Turn::ReplaceWorker => {
                let victim = self.rng.random_range(0..self.workers.len());
                self.workers[victim].kill();
                self.world.lock().unwrap().counters.killed_workers += 1;
                self.workers[victim] = self.new_worker();
                self.workers[victim].wait_until_idle().await;
            }
            Turn::AddWorker if self.workers.len() < WORKERS_MAX => {
                let mut worker = self.new_worker();
                worker.wait_until_idle().await;
                self.workers.push(worker);
            }
            Turn::ReplaceBuilder => {
                let victim = self.rng.random_range(0..self.builders.len());
                self.builders[victim].kill();
                self.builders[victim] = self.new_builder();
                self.builders[victim].wait_until_idle().await;
            }

            Turn::Builder => {
                let at = self.rng.random_range(0..self.builders.len());
                assert!(self.builders[at].turn().await, "{} ended", self.builders[at].label);
            }
            Turn::AddWorker | Turn::Worker => self.worker_turn().await,
            Turn::Reader => {
                let at = self.rng.random_range(0..self.readers.len());
                let reader = &mut self.readers[at];
                if !reader.turn().await {
                    let error = reader.outcome().await.err().unwrap();
                    panic!("{} ended: {error:#}", reader.label);
                }
            }
            Turn::Process => {
                let at = self.rng.random_range(0..self.processes.len());
                self.process_turn(at).await;
            }
            Turn::ReplaceProcess => {
                let victim = self.rng.random_range(0..self.processes.len());
                self.processes[victim].kill();
                let suffix = format!(" held-{victim}");
                self.world.lock().unwrap().held.retain(|label, _| !label.ends_with(&suffix));
                self.processes[victim] = self.new_process(victim);
                self.processes[victim].wait_until_idle().await;
            }
            Turn::Settle => {
                let at = self.rng.random_range(0..self.processes.len());
                self.settle(at, false).await;
            }
        }

        record_visible(&self.store, &self.world).await;
        self.world.lock().unwrap().turns += 1;
    }

    fn choose_turn(&mut self) -> Turn {
        let sum = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut number: u32 = self.rng.random_range(0..sum);
        for (turn, weight) in WEIGHTS {
            if number < weight {
                return turn;
            }
            number -= weight;
        }
        unreachable!("the number is below the sum of the weights")
    }

    async fn worker_turn(&mut self) {
        let at = self.rng.random_range(0..self.workers.len());
        if self.workers[at].turn().await {
            return;
        }

        let mut worker = self.workers.swap_remove(at);
        let error = worker.outcome().await.expect_err("a worker runs until it fails");
        {
            let mut world = self.world.lock().unwrap();
            world.log(&format!("{} ends: {error:#}", worker.label));
            let reason = worker::expected_end(&error);
            let reason = reason.unwrap_or_else(|| panic!("{} ended: {error:#}", worker.label));
            *world.counters.ended_workers.entry(reason.to_owned()).or_default() += 1;
        }

        // Usually another worker has fenced this one. A replacement would fence the other one in
        // turn, and so on without end.
        if self.workers.is_empty() {
            let mut worker = self.new_worker();
            worker.wait_until_idle().await;
            self.workers.push(worker);
        }
    }

    async fn process_turn(&mut self, at: usize) {
        let process = &mut self.processes[at];
        if !process.turn().await {
            let error = process.outcome().await.err();
            panic!("{} ended: {error:?}", process.label);
        }
    }

    /// Lets a process run alone until each of its streams has what is visible, and fails if one does not
    /// come to it; at the end, its writes must be acknowledged, too. Nobody cuts a stream meanwhile: another one would find what the first was not told.
    async fn settle(&mut self, at: usize, is_end: bool) {
        self.world.lock().unwrap().is_settling = true;
        let mut calls = 0;
        while let Some(outdated) = self.outdated_reader(at, is_end) {
            assert!(calls < SETTLE_CALLS_MAX, "{outdated} is not told what has changed");
            self.process_turn(at).await;
            calls += 1;
        }
        let mut world = self.world.lock().unwrap();
        world.is_settling = false;
        world.counters.settled += 1;
    }

    fn outdated_reader(&self, process: usize, is_end: bool) -> Option<String> {
        self.world.lock().unwrap().outdated_reader(process, is_end)
    }

    fn new_process(&mut self, number: usize) -> Actor<Vec<()>> {
        Actor::process(number, self.rng.random(), &self.store, &self.world)
    }

    fn new_worker(&mut self) -> Actor<()> {
        let faults = FaultPlan::default().with_random(self.rng.random(), 15);
        Actor::worker(self.rng.random(), faults, &self.store, &self.world)
    }

    fn new_builder(&mut self) -> Actor<()> {
        let faults = FaultPlan::default().with_random(self.rng.random(), 15);
        Actor::builder(self.builder_options.clone(), faults, &self.store, &self.world)
    }

    /// Kills workers and builders, and verifies that all readers come to equal the source.
    async fn finish(mut self) {
        for actor in self.workers.iter_mut().chain(&mut self.builders) {
            actor.kill();
        }
        let mut readers = Vec::new();
        for mut actor in std::mem::take(&mut self.readers) {
            readers.push(actor.stop_and_return().await);
        }

        // The held streams stay open while the last worker commits the rest, and then come to the end.
        // They may take further tickets, which nobody covers any more.
        for held in self.world.lock().unwrap().held.values_mut() {
            held.expected = held.requested;
        }
        let mut worker = Actor::worker(0, FaultPlan::default(), &self.store, &self.world);
        catch_up(&mut worker, &self.store, &self.world).await;
        for at in 0..PROCESSES {
            self.settle(at, true).await;
        }

        // The commits of one run name what they change, so from here on nothing else wakes a stream.
        for _ in 0..LIVE_COMMITS {
            self.world.lock().unwrap().commit_random(&mut self.rng);
            catch_up(&mut worker, &self.store, &self.world).await;
            for at in 0..PROCESSES {
                self.settle(at, false).await;
            }
        }
        worker.kill();
        for process in &mut self.processes {
            process.kill();
        }
        for mut reader in readers {
            reader.read_to_the_end(&self.store, &self.world).await;
        }
    }
}

/// Records the visible checkpoint, if it is a new one.
async fn record_visible(store: &Embedded, world: &Shared) {
    let Some(control) = store.control().await.unwrap() else { return };
    let is_copying = control.is_switch_delayed();
    let Some(visible) = control.visible else { return };

    let seen = VisibleCheckpoint { op: visible.at.op, lsn: visible.at.lsn };
    let mut world = world.lock().unwrap();
    if world.visible_generation != Some(visible.generation) {
        world.log(&format!("readers have generation {}", visible.generation.0));
        world.counters.switches += usize::from(world.visible_generation.is_some());
        world.visible_generation = Some(visible.generation);
    }
    if world.visible_checkpoints.last() != Some(&seen) {
        world.counters.live += usize::from(is_copying);
        world.visible_checkpoints.push(seen);
        world.log(&format!(
            "visible checkpoint {} at LSN {}, ticket {}",
            op_text(seen.op),
            seen.lsn,
            visible.at.ticket.0
        ));
    }
}

/// Runs a worker without faults until the end of the source and all tickets are visible.
async fn catch_up(worker: &mut Actor<()>, store: &Embedded, world: &Shared) {
    /// Turns until the worker must have caught up: a multiple of those of a whole run.
    const CATCH_UP_TURNS_MAX: usize = 20_000;

    let last_ticket = store.last_ticket().await.unwrap();
    for _ in 0..CATCH_UP_TURNS_MAX {
        assert!(worker.turn().await, "the last worker ended: {:?}", worker.outcome().await);
        record_visible(store, world).await;

        let control = store.control().await.unwrap().unwrap();
        let end = world.lock().unwrap().source.end_lsn();
        let has_caught_up = control.visible.as_ref().is_some_and(|visible| {
            visible.generation == control.generation
                && visible.at.lsn >= end
                && visible.at.ticket >= last_ticket
        });
        if has_caught_up {
            return;
        }
    }
    panic!("the last worker does not catch up");
}
