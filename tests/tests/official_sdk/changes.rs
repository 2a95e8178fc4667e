//! Changes of the sync config while devices are connected.

use anyhow::Result;
use serde_json::json;
use tidewater_tests::{SdkClient, Settings};

use super::fleet::{CONFIG, Fleet, FleetOptions, SOON};

/// A stream that is added to the config.
const SETTINGS: &str = "  settings: { auto_subscribe: true, query: SELECT * FROM settings }\n";

/// The to-dos without those that are done.
const OPEN_TODOS: &str =
    "list_id IN (SELECT id FROM lists WHERE owner_id = auth.user_id()) AND completed = 0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_follow_a_change_of_the_sync_config() -> Result<()> {
    let clients = SdkClient::chosen(&Settings::from_env()?);
    let mut fleet = Fleet::start(FleetOptions::new(clients)).await?;
    fleet.first_sync(200).await?;

    // A stream is added: what devices have stays, and the rows of the stream come.
    let with_settings = format!("{CONFIG}{SETTINGS}");
    fleet.deploy(&with_settings).await?;
    fleet
        .each("a new stream", async |device, _| {
            let sql = "SELECT value FROM settings";
            device.sdk.wait_for(sql, &json!([{"value": "blue"}]), SOON).await?;
            device.wait_for_count(200, 1).await
        })
        .await?;

    // A stream's query is changed while the server is away, and rows too.
    let changed = with_settings
        .replace("list_id IN (SELECT id FROM lists WHERE owner_id = auth.user_id())", OPEN_TODOS);
    fleet.postgres.execute("UPDATE todos SET completed = true WHERE position <= 50").await?;
    fleet.deploy(&changed).await?;
    fleet
        .each("a changed stream", async |device, _| {
            // The two to-dos of lists of nobody are not among them.
            device.wait_for_count(150, 1).await
        })
        .await?;

    // A stream is removed.
    fleet.deploy(CONFIG).await?;
    fleet
        .each("a removed stream", async |device, _| {
            let sql = "SELECT count(*) AS n FROM settings";
            device.sdk.wait_for(sql, &json!([{"n": 0}]), SOON).await?;
            device.wait_for_count(200, 1).await
        })
        .await
}
