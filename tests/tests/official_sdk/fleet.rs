//! One server, and a device with each SDK.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use futures::future::join_all;
use serde_json::json;
use tidewater_tests::{
    Backend, DevOptions, Endpoints, LineEffect, OfficialSdk, Postgres, RecordingProxy, SdkClient,
    SigningKey, SyncReader, Tidewater, eventually,
};

/// Timeout of each wait. Browsers start slowly on a busy machine.
pub(super) const SOON: Duration = Duration::from_secs(90);

/// Devices that are opened at the same time. More browsers only wait for each other.
const OPENING: usize = 3;

/// SQL that creates the tables and a trigger.
///
/// The trigger changes rows that clients insert. A client shows the change only after its write
/// checkpoint has arrived, so the change proves the arrival.
const TABLES: &str = "
    CREATE TABLE lists (id text PRIMARY KEY, name text, owner_id text);
    CREATE TABLE todos (
        id text PRIMARY KEY, list_id text, description text, completed boolean, position int,
        weight float8, body text);
    CREATE TABLE settings (id text PRIMARY KEY, value text);
    INSERT INTO settings VALUES ('colour', 'blue');
    CREATE PUBLICATION powersync FOR TABLE lists, todos, settings;
    CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.position := 42; RETURN NEW; END $$;
    CREATE TRIGGER stamp BEFORE INSERT ON todos FOR EACH ROW WHEN (NEW.position IS NULL)
        EXECUTE FUNCTION stamp();
";

/// The sync config of most scenarios: what a user owns comes by itself, and other lists by subscription.
pub(super) const CONFIG: &str = "
config:
  edition: 3
streams:
  lists:
    auto_subscribe: true
    priority: 1
    query: SELECT * FROM lists WHERE owner_id = auth.user_id()
  todos:
    auto_subscribe: true
    query: >
      SELECT * FROM todos WHERE
      list_id IN (SELECT id FROM lists WHERE owner_id = auth.user_id())
  one_list:
    query: SELECT * FROM todos WHERE list_id = subscription.parameter('list')
";

/// SQL of a device that counts its to-dos and their lists.
pub(super) const COUNT: &str = "SELECT count(*) AS n, count(DISTINCT list_id) AS lists FROM todos";

/// Options of [`Fleet::start`].
#[derive(Clone, Debug)]
pub(super) struct FleetOptions {
    /// The SDKs of the devices.
    pub(super) clients: Vec<SdkClient>,
    /// Number of to-dos in the list of each user.
    pub(super) todos: u32,
    /// Arguments of `tidewater dev`.
    pub(super) arguments: Vec<&'static str>,
}

impl FleetOptions {
    pub(super) fn new(clients: Vec<SdkClient>) -> Self {
        Self { clients, todos: 200, arguments: Vec::new() }
    }
}

/// A server with its source and its backend, and devices.
pub(super) struct Fleet {
    pub(super) devices: Vec<Device>,
    /// To-dos in the list of each user at the start.
    todos: u32,
    pub(super) tidewater: Tidewater,
    _backend: Backend,
    pub(super) postgres: Postgres,
}

/// A device of its own user, with its own proxy to the server.
///
/// The user `u0` has the list `mine0`. The lists `other0` and `more0` with one to-do each belong to
/// nobody.
pub(super) struct Device {
    pub(super) sdk: OfficialSdk,
    pub(super) proxy: RecordingProxy,
    /// The number of the user.
    pub(super) user: usize,
    key: SigningKey,
}

impl Device {
    async fn open(
        user: usize,
        client: SdkClient,
        tidewater: &Tidewater,
        backend: &Backend,
    ) -> Result<Self> {
        let tables = json!({
            "lists": {"name": "text", "owner_id": "text"},
            "todos": {
                "list_id": "text", "description": "text", "completed": "integer",
                "position": "integer", "weight": "real", "body": "text",
            },
            "settings": {"value": "text"},
        });

        let proxy = RecordingProxy::start(tidewater.url()).await?;
        let endpoints = Endpoints {
            sync: proxy.url().to_owned(),
            backend: backend.upload_url(),
            token: tidewater.token(&format!("u{user}"))?,
        };
        let sdk = OfficialSdk::open(client, &tables, &endpoints).await?;
        Ok(Self { sdk, proxy, user, key: tidewater.key().clone() })
    }

    /// Returns a token of the user that is valid for so many seconds from now.
    pub(super) fn token(&self, valid_seconds: i64) -> Result<String> {
        self.key.token(&format!("u{}", self.user)).valid_seconds(valid_seconds).sign()
    }

    /// Waits until the device has so many to-dos of so many lists.
    pub(super) async fn wait_for_count(&mut self, todos: u32, lists: u32) -> Result<()> {
        self.sdk.wait_for(COUNT, &json!([{"n": todos, "lists": lists}]), SOON).await
    }

