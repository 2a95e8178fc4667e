//! Priorities, subscriptions, and progress.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidewater_tests::{Postgres, SdkClient, Settings, eventually};

use super::fleet::{Device, Fleet, FleetOptions, SOON};

/// Time that rows stay after a subscription has ended: over soon, and not within a test.
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_higher_priority_are_shown_before_the_others() -> Result<()> {
    let clients = SdkClient::chosen(&Settings::from_env()?);
    let todos = 4_000;
    let mut fleet = Fleet::start(FleetOptions { todos, ..FleetOptions::new(clients) }).await?;
    fleet.first_sync(todos).await?;

    fleet
        .each("priorities", async |device, _| {
            let statuses = device.sdk.statuses().await?;
            let is_early = |status: &Value| {
                let high = json!({"priority": 1, "hasSynced": true});
                let priorities = status["priorities"].as_array();
                priorities.is_some_and(|all| all.contains(&high)) && status["hasSynced"] == false
            };
            ensure!(statuses.iter().any(is_early), "{statuses:?}");
            Ok(())
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_subscription_stay_for_its_time_to_live() -> Result<()> {
    let mut clients = SdkClient::chosen(&Settings::from_env()?);
    clients.retain(SdkClient::has_subscriptions);
    ensure!(!clients.is_empty());
    let mut fleet = Fleet::start(FleetOptions::new(clients)).await?;
    fleet.first_sync(200).await?;
    fleet.each("subscriptions", subscriptions).await
}

async fn subscriptions(device: &mut Device, postgres: &Postgres) -> Result<()> {
    let id = device.user;
    let short = json!({"list": format!("other{id}")});
    let long = json!({"list": format!("more{id}")});
    device.sdk.subscribe("one_list", &short, SHORT).await?;
    device.sdk.subscribe("one_list", &long, LONG).await?;
    device.wait_for_count(202, 3).await?;

    // Both are live.
    let sql = format!("UPDATE todos SET position = 7 WHERE id IN ('other{id}-1', 'more{id}-1')");
    postgres.execute(&sql).await?;
    let shown = "SELECT count(*) AS n FROM todos WHERE position = 7 AND description = 'not mine'";
    device.sdk.wait_for(shown, &json!([{"n": 2}]), SOON).await?;

    // SDKs end a subscription when they connect after its time.
    device.sdk.unsubscribe("one_list", &short).await?;
    device.sdk.unsubscribe("one_list", &long).await?;
    eventually("the rows of one subscription to disappear", SOON, async || {
        device.sdk.disconnect().await?;
        device.sdk.connect().await?;
        let sdk = &mut device.sdk;
        let gone = sdk.wait_for(shown, &json!([{"n": 1}]), Duration::from_secs(2)).await;
        Ok(gone.is_ok().then_some(()))
    })
    .await?;
    device.wait_for_count(201, 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_progress_of_a_first_sync_never_shrinks_and_ends_at_its_total() -> Result<()> {
    let clients = SdkClient::chosen(&Settings::from_env()?);
    let todos = 4_000;
    let options = FleetOptions {
        todos,
        arguments: vec!["--snapshot-threshold", "500"],
        ..FleetOptions::new(clients)
    };
    let mut fleet = Fleet::start(options).await?;
    // A base has operations that are no rows.
    fleet.wait_for_bases().await?;

    fleet.first_sync(todos).await?;
    fleet
        .each("progress", async |device, _| {
            let statuses = device.sdk.statuses().await?;
            // After the first sync, the progress of later changes begins again at 0.
            let first = statuses.iter().take_while(|status| status["hasSynced"] == false);
            let seen: Vec<(u64, u64)> = first
                .map(|status| &status["progress"])
                .filter(|progress| !progress.is_null())
                .map(|progress| serde_json::from_value(progress.clone()))
                .collect::<Result<_, _>>()?;
            ensure!(seen.is_sorted(), "it shrinks: {seen:?}");
            ensure!(seen.iter().all(|(done, total)| done <= total), "more than all: {seen:?}");
            let (done, total) = seen.last().context("no progress")?;
            ensure!(done == total && *total > u64::from(todos), "{seen:?}");
            Ok(())
        })
        .await
}
