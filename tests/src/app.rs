//! Apps around Tidewater's own client that come and go, and write.

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
use crate::readers::{Observations, difference};
use crate::schema::{Kind, Table};
use crate::token::SigningKey;

/// How often it is looked whether there is something to see.
const LOOK: Duration = Duration::from_millis(100);

/// Rows that each app writes: few, so that its writes meet each other.
const DRAFTS: u32 = 4;

/// The one verdict that these apps must expect: somebody emptied the table.
const GONE: &str = "there is no row";

type Backend = Arc<dyn Connector>;

/// A device of one user, with a file of its own.
pub struct App {
    options: AppOptions,
    rng: StdRng,
    client: Client,
    /// The last checkpoint that was reported.
    reported: Option<OpId>,
    folder: Scratch,
}

/// What an app needs to know.
#[derive(Clone)]
pub struct AppOptions {
    /// Who it is.
    pub user: User,
    /// Signs its tokens.
    pub key: SigningKey,
    /// The sync API's address, which stays.
    pub sync: String,
    /// Where it posts its writes.
    pub backend: String,
    /// Of its own random numbers.
    pub seed: u64,
    /// Where it reports what it sees.
    pub observations: Observations,
}

/// What an app shows at one moment.
struct Shown {
    checkpoint: Option<OpId>,
    /// Whether rows of it are the app's own, not the server's.
    has_own: bool,
    rows: Rows,
}

impl App {
    /// A device that holds nothing.
    ///
    /// # Errors
    /// Of the file system.
    pub fn new(options: AppOptions) -> Result<Self> {
        let folder = Scratch::new()?;
        let client = open(&folder, &options.user)?;
        let rng = StdRng::seed_from_u64(options.seed);
        Ok(Self { options, rng, client, reported: None, folder })
    }

