//! DynamoDB and S3 as the store. Only the replication slot and the control record keep workers apart.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidewater_tests::{LocalStack, Postgres, Process, Signal, Stack, eventually};
use tokio::time::{Instant, sleep};

use super::{Api, CONFIG, OWNS, SOON, assert_short, database, first_that, rounds};

/// Rounds for each of those in which workers are only started: a paused worker costs seconds.
const ROUNDS_PER_PAUSE: usize = 4;

/// The message of a worker that waits for its turn.
const WAITS: &str = "another session holds the slot";

/// The message of a worker whose store another one has taken over.
const FENCED: &str = "another worker has taken over the store";

/// DynamoDB and S3 as the store.
struct Aws {
    api: Api,
    stack: Stack,
    postgres: Postgres,
}

impl Aws {
    async fn start(notes: u32) -> Result<Self> {
        let postgres = database(notes).await?;
        let stack = Stack::deploy(LocalStack::start()?)?;
        let api = Api::new(stack.url()?, stack.key().clone());
        Ok(Self { api, stack, postgres })
    }

    /// Starts a worker. The server ends the session of a paused one after four seconds.
    fn worker(&self, name: &str) -> Result<Process> {
        let arguments = ["--wal-receiver-timeout", "4s"];
        self.stack.ingest_as(name, &self.postgres.url("postgres"), CONFIG, &arguments)
    }
}

fn owns(process: &mut Process) -> Result<bool> {
    process.must_run()?;
    Ok(process.stderr()?.contains(OWNS))
}

async fn log_says(process: &mut Process, text: &str) -> Result<()> {
    eventually(text, SOON, async || {
        process.must_run()?;
        Ok(process.stderr()?.contains(text).then_some(()))
    })
    .await
}

/// Faults F3 and F1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_workers_that_start_together_on_aws_one_owns_and_the_other_takes_over() -> Result<()>
{
    let mut aws = Aws::start(100).await?;
    let mut takeovers = Vec::new();
    for round in 0..rounds()? {
        aws.postgres.execute(&format!("UPDATE notes SET body = 'round {round}'")).await?;
        let mut pair = [aws.worker("one")?, aws.worker("other")?];
        let owner = first_that("one of two workers to own the store", &mut pair, owns).await?;
        log_says(&mut pair[1 - owner], WAITS).await?;
        aws.api.read_until_equal(&aws.postgres).await?;
        ensure!(!owns(&mut pair[1 - owner])?, "both own the store");

        pair[owner].kill()?;
        let killed = Instant::now();
        aws.postgres.execute("UPDATE notes SET body = body || '!' WHERE id = '1'").await?;
        aws.api.read_until_equal(&aws.postgres).await?;
        takeovers.push(killed.elapsed());
        ensure!(owns(&mut pair[1 - owner])?, "the other does not own the store");
        pair[1 - owner].kill()?;
    }
    assert_short("AWS", takeovers)
}

/// Fault F2. The worker is paused while it applies a large transaction, which it may go on to commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_worker_that_wakes_after_a_takeover_changes_nothing() -> Result<()> {
    let mut aws = Aws::start(500).await?;
    let mut fenced = 0;
    for round in 0..rounds()?.div_ceil(ROUNDS_PER_PAUSE) {
        let mut first = aws.worker("first")?;
        log_says(&mut first, OWNS).await?;
        aws.api.read_until_equal(&aws.postgres).await?;
        let mut second = aws.worker("second")?;
        log_says(&mut second, WAITS).await?;

        aws.postgres.execute(&format!("UPDATE notes SET body = 'round {round}'")).await?;
        // The random moment of the fault, and not a wait for a condition.
        sleep(Duration::from_millis(rand::random_range(0..400))).await;
        first.signal(Signal::Stop)?;
        let paused = Instant::now();
        log_says(&mut second, OWNS).await?;
        eprintln!("the other worker owns the store after {:?}", paused.elapsed());
        aws.api.read_until_equal(&aws.postgres).await?;

        aws.postgres.execute("UPDATE notes SET body = 'while paused' WHERE id < '2'").await?;
        aws.api.read_until_equal(&aws.postgres).await?;
        first.signal(Signal::Cont)?;
        let end = eventually("the first worker to end or to wait", SOON, async || {
            let has_ended = first.try_wait()?.is_some();
            let log = first.stderr()?;
            Ok((has_ended || log.contains(WAITS)).then_some((has_ended, log)))
        });
        let (has_ended, log) = end.await?;
        ensure!(!has_ended || log.contains(FENCED), "it has ended for another reason:\n{log}");
        fenced += usize::from(has_ended);

        // It has not disturbed the other one, whose stream goes on.
        aws.postgres.execute("UPDATE notes SET body = 'after it' WHERE id < '2'").await?;
        aws.api.read_until_equal(&aws.postgres).await?;
        second.must_run()?;
        ensure!(second.stderr()?.matches(OWNS).count() == 1, "it had to begin again");

        second.kill()?;
        aws.postgres.execute("UPDATE notes SET body = 'at last' WHERE id < '2'").await?;
        if has_ended {
            continue;
        }
        // It takes its turn.
        aws.api.read_until_equal(&aws.postgres).await?;
        first.must_run()?;
        first.kill()?;
    }
    eprintln!("{fenced} workers were fenced, the others waited for their turn");
    Ok(())
}
