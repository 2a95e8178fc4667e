//! The protocol's own code under chosen interleavings.
//!
//! The real worker core and the real sync API share one store, and each of their storage calls
//! waits for its turn at a call scheduler. A seeded scheduler gives the turns, commits transactions to
//! a model of the source, kills workers, starts second ones beside them, changes the sync config
//! and loses replies. Nothing keeps two workers apart here but the store, which is worse than
//! reality, where the replication slot does. Every completed checkpoint of every client must equal
//! the source at exactly one commit, and must contain the writes that it acknowledges.
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
use tidewater_snapshot_builder::Options;
use tidewater_storage::{ControlStore, Embedded, FaultPlan, WriteCheckpointStore};
use tidewater_tests::Settings;

use actors::Actor;
use reader::Reader;
use source::{Source, USERS};

/// Turns given in one run.
const TURNS: usize = 4_000;
/// Seeds run for each one of the settings: a run takes a fraction of a second.
const SEEDS_FACTOR: u64 = 5;

/// What all actors share.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) source: Source,
    /// Each checkpoint that was visible: its op id and the position in the source.
    pub(crate) visible: Vec<(i64, u64)>,
    pub(crate) completed: usize,
    pub(crate) acknowledged: usize,
    /// The builders' clock.
    pub(crate) turns: u64,
    pub(crate) bases: usize,
    /// Answers that began with a base.
    pub(crate) from_base: usize,
    /// Workers that were started.
    pub(crate) workers: u64,
    /// The position that the replication slot has confirmed, once it exists.
    pub(crate) confirmed: Option<u64>,
    /// The ways in which workers have taken over.
    pub(crate) takeovers: BTreeSet<String>,
    /// What has happened, where a test asks for it.
    pub(crate) events: Option<Vec<String>>,
    /// What is replaced is deleted under the readers' hands: they may fail, but not be wrong.
    pub(crate) is_harsh: bool,
}

impl World {
    /// Notes what has happened, where a test asks for it.
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
    let (mut completed, mut acknowledged, mut runs) = (0, 0, 0);
    let (mut bases, mut from_base) = (0, 0);
    let mut takeovers = BTreeSet::new();
    for seed in seeds {
        println!("seed {seed}");
        let world = run_seed(seed, Shared::default());
        let world = world.lock().unwrap();
        takeovers.extend(world.takeovers.iter().cloned());
        completed += world.completed;
        acknowledged += world.acknowledged;
        bases += world.bases;
        from_base += world.from_base;
        runs += 1;
    }
    println!("{runs} runs, {completed} completed checkpoints, {acknowledged} acknowledged writes");
    println!("{bases} bases, {from_base} answers with rows of one");
    // A simulation in which nothing happens would prove nothing.
    assert!(completed >= 10 * runs, "only {completed} checkpoints in {runs} runs");
    assert!(bases >= runs && from_base >= runs, "{bases} bases, {from_base} sent, {runs} runs");
    assert!(acknowledged >= runs / 2, "only {acknowledged} acknowledged writes in {runs} runs");
    println!("takeovers: {takeovers:?}");
    if settings.seed.is_none() {
        for kind in ["Fresh", "Continue", "TablesChanged", "SlotReset", "ConfigChanged"] {
            assert!(takeovers.contains(kind), "no worker has taken over as {kind}");
        }
    }
}

/// A failure can be examined only if its seed repeats it.
#[test]
fn a_seed_run_twice_gives_the_same_events() {
    let settings = Settings::from_env().unwrap();
    for seed in settings.seed.map_or(1..=3, |seed| seed..=seed) {
        let run = || {
            let world = World { events: Some(Vec::new()), ..World::default() };
            let world = run_seed(seed, Arc::new(Mutex::new(world)));
            world.lock().unwrap().events.take().unwrap()
        };
        let (first, second) = (run(), run());
        for (number, (first, second)) in first.iter().zip(&second).enumerate() {
            assert_eq!(first, second, "seed {seed}, event {number}");
        }
        assert_eq!(first.len(), second.len(), "seed {seed}");
        assert!(first.len() > 1_000, "seed {seed} has only {} events", first.len());
    }
}

fn run_seed(seed: u64, world: Shared) -> Shared {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(simulate(seed, &world));
    world
}

