//! Tokens that expire, and tokens that the server refuses.

use anyhow::{Result, ensure};
use serde_json::Value;
use tidewater_tests::{Postgres, SdkClient, Settings, SigningKey, Transport, eventually};

use super::fleet::{Device, Fleet, FleetOptions, SOON};

/// Lifetime of a token, in seconds: the server warns 20 s before the end, so a little more than that.
const SHORT_LIFE: i64 = 25;

/// Seconds that are more than the difference of clocks that the server allows.
const LONG_EXPIRED: i64 = -120;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sdk_fetches_a_token_before_the_old_one_expires() -> Result<()> {
    let clients = SdkClient::chosen(&Settings::from_env()?);
    let mut fleet = Fleet::start(FleetOptions::new(clients)).await?;
    fleet.each("a token that expires soon", token_that_expires_soon).await
}

async fn token_that_expires_soon(device: &mut Device, postgres: &Postgres) -> Result<()> {
    device.sdk.set_token(&device.token(SHORT_LIFE)?).await?;
    device.sdk.connect().await?;
    device.wait_for_count(200, 1).await?;
    let fresh = device.token(3600)?;
    device.sdk.set_token(&fresh).await?;

    eventually("a stream with the other token", SOON, async || {
        let status = device.sdk.status().await?;
        let is_fetched = status["fetches"].as_u64() > Some(1) && status["connected"] == true;
        let is_visible = device.sdk.client().transport == Transport::Http;
        let is_sent = !is_visible || device.proxy.has_received(&fresh);
        Ok((is_fetched && is_sent).then_some(()))
    })
    .await?;

    let change = format!("UPDATE todos SET description = 'new' WHERE id = 'mine{}-1'", device.user);
    postgres.execute(&change).await?;
    device.wait_for_description(1, "new").await?;
    let statuses = device.sdk.statuses().await?;
    let failed = statuses.iter().find(|status| status["downloadError"] != Value::Null);
    ensure!(failed.is_none(), "{failed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sdk_with_an_expired_token_fetches_another() -> Result<()> {
    let clients = SdkClient::chosen(&Settings::from_env()?);
    let mut fleet = Fleet::start(FleetOptions::new(clients)).await?;
    fleet
        .each("an expired token", async |device, _| {
            let expired = device.token(LONG_EXPIRED)?;
            fetch_after(device, &expired).await
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sdk_whose_token_is_refused_shows_an_error_and_recovers() -> Result<()> {
    let clients = SdkClient::chosen(&Settings::from_env()?);
    let mut fleet = Fleet::start(FleetOptions::new(clients)).await?;
    let stranger = SigningKey::random("test");
    fleet
        .each("a refused token", async |device, _| {
            let refused = stranger.token(&format!("u{}", device.user)).sign()?;
            recover_from(device, &refused).await
        })
        .await
}

/// Connects with an expired token, and then has a good one, which the SDK fetches by itself.
async fn fetch_after(device: &mut Device, expired: &str) -> Result<()> {
    device.sdk.set_token(expired).await?;
    device.sdk.connect().await?;
    eventually("another fetch of a token", SOON, async || {
        let status = device.sdk.status().await?;
        Ok((status["fetches"].as_u64() > Some(1)).then_some(()))
    })
    .await?;
    let rows = device.sdk.query("SELECT id FROM todos").await?;
    ensure!(rows.is_empty(), "{} rows", rows.len());

    device.sdk.set_token(&device.token(3600)?).await?;
    device.wait_for_count(200, 1).await?;
    let status = device.sdk.status().await?;
    ensure!(status["downloadError"] == Value::Null && status["connected"] == true, "{status}");
    Ok(())
}

/// Connects with a token that is refused, and then has a good one.
async fn recover_from(device: &mut Device, refused: &str) -> Result<()> {
    device.sdk.set_token(refused).await?;
    device.sdk.connect().await?;
    eventually("an error", SOON, async || {
        let status = device.sdk.status().await?;
        Ok((status["downloadError"] != Value::Null).then_some(()))
    })
    .await?;
    let rows = device.sdk.query("SELECT id FROM todos").await?;
    ensure!(rows.is_empty(), "{} rows", rows.len());

    device.sdk.set_token(&device.token(3600)?).await?;
    if !device.sdk.client().fetches_after_401() {
        // The app has to connect again.
        device.sdk.disconnect().await?;
        device.sdk.connect().await?;
    }
    device.wait_for_count(200, 1).await?;
    let status = device.sdk.status().await?;
    ensure!(status["downloadError"] == Value::Null && status["connected"] == true, "{status}");
    Ok(())
}
