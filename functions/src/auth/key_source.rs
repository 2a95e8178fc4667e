//! One fetch of a JWK Set, bounded in time and size.

use reqwest::header::ACCEPT;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use tokio::time::{Instant, timeout_at};

use super::address::{self, GuardedResolver, HostLocation};
use super::error::AuthConfigError;
use super::jwk_set::{self, PublishedError};
use super::key::Key;

/// Sets have a few KB; with certificate chains, tens.
const SET_BYTES_MAX: usize = 64 << 10;

/// Where a set is published.
pub(super) struct KeySource {
    client: Client,
    url: Url,
}

/// Why a fetch brought no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("it did not answer in time")]
    Timeout,
    #[error("it cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("it redirects, which is not followed: name the URL it leads to")]
    Redirect,
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("it sends more than {SET_BYTES_MAX} bytes")]
    TooLarge,
    #[error(transparent)]
    Content(#[from] PublishedError),
}

impl KeySource {
    /// Nothing is fetched yet.
    pub(super) fn new(text: &str) -> Result<Self, AuthConfigError> {
        let (url, location) = address::parse(text)
            .map_err(|problem| AuthConfigError::Url { url: address::redacted(text), problem })?;
        let mut builder = Client::builder()
            // To which address a redirect leads is up to whoever answers.
            .redirect(Policy::none())
            .dns_resolver(GuardedResolver(location))
            .user_agent(concat!("tidewater/", env!("CARGO_PKG_VERSION")));
        if location == HostLocation::ThisMachine {
            builder = builder.no_proxy();
        }
        Ok(Self { client: builder.build().map_err(AuthConfigError::Http)?, url })
    }

    /// For logs: without what may be a secret.
    pub(super) fn redacted_url(&self) -> String {
        address::redacted(self.url.as_str())
    }

    /// Fetches the keys; gives up at the deadline.
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
