//! Applies each transaction exactly once.

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls};

use crate::tables::{Statement, Tables};

/// The maximum number of row writes in one transaction. It bounds the time that one upload blocks
/// others.
const OPERATIONS_MAX: usize = 10_000;

/// The table that makes uploads idempotent: one row for each transaction ever sent. Rows may be
/// deleted once no device can still have the transaction in its queue.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS tidewater_uploads (
    user_id text NOT NULL,
    client_id text NOT NULL,
    tx_id bigint NOT NULL,
    operations_hash text NOT NULL,
    rejected text,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, client_id, tx_id)
)";

/// The body of a request: a transaction of Tidewater's client, or of an official SDK.
#[derive(Debug, Deserialize)]
pub(crate) struct Body {
    client_id: String,
    transaction_id: Option<i64>,
    #[serde(default)]
    operations: Vec<Operation>,
    /// The `crud` of an SDK's transaction, as `JSON.stringify` writes it.
    crud: Option<Vec<CrudEntry>>,
}

/// A change of a row, as an official SDK writes it.
#[derive(Debug, Deserialize)]
struct CrudEntry {
    op: Op,
    #[serde(rename = "type")]
    table: String,
    id: String,
    tx_id: Option<i64>,
    data: Option<Map<String, Value>>,
}

/// A local transaction of a client. Its key includes the user, so nobody can use up another user's
/// numbers.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) client_id: String,
    pub(crate) transaction_id: i64,
    pub(crate) operations: Vec<Operation>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Operation {
    op: Op,
    table: String,
    id: String,
    #[serde(default)]
    data: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Op {
    Put,
    Patch,
    Delete,
}

impl Body {
    /// Returns the transaction of the body, or the reason why it has none.
    pub(crate) fn transaction(self) -> Result<Transaction, &'static str> {
        let Self { client_id, transaction_id, operations, crud } = self;
        let Some(crud) = crud else {
            let transaction_id = transaction_id.ok_or("`transaction_id` or `crud` is missing")?;
            return Ok(Transaction { client_id, transaction_id, operations });
        };

        // A batch may end within a transaction, and has another end when it is sent again. So it
        // could not be applied as a whole, and once.
        let several =
            "`crud` has to be one transaction: send getNextCrudTransaction(), not getCrudBatch()";
        let first = crud.first().and_then(|entry| entry.tx_id);
        let Some(transaction_id) = first.filter(|_| crud.iter().all(|entry| entry.tx_id == first))
        else {
            return Err(several);
        };

        let operations = crud.into_iter().map(Operation::from).collect();
        Ok(Transaction { client_id, transaction_id, operations })
    }
}

impl From<CrudEntry> for Operation {
    fn from(CrudEntry { op, table, id, data, .. }: CrudEntry) -> Self {
        Self { op, table, id, data: data.unwrap_or_default() }
    }
}

/// The verdict on a transaction, now or when it was first sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Applied,
    Rejected(String),
    /// The number was used before, for other operations.
    Reused,
}

/// Applies uploads over one connection. That is enough for an example: put a pool here.
pub(crate) struct Uploads {
    database_url: String,
    client: Mutex<Client>,
    tables: Tables,
}

/// The reason why an operation failed.
enum Refusal {
    /// It will always fail: a verdict.
    Final(String),
    /// The database cannot do it now: not a verdict.
    Temporary(anyhow::Error),
}

impl Uploads {
    pub(crate) async fn connect(database_url: &str, tables: &[String]) -> anyhow::Result<Self> {
        let client = connect(database_url).await?;
        client.batch_execute(TABLE).await.context("cannot create tidewater_uploads")?;
        let tables = Tables::read(&client, tables).await?;
        Ok(Self { database_url: database_url.to_owned(), client: Mutex::new(client), tables })
    }

