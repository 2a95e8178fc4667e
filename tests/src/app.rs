//! Apps with Tidewater's own client that connect, disconnect, write and restart at random.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value};
use tidewater_client::rusqlite::{self, Transaction, params, types};
use tidewater_client::{
    Change, ChangeOrigin, Client, Connector, FixedToken, HttpConnector, Options, ProblemKind,
    Schema, StreamSubscription, Streams,
};
use tidewater_protocol::OpId;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::local_buckets::{Completed, Rows};
use crate::model::User;
use crate::process::Scratch;
use crate::readers::{Observations, RowsDiffer};
use crate::schema::{Kind, Table};
use crate::token::SigningKey;

/// The longest time between two comparisons of the app's rows while it catches up.
const COMPARE_INTERVAL: Duration = Duration::from_millis(100);

/// Rows that each app writes: few, so that its writes often change the same row.
const DRAFTS: u32 = 4;

/// The only rejection that these apps must expect: a TRUNCATE has deleted the row.
const ROW_IS_GONE: &str = "there is no row";

/// A device of one user, with its own database file.
pub struct App {
    options: AppOptions,
    rng: StdRng,
    client: Client,
    /// The last checkpoint that was reported.
    reported: Option<OpId>,
    folder: Scratch,
}

/// Options of [`App::new`].
#[derive(Clone)]
pub struct AppOptions {
    /// The user of the app.
    pub user: User,
    /// The key that signs its tokens.
    pub key: SigningKey,
    /// Address of the sync API; it stays the same when the server restarts.
    pub sync: String,
    /// URL of the backend, which receives the app's writes.
    pub backend: String,
    /// Seed of its random numbers.
    pub seed: u64,
    /// Collects the checkpoints that the app has shown.
    pub observations: Observations,
}

/// The rows in the app's tables at one moment.
struct AppView {
    checkpoint: Option<OpId>,
    /// The rows contain local writes that the server has not returned yet.
    has_local_writes: bool,
    rows: Rows,
}

impl App {
    /// Creates a device without data.
    ///
    /// # Errors
    /// Fails when the file system fails.
    pub fn new(options: AppOptions) -> Result<Self> {
        let folder = Scratch::new()?;
        let client = open(&folder, &options.user)?;
        let rng = StdRng::seed_from_u64(options.seed);
        Ok(Self { options, rng, client, reported: None, folder })
    }

