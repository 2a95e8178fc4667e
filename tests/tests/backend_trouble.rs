//! Backends that do not do as they should: local writes are kept, in order, until there is a
//! verdict; a verdict against one is told, and the others go on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tidewater_tests::{Backend, DevOptions, Device, Postgres, Tidewater};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Long enough for a debug build on a busy machine, and for the waits between attempts.
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

/// What a request is answered with instead of being let through: its number and body decide.
type Trouble = fn(usize, &str) -> Option<StatusCode>;

/// A gateway in front of the real backend, which answers for it now and then.
struct Gateway {
    url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    backend: String,
    http: reqwest::Client,
    trouble: Mutex<Trouble>,
    /// The transaction's number and the answer to each request.
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
            trouble: Mutex::new(|_, _| None),
            log: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/upload", listener.local_addr()?);
        let router = Router::new().route("/upload", post(pass)).with_state(shared.clone());
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { url, shared, task })
    }

    /// From now on.
    fn trouble(&self, trouble: Trouble) {
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        self.log();
    }

    /// What was answered since the last look.
    fn log(&self) -> Vec<(i64, u16)> {
        std::mem::take(&mut self.shared.log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn pass(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Json<Value>) {
    let text = String::from_utf8_lossy(&body).into_owned();
    let sent: Value = serde_json::from_str(&text).unwrap_or_default();
    let number = sent["transaction_id"].as_i64().unwrap_or_default();
    let trouble = {
        let count = shared.log.lock().unwrap_or_else(PoisonError::into_inner).len();
        shared.trouble.lock().unwrap_or_else(PoisonError::into_inner)(count, &text)
    };
    let (status, answer) = match trouble {
        Some(status) => (status, json!({ "reason": "that name is taken" })),
        None => {
            forward(&shared, &headers, body).await.unwrap_or((StatusCode::BAD_GATEWAY, Value::Null))
        }
    };
    let mut log = shared.log.lock().unwrap_or_else(PoisonError::into_inner);
    log.push((number, status.as_u16()));
    (status, Json(answer))
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
    /// A device that has synced.
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
        let said = setup.sync(0).await?;
        assert_eq!(setup.device_rows()?, ["l0 zero"], "{said}");
        Ok(setup)
    }

    /// Syncs once; what was said.
    async fn sync(&mut self, code: i32) -> Result<String> {
        let arguments = ["--upload-url", &self.gateway.url];
        let url = self.tidewater.url().to_owned();
        let output = self.device.sync_once(&url, &self.token, &arguments, SOON).await?;
        assert_eq!(output.code, Some(code), "{}", output.stderr);
        assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
        Ok(output.stderr)
    }

    fn device_rows(&self) -> Result<Vec<String>> {
        self.device.column("SELECT id || ' ' || name FROM lists ORDER BY id")
    }

    /// In the order in which they came.
    async fn source_rows(&self) -> Result<Vec<String>> {
        let client = self.postgres.connect().await?;
        let rows = client.query("SELECT id || ' ' || name FROM lists ORDER BY seen", &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

#[tokio::test]
async fn a_backend_that_fails_for_a_while_gets_all_writes_in_order() -> Result<()> {
    let mut setup = Setup::new().await?;
    setup.gateway.trouble(|count, _| (count < 3).then_some(StatusCode::INTERNAL_SERVER_ERROR));
    for id in ["l3", "l1", "l2"] {
        setup.device.write(&format!("INSERT INTO lists VALUES ('{id}', 'new')"))?;
    }
    setup.sync(0).await?;
    let first = setup.gateway.log();
    let number = first.first().context("nothing was sent")?.0;
    let expected = [(0, 500), (0, 500), (0, 500), (0, 200), (1, 200), (2, 200)];
    assert_eq!(first, expected.map(|(nth, status)| (number + nth, status)));
    assert_eq!(setup.source_rows().await?, ["l0 zero", "l3 new", "l1 new", "l2 new"]);
    assert_eq!(setup.device_rows()?, ["l0 zero", "l1 new", "l2 new", "l3 new"]);
    Ok(())
}

#[tokio::test]
async fn writes_wait_in_the_file_for_a_backend_that_fails() -> Result<()> {
    let mut setup = Setup::new().await?;
    setup.gateway.trouble(|_, _| Some(StatusCode::INTERNAL_SERVER_ERROR));
    setup.device.write("INSERT INTO lists VALUES ('l2', 'new')")?;
    setup.device.write("UPDATE lists SET name = 'changed' WHERE id = 'l2'")?;
    setup.device.write("INSERT INTO lists VALUES ('l1', 'new')")?;
    let said = setup.sync(1).await?;
    for words in ["the backend answered 500", "No data is lost", "--upload-url"] {
        assert!(said.contains(words), "'{words}' is not in:\n{said}");
    }
    let log = setup.gateway.log();
    assert!(log.iter().all(|(number, _)| *number == log[0].0), "the first blocks: {log:?}");
    assert_eq!(setup.source_rows().await?, ["l0 zero"]);
    assert_eq!(setup.device_rows()?, ["l0 zero", "l1 new", "l2 changed"]);
    setup.gateway.trouble(|_, _| None);
    setup.sync(0).await?;
    assert_eq!(setup.source_rows().await?, ["l0 zero", "l2 changed", "l1 new"]);
    assert_eq!(setup.device_rows()?, ["l0 zero", "l1 new", "l2 changed"]);
    Ok(())
}

#[tokio::test]
async fn a_write_that_is_rejected_is_told_and_taken_back_and_the_others_go_on() -> Result<()> {
    let mut setup = Setup::new().await?;
    setup.gateway.trouble(|_, body| body.contains("taken").then_some(StatusCode::BAD_REQUEST));
    setup.device.write("INSERT INTO lists VALUES ('l1', 'before')")?;
    setup.device.write(
        "UPDATE lists SET name = 'taken' WHERE id = 'l0'; INSERT INTO lists VALUES ('l2', 'with')",
    )?;
    setup.device.write("INSERT INTO lists VALUES ('l3', 'after')")?;
    let said = setup.sync(0).await?;
    for words in ["rejected", "that name is taken", "_tw_rejected"] {
        assert!(said.contains(words), "'{words}' is not in:\n{said}");
    }
    let statuses: Vec<_> = setup.gateway.log().iter().map(|(_, status)| *status).collect();
    assert_eq!(statuses, [200, 400, 200], "a verdict is not asked for twice");
    assert_eq!(setup.source_rows().await?, ["l0 zero", "l1 before", "l3 after"]);
    assert_eq!(setup.device_rows()?, ["l0 zero", "l1 before", "l3 after"]);
    let reasons = setup.device.column("SELECT reason FROM _tw_rejected")?;
    assert_eq!(reasons, ["that name is taken"]);
    let parked = setup.device.column("SELECT operations FROM _tw_rejected")?;
    assert!(parked[0].contains("taken") && parked[0].contains("with"), "{parked:?}");
    Ok(())
}

#[tokio::test]
async fn writes_that_have_nowhere_to_go_are_kept_and_told() -> Result<()> {
    let mut setup = Setup::new().await?;
    setup.device.write("INSERT INTO lists VALUES ('l1', 'new')")?;
    let url = setup.tidewater.url().to_owned();
    let output = setup.device.sync_once(&url, &setup.token, &[], SOON).await?;
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.stderr.contains("--upload-url"), "{}", output.stderr);
    assert_eq!(setup.device_rows()?, ["l0 zero", "l1 new"]);
    setup.sync(0).await?;
    assert_eq!(setup.source_rows().await?, ["l0 zero", "l1 new"]);
    Ok(())
}
