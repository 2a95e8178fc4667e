//! Fetches a JWK Set, with bounds on time and size.

use reqwest::header::ACCEPT;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use tokio::time::{Instant, timeout_at};

use super::address::{self, GuardedResolver, HostLocation};
use super::error::AuthConfigError;
use super::jwk_set::{self, PublishedError};
use super::key::Key;

/// The largest set, in bytes. Sets have a few KB; with certificate chains, tens of KB.
const SET_BYTES_MAX: usize = 64 << 10;

/// A URL that publishes a set.
pub(super) struct KeySource {
    client: Client,
    url: Url,
}

/// The reason why a fetch failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("the server did not answer in time")]
    Timeout,
    #[error("the server cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("the server redirects, which is not followed: configure the URL it leads to")]
    Redirect,
    #[error("the server answers {0}")]
    Status(StatusCode),
    #[error("the server sends more than {SET_BYTES_MAX} bytes")]
    TooLarge,
    #[error(transparent)]
    Content(#[from] PublishedError),
}

impl KeySource {
    /// Checks the URL. Nothing is fetched yet.
    pub(super) fn new(text: &str) -> Result<Self, AuthConfigError> {
        let (url, location) = address::parse(text)
            .map_err(|problem| AuthConfigError::Url { url: address::redacted(text), problem })?;
        let mut builder = Client::builder()
            // A redirect could lead to an address that the URL may not name.
            .redirect(Policy::none())
            .dns_resolver(GuardedResolver(location))
            .user_agent(concat!("tidewater/", env!("CARGO_PKG_VERSION")));
        if location == HostLocation::ThisMachine {
            builder = builder.no_proxy();
        }
        Ok(Self { client: builder.build().map_err(AuthConfigError::Http)?, url })
    }

    /// Returns the URL for logs, without what may be a secret.
    pub(super) fn redacted_url(&self) -> String {
        address::redacted(self.url.as_str())
    }

    /// Fetches the keys. Fails at the deadline.
    pub(super) async fn fetch(&self, deadline: Instant) -> Result<Vec<Key>, FetchError> {
        let text = timeout_at(deadline, self.text()).await.map_err(|_| FetchError::Timeout)??;
        Ok(jwk_set::read_published(&text)?)
    }

    async fn text(&self) -> Result<Vec<u8>, FetchError> {
        let request = self.client.get(self.url.clone()).header(ACCEPT, "application/json");
        let mut response = request.send().await.map_err(unreachable)?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => return Err(FetchError::Redirect),
            status => return Err(FetchError::Status(status)),
        }

        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if text.len() + chunk.len() > SET_BYTES_MAX {
                return Err(FetchError::TooLarge);
            }
            text.extend_from_slice(&chunk);
        }
        Ok(text)
    }
}

fn unreachable(error: reqwest::Error) -> FetchError {
    FetchError::Unreachable(error.without_url())
}
