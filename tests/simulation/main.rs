//! A deterministic simulation of the worker, the builder and the sync API over one store.
//!
//! [`Actor`] runs the worker's state machines, the snapshot builder or a [`Reader`] of the real sync
//! API. Each of its storage calls waits for a turn. A seeded random generator chooses the turns,
//! commits transactions to the [`SourceModel`], kills workers and builders, starts concurrent
//! workers, changes the sync config and loses replies. Only the store keeps two workers apart: in a
//! deployment the replication slot does so too.
//!
//! Every completed checkpoint of every reader must equal the source at exactly one commit, and must
//! contain the writes that it acknowledges. To debug a seed, run it with `TIDEWATER_TEST_SEED`: one
//! seed always gives the same events, which [`World::log`] lists.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod actors;
mod builder;
mod reader;
mod source;
mod worker;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use tidewater_snapshot_builder::Options;
use tidewater_storage::{ControlStore, Embedded, FaultPlan, WriteCheckpointStore};
use tidewater_tests::Settings;

use actors::Actor;
use reader::Reader;
use source::{SourceModel, USERS};

/// Turns of one run.
const TURNS: usize = 4_000;

/// Seeds for each seed of the settings. A run takes a fraction of a second, unlike other tests.
const SEEDS_FACTOR: u64 = 5;

/// The shared state of all actors of a run, and its counters.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) source: SourceModel,
    /// Op id and source position of each checkpoint that was visible.
    pub(crate) visible: Vec<(i64, u64)>,
    /// Checkpoints that readers have completed.
    pub(crate) completed: usize,
    /// Writes that a completed checkpoint has acknowledged.
    pub(crate) acknowledged: usize,
    /// Turns so far, which are the builders' clock in seconds.
    pub(crate) turns: u64,
    /// Bases that builders have published.
    pub(crate) bases: usize,
    /// Data lines that readers have received from a base.
    pub(crate) lines_of_bases: usize,
    /// Workers that were started.
    pub(crate) workers: u64,
    /// The position that the replication slot has confirmed, once it exists.
    pub(crate) confirmed: Option<u64>,
    /// The kinds of takeovers so far.
    pub(crate) takeovers: BTreeSet<String>,
    /// The log of events, if the test needs it.
    pub(crate) events: Option<Vec<String>>,
    /// Replaced objects are deleted while readers use them: requests may fail, but not be wrong.
    pub(crate) deletes_early: bool,
}

impl World {
    /// Adds a line to the log of events, if the test needs it.
    pub(crate) fn log(&mut self, line: impl FnOnce() -> String) {
        if let Some(events) = &mut self.events {
            events.push(line());
        }
    }
}

pub(crate) type Shared = Arc<Mutex<World>>;

