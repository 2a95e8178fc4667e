//! The whole system under random load and random faults, compared with the reference model.
//!
//! Writers commit random transactions. Readers and apps connect and disconnect, and apps write. The
//! builder publishes bases and deletes history meanwhile, and the worker is killed or PostgreSQL
//! crashes. After each round, [`System::compare`] verifies everything that any of them has seen.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidewater_tests::{
    App, AppOptions, Backend, CREATE_SQL, DevOptions, History, Observations, Postgres, Reader,
    ReaderOptions, RecordingProxy, RowsDiffer, SYNC_CONFIG, Settings, Table, Tidewater, User,
    Writer, WriterOptions, expected_rows,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Time until a reader must see the last commit, after all writes and faults have ended.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// Interval at which the worker is restarted if it has exited.
const SUPERVISION_INTERVAL: Duration = Duration::from_millis(100);

/// Transactions of each writer in each round.
const TRANSACTIONS: usize = 50;

/// Number of concurrent writers.
const WRITERS: usize = 3;

/// Number of seeds of which at least one must send a snapshot to an app.
const SEEDS_WITH_A_SNAPSHOT: usize = 5;

/// The fault that is injected during the load.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Faults {
    /// The process is killed, with the worker, the API and the builder in it.
    Worker,
    /// PostgreSQL crashes and recovers. Its slot goes back, so it sends transactions again.
    Postgres,
}

/// Fault F1, and promises 1, 2 and 4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_checkpoint_is_one_commit_while_the_worker_is_killed() -> Result<()> {
    run_seeds(Faults::Worker).await
}

/// Fault F5.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_checkpoint_is_one_commit_while_postgresql_crashes() -> Result<()> {
    run_seeds(Faults::Postgres).await
}

async fn run_seeds(faults: Faults) -> Result<()> {
    let settings = Settings::from_env()?;
    let mut seeds = 0;
    let mut snapshots = 0;
    for seed in settings.seed_list() {
        eprintln!("TIDEWATER_TEST_SEED={seed}");
        let outcome = run(seed, settings.rounds, faults).await;
        snapshots += outcome.with_context(|| {
            let rounds = settings.rounds;
            format!("reproduce: TIDEWATER_TEST_SEED={seed} TIDEWATER_TEST_ROUNDS={rounds}")
        })?;
        seeds += 1;
    }

    // With few seeds it is possible that the builder is always too late for the apps.
    ensure!(snapshots > 0 || seeds < SEEDS_WITH_A_SNAPSHOT, "no app has received a snapshot");
    Ok(())
}

/// Runs rounds of load, each with a comparison at its end. Returns the number of snapshots that apps
/// have received.
async fn run(seed: u64, rounds: usize, faults: Faults) -> Result<usize> {
    let mut system = System::start(seed).await?;
    for round in 0..rounds {
        system.load(round == 0, faults).await?;
        system.compare(faults).await.with_context(|| format!("round {round}"))?;
    }

    let streams = system.proxy.streams();
    let lines = streams.iter().flat_map(|stream| stream.lines());
    let snapshots = lines.filter(|line| line.starts_with("{\"snapshot\"")).count();
    eprintln!("apps have received {snapshots} snapshots");
    Ok(snapshots)
}

struct System {
    rng: StdRng,
    readers: Vec<Reader>,
    apps: Vec<App>,
    writers: Vec<Writer>,
    tidewater: Tidewater,
    url: watch::Sender<String>,
    /// The proxy between the apps and the sync API.
    proxy: RecordingProxy,
    _backend: Backend,
    history: History,
    observations: Observations,
    /// The last commit of the last comparison.
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

        let builder = builder_arguments(&mut rng);
        eprintln!("{}", builder.join(" "));
        let arguments: Vec<&str> = builder.iter().map(String::as_str).collect();
        let options = DevOptions::new(&postgres.url("postgres"), SYNC_CONFIG).with(&arguments);
        let tidewater = Tidewater::prepare(options)?;

        let (url, _) = watch::channel(String::new());
        let observations = Observations::default();
        let mut readers = Vec::new();
        for user in users() {
            readers.push(Reader::new(ReaderOptions {
                user,
                key: tidewater.key().clone(),
                url: url.subscribe(),
                seed: rng.random(),
                observations: observations.clone(),
            }));
        }

        let proxy = RecordingProxy::start("").await?;
        proxy.request_plain_streams();
        let backend =
            Backend::start(&postgres.url("postgres"), tidewater.key(), &["drafts"]).await?;
        let mut apps = Vec::new();
        for user in users() {
            apps.push(App::new(AppOptions {
                user,
                key: tidewater.key().clone(),
                sync: proxy.url().to_owned(),
                backend: backend.upload_url(),
                seed: rng.random(),
                observations: observations.clone(),
            })?);
        }

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