    /// Who it is.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.options.user
    }

    /// Connects for a while, disconnects, is closed and opened, signs out, writes, and so on until
    /// told to stop.
    ///
    /// # Errors
    /// When the client finds that the server breaks the protocol. That it is not there is no error.
    pub async fn come_and_go(&mut self, mut stop: watch::Receiver<bool>) -> Result<()> {
        while !*stop.borrow_and_update() {
            match self.rng.random_range(0..13) {
                0..2 => self.write()?,
                // Somebody signs out; writes that were not sent are lost with the rest.
                2 => self.client.disconnect_and_clear().await?,
                3 => self.client = open(&self.folder, &self.options.user)?,
                4 => {
                    let (token, connector) = self.credentials()?;
                    let patience = Duration::from_millis(self.rng.random_range(1..800));
                    let sync = &self.options.sync;
                    // Whatever became of it, the file shows.
                    let _ = self.client.sync_once(sync, token, connector, Some(patience)).await;
                    self.report()?;
                }
                _ => {
                    self.connect()?;
                    let patience = Duration::from_millis(self.rng.random_range(1..2_000));
                    self.watch(Instant::now() + patience).await?;
                    self.client.disconnect().await;
                }
            }
        }
        Ok(())
    }

    /// Reports what it sees, and writes now and then.
    async fn watch(&mut self, deadline: Instant) -> Result<()> {
        let mut changes = self.client.changes();
        while let Ok(change) = timeout_at(deadline, changes.recv()).await {
            if is_checkpoint(&change) {
                self.report()?;
            }
            if self.rng.random_ratio(1, 4) {
                self.write()?;
            }
        }
        self.must_be_well()
    }

    /// Connects until all that it wrote has been decided on, and stays so.
    ///
    /// # Errors
    /// When it is not within that time.
    pub async fn upload_all(&mut self, within: Duration) -> Result<()> {
        self.connect()?;
        let mut status = self.client.status();
        let empty = status.wait_for(|status| status.queue_length == 0);
        if timeout(within, empty).await.is_err() {
            bail!("after {within:?} user {} still has writes: {:?}", self.name(), self.status());
        }
        for rejected in self.client.rejected()? {
            ensure!(rejected.reason.contains(GONE), "rejected: {rejected:?}");
        }
        self.must_be_well()
    }

    /// Waits, connected, until it shows exactly these rows; and disconnects.
    ///
    /// # Errors
    /// When it does not within that time, with the difference.
    pub async fn settle(&mut self, target: &Rows, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        let mut changes = self.client.changes();
        loop {
            let shown = self.report()?;
            self.must_be_well()?;
            if shown.rows == *target && !shown.has_own {
                self.client.disconnect().await;
                return Ok(());
            }
            if Instant::now() >= deadline {
                let difference = difference(target, &shown.rows);
                let (user, status) = (self.name(), self.status());
                bail!("after {within:?} the app of user {user} differs: {status}\n{difference}");
            }
            let _ = timeout(LOOK, changes.recv()).await;
        }
    }

    fn name(&self) -> &str {
        &self.options.user.id
    }

    fn status(&self) -> String {
        format!("{:?}", *self.client.status().borrow())
    }

    /// A server that is away is no trouble; one that says what cannot be is.
    fn must_be_well(&self) -> Result<()> {
        let status = self.client.status().borrow().clone();
        let problem = status.download_problem.as_ref().map(|problem| problem.kind);
        let is_well = matches!(problem, None | Some(ProblemKind::Network));
        ensure!(is_well && status.checksum_mismatches == 0, "user {}: {status:?}", self.name());
        Ok(())
    }

    fn connect(&self) -> Result<()> {
        let (token, connector) = self.credentials()?;
        Ok(self.client.connect(&self.options.sync, token, connector)?)
    }

    fn credentials(&self) -> Result<(Arc<FixedToken>, Option<Backend>)> {
        let role = if self.options.user.admin { "admin" } else { "member" };
        let token = self.options.key.token(self.name()).claim("role", role).sign()?;
        let token = Arc::new(FixedToken(token));
        let connector = HttpConnector::new(&self.options.backend, token.clone())?;
        Ok((token, Some(Arc::new(connector))))
    }

    /// One local transaction on rows that no other device writes.
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

    /// Adds what it shows to the observations, once for each checkpoint, unless its own writes are
    /// part of it.
    fn report(&mut self) -> Result<Shown> {
        let shown = self.client.read(|db| shown(&db.unchecked_transaction()?))?;
        if let Some(at) = shown.checkpoint.filter(|_| !shown.has_own)
            && self.reported != Some(at)
        {
            self.reported = Some(at);
            let rows = Arc::new(shown.rows.clone());
            let completed = Completed { last_op_id: at, write_checkpoint: None, rows };
            self.options.observations.add(&self.options.user, completed);
        }
        Ok(shown)
    }
}

fn is_checkpoint(change: &Result<Change, broadcast::error::RecvError>) -> bool {
    // Who has missed some looks at the file.
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
    let column = |(name, kind): &(&str, Kind)| {
        let affinity = match kind {
            Kind::Text | Kind::Timestamptz => "TEXT",
            Kind::Integer | Kind::Boolean => "INTEGER",
            Kind::Real => "REAL",
        };
        format!(", {name} {affinity}")
    };
    let columns = table.synced_columns();
    let columns: String = columns.iter().filter(|(name, _)| *name != "id").map(column).collect();
    format!("CREATE TABLE {} (id TEXT PRIMARY KEY{columns});\n", table.name())
}

/// Rows and checkpoint of one moment. The client's own tables are the only place where they can be
/// read together.
fn shown(tx: &Transaction<'_>) -> rusqlite::Result<Shown> {
    let sql = "SELECT checkpoint,
                      EXISTS (SELECT 1 FROM _tw_touched) OR EXISTS (SELECT 1 FROM _tw_queue)
               FROM _tw_state";
    let (checkpoint, has_own): (Option<i64>, bool) =
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
                    // A client's ids are text.
                    ("id", kind, types::Value::Text(text)) => kind.value(Some(&text)),
                    (_, _, value) => json(value),
                };
                data.insert((*name).to_owned(), value);
            }
            all.insert((table.name().to_owned(), id), data);
        }
    }
    Ok(Shown { checkpoint: checkpoint.and_then(OpId::from_i64), has_own, rows: all })
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
