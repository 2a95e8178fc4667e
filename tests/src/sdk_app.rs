//! Apps with an official SDK that connect, disconnect and write at random.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::local_buckets::Rows;
use crate::model::User;
use crate::official_sdk::{Endpoints, OfficialSdk};
use crate::readers::RowsDiffer;
use crate::schema::{Kind, Table};
use crate::sdk_client::SdkClient;
use crate::token::SigningKey;
use crate::wait::eventually;

/// Rows that each app writes: few, so that its writes often change the same row.
const DRAFTS: u32 = 4;

/// The longest pause between two actions, in milliseconds.
const PAUSE_MAX_MS: u64 = 400;

/// Time that rows stay after a subscription has ended: longer than a test.
const SUBSCRIBED: Duration = Duration::from_secs(3600);

/// Time after which an SDK that may forget writes has done so.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// A device of one user with an official SDK.
pub struct SdkApp {
    sdk: OfficialSdk,
    /// The app has connected and not disconnected since, whether or not the server is reachable.
    is_connected: bool,
    user: User,
    /// The start of the ids of the rows that only this app writes.
    drafts: String,
    rng: StdRng,
}

/// Options of [`SdkApp::open`].
#[derive(Clone)]
pub struct SdkAppOptions {
    /// The SDK.
    pub client: SdkClient,
    /// The user of the app. The app subscribes only if the SDK can.
    pub user: User,
    /// The number of the app among all apps.
    pub number: usize,
    /// The key that signs its tokens.
    pub key: SigningKey,
    /// Address of the sync API; it stays the same when the server restarts.
    pub sync: String,
    /// URL of the backend, which receives the app's writes.
    pub backend: String,
    /// Seed of its random numbers.
    pub seed: u64,
}

impl SdkApp {
    /// Opens a device without data.
    ///
    /// # Errors
    /// Fails when the SDK fails.
    pub async fn open(options: SdkAppOptions) -> Result<Self> {
        let mut user = options.user;
        if !options.client.has_subscriptions() {
            user.comments_of = None;
        }

        let role = if user.admin { "admin" } else { "member" };
        let endpoints = Endpoints {
            sync: options.sync,
            backend: options.backend,
            token: options.key.token(&user.id).claim("role", role).sign()?,
        };
        let mut sdk = OfficialSdk::open(options.client, &schema(), &endpoints).await?;
        if let Some(list) = &user.comments_of {
            sdk.subscribe("comments", &json!({"list": list}), SUBSCRIBED).await?;
        }

        let rng = StdRng::seed_from_u64(options.seed);
        Ok(Self { sdk, is_connected: false, user, drafts: format!("app{}-", options.number), rng })
    }

