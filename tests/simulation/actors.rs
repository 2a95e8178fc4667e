//! Actors of the simulation: tasks that make one storage call in each turn.

use std::sync::Arc;

use tidewater_snapshot_builder::Options;
use tidewater_storage::{CallScheduler, Embedded, FaultPlan};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::builder;
use crate::reader::Reader;
use crate::store::{Store, store_of};
use crate::worker;
use crate::world::Shared;

/// A task whose storage calls wait for its turns.
pub(crate) struct Actor<T> {
    /// The kind and the number of the actor, as in the log of events.
    pub(crate) label: String,
    world: Shared,
    scheduler: Arc<CallScheduler>,
    /// The running task; `None` once it has ended or was killed.
    task: Option<JoinHandle<anyhow::Result<T>>>,
    /// The result of a task that has ended by itself.
    result: Option<anyhow::Result<T>>,
    /// Tells the task to end after its current step.
    stop: watch::Sender<bool>,
}

impl Actor<()> {
    pub(crate) fn worker(seed: u64, faults: FaultPlan, store: &Embedded, world: &Shared) -> Self {
        let number = {
            let mut world = world.lock().unwrap();
            world.counters.workers += 1;
            world.counters.workers
        };

        let label = format!("worker {number}");
        let shared = world.clone();
        Self::spawn(label, store, faults, world, |store, _| {
            worker::run(store, shared, number, seed)
        })
    }

    pub(crate) fn builder(
        options: Options,
        faults: FaultPlan,
        store: &Embedded,
        world: &Shared,
    ) -> Self {
        let number = {
            let mut world = world.lock().unwrap();
            world.counters.builders += 1;
            world.counters.builders
        };

        let label = format!("builder {number}");
        let shared = world.clone();
        Self::spawn(label, store, faults, world, |store, _| {
            builder::run(store, shared, number, options)
        })
    }
}

impl Actor<Vec<()>> {
    /// Starts a server process that holds a stream for each user.
    pub(crate) fn process(number: usize, seed: u64, store: &Embedded, world: &Shared) -> Self {
        let label = format!("process {number}");
        let shared = world.clone();
        Self::spawn(label, store, FaultPlan::default(), world, |store, stop| {
            let readers = Reader::of_process(number, seed, &store).into_iter();
            let held = readers.map(move |reader| {
                reader.hold_streams(store.clone(), shared.clone(), stop.clone())
            });
            futures::future::try_join_all(held.collect::<Vec<_>>())
        })
    }
}

impl Actor<Reader> {
    pub(crate) fn reader(reader: Reader, store: &Embedded, world: &Shared) -> Self {
        let label = reader.label();
        let shared = world.clone();
        Self::spawn(label, store, FaultPlan::default(), world, |store, stop| {
            reader.act_at_random(store, shared, stop)
        })
    }

    /// Lets the reader finish its current step, and returns it.
    pub(crate) async fn stop_and_return(&mut self) -> Reader {
        self.stop.send_replace(true);
        self.scheduler.admit_all();
        self.outcome().await.unwrap()
    }
}

impl<T: Send + 'static> Actor<T> {
    fn spawn<F>(
        label: String,
        store: &Embedded,
        faults: FaultPlan,
        world: &Shared,
        act: impl FnOnce(Store, watch::Receiver<bool>) -> F,
    ) -> Self
    where
        F: Future<Output = anyhow::Result<T>> + Send + 'static,
    {
        world.lock().unwrap().log(&format!("{label} starts"));

        let scheduler = Arc::new(CallScheduler::default());
        let (stop, stopped) = watch::channel(false);
        let store = store_of(&label, store, faults, scheduler.clone(), world);
        let task = Some(tokio::spawn(act(store, stopped)));
        Self { label, world: world.clone(), scheduler, task, result: None, stop }
    }

    /// Admits one storage call and waits until the task makes the next one.
    ///
    /// Returns false if the task has ended instead.
    pub(crate) async fn turn(&mut self) -> bool {
        // A call can only be admitted after the task has made it.
        if !self.wait_until_idle().await {
            return false;
        }
        self.scheduler.admit_one();
        self.wait_until_idle().await
    }

    /// Waits until the task makes a call. Returns false if it has ended instead.
    ///
    /// A new task must come so far within the turn in which it was started: what it does before, and when,
    /// would depend on how fast another call returns.
    pub(crate) async fn wait_until_idle(&mut self) -> bool {
        let Some(task) = &mut self.task else { return false };
        // Both can be ready: a write of a worker that has ended waits until the runtime drops it. A
        // random choice between the two would make the run differ, so the order is fixed.
        tokio::select! {
            biased;
            result = task => {
                self.task = None;
                self.result = Some(result.unwrap());
                false
            }
            () = self.scheduler.wait_until_idle() => true,
        }
    }

    /// Kills the task while it waits for a turn. A kill during a call equals one before it or after
    /// it, since each call is atomic.
    pub(crate) fn kill(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            self.world.lock().unwrap().log(&format!("{} is killed", self.label));
        }
    }

    /// Returns the result of the task, and waits for it if the task still runs.
    pub(crate) async fn outcome(&mut self) -> anyhow::Result<T> {
        match (self.result.take(), self.task.take()) {
            (Some(result), _) => result,
            (None, Some(task)) => task.await.unwrap(),
            (None, None) => anyhow::bail!("the task was killed"),
        }
    }
}
