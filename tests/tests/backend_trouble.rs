//! Backends that fail, and backends that reject writes.
//!
//! Local writes stay in the upload queue, in order, until the backend accepts or rejects them. A
//! rejected write is reported and undone, and the queue goes on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tidewater_tests::{Backend, DevOptions, Device, Output, Postgres, Tidewater};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Timeout of a sync: long enough for a debug build on a busy machine and for the retry delays.
const SOON: Duration = Duration::from_secs(90);

const TABLES: &str = "
    CREATE TABLE lists (id text PRIMARY KEY, name text, seen bigserial);
    CREATE PUBLICATION powersync FOR TABLE lists;
    INSERT INTO lists (id, name) VALUES ('l0', 'zero');
";

const CONFIG: &str = "
config:
  edition: 3
streams:
  lists:
    auto_subscribe: true
    query: SELECT id, name FROM lists
";

const SCHEMA: &str = "CREATE TABLE lists (id TEXT PRIMARY KEY, name TEXT)";

/// Returns the status of a request that the gateway does not forward, by its number and its body.
type Refusal = fn(usize, &str) -> Option<StatusCode>;

/// A gateway in front of the real backend that refuses some of the requests.
struct Gateway {
    url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    backend: String,
    http: reqwest::Client,
    refusal: Mutex<Refusal>,
    /// Transaction number and response status of each request.
    log: Mutex<Vec<(i64, u16)>>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Gateway {
    async fn start(backend: &Backend) -> Result<Self> {
        let shared = Arc::new(Shared {
            backend: backend.upload_url(),
            http: reqwest::Client::new(),
            refusal: Mutex::new(|_, _| None),
            log: Mutex::default(),
        });

        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/upload", listener.local_addr()?);
        let router = Router::new().route("/upload", post(handle)).with_state(shared.clone());
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { url, shared, task })
    }

    /// Sets which requests are refused, and clears the log.
    fn refuse(&self, refusal: Refusal) {
        *self.shared.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
        self.take_log();
    }