async fn simulate(seed: u64, world: &Shared) {
    let mut rng = StdRng::seed_from_u64(seed);
    // In memory where that can be had: what a disk keeps is not the question here.
    let memory = std::path::Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = tempfile::tempdir_in(parent).unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    for _ in 0..rng.random_range(0..15) {
        world.lock().unwrap().source.commit_random(&mut rng);
    }
    let is_harsh = rng.random_range(0..4) == 0;
    world.lock().unwrap().is_harsh = is_harsh;
    let options = builder::options(rng.random(), is_harsh);
    let mut builders: Vec<_> =
        (0..2).map(|_| new_builder(&mut rng, &options, &store, world)).collect();
    let mut workers = vec![new_worker(&mut rng, &store, world)];
    let mut readers: Vec<_> = USERS.iter().map(|user| Reader::new(user, rng.random())).collect();
    let mut reading: Vec<_> =
        readers.drain(..).map(|reader| Actor::reader(reader, &store, world)).collect();
    for _ in 0..TURNS {
        match rng.random_range(0..100) {
            0..4 => world.lock().unwrap().source.commit_random(&mut rng),
            4 if rng.random_range(0..5) == 0 => {
                let victim = rng.random_range(0..workers.len());
                workers[victim].kill();
                workers[victim] = new_worker(&mut rng, &store, world);
            }
            5 if workers.len() < 3 && rng.random_range(0..5) == 0 => {
                workers.push(new_worker(&mut rng, &store, world));
            }
            6 if rng.random_range(0..5) == 0 => {
                let victim = rng.random_range(0..builders.len());
                builders[victim].kill();
                builders[victim] = new_builder(&mut rng, &options, &store, world);
            }
            6..20 => {
                let at = rng.random_range(0..builders.len());
                assert!(builders[at].turn().await, "a builder ended");
            }
            5 | 20..65 => {
                let at = rng.random_range(0..workers.len());
                if !workers[at].turn().await {
                    // Mostly it was fenced by another: were it replaced, that would go on for ever.
                    drop(workers.swap_remove(at));
                    if workers.is_empty() {
                        workers.push(new_worker(&mut rng, &store, world));
                    }
                }
            }
            _ => {
                let at = rng.random_range(0..reading.len());
                if !reading[at].turn().await {
                    panic!("a reader ended: {:?}", reading[at].outcome().await.err());
                }
            }
        }
        note_visible(&store, world).await;
        world.lock().unwrap().turns += 1;
    }
    for ended in workers.iter_mut().chain(&mut builders) {
        ended.kill();
    }
    settle(&store, world, reading).await;
}

fn new_worker(rng: &mut StdRng, store: &Embedded, world: &Shared) -> Actor<()> {
    let faults = FaultPlan::default().with_random(rng.random(), 15);
    Actor::worker(rng.random(), faults, store, world)
}

fn new_builder(rng: &mut StdRng, options: &Options, store: &Embedded, world: &Shared) -> Actor<()> {
    let faults = FaultPlan::default().with_random(rng.random(), 15);
    Actor::builder(options.clone(), faults, store, world)
}

async fn note_visible(store: &Embedded, world: &Shared) {
    let Some(visible) = store.control().await.unwrap().and_then(|control| control.visible) else {
        return;
    };
    let seen = (visible.at.op.get(), visible.at.lsn.0);
    let mut world = world.lock().unwrap();
    if world.visible.last() != Some(&seen) {
        world.visible.push(seen);
    }
}

/// Once nothing fails and nobody writes any more, all clients come to equal the source.
async fn settle(store: &Embedded, world: &Shared, reading: Vec<Actor<Reader>>) {
    let mut readers = Vec::new();
    for mut actor in reading {
        readers.push(actor.recall().await);
    }
    let tickets = store.last_ticket().await.unwrap();
    let mut worker = Actor::worker(0, FaultPlan::default(), store, world);
    let mut is_caught_up = false;
    for _ in 0..20_000 {
        assert!(worker.turn().await, "the last worker ended: {:?}", worker.outcome().await);
        note_visible(store, world).await;
        let control = store.control().await.unwrap().unwrap();
        let visible = control.visible.as_ref();
        let end = world.lock().unwrap().source.position();
        is_caught_up = visible.is_some_and(|v| {
            v.generation == control.generation && v.at.lsn.0 >= end && v.at.ticket >= tickets
        });
        if is_caught_up {
            break;
        }
    }
    assert!(is_caught_up, "the last worker does not catch up");
    worker.kill();
    for mut reader in readers {
        reader.read_to_the_end(store, world).await;
    }
}