    /// Returns the user of the app.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.options.user
    }

    /// Connects, disconnects, restarts, signs out and writes at random until `stop` becomes true.
    ///
    /// # Errors
    /// Fails when the server violates the protocol. A server that is unreachable is not an error.
    pub async fn act_at_random(&mut self, mut stop: watch::Receiver<bool>) -> Result<()> {
        while !*stop.borrow_and_update() {
            match self.rng.random_range(0..13) {
                0..2 => self.write()?,
                // The user signs out. Writes that were not uploaded are lost, as documented.
                2 => self.client.disconnect_and_clear().await?,
                3 => self.client = open(&self.folder, &self.options.user)?,
                4 => {
                    let Credentials { token, connector } = self.credentials()?;
                    let timeout = Duration::from_millis(self.rng.random_range(1..800));
                    let sync = &self.options.sync;

                    // Any outcome is valid while the server is killed. The file tells the result.
                    let _ = self.client.sync_once(sync, token, connector, Some(timeout)).await;
                    self.report()?;
                }
                _ => {
                    self.connect()?;
                    let duration = Duration::from_millis(self.rng.random_range(1..2_000));
                    self.report_until(Instant::now() + duration).await?;
                    self.client.disconnect().await;
                }
            }
        }
        Ok(())
    }

    /// Reports each checkpoint until the deadline, and writes at random.
    async fn report_until(&mut self, deadline: Instant) -> Result<()> {
        let mut changes = self.client.changes();
        while let Ok(change) = timeout_at(deadline, changes.recv()).await {
            if is_checkpoint(&change) {
                self.report()?;
            }
            if self.rng.random_ratio(1, 4) {
                self.write()?;
            }
        }
        self.verify_status()
    }

    /// Connects and waits until the backend has accepted or rejected every local write.
    ///
    /// The app stays connected.
    ///
    /// # Errors
    /// Fails when writes are still queued after `within`, or when a rejection is unexpected.
    pub async fn upload_all(&mut self, within: Duration) -> Result<()> {
        self.connect()?;
        let mut status = self.client.status();
        let empty = status.wait_for(|status| status.queue_length == 0);
        if timeout(within, empty).await.is_err() {
            bail!("after {within:?} user {} still has writes: {:?}", self.name(), self.status());
        }

        for rejected in self.client.rejected()? {
            ensure!(
                rejected.reason.contains(ROW_IS_GONE),
                "unexpected rejection of a write: {rejected:?}"
            );
        }
        self.verify_status()
    }

    /// Waits until the connected app shows exactly `expected`, then disconnects.
    ///
    /// # Errors
    /// Fails with a [`RowsDiffer`](crate::RowsDiffer) when the rows still differ after `within`.
    pub async fn wait_until_equal(&mut self, expected: &Rows, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        let mut changes = self.client.changes();
        loop {
            let view = self.report()?;
            self.verify_status()?;
            if view.rows == *expected && !view.has_local_writes {
                self.client.disconnect().await;
                return Ok(());
            }

            if Instant::now() >= deadline {
                let user = self.name();
                let status = self.status();
                return Err(RowsDiffer::between(expected, &view.rows).into_error(format!(
                    "after {within:?} the app of user {user} does not show the expected rows: \
                     {status}"
                )));
            }
            // A local write or an incomplete download sends no change, so the wait is bounded.
            let _ = timeout(COMPARE_INTERVAL, changes.recv()).await;
        }
    }

    fn name(&self) -> &str {
        &self.options.user.id
    }

    fn status(&self) -> String {
        format!("{:?}", *self.client.status().borrow())
    }

    /// Verifies that the client has reported no checksum mismatch and no protocol error.
    ///
    /// Network problems are expected: the server is killed and restarted.
    fn verify_status(&self) -> Result<()> {
        let status = self.client.status().borrow().clone();
        let problem = status.download_problem.as_ref().map(|problem| problem.kind);
        let is_expected = matches!(problem, None | Some(ProblemKind::Network));
        ensure!(is_expected && status.checksum_mismatches == 0, "user {}: {status:?}", self.name());
        Ok(())
    }

    fn connect(&self) -> Result<()> {
        let Credentials { token, connector } = self.credentials()?;
        Ok(self.client.connect(&self.options.sync, token, connector)?)
    }

    fn credentials(&self) -> Result<Credentials> {
        let role = if self.options.user.admin { "admin" } else { "member" };
        let token = self.options.key.token(self.name()).claim("role", role).sign()?;
        let token = Arc::new(FixedToken(token));

        let connector = HttpConnector::new(&self.options.backend, token.clone())?;
        Ok(Credentials { token, connector: Some(Arc::new(connector)) })
    }

    /// Commits one local transaction on rows that no other device writes.
    fn write(&mut self) -> Result<()> {
        let user = self.options.user.id.clone();
        let device = self.client.client_id().to_owned();

        let rng = &mut self.rng;
        self.client.write(|tx| {
            for _ in 0..rng.random_range(1..4) {
                let id = format!("{device}-{}", rng.random_range(0..DRAFTS));
                let body = format!("draft {} \u{1f30a}", rng.random::<u32>());

                match rng.random_range(0..4) {
                    0..2 => tx.execute(
                        "INSERT INTO drafts (id, owner_id, body) VALUES (?1, ?2, ?3)
                         ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                        params![id, user, body],
                    )?,
                    2 => tx.execute("UPDATE drafts SET body = ?2 WHERE id = ?1", [id, body])?,
                    _ => tx.execute("DELETE FROM drafts WHERE id = ?1", [id])?,
                };
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Adds the visible checkpoint to the observations, once for each checkpoint.
    ///
    /// A view with local writes is not reported: the source has no such commit.
    fn report(&mut self) -> Result<AppView> {
        let view = self.client.read(|db| read_view(&db.unchecked_transaction()?))?;
        if let Some(at) = view.checkpoint.filter(|_| !view.has_local_writes)
            && self.reported != Some(at)
        {
            self.reported = Some(at);
            let rows = Arc::new(view.rows.clone());
            let completed = Completed { last_op_id: at, write_checkpoint: None, rows };
            self.options.observations.add(&self.options.user, completed);
        }
        Ok(view)
    }
}

struct Credentials {
    token: Arc<FixedToken>,
    connector: Option<Arc<dyn Connector>>,
}

fn is_checkpoint(change: &Result<Change, broadcast::error::RecvError>) -> bool {
    // A receiver that has missed messages may have missed a checkpoint.
    !change.as_ref().is_ok_and(|change| change.origin == ChangeOrigin::Local)
}

fn open(folder: &Scratch, user: &User) -> Result<Client> {
    let sql: String = Table::ALL.into_iter().map(create_sql).collect();
    let subscriptions = user.comments_of.iter().map(|list| StreamSubscription {
        stream: "comments".to_owned(),
        parameters: Some(Map::from_iter([("list".to_owned(), Value::from(list.clone()))])),
        override_priority: None,
    });
    let streams = Streams { include_defaults: true, subscriptions: subscriptions.collect() };

    let options = Options {
        poll_interval: Duration::from_millis(50),
        streams: Some(streams),
        ..Options::default()
    };
    let file = folder.path().join("app.db");
    Client::open(file, &Schema::parse(&sql)?, options).context("cannot open the app's file")
}

fn create_sql(table: Table) -> String {
    let mut columns = String::new();
    for (name, kind) in table.synced_columns() {
        let affinity = match kind {
            Kind::Text | Kind::Timestamptz => "TEXT",
            Kind::Integer | Kind::Boolean => "INTEGER",
            Kind::Real => "REAL",
        };
        if name != "id" {
            columns.push_str(&format!(", {name} {affinity}"));
        }
    }
    format!("CREATE TABLE {} (id TEXT PRIMARY KEY{columns});\n", table.name())
}

/// Reads the rows and their checkpoint in one transaction.
///
/// Only the client's internal tables hold both.
fn read_view(tx: &Transaction<'_>) -> rusqlite::Result<AppView> {
    let sql = "SELECT checkpoint,
                      EXISTS (SELECT 1 FROM _tw_touched) OR EXISTS (SELECT 1 FROM _tw_queue)
               FROM _tw_state";
    let (checkpoint, has_local_writes): (Option<i64>, bool) =
        tx.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;

    let mut all = Rows::new();
    for table in Table::ALL {
        let columns = table.synced_columns();
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let sql = format!("SELECT id, {} FROM {}", names.join(", "), table.name());
        let mut select = tx.prepare(&sql)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let id: String = row.get(0)?;
            let mut data = Map::from_iter([("id".to_owned(), Value::from(id.clone()))]);
            for (index, (name, kind)) in columns.iter().enumerate() {
                let value = match (*name, kind, row.get(index + 1)?) {
                    // Devices store every id as text, whatever its type in PostgreSQL.
                    ("id", kind, types::Value::Text(text)) => kind.value(Some(&text)),
                    (_, _, value) => json(value),
                };
                data.insert((*name).to_owned(), value);
            }
            all.insert((table.name().to_owned(), id), data);
        }
    }
    Ok(AppView { checkpoint: checkpoint.and_then(OpId::from_i64), has_local_writes, rows: all })
}

fn json(value: types::Value) -> Value {
    match value {
        types::Value::Null => Value::Null,
        types::Value::Integer(number) => number.into(),
        types::Value::Real(number) => number.into(),
        types::Value::Text(text) => text.into(),
        types::Value::Blob(bytes) => format!("{bytes:?}").into(),
    }
}