    /// Returns the log since the last call.
    fn take_log(&self) -> Vec<(i64, u16)> {
        std::mem::take(&mut self.shared.log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn handle(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Json<Value>) {
    let text = String::from_utf8_lossy(&body).into_owned();
    let sent: Value = serde_json::from_str(&text).unwrap_or_default();
    let number = sent["transaction_id"].as_i64().unwrap_or_default();

    let refusal = {
        let count = shared.log.lock().unwrap_or_else(PoisonError::into_inner).len();
        shared.refusal.lock().unwrap_or_else(PoisonError::into_inner)(count, &text)
    };
    let (status, response) = match refusal {
        // The backend's verdict.
        Some(StatusCode::BAD_REQUEST) => {
            let verdict = json!({ "outcome": "rejected", "reason": "that name is taken" });
            (StatusCode::BAD_REQUEST, verdict)
        }
        Some(status) => (status, json!({ "reason": "no such address" })),
        None => {
            forward(&shared, &headers, body).await.unwrap_or((StatusCode::BAD_GATEWAY, Value::Null))
        }
    };

    let mut log = shared.log.lock().unwrap_or_else(PoisonError::into_inner);
    log.push((number, status.as_u16()));
    (status, Json(response))
}

async fn forward(
    shared: &Shared,
    headers: &HeaderMap,
    body: Bytes,
) -> reqwest::Result<(StatusCode, Value)> {
    let request = shared.http.post(&shared.backend).headers(headers.clone()).body(body);
    let response = request.send().await?;
    Ok((response.status(), response.json().await?))
}

struct Setup {
    postgres: Postgres,
    tidewater: Tidewater,
    gateway: Gateway,
    device: Device,
    token: String,
    _backend: Backend,
}

impl Setup {
    /// Starts all processes, and syncs a device.
    async fn new() -> Result<Self> {
        let postgres = Postgres::start().await?;
        postgres.execute(TABLES).await?;
        let url = postgres.url("postgres");
        let tidewater = Tidewater::dev_ready(DevOptions::new(&url, CONFIG)).await?;
        let backend = Backend::start(&url, tidewater.key(), &["lists"]).await?;
        let gateway = Gateway::start(&backend).await?;

        let token = tidewater.token("u1")?;
        let device = Device::new(SCHEMA)?;
        let mut setup = Self { postgres, tidewater, gateway, device, token, _backend: backend };
        let output = setup.sync(0).await?;
        assert_eq!(setup.device_rows()?, ["l0 zero"], "{}", output.stderr);
        Ok(setup)
    }

    /// Syncs the device once. The command must exit with `code`.
    async fn sync(&mut self, code: i32) -> Result<Output> {
        let arguments = ["--upload-url", &self.gateway.url];
        let url = self.tidewater.url().to_owned();
        let output = self.device.sync_once(&url, &self.token, &arguments, SOON).await?;
        output.assert_code(code);
        Ok(output)
    }

    fn device_rows(&self) -> Result<Vec<String>> {
        self.device.column("SELECT id || ' ' || name FROM lists ORDER BY id")
    }

    /// Returns the rows of PostgreSQL in the order of their insertion.
    async fn source_rows(&self) -> Result<Vec<String>> {
        let client = self.postgres.connect().await?;
        let rows = client.query("SELECT id || ' ' || name FROM lists ORDER BY seen", &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

/// Fault F32.
#[tokio::test]
async fn a_backend_that_recovers_receives_all_writes_in_order() -> Result<()> {
    let mut setup = Setup::new().await?;
    setup.gateway.refuse(|count, _| (count < 3).then_some(StatusCode::INTERNAL_SERVER_ERROR));
    for id in ["l3", "l1", "l2"] {
        setup.device.write(&format!("INSERT INTO lists VALUES ('{id}', 'new')"))?;
    }
    setup.sync(0).await?;

    let log = setup.gateway.take_log();
    let first = log.first().context("nothing was sent")?.0;
    let expected = [(0, 500), (0, 500), (0, 500), (0, 200), (1, 200), (2, 200)];
    assert_eq!(log, expected.map(|(nth, status)| (first + nth, status)));
    assert_eq!(setup.source_rows().await?, ["l0 zero", "l3 new", "l1 new", "l2 new"]);
    assert_eq!(setup.device_rows()?, ["l0 zero", "l1 new", "l2 new", "l3 new"]);
    Ok(())
}

/// Fault F32.
#[tokio::test]
async fn writes_stay_in_the_database_file_while_the_backend_fails() -> Result<()> {
    let mut setup = Setup::new().await?;
    setup.gateway.refuse(|_, _| Some(StatusCode::INTERNAL_SERVER_ERROR));
    setup.device.write("INSERT INTO lists VALUES ('l2', 'new')")?;
    setup.device.write("UPDATE lists SET name = 'changed' WHERE id = 'l2'")?;
    setup.device.write("INSERT INTO lists VALUES ('l1', 'new')")?;

    let output = setup.sync(1).await?;
    output.assert_says(&["the backend answered 500", "No data is lost", "--upload-url"]);
    let log = setup.gateway.take_log();
    assert!(log.iter().all(|(number, _)| *number == log[0].0), "the first one blocks: {log:?}");
    assert_eq!(setup.source_rows().await?, ["l0 zero"]);
    assert_eq!(setup.device_rows()?, ["l0 zero", "l1 new", "l2 changed"]);

    setup.gateway.refuse(|_, _| None);
    setup.sync(0).await?;
    assert_eq!(setup.source_rows().await?, ["l0 zero", "l2 changed", "l1 new"]);
    assert_eq!(setup.device_rows()?, ["l0 zero", "l1 new", "l2 changed"]);
    Ok(())
}

/// Fault F31.
#[tokio::test]
async fn a_rejected_write_is_reported_and_undone_and_the_queue_goes_on() -> Result<()> {
    let mut setup = Setup::new().await?;
    setup.gateway.refuse(|_, body| body.contains("taken").then_some(StatusCode::BAD_REQUEST));
    setup.device.write("INSERT INTO lists VALUES ('l1', 'before')")?;
    setup.device.write(
        "UPDATE lists SET name = 'taken' WHERE id = 'l0'; INSERT INTO lists VALUES ('l2', 'with')",
    )?;
    setup.device.write("INSERT INTO lists VALUES ('l3', 'after')")?;

    let output = setup.sync(0).await?;
    output.assert_says(&["rejected", "that name is taken", "tidewater queue list"]);
    let statuses: Vec<_> = setup.gateway.take_log().iter().map(|(_, status)| *status).collect();
    assert_eq!(statuses, [200, 400, 200], "a rejected write is not sent again");
    assert_eq!(setup.source_rows().await?, ["l0 zero", "l1 before", "l3 after"]);
    assert_eq!(setup.device_rows()?, ["l0 zero", "l1 before", "l3 after"]);

    let reasons = setup.device.column("SELECT reason FROM _tw_rejected")?;
    assert_eq!(reasons, ["that name is taken"]);
    let rejected = setup.device.column("SELECT operations FROM _tw_rejected")?;
    assert!(rejected[0].contains("taken") && rejected[0].contains("with"), "{rejected:?}");
    Ok(())
}

/// A gateway's own answers decide nothing about a write.
#[tokio::test]
async fn a_wrong_address_rejects_nothing() -> Result<()> {
    for status in [StatusCode::NOT_FOUND, StatusCode::FORBIDDEN] {
        let mut setup = Setup::new().await?;
        if status == StatusCode::NOT_FOUND {
            setup.gateway.refuse(|_, _| Some(StatusCode::NOT_FOUND));
        } else {
            setup.gateway.refuse(|_, _| Some(StatusCode::FORBIDDEN));
        }
        setup.device.write("INSERT INTO lists VALUES ('l1', 'new')")?;

        let output = setup.sync(1).await?;
        let answer = format!("the backend answered {status}, and no verdict");
        output.assert_says(&[
            "1 local transaction not sent to http://",
            &answer,
            "No data is lost",
        ]);
        assert_eq!(setup.device_rows()?, ["l0 zero", "l1 new"]);

        setup.gateway.refuse(|_, _| None);
        setup.sync(0).await?;
        assert_eq!(setup.source_rows().await?, ["l0 zero", "l1 new"]);
    }
    Ok(())
}

#[tokio::test]
async fn writes_of_another_user_are_not_sent() -> Result<()> {
    let mut setup = Setup::new().await?;
    setup.device.write("INSERT INTO lists VALUES ('l1', 'of u1')")?;
    let first = std::mem::replace(&mut setup.token, setup.tidewater.token("u2")?);

    let output = setup.sync(1).await?;
    output.assert_says(&[
        "the token is of user 'u2'",
        "of user 'u1' wait",
        "tidewater queue discard",
    ]);
    assert_eq!(setup.source_rows().await?, ["l0 zero"]);

    setup.token = first;
    setup.sync(0).await?;
    assert_eq!(setup.source_rows().await?, ["l0 zero", "l1 of u1"]);
    Ok(())
}

/// The queue as `tidewater queue` shows and changes it.
#[tokio::test]
async fn the_queue_command_lists_retries_and_discards() -> Result<()> {
    let mut setup = Setup::new().await?;
    setup.gateway.refuse(|_, body| body.contains("taken").then_some(StatusCode::BAD_REQUEST));
    setup.device.write("UPDATE lists SET name = 'taken' WHERE id = 'l0'")?;
    setup.device.write("INSERT INTO lists VALUES ('l1', 'taken')")?;
    setup.sync(0).await?;
    setup.device.write("INSERT INTO lists VALUES ('l2', 'unwanted')")?;

    let listed = setup.device.queue(&["list"]).await?;
    listed.assert_code(0);
    let expected = "waiting: 1 transaction\n  3 of user \"u1\"\n    PUT lists \"l2\" (name)\n\
                    rejected: 2 transactions\n  1 of user \"u1\"\n    PATCH lists \"l0\" (name)\n    \
                    because: that name is taken\n  2 of user \"u1\"\n    PUT lists \"l1\" (name)\n    \
                    because: that name is taken\n";
    assert_eq!(listed.stdout, expected);

    setup.device.queue(&["discard", "3", "1"]).await?.assert_code(0);
    setup.device.queue(&["retry", "2"]).await?.assert_code(0);
    let unknown = setup.device.queue(&["discard", "1"]).await?;
    unknown.assert_code(1);
    unknown.assert_says(&["no transaction 1 to be discarded"]);

    setup.gateway.refuse(|_, _| None);
    setup.sync(0).await?;
    assert_eq!(setup.source_rows().await?, ["l0 zero", "l1 taken"]);
    assert_eq!(setup.device_rows()?, ["l0 zero", "l1 taken"]);
    let listed = setup.device.queue(&["list"]).await?;
    assert_eq!(listed.stdout, "waiting: none\nrejected: none\n");
    Ok(())
}

#[tokio::test]
async fn writes_without_an_upload_url_are_kept_and_reported() -> Result<()> {
    let mut setup = Setup::new().await?;
    setup.device.write("INSERT INTO lists VALUES ('l1', 'new')")?;
    let url = setup.tidewater.url().to_owned();
    let output = setup.device.sync_once(&url, &setup.token, &[], SOON).await?;
    output.assert_code(1);
    output.assert_says(&["--upload-url"]);
    assert_eq!(setup.device_rows()?, ["l0 zero", "l1 new"]);

    setup.sync(0).await?;
    assert_eq!(setup.source_rows().await?, ["l0 zero", "l1 new"]);
    Ok(())
}