    /// Waits until a to-do of the user's list has a description.
    pub(super) async fn wait_for_description(&mut self, number: u32, text: &str) -> Result<()> {
        let sql = format!("SELECT description FROM todos WHERE id = 'mine{}-{number}'", self.user);
        self.sdk.wait_for(&sql, &json!([{"description": text}]), SOON).await
    }
}

impl Fleet {
    /// Starts the server and opens the devices, which are not connected yet.
    pub(super) async fn start(options: FleetOptions) -> Result<Self> {
        let FleetOptions { clients, todos, arguments } = options;
        let postgres = Postgres::start().await?;
        postgres.execute(TABLES).await?;
        for user in 0..clients.len() {
            // Random text, so that a stream of it is long even if it is compressed.
            let sql = format!(
                "INSERT INTO lists VALUES ('mine{user}', 'mine', 'u{user}'),
                     ('other{user}', 'other', NULL), ('more{user}', 'more', NULL);
                 INSERT INTO todos
                     SELECT 'mine{user}-' || n, 'mine{user}', 'todo ' || n, false, n, n / 2.0,
                         (SELECT string_agg(md5(n || '-' || m), '') FROM generate_series(1, 20) m)
                     FROM generate_series(1, {todos}) n;
                 INSERT INTO todos VALUES
                     ('other{user}-1', 'other{user}', 'not mine', false, 1, NULL, NULL),
                     ('more{user}-1', 'more{user}', 'not mine', false, 1, NULL, NULL)"
            );
            postgres.execute(&sql).await?;
        }

        let dev = DevOptions::new(&postgres.url("postgres"), CONFIG).with(&arguments);
        let tidewater = Tidewater::dev_ready(dev).await?;
        let backend =
            Backend::start(&postgres.url("postgres"), tidewater.key(), &["lists", "todos"]).await?;

        let opened = futures::stream::iter(clients.into_iter().enumerate())
            .map(|(user, client)| Device::open(user, client, &tidewater, &backend))
            .buffered(OPENING)
            .collect::<Vec<_>>()
            .await;
        let devices = opened.into_iter().collect::<Result<_>>()?;
        Ok(Self { devices, todos, tidewater, _backend: backend, postgres })
    }

    /// Runs a step on all devices at the same time.
    ///
    /// It fails with the errors of all devices, so that one run shows which SDKs have a fault.
    pub(super) async fn each(
        &mut self,
        step: &str,
        action: impl AsyncFn(&mut Device, &Postgres) -> Result<()>,
    ) -> Result<()> {
        let Self { devices, postgres, .. } = self;
        let outcomes = devices.iter_mut().map(async |device| {
            let name = device.sdk.client().name();
            let outcome =
                action(device, postgres).await.and_then(|()| device.sdk.verify_checksums());
            outcome.err().map(|error| format!("{name}: {error:#}"))
        });

        let failed: Vec<String> = join_all(outcomes).await.into_iter().flatten().collect();
        ensure!(failed.is_empty(), "{step}:\n{}", failed.join("\n"));
        Ok(())
    }

    /// Connects all devices, and waits until they have the to-dos of their own list.
    pub(super) async fn first_sync(&mut self, todos: u32) -> Result<()> {
        self.each("first sync", async |device, _| {
            device.sdk.connect().await?;
            device.wait_for_count(todos, 1).await
        })
        .await
    }

    /// Waits until a new device of each user receives a base, which has more operations than rows.
    pub(super) async fn wait_for_bases(&self) -> Result<()> {
        for user in 0..self.devices.len() {
            let rows = self.todos as usize + 1;
            eventually("a base", SOON, async || {
                let mut reader = SyncReader::new();
                let mut connection =
                    self.tidewater.connect(&mut reader, &format!("u{user}")).await?;
                let mut stored = 0;
                loop {
                    match connection.next().await?.context("the stream ended")? {
                        LineEffect::Stored { operations } => stored += operations,
                        LineEffect::Complete(_) => break,
                        LineEffect::Announced
                        | LineEffect::Partial(_)
                        | LineEffect::TokenExpiresIn(_)
                        | LineEffect::Ignored => {}
                    }
                }
                Ok((stored > rows).then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// Starts the server after it has ended. It listens on another port.
    pub(super) async fn start_server(&mut self) -> Result<()> {
        self.tidewater.start().await?;
        for device in &self.devices {
            device.proxy.forward_to(self.tidewater.url());
        }
        Ok(())
    }

    /// Restarts the server with another sync config.
    pub(super) async fn deploy(&mut self, config: &str) -> Result<()> {
        self.tidewater.terminate().await?;
        std::fs::write(self.tidewater.folder().join("sync-config.yaml"), config)?;
        self.start_server().await
    }
}