#[test]
fn every_completed_checkpoint_is_the_source_at_one_commit() {
    let settings = Settings::from_env().unwrap();
    let seeds = match settings.seed {
        Some(seed) => vec![seed],
        None => (1..=settings.seeds * SEEDS_FACTOR).collect(),
    };

    let mut runs = 0;
    let mut completed = 0;
    let mut acknowledged = 0;
    let mut bases = 0;
    let mut lines_of_bases = 0;
    let mut takeovers = BTreeSet::new();
    for seed in seeds {
        println!("seed {seed}");
        let world = run_seed(seed, Shared::default());
        let world = world.lock().unwrap();
        runs += 1;
        completed += world.completed;
        acknowledged += world.acknowledged;
        bases += world.bases;
        lines_of_bases += world.lines_of_bases;
        takeovers.extend(world.takeovers.iter().cloned());
    }
    println!("{runs} runs, {completed} completed checkpoints, {acknowledged} acknowledged writes");
    println!("{bases} bases, {lines_of_bases} data lines of bases");
    println!("takeovers: {takeovers:?}");

    // The assertions of a run prove nothing if the run has no such events.
    assert!(completed >= 10 * runs, "only {completed} checkpoints in {runs} runs");
    assert!(bases >= runs, "only {bases} bases in {runs} runs");
    assert!(lines_of_bases >= runs, "only {lines_of_bases} lines of bases in {runs} runs");
    assert!(acknowledged >= runs / 2, "only {acknowledged} acknowledged writes in {runs} runs");
    if settings.seed.is_none() {
        for kind in ["Fresh", "Continue", "TablesChanged", "SlotReset", "ConfigChanged"] {
            assert!(takeovers.contains(kind), "no worker has taken over as {kind}");
        }
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
    let world = World { events: Some(Vec::new()), ..World::default() };
    let world = run_seed(seed, Arc::new(Mutex::new(world)));
    world.lock().unwrap().events.take().unwrap()
}

fn run_seed(seed: u64, world: Shared) -> Shared {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut simulation = Simulation::start(seed, &world);
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
            world.lock().unwrap().source.commit_random(&mut rng);
        }
        let deletes_early = rng.random_range(0..4) == 0;
        world.lock().unwrap().deletes_early = deletes_early;

        let mut simulation = Self {
            builder_options: builder::options(rng.random(), deletes_early),
            rng,
            store,
            world: world.clone(),
            builders: Vec::new(),
            workers: Vec::new(),
            readers: Vec::new(),
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
        simulation
    }

    /// Performs one random action: a commit of the source, a kill, a start, or one storage call.
    async fn turn(&mut self) {
        match self.rng.random_range(0..100) {
            0..4 => self.world.lock().unwrap().source.commit_random(&mut self.rng),

            4 if self.rng.random_range(0..5) == 0 => {
                let victim = self.rng.random_range(0..self.workers.len());
                self.workers[victim].kill();
                self.workers[victim] = self.new_worker();
            }
            5 if self.workers.len() < 3 && self.rng.random_range(0..5) == 0 => {
                let worker = self.new_worker();
                self.workers.push(worker);
            }
            6 if self.rng.random_range(0..5) == 0 => {
                let victim = self.rng.random_range(0..self.builders.len());
                self.builders[victim].kill();
                self.builders[victim] = self.new_builder();
            }

            6..20 => {
                let at = self.rng.random_range(0..self.builders.len());
                assert!(self.builders[at].turn().await, "a builder ended");
            }
            5 | 20..65 => self.worker_turn().await,
            _ => {
                let at = self.rng.random_range(0..self.readers.len());
                if !self.readers[at].turn().await {
                    panic!("a reader ended: {:?}", self.readers[at].outcome().await.err());
                }
            }
        }

        record_visible(&self.store, &self.world).await;
        self.world.lock().unwrap().turns += 1;
    }

    async fn worker_turn(&mut self) {
        let at = self.rng.random_range(0..self.workers.len());
        if self.workers[at].turn().await {
            return;
        }

        // Usually another worker has fenced this one. A replacement would fence the other one in
        // turn, and so on without end.
        drop(self.workers.swap_remove(at));
        if self.workers.is_empty() {
            let worker = self.new_worker();
            self.workers.push(worker);
        }
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
        for mut actor in self.readers {
            readers.push(actor.recall().await);
        }

        catch_up(&self.store, &self.world).await;
        for mut reader in readers {
            reader.read_to_the_end(&self.store, &self.world).await;
        }
    }
}

/// Records the visible checkpoint, if it is a new one.
async fn record_visible(store: &Embedded, world: &Shared) {
    let Some(visible) = store.control().await.unwrap().and_then(|control| control.visible) else {
        return;
    };
    let seen = (visible.at.op.get(), visible.at.lsn.0);
    let mut world = world.lock().unwrap();
    if world.visible.last() != Some(&seen) {
        world.visible.push(seen);
    }
}

/// Runs a worker without faults until the end of the source and all tickets are visible.
async fn catch_up(store: &Embedded, world: &Shared) {
    /// Turns until the worker must have caught up: a multiple of those of a whole run.
    const CATCH_UP_TURNS_MAX: usize = 20_000;

    let last_ticket = store.last_ticket().await.unwrap();
    let mut worker = Actor::worker(0, FaultPlan::default(), store, world);
    for _ in 0..CATCH_UP_TURNS_MAX {
        assert!(worker.turn().await, "the last worker ended: {:?}", worker.outcome().await);
        record_visible(store, world).await;

        let control = store.control().await.unwrap().unwrap();
        let end = world.lock().unwrap().source.position();
        let has_caught_up = control.visible.as_ref().is_some_and(|visible| {
            visible.generation == control.generation
                && visible.at.lsn.0 >= end
                && visible.at.ticket >= last_ticket
        });
        if has_caught_up {
            worker.kill();
            return;
        }
    }
    panic!("the last worker does not catch up");
}
