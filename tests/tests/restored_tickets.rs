//! Tickets that were lost or restored from a backup, while the control record was not.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tidewater_protocol::Epoch;
use tidewater_storage::{ControlStore, Ticket, WriteCheckpointStore};
use tidewater_tests::{Lodging, Postgres, Process, Scratch, Signal, eventually};

use crate::aws::Aws;

/// A bound for whatever must happen: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(60);

/// Time in which reads are counted.
const OBSERVED: Duration = Duration::from_secs(5);

/// Reads in this time at most: a look each quarter of a second, and some of the start.
const READS_MAX: u32 = 30;

const CONFIG: &str = "
config: { edition: 3 }
streams:
  notes: { auto_subscribe: true, query: SELECT * FROM notes }
";

struct Setup {
    aws: Aws,
    postgres: Postgres,
    folder: Scratch,
}

impl Setup {
    fn worker(&self, name: &str) -> Result<Process> {
        let config = self.folder.path().join("sync-config.yaml");
        std::fs::write(&config, CONFIG)?;
        let mut command = self.aws.worker(&self.postgres.url("postgres"), &config)?;
        let lodging = Lodging { name, logs: self.folder.path(), end: Signal::Term };
        Process::spawn(&mut command, lodging)
    }

    async fn epoch(&self) -> Result<Option<Epoch>> {
        Ok(self.aws.store().control().await?.map(|control| control.epoch))
    }

    async fn until_committed(&self, ticket: Ticket) -> Result<()> {
        eventually("the ticket to be committed", SOON, async || {
            let control = self.aws.store().control().await?.context("no control record")?;
            Ok((control.committed.ticket == ticket).then_some(()))
        })
        .await
    }
}

#[tokio::test]
async fn a_worker_does_not_spin_after_its_tickets_were_restored() -> Result<()> {
    let postgres = Postgres::start().await?;
    let notes = "CREATE TABLE notes (id text PRIMARY KEY);
                 CREATE PUBLICATION powersync FOR TABLE notes";
    postgres.execute(notes).await?;
    let setup = Setup { aws: Aws::start().await?, postgres, folder: Scratch::new()? };
    let store = setup.aws.store();

    let mut first = setup.worker("first")?;
    for _ in 0..3 {
        store.take_ticket().await?;
    }
    setup.until_committed(Ticket(3)).await?;
    first.signal(Signal::Term)?;
    first.wait(SOON).await?.assert_code(0);
    let before = setup.epoch().await?;
    let counter = json!({ "TableName": "app-write-checkpoints", "Key": { "p": { "S": "bell" } } });
    setup.aws.call("DeleteItem", &counter).await?;
    assert_eq!(store.last_ticket().await?, Ticket(0));

    let _second = setup.worker("second")?;
    eventually("the second run", SOON, async || Ok((setup.epoch().await? != before).then_some(())))
        .await?;
    let reads = || setup.aws.count("dynamodb:GetItem", "write-checkpoints");
    let so_far = reads();
    tokio::time::sleep(OBSERVED).await;
    let in_time = reads() - so_far;
    assert!(in_time <= READS_MAX, "{in_time} reads of the counter in {OBSERVED:?}");

    // Tickets beyond the lost ones are seen.
    for _ in 0..4 {
        store.take_ticket().await?;
    }
    setup.until_committed(Ticket(4)).await
}
