//! The everyday work of an app: first sync, changes from the server, writes, and reconnects.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidewater_tests::{Postgres, SdkClient, Settings, Transport, eventually};

use super::fleet::{Device, Fleet, FleetOptions, SOON};

/// The most bytes that a device may receive when it connects again after one row has changed: a
/// checkpoint, one row of some 700 bytes, and the heads. All rows are more than 130 kB.
const RECONNECT_BYTES: usize = 8_000;

/// SQL of a device that counts its buckets.
const BUCKETS: &str = "SELECT count(*) AS n FROM ps_buckets WHERE name != '$local'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sdk_syncs_follows_changes_uploads_writes_and_reconnects() -> Result<()> {
    let settings = Settings::from_env()?;
    let mut fleet = Fleet::start(FleetOptions::new(SdkClient::all(&settings))).await?;

    // The first sync brings all rows of the user, and no other.
    fleet.first_sync(200).await?;
    fleet
        .each("rows of the first sync", async |device, _| {
            let id = device.user;
            let todo = format!(
                "SELECT description, completed, position, weight, length(body) AS length
                 FROM todos WHERE id = 'mine{id}-7'"
            );
            let expected = json!([{
                "description": "todo 7", "completed": 0, "position": 7, "weight": 3.5, "length": 640
            }]);
            device.sdk.wait_for(&todo, &expected, SOON).await?;
            let lists = device.sdk.query("SELECT name FROM lists").await?;
            ensure!(lists == [json!({"name": "mine"})], "{lists:?}");
            Ok(())
        })
        .await?;

    fleet.each("changes from the server", live_changes).await?;
    fleet.each("a change of rights", change_of_rights).await?;
    fleet.each("local writes", local_writes).await?;
    fleet.each("reconnects", reconnect).await?;

    // The server is killed, and restarts on another port.
    fleet.tidewater.kill_9()?;
    fleet.postgres.execute("UPDATE todos SET description = 'after' WHERE position = 1").await?;
    fleet.start_server().await?;
    fleet.each("a restart", async |device, _| device.wait_for_description(1, "after").await).await
}

/// SDKs that number their checkpoint requests themselves, instead of asking for a number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_write_is_shown_after_a_numbered_checkpoint_request() -> Result<()> {
    let mut clients = SdkClient::chosen(&Settings::from_env()?);
    clients.retain(SdkClient::has_checkpoint_requests);
    ensure!(!clients.is_empty());
    let mut fleet = Fleet::start(FleetOptions::new(clients)).await?;

    fleet
        .each("numbered requests", async |device, postgres| {
            device.sdk.connect_with(json!({"checkpointMode": "requests"})).await?;
            device.wait_for_count(200, 1).await?;
            // The state in which the other test comes to its local writes.
            let sql = format!(
                "UPDATE todos SET completed = true WHERE id = 'mine{0}-7';
                 DELETE FROM todos WHERE id = 'mine{0}-8'",
                device.user
            );
            postgres.execute(&sql).await?;
            local_writes(device, postgres).await?;
            let paths = device.proxy.request_paths();
            ensure!(paths.iter().any(|path| path == "/sync/checkpoint-request"), "{paths:?}");
            ensure!(!paths.iter().any(|path| path.starts_with("/write-checkpoint")), "{paths:?}");
            Ok(())
        })
        .await
}

/// Changes a value, and deletes a row.
async fn live_changes(device: &mut Device, postgres: &Postgres) -> Result<()> {
    let id = device.user;
    let change = format!(
        "BEGIN; UPDATE todos SET completed = true WHERE id = 'mine{id}-7';
         DELETE FROM todos WHERE id = 'mine{id}-8'; COMMIT"
    );
    postgres.execute(&change).await?;

    let todo = format!(
        "SELECT completed, length(body) AS length FROM todos
         WHERE id IN ('mine{id}-7', 'mine{id}-8')"
    );
    device.sdk.wait_for(&todo, &json!([{"completed": 1, "length": 640}]), SOON).await
}

