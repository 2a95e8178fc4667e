//! Random transactions, devices that come and go, snapshots that are published and history that is
//! deleted under them, and a worker that is killed again and again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidewater_tests::{
    App, AppOptions, Backend, CREATE_SQL, DevOptions, Differs, History, Observations, Postgres,
    Reader, ReaderOptions, RecordingProxy, SYNC_CONFIG, Settings, Table, Tidewater, User, Writer,
    WriterOptions, expected_rows,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// For a reader to see the last commit, once writes have stopped and nothing is killed any more.
const SETTLE: Duration = Duration::from_secs(60);

/// How often it is looked whether the worker still runs.
const SUPERVISION: Duration = Duration::from_millis(100);

/// Of each writer, in each round.
const TRANSACTIONS: usize = 50;

const WRITERS: usize = 3;

/// Among so many seeds there is one whose apps are sent a snapshot.
const SEEDS_WITH_A_SNAPSHOT: usize = 5;

/// What happens beside the load.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Faults {
    /// The worker's process is killed, with the API and the builder in it.
    Worker,
    /// PostgreSQL breaks off and recovers, which makes it send again what it had sent.
    Postgres,
}

/// Promises 1, 2 and 4: see `run`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reader_sees_commits_and_nothing_else_while_the_worker_is_killed() -> Result<()> {
    run_seeds(Faults::Worker).await
}

/// The same, fault F5: commits whose outcome nobody was told, and a slot that goes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reader_sees_commits_and_nothing_else_while_postgresql_crashes() -> Result<()> {
    run_seeds(Faults::Postgres).await
}

async fn run_seeds(faults: Faults) -> Result<()> {
    let settings = Settings::from_env()?;
    let (mut seeds, mut snapshots) = (0, 0);
    for seed in settings.seed_list() {
        eprintln!("TIDEWATER_TEST_SEED={seed}");
        let outcome = run(seed, settings.rounds, faults).await;
        snapshots += outcome.with_context(|| format!("to repeat: TIDEWATER_TEST_SEED={seed}"))?;
        seeds += 1;
    }
    // Without any they would have proven less than they say; of a few it may be true that the
    // builder always came too late.
    ensure!(snapshots > 0 || seeds < SEEDS_WITH_A_SNAPSHOT, "no app was sent a snapshot");
    Ok(())
}

/// Rounds of load. In each, writers commit, readers and apps come and go, apps write, and something
/// is killed. At its end each of them must see what the model says, and each checkpoint that any of
/// them ever showed must be the source at one commit, the same for all and never an earlier one.
/// Gives how many snapshots apps were sent.
async fn run(seed: u64, rounds: usize, faults: Faults) -> Result<usize> {
    let mut system = System::start(seed).await?;
    for round in 0..rounds {
        system.load(round == 0, faults).await?;
        system.compare(faults).await.with_context(|| format!("round {round}"))?;
    }
    let streams = system.proxy.streams();
    let lines = streams.iter().flat_map(|stream| stream.lines());
    let snapshots = lines.filter(|line| line.starts_with("{\"snapshot\"")).count();
    eprintln!("apps were sent {snapshots} snapshots");
    Ok(snapshots)
}

struct System {
    rng: StdRng,
    readers: Vec<Reader>,
    apps: Vec<App>,
    writers: Vec<Writer>,
    tidewater: Tidewater,
    url: watch::Sender<String>,
    /// What apps connect to.
    proxy: RecordingProxy,
    _backend: Backend,
    history: History,
    observations: Observations,
    /// The commit at which the last comparison ended.
    commit: usize,
    postgres: Postgres,
}

