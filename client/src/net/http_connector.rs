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
use crate::subject::subject;

/// The timeout for one upload. It leaves a backend time for a large transaction. After it the
/// outcome is unknown, and the transaction is sent again.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Posts each local transaction as JSON to one URL of the app's backend.
///
/// The request carries `Authorization: Bearer <token>`, `Idempotency-Key: <client id>/<transaction
/// id>`, and a [`LocalTransaction`] as its body. A transaction leaves the queue by a verdict of the
/// backend, which a gateway, a wrong address or a sign-in page of a network cannot give:
///
/// | answer | meaning |
/// |---|---|
/// | 2xx | applied, unless the body is a web page or has another `outcome` |
/// | a body `{"outcome": "rejected", "reason": "..."}` with any status but 401 | rejected; the body is kept for the app |
/// | 401 | a new token is fetched, and the transaction is sent once more |
/// | anything else, or no answer | no verdict: sent again later, not before `Retry-After` |
///
/// A transaction is sent only with a token of the user who made it.
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
        self.check_user(&token, transaction).await?;
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

    /// Checks that a token is of the user who made a transaction. Another one is forgotten: the app
    /// may be in the middle of a change of users.
    async fn check_user(
        &self,
        token: &str,
        transaction: &LocalTransaction,
    ) -> Result<(), UploadOutcome> {
        let Some((author, user)) = transaction.user_id.clone().zip(subject(token)) else {
            return Ok(());
        };
        if author == user {
            return Ok(());
        }

        *self.token.lock().await = None;
        let reason = format!(
            "the token is of user '{user}', but user '{author}' made the local transaction"
        );
        Err(retry(None, reason))
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
    let retry_after = http::retry_after(&response);
    // A refused token is no verdict on the data.
    if status == StatusCode::UNAUTHORIZED {
        return retry(retry_after, format!("the backend answered {status}"));
    }

    let body = http::body_start(response).await;
    let reply = serde_json::from_str::<Reply>(&body).unwrap_or_default();
    let reason = match reply.outcome.as_deref() {
        Some("rejected") => {
            let reason = reply.reason.unwrap_or_else(|| format!("the backend answered {status}"));
            return UploadOutcome::Rejected { reason, body: Some(body) };
        }
        Some("applied") | None if !status.is_success() => {
            format!("the backend answered {status}, and no verdict")
        }
        None if body.trim_start().starts_with('<') => {
            format!("a web page was answered with {status}, and no verdict")
        }
        Some("applied") | None => return UploadOutcome::Applied,
        Some(other) => format!("the backend answered {status} with an unknown outcome '{other}'"),
    };
    retry(retry_after, reason)
}

/// The members of an answer that matter. Other bodies have none of them.
#[derive(Default, Deserialize)]
struct Reply {
    outcome: Option<String>,
    reason: Option<String>,
}
