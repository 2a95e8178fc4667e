//! No byte of a row reaches a user who may not see it.
//!
//! Random changes of rows and rights are committed. After each commit every user syncs honestly, and
//! attacks: with forged tokens, parameters, subscriptions, positions and addresses of snapshots. Each
//! row's text is a marker that occurs nowhere else, so a leak is a marker in a reply.

mod attack;
mod model;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tidewater_tests::{DevOptions, Postgres, Settings, SyncReader, Tidewater, eventually};

use attack::{Attacker, Seen};
use model::{Model, USERS};

/// Timeout of each wait: long enough for a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Commits of each round, of which `TIDEWATER_TEST_ROUNDS` sets the number.
const COMMITS: usize = 3;

/// Attacks of each user after each commit.
const ATTACKS: usize = 6;

const CONFIG: &str = "
config: { edition: 3 }
streams:
  own:
    auto_subscribe: true
    query: SELECT id, text FROM notes WHERE owner = auth.user_id()
  org:
    auto_subscribe: true
    query: SELECT id, text FROM docs WHERE org IN (SELECT org FROM members WHERE usr = auth.user_id())
  claimed:
    auto_subscribe: true
    priority: 1
    query: SELECT id, text FROM files WHERE tenant = auth.parameter('tenant')
  project:
    query: SELECT id, text FROM tasks WHERE project = subscription.parameter('project')
           AND tenant = auth.parameter('tenant')
  open:
    auto_subscribe: true
    query: SELECT id, text FROM news WHERE auth.user_id() NOT IN (SELECT usr FROM banned)
";

/// Security tests S8, S9 and S10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reply_has_a_byte_of_a_row_that_its_user_may_not_see() -> Result<()> {
    let settings = Settings::from_env()?;
    for seed in settings.seed_list() {
        println!("TIDEWATER_TEST_SEED={seed}");
        run(seed, settings.rounds).await.with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
}

async fn run(seed: u64, rounds: usize) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let postgres = Postgres::start().await?;
    postgres.execute(model::CREATE_SQL).await?;
    let options =
        DevOptions::new(&postgres.url("postgres"), CONFIG).with(&["--snapshot-threshold", "3"]);
    let mut tidewater = Tidewater::dev_ready(options).await?;
    let mut model = Model::default();
    let mut attacker = Attacker::new(&tidewater)?;

    // Buckets with history enough for a base, so that snapshots are a part of what is attacked.
    let sql = model.fill(&mut random);
    postgres.execute(&sql).await?;
    wait_for_checkpoint(&tidewater).await?;
    eventually("a snapshot", SOON, async || {
        let seen = attacker.honest(0).await?;
        Ok((!seen.snapshots.is_empty()).then_some(()))
    })
    .await?;

    for commit in 0..rounds * COMMITS {
        let sql = model.commit(&mut random);
        postgres.execute(&sql).await?;
        wait_for_checkpoint(&tidewater).await?;

        for user in 0..USERS.len() {
            let seen = attacker.honest(user).await?;
            check(&model, user, &seen).with_context(|| format!("commit {commit}"))?;
            let missing: Vec<_> = model.current(user).difference(&seen.markers).copied().collect();
            ensure!(missing.is_empty(), "user {user} lacks {missing:?} after commit {commit}");
        }
        for user in 0..USERS.len() {
            for _ in 0..ATTACKS {
                let (attack, seen) = attacker.attack(user, &mut random).await?;
                check(&model, user, &seen).with_context(|| format!("commit {commit}, {attack}"))?;
            }
        }
        attacker.forge_addresses(&mut random).await?;
        attacker.unauthorised(&mut random).await?;
    }

    let log = tidewater.log()?;
    ensure!(!log.contains("secret-"), "a row is in the log");
    ensure!(attacker.snapshots > 0, "no snapshot was a part of the attacks");
    tidewater.terminate().await?.assert_code(0);
    Ok(())
}

/// Waits until readers see everything that is committed.
async fn wait_for_checkpoint(tidewater: &Tidewater) -> Result<()> {
    let token = tidewater.token("a user without rows")?;
    let mut reader = SyncReader::new();
    let number = reader.write_checkpoint(tidewater.url(), &token).await?;
    let mut connection = reader.connect(tidewater.url(), &token).await?;
    let reached = connection.completed_with(|completed| completed.acknowledges(number));
    tokio::time::timeout(SOON, reached).await.context("no write checkpoint")??;
    Ok(())
}

/// Fails if a user has seen a row that is in none of the user's buckets, and never was.
fn check(model: &Model, user: usize, seen: &Seen) -> Result<()> {
    let allowed: BTreeSet<u32> = model.allowed(user);
    let leaked: Vec<_> = seen.markers.difference(&allowed).copied().collect();
    ensure!(leaked.is_empty(), "user {user} received {leaked:?}: {}", seen.first_line);
    Ok(())
}