    /// Applies a transaction, unless it was applied or rejected before. Returns the verdict.
    pub(crate) async fn apply(
        &self,
        user_id: &str,
        upload: &Transaction,
    ) -> anyhow::Result<Verdict> {
        let operations = serde_json::to_string(&upload.operations)?;
        let mut client = self.client.lock().await;
        if client.is_closed() {
            *client = connect(&self.database_url).await?;
        }

        let tx = client.transaction().await?;
        // Row-level security policies and triggers can read this setting. They are the place for
        // your rules about who may write which row.
        tx.execute("SELECT set_config('app.user_id', $1, true)", &[&user_id]).await?;

        // Takes the number. Waits here while another request with the same number is in flight.
        let taken = "INSERT INTO tidewater_uploads (user_id, client_id, tx_id, operations_hash) \
                     VALUES ($1, $2, $3, md5($4)) ON CONFLICT DO NOTHING";
        let key: [&(dyn ToSql + Sync); 4] =
            [&user_id, &upload.client_id, &upload.transaction_id, &operations];
        if tx.execute(taken, &key).await? == 0 {
            let known = "SELECT operations_hash = md5($4), rejected FROM tidewater_uploads \
                         WHERE user_id = $1 AND client_id = $2 AND tx_id = $3";
            let row = tx.query_one(known, &key).await?;
            return Ok(match (row.get(0), row.get::<_, Option<String>>(1)) {
                (false, _) => Verdict::Reused,
                (true, None) => Verdict::Applied,
                (true, Some(reason)) => Verdict::Rejected(reason),
            });
        }

        // The savepoint lets a rejection be recorded while its operations are rolled back.
        tx.batch_execute("SAVEPOINT operations").await?;
        let verdict = match self.execute_all(&tx, upload).await {
            Ok(()) => Verdict::Applied,
            Err(Refusal::Temporary(error)) => return Err(error),
            Err(Refusal::Final(reason)) => {
                tx.batch_execute("ROLLBACK TO SAVEPOINT operations").await?;
                let record = "UPDATE tidewater_uploads SET rejected = $4 \
                            WHERE user_id = $1 AND client_id = $2 AND tx_id = $3";
                tx.execute(record, &[key[0], key[1], key[2], &reason]).await?;
                Verdict::Rejected(reason)
            }
        };

        tx.commit().await?;
        Ok(verdict)
    }

    async fn execute_all(
        &self,
        tx: &tokio_postgres::Transaction<'_>,
        upload: &Transaction,
    ) -> Result<(), Refusal> {
        if upload.operations.len() > OPERATIONS_MAX {
            return Err(Refusal::Final(format!("more than {OPERATIONS_MAX} operations")));
        }

        for operation in &upload.operations {
            let Operation { op, table, id, data } = operation;
            let statement = match op {
                Op::Put => self.tables.put(table, id, data).map(Some),
                Op::Patch => self.tables.patch(table, id, data),
                Op::Delete => self.tables.delete(table, id).map(Some),
            };
            let Some(statement) = statement.map_err(Refusal::Final)? else { continue };

            let rows = execute(tx, &statement).await?;
            if rows == 0 && matches!(op, Op::Patch) {
                // Somebody else deleted the row. Your app may prefer to ignore that.
                return Err(Refusal::Final(format!("there is no row '{id}' in '{table}'")));
            }
        }

        // Deferred constraints are part of the verdict.
        tx.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await.map_err(refusal)
    }
}

async fn execute(
    tx: &tokio_postgres::Transaction<'_>,
    statement: &Statement,
) -> Result<u64, Refusal> {
    let parameters: Vec<_> =
        statement.texts.iter().map(|text| text as &(dyn ToSql + Sync)).collect();
    tx.execute(&statement.sql, &parameters).await.map_err(refusal)
}

/// Sorts an error. Anything that the data or a rule of the database forbids is final. Anything else
/// may be transient.
fn refusal(error: tokio_postgres::Error) -> Refusal {
    let Some(cause) = error.as_db_error() else { return Refusal::Temporary(error.into()) };
    let code = cause.code();
    let is_final = code.code().starts_with("22") // Malformed value.
        || code.code().starts_with("23") // Constraint.
        || code.code().starts_with("44") // Check option of a view.
        || *code == SqlState::INSUFFICIENT_PRIVILEGE // Row-level security.
        || *code == SqlState::RAISE_EXCEPTION;

    if is_final {
        Refusal::Final(cause.message().to_owned())
    } else {
        Refusal::Temporary(anyhow!(error))
    }
}

async fn connect(database_url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(database_url, NoTls)
        .await
        .context("cannot connect to PostgreSQL")?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(%error, "the connection to PostgreSQL was lost");
        }
    });
    Ok(client)
}
