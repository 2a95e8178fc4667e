//! A store on AWS that refuses calls: each ends the worker with an error that says what to change, and
//! at a start before anything was made.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tidewater_storage::ControlStore;
use tidewater_tests::{Lodging, Output, Postgres, Process, Scratch, Signal, eventually};

use crate::aws::{Aws, Refused, denied, denied_by_s3};

/// A bound for whatever must happen: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(60);

const CONFIG: &str = "
config: { edition: 3 }
streams:
  notes: { auto_subscribe: true, query: SELECT * FROM notes }
";

const NOTES: &str = "
    CREATE TABLE notes (id text PRIMARY KEY, body text);
    CREATE PUBLICATION powersync FOR TABLE notes;
    INSERT INTO notes SELECT n::text, 'note ' || n FROM generate_series(1, 100) n";

/// A source, and a deployment on AWS.
struct Setup {
    aws: Aws,
    postgres: Postgres,
    folder: Scratch,
}

impl Setup {
    async fn new() -> Result<Self> {
        let postgres = Postgres::start().await?;
        postgres.execute(NOTES).await?;
        let folder = Scratch::new()?;
        std::fs::write(folder.path().join("sync-config.yaml"), CONFIG)?;
        Ok(Self { aws: Aws::start().await?, postgres, folder })
    }

    fn worker(&self) -> Result<Command> {
        let sync_config = self.folder.path().join("sync-config.yaml");
        self.aws.worker(&self.postgres.url("postgres"), &sync_config)
    }

    fn start(&self, mut command: Command) -> Result<Process> {
        let lodging = Lodging { name: "ingest", logs: self.folder.path(), end: Signal::Term };
        Process::spawn(&mut command, lodging)
    }

    /// Runs a worker, which must end by itself with these texts, and without having made anything.
    async fn ends_before_anything_is_made(&self, command: Command, says: &[&str]) -> Result<()> {
        let output = self.start(command)?.wait(SOON).await?;
        assert_error(&output, says);

        let slots = self.postgres.value("SELECT count(*) FROM pg_replication_slots").await?;
        assert_eq!(slots, "0", "a slot was made, after {says:?}");
        self.aws.allow_all();
        let control = self.aws.store().control().await?;
        assert!(control.is_none(), "an epoch was taken, after {says:?}");
        Ok(())
    }
}

fn assert_error(output: &Output, says: &[&str]) {
    output.assert_code(1);
    output.assert_says(says);
    output.assert_says(&["the ingest worker stopped"]);
}

#[tokio::test]
async fn a_wrong_bucket_or_prefix_ends_the_worker_before_anything_is_made() -> Result<()> {
    let setup = Setup::new().await?;
    let mut wrong_bucket = setup.worker()?;
    wrong_bucket.env("TIDEWATER_BUCKET", "typo");
    let says = ["PutObject failed on typo: NoSuchBucket", "check the name of the S3 bucket"];
    setup.ends_before_anything_is_made(wrong_bucket, &says).await?;

    let mut wrong_prefix = setup.worker()?;
    wrong_prefix.env("TIDEWATER_TABLE_PREFIX", "typo");
    // Without this flag, the name of the slot is read from the store before the worker starts.
    wrong_prefix.env("TIDEWATER_SLOT", "tidewater");
    let says =
        ["GetItem failed on typo-", "ResourceNotFoundException", "check the name of the table"];
    setup.ends_before_anything_is_made(wrong_prefix, &says).await
}

#[tokio::test]
async fn a_missing_right_ends_the_worker_before_anything_is_made_and_is_named() -> Result<()> {
    let setup = Setup::new().await?;
    let cases: [(Refused, &[&str]); 8] = [
        (denied_by_s3("PutObject"), &["failed on app-objects: AccessDenied", "allow s3:PutObject"]),
        (denied_by_s3("GetObject"), &["allow s3:GetObject", "s3:ListBucket"]),
        (
            denied_by_s3("DeleteObject"),
            &["failed on app-objects: AccessDenied", "allow s3:DeleteObject"],
        ),
        (denied("BatchGetItem"), &["allow dynamodb:BatchGetItem on this table"]),
        (denied("Query"), &["allow dynamodb:Query on this table"]),
        (denied("PutItem"), &["failed on app-control", "allow dynamodb:PutItem on this table"]),
        (denied("UpdateItem"), &["allow dynamodb:UpdateItem on this table"]),
        (denied("BatchWriteItem"), &["allow dynamodb:BatchWriteItem on this table"]),
    ];
    for (refused, says) in cases {
        setup.aws.refuse(refused);
        setup.ends_before_anything_is_made(setup.worker()?, says).await?;
    }
    Ok(())
}

#[tokio::test]
async fn credentials_that_are_not_accepted_end_the_worker() -> Result<()> {
    let setup = Setup::new().await?;
    setup.aws.refuse(Refused { call: "PutObject", status: 403, code: "InvalidAccessKeyId" });
    let says = ["InvalidAccessKeyId", "check the AWS credentials of this process"];
    setup.ends_before_anything_is_made(setup.worker()?, &says).await
}

#[tokio::test]
async fn a_right_that_is_taken_away_ends_a_worker_that_replicates() -> Result<()> {
    let setup = Setup::new().await?;
    let mut worker = setup.start(setup.worker()?)?;
    eventually("the first checkpoint to be visible", SOON, async || {
        worker.must_run()?;
        Ok(worker.stderr()?.contains("the first checkpoint is visible").then_some(()))
    })
    .await?;
    let epoch = async || {
        let control = setup.aws.store().control().await?.context("no control record")?;
        Ok::<_, anyhow::Error>(control.epoch)
    };
    let before = epoch().await?;

    setup.aws.refuse(denied("UpdateItem"));
    setup.postgres.execute("INSERT INTO notes VALUES ('more', 'text')").await?;
    let output = worker.wait(SOON).await?;
    assert_error(&output, &["AccessDeniedException", "allow dynamodb:UpdateItem on this table"]);
    assert!(!output.stderr.contains("lost the connection"), "{}", output.stderr);

    // Nothing is lost, and whatever restarts the worker in between costs nothing.
    setup.start(setup.worker()?)?.wait(SOON).await?.assert_code(1);
    setup.aws.allow_all();
    assert_eq!(epoch().await?, before, "a worker that may not write has taken an epoch");
    Ok(())
}