    /// Returns the user of the app.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    /// Connects, disconnects and writes at random until `stop` becomes true. An SDK that does not disconnect
    /// cleanly stays connected; what is between it and the server may still fail.
    ///
    /// # Errors
    /// Fails when the SDK fails. A server that is unreachable is not an error.
    pub async fn act_at_random(&mut self, mut stop: watch::Receiver<bool>) -> Result<()> {
        let may_disconnect = self.sdk.client().disconnects_cleanly();
        if !may_disconnect && !self.is_connected {
            self.connect().await?;
        }

        while !*stop.borrow_and_update() {
            match self.rng.random_range(0..6) {
                0 if may_disconnect => self.connect().await?,
                1 if may_disconnect => self.disconnect().await?,
                2..4 => self.write().await?,
                _ => {}
            }
            // The random moment of the next action, and not a wait for a condition.
            sleep(Duration::from_millis(self.rng.random_range(0..PAUSE_MAX_MS))).await;
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<()> {
        self.sdk.connect().await?;
        self.is_connected = true;
        Ok(())
    }

    async fn disconnect(&mut self) -> Result<()> {
        self.sdk.disconnect().await?;
        self.is_connected = false;
        Ok(())
    }

    /// Commits one local transaction on rows that no other app writes.
    async fn write(&mut self) -> Result<()> {
        let mut statements = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            let id = format!("{}{}", self.drafts, self.rng.random_range(0..DRAFTS));
            let body = format!("draft {} \u{1f30a}", self.rng.random::<u32>());
            let user = &self.user.id;

            statements.push(match self.rng.random_range(0..4) {
                // The tables of the SDK are views, which accept no upsert.
                0..2 => format!(
                    "INSERT INTO drafts (id, owner_id, body) SELECT '{id}', '{user}', '{body}'
                     WHERE NOT EXISTS (SELECT 1 FROM drafts WHERE id = '{id}')"
                ),
                2 => format!("UPDATE drafts SET body = '{body}' WHERE id = '{id}'"),
                _ => format!("DELETE FROM drafts WHERE id = '{id}'"),
            });
        }
        let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
        self.sdk.write(&statements).await
    }

    /// Connects and waits until the backend has accepted or rejected every local write.
    ///
    /// # Errors
    /// Fails when writes are still queued after `within`.
    pub async fn upload_all(&mut self, within: Duration) -> Result<()> {
        if !self.is_connected {
            self.connect().await?;
        }

        let may_forget = self.sdk.client().may_forget_writes();
        if may_forget && self.wait_for_uploads(FORGOTTEN).await.is_err() {
            let owner = &self.user.id;
            let id = format!("{}reminder-{}", self.drafts, self.rng.random::<u32>());
            let insert = format!("INSERT INTO drafts (id, owner_id) VALUES ('{id}', '{owner}')");
            self.sdk.write(&[&insert]).await?;
        }
        self.wait_for_uploads(within).await
    }

    async fn wait_for_uploads(&mut self, within: Duration) -> Result<()> {
        let uploaded = eventually("the uploads", within, async || {
            Ok((self.sdk.status().await?["queued"] == 0).then_some(()))
        })
        .await;
        let status = self.sdk.status().await?;
        uploaded.with_context(|| format!("{}: {status}", self.sdk.client().name()))
    }

    /// Waits until the connected app shows exactly `expected`.
    ///
    /// # Errors
    /// Fails with a [`RowsDiffer`] when the rows still differ after `within`, and when a checksum did
    /// not agree: the SDK would download the bucket again, and show the right rows in the end.
    pub async fn wait_until_equal(&mut self, expected: &Rows, within: Duration) -> Result<()> {
        let mut seen = Rows::new();
        let waited = eventually("the expected rows", within, async || {
            seen = self.rows().await?;
            Ok((seen == *expected).then_some(()))
        })
        .await;

        self.sdk.verify_checksums()?;
        if waited.is_ok() {
            return Ok(());
        }
        let status = self.sdk.status().await?;
        let name = self.sdk.client().name();
        let user = &self.user.id;
        Err(RowsDiffer::between(expected, &seen)
            .into_error(format!("after {within:?} user {user} with {name}: {status}")))
    }

    /// Reads the rows of all tables.
    async fn rows(&mut self) -> Result<Rows> {
        let mut all = Rows::new();
        for table in Table::ALL {
            let columns = table.synced_columns();
            let selected: Vec<String> = columns
                .iter()
                .filter(|(name, _)| *name != "id")
                .map(|(name, kind)| match kind {
                    // JavaScript's numbers do not hold all 64-bit integers.
                    Kind::Integer | Kind::Boolean => format!("CAST({name} AS TEXT) AS {name}"),
                    Kind::Text | Kind::Timestamptz | Kind::Real => (*name).to_owned(),
                })
                .collect();
            let sql = format!("SELECT id, {} FROM {}", selected.join(", "), table.name());

            for row in self.sdk.query(&sql).await? {
                let id = row["id"].as_str().context("an id is a text")?;
                let mut data = Map::from_iter([("id".to_owned(), Value::from(id))]);
                for (name, kind) in &columns {
                    data.insert((*name).to_owned(), stored(*kind, *name == "id", &row[*name])?);
                }
                all.insert((table.name().to_owned(), id.to_owned()), data);
            }
        }
        Ok(all)
    }
}

/// Returns the value of a column as the model has it.
fn stored(kind: Kind, is_id: bool, value: &Value) -> Result<Value> {
    Ok(match (value, kind) {
        (Value::Null, _) => Value::Null,
        // Devices store every id as text, whatever its type in PostgreSQL.
        (Value::String(text), _) if is_id => kind.value(Some(text)),
        (Value::String(text), Kind::Integer | Kind::Boolean) => text.parse::<i64>()?.into(),
        (Value::String(text), Kind::Text | Kind::Timestamptz) => text.as_str().into(),
        // JavaScript writes 3.0 as 3.
        (Value::Number(number), Kind::Real) => number.as_f64().into(),
        _ => bail!("{value} in a column of kind {kind:?}"),
    })
}

/// Returns the tables of the random tests for the SDK.
fn schema() -> Value {
    let mut tables = Map::new();
    for table in Table::ALL {
        let mut columns = Map::new();

        for (name, kind) in table.synced_columns() {
            let kind = match kind {
                Kind::Text | Kind::Timestamptz => "text",
                Kind::Integer | Kind::Boolean => "integer",
                Kind::Real => "real",
            };
            if name != "id" {
                columns.insert(name.to_owned(), kind.into());
            }
        }
        tables.insert(table.name().to_owned(), columns.into());
    }
    tables.into()
}
