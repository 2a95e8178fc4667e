//! Actors of the simulation: tasks that make one storage call in each turn.

use std::sync::Arc;

use tidewater_snapshot_builder::Options;
use tidewater_storage::{CallScheduler, Embedded, FaultPlan, Faulty};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Shared;
use crate::builder;
use crate::reader::Reader;
use crate::worker;

/// A task whose storage calls wait for its turns.
pub(crate) struct Actor<T> {
    scheduler: Arc<CallScheduler>,
    /// The running task; `None` once it has ended or was killed.
    task: Option<JoinHandle<anyhow::Result<T>>>,
    /// The result of a task that has ended by itself.
    result: Option<anyhow::Result<T>>,
    recall: watch::Sender<bool>,
}

impl Actor<()> {
    pub(crate) fn worker(seed: u64, faults: FaultPlan, store: &Embedded, world: &Shared) -> Self {
        let name = {
            let mut world = world.lock().unwrap();
            world.workers += 1;
            world.workers
        };
        let world = world.clone();
        Self::spawn(store, faults, |store, _| worker::run(store, world, name, seed))
    }

    pub(crate) fn builder(
        options: Options,
        faults: FaultPlan,
        store: &Embedded,
        world: &Shared,
    ) -> Self {
        let world = world.clone();
        Self::spawn(store, faults, |store, _| builder::run(store, world, options))
    }
}

impl Actor<Reader> {
    pub(crate) fn reader(reader: Reader, store: &Embedded, world: &Shared) -> Self {
        let world = world.clone();
        Self::spawn(store, FaultPlan::default(), |store, recalled| {
            reader.act_at_random(store, world, recalled)
        })
    }

    /// Lets the reader finish its current step, and returns it.
    pub(crate) async fn recall(&mut self) -> Reader {
        self.recall.send_replace(true);
        self.scheduler.admit_all();
        self.outcome().await.unwrap()
    }
}

impl<T: Send + 'static> Actor<T> {
    fn spawn<F>(
        store: &Embedded,
        faults: FaultPlan,
        act: impl FnOnce(Faulty<Embedded>, watch::Receiver<bool>) -> F,
    ) -> Self
    where
        F: Future<Output = anyhow::Result<T>> + Send + 'static,
    {
        let scheduler = Arc::new(CallScheduler::default());
        let (recall, recalled) = watch::channel(false);
        let store = Faulty::new(store.clone(), faults).with_scheduler(scheduler.clone());
        let task = Some(tokio::spawn(act(store, recalled)));
        Self { scheduler, task, result: None, recall }
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

    async fn wait_until_idle(&mut self) -> bool {
        let Some(task) = &mut self.task else { return false };
        tokio::select! {
            () = self.scheduler.wait_until_idle() => true,
            result = task => {
                self.task = None;
                self.result = Some(result.unwrap());
                false
            }
        }
    }

    /// Kills the task between two storage calls, as SIGKILL does.
    pub(crate) fn kill(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
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
