//! An example of the part of the system that is yours: the backend that takes your users' writes.
//!
//! Tidewater never writes to your database. A client sends each local transaction to a backend like
//! this one, which decides about it. Copy it, and add your own rules where the comments say so.
//!
//! `POST /upload` with `Authorization: Bearer <JWT>` and one local transaction as JSON:
//! `{"client_id", "transaction_id", "operations": [{"op", "table", "id", "data"}]}`. `operations` are
//! the row writes of the transaction, not bucket operations. An official SDK sends `{"client_id",
//! "crud"}`: its `await database.getClientId()`, and the `crud` of `getNextCrudTransaction()`.
//!
//! | status | body | meaning |
//! |---|---|---|
//! | 200 | `{"outcome": "applied"}` | applied, now or when it was sent before |
//! | 422 | `{"outcome": "rejected", "reason"}` | a row write is not possible or not allowed |
//! | 409 | `{"outcome": "rejected", "reason"}` | the number was used before, for other row writes |
//! | any other 4xx but 401 | `{"outcome": "rejected", "reason"}` | the body cannot be read |
//! | 400 | `{"reason"}` | no verdict: not one transaction of a client; correct the app |
//! | 401, 503 | `{"reason"}` | no verdict: the client sends the transaction again |

mod auth;
mod tables;
mod upload;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use clap::Parser;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use auth::Keys;
use upload::{Body, Transaction, Uploads, Verdict};

/// The largest accepted body, in bytes. It bounds the memory of a request: 10 MiB are 10,000 row
/// writes, the most that a transaction may have, of 1 KiB each. Larger bodies are rejected with 413.
const BODY_BYTES_MAX: usize = 10 << 20;

/// Example backend: applies uploads to PostgreSQL, each once
#[derive(Debug, Parser)]
struct Args {
    /// PostgreSQL; without TLS, so only for a local database or a private network
    #[arg(long, env = "TIDEWATER_DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, env = "TIDEWATER_BACKEND_LISTEN", default_value = "127.0.0.1:3000")]
    listen: String,
    /// JWK Set file with the keys of your users' tokens: the same as the sync API's
    #[arg(long, env = "TIDEWATER_JWKS")]
    jwks: PathBuf,
    /// Accepted `aud` of a token; may be repeated
    #[arg(long, env = "TIDEWATER_AUDIENCE", value_delimiter = ',', required = true)]
    audience: Vec<String>,
    /// Table that users may write to; may be repeated
    #[arg(long, env = "TIDEWATER_TABLE", value_delimiter = ',', required = true)]
    table: Vec<String>,
}

struct App {
    keys: Keys,
    uploads: Uploads,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let args = Args::parse();

    let keys = Keys::read(&args.jwks, &args.audience)?;
    let uploads = Uploads::connect(&args.database_url, &args.table).await?;
    let app = Router::new()
        .route("/upload", post(upload))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::new(App { keys, uploads }));

    let listener = TcpListener::bind(&args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    writeln!(std::io::stdout(), "listening on http://{}", listener.local_addr()?)?;
    axum::serve(listener, app).await.context("the server stopped")
}

async fn upload(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Json<Body>, JsonRejection>,
) -> (StatusCode, Json<Value>) {
    // The body is already read. Without a valid token, the caller learns nothing about it.
    let Some(user_id) = app.keys.user_of(&headers) else {
        return (StatusCode::UNAUTHORIZED, Json(json!({ "reason": "no valid token" })));
    };

    let transaction = match body.map(|Json(body)| body.transaction()) {
        Ok(Ok(transaction)) => transaction,
        Ok(Err(reason)) => {
            tracing::warn!(%user_id, reason, "body refused");
            return (StatusCode::BAD_REQUEST, Json(json!({ "reason": reason })));
        }
        Err(rejection) => {
            // The client would send the same body again, so this is a verdict. Otherwise its queue
            // would be blocked for ever.
            let reason = rejection.body_text();
            tracing::warn!(%user_id, reason, "body rejected");
            return (rejection.status(), Json(json!({ "outcome": "rejected", "reason": reason })));
        }
    };

    let verdict = app.uploads.apply(&user_id, &transaction).await;
    let Transaction { client_id, transaction_id, operations } = &transaction;
    match verdict {
        Ok(Verdict::Applied) => {
            let operations = operations.len();
            tracing::info!(%user_id, client_id, transaction_id, operations, "applied");
            (StatusCode::OK, Json(json!({ "outcome": "applied" })))
        }
        Ok(Verdict::Rejected(reason)) => {
            tracing::warn!(%user_id, client_id, transaction_id, reason, "rejected");
            let body = json!({ "outcome": "rejected", "reason": reason });
            (StatusCode::UNPROCESSABLE_ENTITY, Json(body))
        }
        Ok(Verdict::Reused) => {
            let reason = "another transaction was sent under this number before";
            tracing::warn!(%user_id, client_id, transaction_id, reason, "rejected");
            (StatusCode::CONFLICT, Json(json!({ "outcome": "rejected", "reason": reason })))
        }
        Err(error) => {
            let error = format!("{error:#}");
            tracing::error!(%user_id, client_id, transaction_id, error, "upload failed");
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "reason": "try again" })))
        }
    }
}