/// Moves a list with its to-dos to the user, and back.
async fn change_of_rights(device: &mut Device, postgres: &Postgres) -> Result<()> {
    let id = device.user;
    let give = format!("UPDATE lists SET owner_id = 'u{id}' WHERE id = 'other{id}'");
    postgres.execute(&give).await?;
    device.wait_for_count(200, 2).await?;
    device.sdk.wait_for(BUCKETS, &json!([{"n": 3}]), SOON).await?;

    let take = format!("UPDATE lists SET owner_id = NULL WHERE id = 'other{id}'");
    postgres.execute(&take).await?;
    device.wait_for_count(199, 1).await?;
    device.sdk.wait_for(BUCKETS, &json!([{"n": 2}]), SOON).await
}

/// Writes locally, and waits for the rows in PostgreSQL and for the write checkpoint.
async fn local_writes(device: &mut Device, postgres: &Postgres) -> Result<()> {
    let id = device.user;
    let insert = format!(
        "INSERT INTO todos (id, list_id, description, completed)
         VALUES ('new{id}', 'mine{id}', 'local', 1)"
    );
    let update = format!("UPDATE todos SET description = 'changed' WHERE id = 'mine{id}-9'");
    let delete = format!("DELETE FROM todos WHERE id = 'mine{id}-10'");
    device.sdk.write(&[&insert, &update, &delete]).await?;

    let sql = format!(
        "SELECT string_agg(concat_ws(' ', description, completed, position), ',' ORDER BY position)
         FROM todos WHERE id IN ('new{id}', 'mine{id}-9', 'mine{id}-10')"
    );
    eventually("the writes in PostgreSQL", SOON, async || {
        Ok((postgres.value(&sql).await? == "changed f 9,local t 42").then_some(()))
    })
    .await?;

    // The position comes from the trigger, so the write checkpoint has arrived.
    let local = format!("SELECT description, completed, position FROM todos WHERE id = 'new{id}'");
    let expected = json!([{"description": "local", "completed": 1, "position": 42}]);
    device.sdk.wait_for(&local, &expected, SOON).await?;
    let status = device.sdk.status().await?;
    ensure!(status["queued"] == 0 && status["rejected"] == 0, "{status}");
    device.wait_for_count(199, 1).await
}

/// Reconnects, also after a cut. The request must have the positions of the stored buckets.
async fn reconnect(device: &mut Device, postgres: &Postgres) -> Result<()> {
    let id = device.user;
    let set = format!("UPDATE todos SET description = $$offline$$ WHERE id = 'mine{id}-2'");
    device.sdk.disconnect().await?;
    let requests = device.proxy.stream_requests()?.len();
    let bytes = device.proxy.forwarded_bytes();
    postgres.execute(&set).await?;
    device.sdk.connect().await?;
    device.wait_for_description(2, "offline").await?;

    let received = device.proxy.forwarded_bytes() - bytes;
    ensure!(received < RECONNECT_BYTES, "{received} bytes");
    if device.sdk.client().transport == Transport::Http {
        let all = device.proxy.stream_requests()?;
        let request = all.get(requests).context("no request")?;
        ensure!(request.buckets.len() == 2, "{request:?}");
        let first = &request.buckets[0];
        ensure!(first.after.get() > 0, "{request:?}");
        ensure!(request.buckets.iter().all(|bucket| bucket.after == first.after), "{request:?}");
        ensure!(request.client_id.is_some() && request.raw_data, "{request:?}");
    }

    // The SDK reconnects by itself after a broken connection.
    device.proxy.cut_connections();
    postgres.execute(&set.replace("offline", "cut")).await?;
    device.wait_for_description(2, "cut").await?;
    let status: Value = device.sdk.status().await?;
    ensure!(status["connected"] == true, "{status}");
    Ok(())
}