impl System {
    async fn start(seed: u64) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        let postgres = Postgres::start().await?;
        postgres.execute(CREATE_SQL).await?;
        let history = History::begin(&postgres.connect().await?).await?;
        let mut writers = Vec::new();
        for number in 0..WRITERS {
            let options = WriterOptions {
                url: postgres.url("postgres"),
                seed: rng.random(),
                number,
                pending: history.pending(),
            };
            let mut writer = Writer::connect(options).await?;
            writer.run(20).await?;
            writers.push(writer);
        }
        let options = DevOptions::new(&postgres.url("postgres"), SYNC_CONFIG);
        let builder = builder_arguments(&mut rng);
        eprintln!("{}", builder.join(" "));
        let options = options.with(&builder.each_ref().map(String::as_str));
        let tidewater = Tidewater::prepare(options)?;
        let (url, _) = watch::channel(String::new());
        let observations = Observations::default();
        let readers = users().into_iter().map(|user| {
            Reader::new(ReaderOptions {
                user,
                key: tidewater.key().clone(),
                url: url.subscribe(),
                seed: rng.random(),
                observations: observations.clone(),
            })
        });
        let readers = readers.collect();
        let proxy = RecordingProxy::start("").await?;
        let backend =
            Backend::start(&postgres.url("postgres"), tidewater.key(), &["drafts"]).await?;
        let apps = users().into_iter().map(|user| {
            App::new(AppOptions {
                user,
                key: tidewater.key().clone(),
                sync: proxy.url().to_owned(),
                backend: backend.upload_url(),
                seed: rng.random(),
                observations: observations.clone(),
            })
        });
        let apps = apps.collect::<Result<_>>()?;
        Ok(Self {
            rng,
            readers,
            apps,
            writers,
            tidewater,
            url,
            proxy,
            _backend: backend,
            history,
            observations,
            commit: 0,
            postgres,
        })
    }

    /// One burst. The first one begins with the copy.
    async fn load(&mut self, first: bool, faults: Faults) -> Result<()> {
        let (stop, stopped) = watch::channel(false);
        let mut reading = JoinSet::new();
        for mut reader in self.readers.drain(..) {
            let stopped = stopped.clone();
            reading.spawn(async move { reader.come_and_go(stopped).await.map(|()| reader) });
        }
        let mut using = JoinSet::new();
        for mut app in self.apps.drain(..) {
            let stopped = stopped.clone();
            using.spawn(async move { app.come_and_go(stopped).await.map(|()| app) });
        }
        let mut writing = JoinSet::new();
        for mut writer in self.writers.drain(..) {
            writing.spawn(async move { writer.run(TRANSACTIONS).await.map(|()| writer) });
        }
        if first {
            self.start_worker().await?;
        }
        match faults {
            Faults::Worker => self.kill_the_worker().await?,
            Faults::Postgres => {
                for _ in 0..2 {
                    sleep(Duration::from_millis(self.rng.random_range(0..1500))).await;
                    self.postgres.crash_and_restart().await?;
                }
            }
        }
        while let Some(writer) = writing.join_next().await {
            self.writers.push(writer??);
        }
        stop.send_replace(true);
        while let Some(reader) = reading.join_next().await {
            self.readers.push(reader??);
        }
        while let Some(app) = using.join_next().await {
            self.apps.push(app??);
        }
        Ok(())
    }

    /// A run dies within its first moments, during the copy or the takeover, or later.
    async fn kill_the_worker(&mut self) -> Result<()> {
        for _ in 0..self.rng.random_range(3..7) {
            sleep(Duration::from_millis(self.rng.random_range(0..1200))).await;
            self.tidewater.must_run()?;
            self.tidewater.kill_9()?;
            self.start_worker().await?;
        }
        Ok(())
    }

    async fn start_worker(&mut self) -> Result<()> {
        self.tidewater.start().await?;
        self.proxy.forward_to(self.tidewater.url());
        self.url.send_replace(self.tidewater.url().to_owned());
        Ok(())
    }

    /// What a service manager does. A worker that loses PostgreSQL waits for it, but for one that
    /// was about to connect for the first time: that ends, with an error.
    async fn supervise(&mut self, faults: Faults) -> Result<()> {
        let Some(output) = self.tidewater.ended()? else { return Ok(()) };
        let expected = faults == Faults::Postgres && output.code == Some(1);
        ensure!(expected, "the worker has ended ({:?}):\n{}", output.code, output.stderr);
        self.start_worker().await
    }

    /// What these tasks end in, while the worker is looked after.
    async fn supervised<T: 'static>(
        &mut self,
        mut tasks: JoinSet<Result<T>>,
        faults: Faults,
    ) -> Result<Vec<T>> {
        let mut done = Vec::new();
        while !tasks.is_empty() {
            tokio::select! {
                ended = tasks.join_next() => {
                    if let Some(ended) = ended {
                        done.push(ended?.map_err(|error| self.explained(error))?);
                    }
                }
                () = sleep(SUPERVISION) => self.supervise(faults).await?,
            }
        }
        Ok(done)
    }

    /// With what was done to the rows that differ.
    fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        let Some(differs) = error.downcast_ref::<Differs>() else { return error };
        let mut stories = String::new();
        for (name, id) in differs.rows.iter().take(3) {
            let table = Table::ALL.into_iter().find(|table| table.name() == name);
            let story = table.map(|table| self.history.story(table, id)).unwrap_or_default();
            stories.push_str(&format!("{name} {id}:\n{story}"));
        }
        error.context(stories)
    }

    async fn compare(&mut self, faults: Faults) -> Result<()> {
        let mut uploading = JoinSet::new();
        for mut app in self.apps.drain(..) {
            uploading.spawn(async move { app.upload_all(SETTLE).await.map(|()| app) });
        }
        self.apps = self.supervised(uploading, faults).await?;
        let model = self.postgres.connect().await?;
        self.history.catch_up(&model).await?;
        self.history.verify(&model).await?;
        let last = self.history.len() - 1;
        let mut settling = JoinSet::new();
        for mut reader in self.readers.drain(..) {
            let target = expected_rows(&self.history, last, reader.user());
            settling.spawn(async move { reader.settle(&target, SETTLE).await.map(|()| reader) });
        }
        self.readers = self.supervised(settling, faults).await?;
        let mut settling = JoinSet::new();
        for mut app in self.apps.drain(..) {
            let target = expected_rows(&self.history, last, app.user());
            settling.spawn(async move { app.settle(&target, SETTLE).await.map(|()| app) });
        }
        self.apps = self.supervised(settling, faults).await?;
        self.tidewater.must_run()?;
        let (commit, checkpoints) = self.observations.check(&self.history, self.commit)?;
        let commits = self.history.len();
        eprintln!("{checkpoints} checkpoints seen, {commits} commits; the last seen is {commit}");
        self.commit = commit;
        Ok(())
    }
}

/// Small thresholds, so that there are bases; and short times, so that they replace history.
fn builder_arguments(rng: &mut StdRng) -> [String; 6] {
    let threshold = rng.random_range(3..=20).to_string();
    let mut seconds = || format!("{}s", rng.random_range(0..=2));
    let (horizon, grace) = (seconds(), seconds());
    let [threshold_name, horizon_name, grace_name] =
        ["--snapshot-threshold", "--log-horizon", "--delete-grace"].map(str::to_owned);
    [threshold_name, threshold, horizon_name, horizon, grace_name, grace]
}

fn users() -> Vec<User> {
    let subscriber = User { comments_of: Some("l2".to_owned()), ..User::new("u3") };
    let admin = User { admin: true, ..User::new("u4") };
    vec![User::new("u1"), User::new("u2"), subscriber, admin, User::new("u1")]
}
