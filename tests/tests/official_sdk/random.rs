//! All SDKs under random load, compared with the reference model.
//!
//! Writers commit random transactions. Apps with the SDKs connect, disconnect and write. The builder
//! publishes bases and deletes history, connections are cut, and the worker is killed meanwhile.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidewater_tests::{
    Backend, CREATE_SQL, DevOptions, History, Postgres, RecordingProxy, SYNC_CONFIG, SdkApp,
    SdkAppOptions, SdkClient, Settings, Tidewater, User, Writer, WriterOptions, expected_rows,
};
use tokio::sync::watch;
use tokio::time::sleep;

use super::fleet::SOON;

/// The most seeds that run: each takes half a minute with a few SDKs.
const SEEDS_MAX: usize = 1;

/// The most seeds that run with all SDKs.
const SEEDS_MAX_WITH_ALL: usize = 8;

/// Transactions of each writer in each round.
const TRANSACTIONS: usize = 40;

/// Number of concurrent writers.
const WRITERS: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sdk_shows_the_rows_of_the_model_after_random_load() -> Result<()> {
    let settings = Settings::from_env()?;
    let seeds_max = if settings.all_sdks { SEEDS_MAX_WITH_ALL } else { SEEDS_MAX };
    for seed in settings.seed_list().into_iter().take(seeds_max) {
        eprintln!("TIDEWATER_TEST_SEED={seed}");
        run(seed, &settings).await.with_context(|| {
            let rounds = settings.rounds;
            format!("reproduce: TIDEWATER_TEST_SEED={seed} TIDEWATER_TEST_ROUNDS={rounds}")
        })?;
    }
    Ok(())
}

async fn run(seed: u64, settings: &Settings) -> Result<()> {
    let mut system = System::start(seed, SdkClient::chosen(settings)).await?;
    for round in 0..settings.rounds {
        system.load().await?;
        system.compare().await.with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

struct System {
    rng: StdRng,
    apps: Vec<SdkApp>,
    writers: Vec<Writer>,
    proxy: RecordingProxy,
    tidewater: Tidewater,
    _backend: Backend,
    history: History,
    postgres: Postgres,
}

impl System {
    async fn start(seed: u64, clients: Vec<SdkClient>) -> Result<Self> {
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

        // Small thresholds and short times, so that bases replace history.
        let options = DevOptions::new(&postgres.url("postgres"), SYNC_CONFIG).with(&[
            "--snapshot-threshold",
            "10",
            "--log-horizon",
            "1s",
            "--delete-grace",
            "1s",
        ]);
        let tidewater = Tidewater::dev_ready(options).await?;
        let proxy = RecordingProxy::start(tidewater.url()).await?;
        let backend =
            Backend::start(&postgres.url("postgres"), tidewater.key(), &["drafts"]).await?;

        let mut apps = Vec::new();
        for (number, client) in clients.into_iter().enumerate() {
            let options = SdkAppOptions {
                client,
                user: user(number),
                number,
                key: tidewater.key().clone(),
                sync: proxy.url().to_owned(),
                backend: backend.upload_url(),
                seed: rng.random(),
            };
            apps.push(SdkApp::open(options).await?);
        }
        Ok(Self { rng, apps, writers, proxy, tidewater, _backend: backend, history, postgres })
    }

    /// Runs the load of one round, with faults.
    async fn load(&mut self) -> Result<()> {
        let Self { rng, apps, writers, proxy, tidewater, .. } = self;
        let (stop, stopped) = watch::channel(false);
        let using = try_join_all(apps.iter_mut().map(|app| app.act_at_random(stopped.clone())));
        let writing = async {
            let all = try_join_all(writers.iter_mut().map(|writer| writer.run(TRANSACTIONS)));
            let outcome = tokio::try_join!(all, inject_faults(rng, proxy, tidewater));
            stop.send_replace(true);
            outcome
        };
        tokio::try_join!(using, writing).map(drop)
    }

    /// Waits until all uploads are done and each app shows the last commit.
    async fn compare(&mut self) -> Result<()> {
        for app in &mut self.apps {
            app.upload_all(SOON).await?;
        }

        let model = self.postgres.connect().await?;
        self.history.catch_up(&model).await?;
        self.history.verify(&model).await?;
        let last = self.history.len() - 1;
        for app in &mut self.apps {
            let expected = expected_rows(&self.history, last, app.user());
            app.wait_until_equal(&expected, SOON).await?;
        }
        self.tidewater.must_run()
    }
}

/// Cuts connections at random moments, and kills the worker once.
async fn inject_faults(
    rng: &mut StdRng,
    proxy: &RecordingProxy,
    tidewater: &mut Tidewater,
) -> Result<()> {
    for fault in 0..4 {
        // The random moment of the fault, and not a wait for a condition.
        sleep(Duration::from_millis(rng.random_range(0..1500))).await;
        proxy.cut_connections();
        if fault == 2 {
            tidewater.kill_9()?;
            tidewater.start().await?;
            proxy.forward_to(tidewater.url());
        }
    }
    Ok(())
}

/// Returns the user of an app: each sees other rows than the one before.
fn user(number: usize) -> User {
    match number % 4 {
        0 => User { comments_of: Some("l2".to_owned()), ..User::new("u3") },
        1 => User::new("u1"),
        2 => User { admin: true, ..User::new("u4") },
        _ => User { comments_of: Some("l1".to_owned()), admin: true, ..User::new("u2") },
    }
}