    /// Runs the load of one round. In the first round the worker starts and copies meanwhile.
    async fn load(&mut self, is_first: bool, faults: Faults) -> Result<()> {
        let (stop, stopped) = watch::channel(false);
        let mut reading = JoinSet::new();
        for mut reader in self.readers.drain(..) {
            let stopped = stopped.clone();
            reading.spawn(async move { reader.read_at_random(stopped).await.map(|()| reader) });
        }

        let mut using = JoinSet::new();
        for mut app in self.apps.drain(..) {
            let stopped = stopped.clone();
            using.spawn(async move { app.act_at_random(stopped).await.map(|()| app) });
        }

        let mut writing = JoinSet::new();
        for mut writer in self.writers.drain(..) {
            writing.spawn(async move { writer.run(TRANSACTIONS).await.map(|()| writer) });
        }

        if is_first {
            self.start_worker().await?;
        }

        match faults {
            Faults::Worker => self.kill_the_worker().await?,
            Faults::Postgres => self.crash_postgres().await?,
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

    /// Kills the worker several times: during its takeover, during the copy, or later.
    async fn kill_the_worker(&mut self) -> Result<()> {
        for _ in 0..self.rng.random_range(3..7) {
            // The random moment of the fault, and not a wait for a condition.
            sleep(Duration::from_millis(self.rng.random_range(0..1200))).await;
            self.tidewater.must_run()?;
            self.tidewater.kill_9()?;
            self.start_worker().await?;
        }
        Ok(())
    }

    async fn crash_postgres(&mut self) -> Result<()> {
        for _ in 0..2 {
            // The random moment of the fault, and not a wait for a condition.
            sleep(Duration::from_millis(self.rng.random_range(0..1500))).await;
            self.postgres.crash_and_restart().await?;
        }
        Ok(())
    }

    async fn start_worker(&mut self) -> Result<()> {
        self.tidewater.start().await?;
        self.proxy.forward_to(self.tidewater.url());
        self.url.send_replace(self.tidewater.url().to_owned());
        Ok(())
    }

    /// Restarts the worker if it has exited, as a service manager does.
    ///
    /// A worker that loses its connection to PostgreSQL waits. It exits with an error only if its
    /// first connection fails.
    async fn supervise(&mut self, faults: Faults) -> Result<()> {
        let Some(output) = self.tidewater.exited()? else { return Ok(()) };
        let is_expected = faults == Faults::Postgres && output.code == Some(1);
        ensure!(is_expected, "the worker has exited ({:?}):\n{}", output.code, output.stderr);
        self.start_worker().await
    }

    /// Waits for the results of tasks, and supervises the worker meanwhile.
    async fn join_all<T: 'static>(
        &mut self,
        mut tasks: JoinSet<Result<T>>,
        faults: Faults,
    ) -> Result<Vec<T>> {
        let mut results = Vec::new();
        while !tasks.is_empty() {
            tokio::select! {
                result = tasks.join_next() => {
                    if let Some(result) = result {
                        results.push(result?.map_err(|error| self.with_effects(error))?);
                    }
                }
                () = sleep(SUPERVISION_INTERVAL) => self.supervise(faults).await?,
            }
        }
        Ok(results)
    }

    /// Adds all transactions on the first rows that differ to an error.
    fn with_effects(&self, error: anyhow::Error) -> anyhow::Error {
        let Some(differ) = error.downcast_ref::<RowsDiffer>() else { return error };
        let mut effects = String::new();
        for (name, id) in differ.rows.iter().take(3) {
            let table = Table::ALL.into_iter().find(|table| table.name() == name);
            let list = table.map(|table| self.history.effects_on(table, id)).unwrap_or_default();
            effects.push_str(&format!("{name} {id}:\n{list}"));
        }
        error.context(effects)
    }

    /// Waits until all uploads are done and everybody sees the last commit, and verifies all
    /// checkpoints that were ever visible.
    async fn compare(&mut self, faults: Faults) -> Result<()> {
        let mut uploading = JoinSet::new();
        for mut app in self.apps.drain(..) {
            uploading.spawn(async move { app.upload_all(CATCH_UP_TIMEOUT).await.map(|()| app) });
        }
        self.apps = self.join_all(uploading, faults).await?;

        let model = self.postgres.connect().await?;
        self.history.catch_up(&model).await?;
        self.history.verify(&model).await?;
        let last = self.history.len() - 1;

        let mut reading = JoinSet::new();
        for mut reader in self.readers.drain(..) {
            let rows = expected_rows(&self.history, last, reader.user());
            reading.spawn(async move {
                reader.wait_until_equal(&rows, CATCH_UP_TIMEOUT).await.map(|()| reader)
            });
        }
        self.readers = self.join_all(reading, faults).await?;

        let mut using = JoinSet::new();
        for mut app in self.apps.drain(..) {
            let rows = expected_rows(&self.history, last, app.user());
            using.spawn(async move {
                app.wait_until_equal(&rows, CATCH_UP_TIMEOUT).await.map(|()| app)
            });
        }
        self.apps = self.join_all(using, faults).await?;
        self.tidewater.must_run()?;

        let verified = self
            .observations
            .verify(&self.history, self.commit)
            .map_err(|error| self.with_effects(error))?;
        eprintln!(
            "{} checkpoints verified, the last one at commit {} of {}",
            verified.count,
            verified.last_commit,
            self.history.len()
        );
        self.commit = verified.last_commit;
        Ok(())
    }
}

/// Returns random arguments of the builder: small thresholds, so that there are bases, and short
/// times, so that bases replace history.
fn builder_arguments(rng: &mut StdRng) -> [String; 6] {
    let threshold = rng.random_range(3..=20).to_string();
    let horizon = format!("{}s", rng.random_range(0..=2));
    let grace = format!("{}s", rng.random_range(0..=2));
    [
        "--snapshot-threshold".to_owned(),
        threshold,
        "--log-horizon".to_owned(),
        horizon,
        "--delete-grace".to_owned(),
        grace,
    ]
}

fn users() -> Vec<User> {
    let subscriber = User { comments_of: Some("l2".to_owned()), ..User::new("u3") };
    let admin = User { admin: true, ..User::new("u4") };
    vec![User::new("u1"), User::new("u2"), subscriber, admin, User::new("u1")]
}
