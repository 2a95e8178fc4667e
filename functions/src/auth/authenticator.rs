//! Checks tokens with configured and published keys.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::claims::{self, Verified};
use super::error::{AuthConfigError, AuthError};
use super::jwk_set;
use super::key::Key;
use super::published_keys::PublishedKeys;
use super::token::Token;
use crate::clock::unix_now;

/// Time that a request waits for keys to be fetched. Identity providers answer within a fraction of a
/// second; clients time out after about ten.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);

/// Checks tokens with keys that are known from the start, and with keys that URLs publish.
///
/// Requests fetch published keys when they need them. Fetched keys are used for an hour. They are
/// fetched again after five minutes, or when a token names a key that is not among them: five times
/// at once, then once a minute.
pub struct Authenticator {
    keys: Vec<Key>,
    published: Vec<PublishedKeys>,
    audiences: Vec<String>,
    issuer: Option<String>,
}

/// The keys of each URL at one moment; `None` for a URL without usable keys.
type PublishedSets = Vec<Option<Arc<[Key]>>>;

impl Authenticator {
    /// Creates an authenticator with the keys of JWK Sets (the texts of the files). A token must
    /// name one of the audiences.
    ///
    /// # Errors
    /// Fails if a set or a key in it cannot be used (the key is named), if two keys have the same
    /// `kid`, or if there is no key or no audience.
    pub fn new<T: AsRef<str>>(
        jwk_sets: &[T],
        audiences: Vec<String>,
    ) -> Result<Self, AuthConfigError> {
        Self::with_urls(jwk_sets, &[] as &[&str], audiences)
    }

    /// Creates an authenticator as [`Self::new`] does, with URLs that publish further JWK Sets. If
    /// several keys have the same `kid`, a key of a set is used before one of a URL, and one of the
    /// first URL before the others. Sets may be missing if there is a URL.
    ///
    /// # Errors
    /// Fails like `new`, and if a URL cannot be used: it must be `https`, or lead to this machine.
    pub fn with_urls<T: AsRef<str>, U: AsRef<str>>(
        jwk_sets: &[T],
        urls: &[U],
        audiences: Vec<String>,
    ) -> Result<Self, AuthConfigError> {
        let mut keys: Vec<Key> = Vec::new();
        for text in jwk_sets {
            for key in jwk_set::read(text.as_ref())? {
                if key.kid.is_some() && keys.iter().any(|other| other.kid == key.kid) {
                    let key = format!("key \"{}\"", key.kid.unwrap_or_default());
                    let problem = "another key has the same kid".to_owned();
                    return Err(AuthConfigError::Key { key, problem });
                }
                keys.push(key);
            }
        }
        let published: Vec<_> =
            urls.iter().map(|url| PublishedKeys::new(url.as_ref())).collect::<Result<_, _>>()?;

        if keys.is_empty() && published.is_empty() {
            return Err(AuthConfigError::NoKey);
        }
        if audiences.is_empty() {
            return Err(AuthConfigError::NoAudience);
        }
        Ok(Self { keys, published, audiences, issuer: None })
    }

    /// Requires tokens to have been issued by this issuer (`iss`).
    #[must_use]
    pub fn with_issuer(self, issuer: impl Into<String>) -> Self {
        Self { issuer: Some(issuer.into()), ..self }
    }

    /// Fetches published keys before the first request. Failures are logged, and requests try again.
    pub async fn prefetch(&self) {
        self.refresh_published(false, unix_now(), Instant::now() + FETCH_TIMEOUT).await;
    }

    /// Checks the value of an `Authorization` header at `now`, in seconds since 1970.
    pub(crate) async fn check(
        &self,
        header: Option<&[u8]>,
        now: i64,
    ) -> Result<Verified, AuthError> {
        let token = Token::read(header.ok_or(AuthError::Missing)?)?;

        // Published keys verify only algorithms with a public key. A token with another algorithm
        // causes no request to another server.
        let verdict = match verdict(&token, &[&self.keys]) {
            Some(verdict) => verdict,
            None if jwk_set::is_public(&token.alg) => self.published_verdict(&token, now).await?,
            None => false,
        };
        if !verdict {
            return Err(AuthError::Invalid);
        }
        claims::check(&token.payload()?, now, &self.audiences, self.issuer.as_deref())
    }

    /// Returns the verdict of the published keys, which are fetched if necessary.
    async fn published_verdict(&self, token: &Token<'_>, now: i64) -> Result<bool, AuthError> {
        let deadline = Instant::now() + FETCH_TIMEOUT;
        let is_known = published_verdict_of(token, &self.published_keys(now)).is_some();
        let was_fetched = self.refresh_published(is_known, now, deadline).await;
        let seen = self.published_keys(now);
        if let Some(verdict) = published_verdict_of(token, &seen) {
            return Ok(verdict);
        }

        // No key fits: the owner may have published another one since the last fetch.
        if self.refetch(&seen, &was_fetched, now, deadline).await
            && let Some(verdict) = published_verdict_of(token, &self.published_keys(now))
        {
            return Ok(verdict);
        }

        // While a set is missing, one of its keys may have signed the token.
        if self.published_keys(now).iter().any(Option::is_none) {
            return Err(AuthError::NoKeys);
        }
        Ok(false)
    }

    /// Fetches the sets that are old or missing. Returns which were fetched.
    async fn refresh_published(&self, is_known: bool, now: i64, deadline: Instant) -> Vec<bool> {
        let refreshed = self.published.iter().map(async |keys| {
            // A missing set is not fetched if another set knows the token: a server that is down
            // must not slow down tokens of others.
            let can_wait = is_known && keys.current(now).is_none();
            !can_wait && keys.refresh_if_old(now, deadline).await
        });
        join_all(refreshed).await
    }

    /// Fetches the sets again that were not just fetched. Returns whether any has changed.
    async fn refetch(
        &self,
        seen: &PublishedSets,
        was_fetched: &[bool],
        now: i64,
        deadline: Instant,
    ) -> bool {
        let mut refetched = Vec::new();
        for ((keys, seen), was_fetched) in self.published.iter().zip(seen).zip(was_fetched) {
            if let Some(seen) = seen
                && !was_fetched
            {
                refetched.push(keys.refetch_for_unknown_key(seen, now, deadline));
            }
        }

        join_all(refetched).await.contains(&true)
    }

    fn published_keys(&self, now: i64) -> PublishedSets {
        self.published.iter().map(|keys| keys.current(now)).collect()
    }
}

/// Returns whether the signature is right. The key that the token names decides alone; otherwise any
/// key without a name that fits. Returns `None` if no key can tell.
fn verdict(token: &Token<'_>, sets: &[&[Key]]) -> Option<bool> {
    if let Some(kid) = &token.kid
        && let Some(named) =
            sets.iter().copied().flatten().find(|key| key.kid.as_ref() == Some(kid))
    {
        return Some(named.has_signed(&token.alg, token.message, token.signature));
    }

    let mut unnamed = sets.iter().copied().flatten().filter(|key| key.kid.is_none());
    unnamed.any(|key| key.has_signed(&token.alg, token.message, token.signature)).then_some(true)
}

fn published_verdict_of(token: &Token<'_>, sets: &PublishedSets) -> Option<bool> {
    let sets: Vec<&[Key]> = sets.iter().flatten().map(|keys| &**keys).collect();
    verdict(token, &sets)
}

#[cfg(test)]
mod tests;
