//! Tasks that take one turn at a time.

use std::sync::Arc;

use tidewater_snapshot_builder::Options;
use tidewater_storage::{CallScheduler, Embedded, FaultPlan, Faulty};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Shared;
use crate::builder;
use crate::reader::Reader;
use crate::worker;

/// A task whose storage calls wait for turns.
pub(crate) struct Actor<T> {
    scheduler: Arc<CallScheduler>,
    task: Option<JoinHandle<anyhow::Result<T>>>,
    ended: Option<anyhow::Result<T>>,
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
            reader.come_and_go(store, world, recalled)
        })
    }

    /// Lets the reader end what it is at, and gives it back.
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
        Self { scheduler, task, ended: None, recall }
    }

    /// Lets one storage call be made, and waits until the next one is to be. False when the task
    /// has ended instead.
    pub(crate) async fn turn(&mut self) -> bool {
        // The first call must have come before it can be let through.
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
            ended = task => {
                self.task = None;
                self.ended = Some(ended.unwrap());
                false
            }
        }
    }

    /// Ends the task between two calls, as SIGKILL would.
    pub(crate) fn kill(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// What the task ended with.
    pub(crate) async fn outcome(&mut self) -> anyhow::Result<T> {
        match (self.ended.take(), self.task.take()) {
            (Some(ended), _) => ended,
            (None, Some(task)) => task.await.unwrap(),
            (None, None) => anyhow::bail!("it was killed"),
        }
    }
}
