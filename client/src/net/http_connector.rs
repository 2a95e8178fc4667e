//! A connector for backends that accept uploads as JSON.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::http;
use crate::connector::{Connector, Credentials, LocalTransaction, UploadOutcome};
use crate::error::ClientError;

/// The timeout for one upload. It leaves a backend time for a large transaction. After it the
/// outcome is unknown, and the transaction is sent again.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Posts each local transaction as JSON to one URL of the app's backend.
///
/// The request carries `Authorization: Bearer <token>`, `Idempotency-Key: <client id>/<transaction
/// id>`, and a [`LocalTransaction`] as its body. The answer's status decides:
///
/// | status | meaning |
/// |---|---|
/// | 2xx | applied |
/// | 401 | a new token is fetched, and the transaction is sent once more |
/// | 408, 425, 429, 3xx, 5xx, no answer | no verdict: sent again later, not before `Retry-After` |
/// | any other 4xx | rejected; the body is kept for the app |
pub struct HttpConnector {
    client: reqwest::Client,
    url: Url,
    credentials: Arc<dyn Credentials>,
    /// The token in use. It may differ from the sync API's.
    token: Mutex<Option<String>>,
}

impl HttpConnector {
    /// Returns a connector to this URL.
    ///
    /// # Errors
    /// [`ClientError::Endpoint`] if it is not a URL, [`ClientError::Http`] if TLS cannot be set up.
    pub fn new(url: &str, credentials: Arc<dyn Credentials>) -> Result<Self, ClientError> {
        let parsed =
            Url::parse(url).map_err(|error| ClientError::Endpoint(format!("{url} ({error})")))?;
        let client = http::client()?;
        Ok(Self { client, url: parsed, credentials, token: Mutex::new(None) })
    }

    async fn send(&self, transaction: &LocalTransaction) -> UploadOutcome {
        match self.post(transaction).await {
            Ok(response) if response.status() == StatusCode::UNAUTHORIZED => {
                *self.token.lock().await = None;
                match self.post(transaction).await {
                    Ok(response) => verdict(response).await,
                    Err(outcome) => outcome,
                }
            }
            Ok(response) => verdict(response).await,
            Err(outcome) => outcome,
        }
    }

    async fn post(&self, transaction: &LocalTransaction) -> Result<Response, UploadOutcome> {
        let token = self.token().await?;
        let key = format!("{}/{}", transaction.client_id, transaction.transaction_id);
        self.client
            .post(self.url.clone())
            .bearer_auth(token)
            .header("Idempotency-Key", key)
            .timeout(UPLOAD_TIMEOUT)
            .json(transaction)
            .send()
            .await
            .map_err(|error| retry(None, http::error_text(&error)))
    }

    async fn token(&self) -> Result<String, UploadOutcome> {
        let mut cached = self.token.lock().await;
        if let Some(token) = &*cached {
            return Ok(token.clone());
        }

        let token = self
            .credentials
            .token()
            .await
            .map_err(|error| retry(None, format!("no token for the backend: {error}")))?;
        Ok(cached.insert(token).clone())
    }
}

impl Connector for HttpConnector {
    fn upload<'a>(&'a self, transaction: &'a LocalTransaction) -> BoxFuture<'a, UploadOutcome> {
        Box::pin(self.send(transaction))
    }
}

fn retry(after: Option<Duration>, reason: String) -> UploadOutcome {
    UploadOutcome::Retry { after, reason }
}

async fn verdict(response: Response) -> UploadOutcome {
    let status = response.status();
    if status.is_success() {
        return UploadOutcome::Applied;
    }
    let reason = format!("the backend answered {status}");

    // A redirect decides nothing, and a refused token is no verdict on the data.
    let is_verdict = status.is_client_error() && !matches!(status.as_u16(), 401 | 408 | 425 | 429);
    if !is_verdict {
        return retry(http::retry_after(&response), reason);
    }

    let body = http::error_body(response).await;
    let reason = reason_in(&body).unwrap_or(reason);
    UploadOutcome::Rejected { reason, body: Some(body) }
}

/// Returns the reason in a body like `{"reason": "..."}`.
fn reason_in(body: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Reply {
        reason: String,
    }

    serde_json::from_str::<Reply>(body).ok().map(|reply| reply.reason)
}
