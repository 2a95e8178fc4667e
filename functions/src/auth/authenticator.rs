//! Checks tokens with configured and published keys.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::claims::{self, Verified};
use super::error::{AuthConfigError, RefusalReason};
use super::jwk_set;
use super::key::Key;
use super::published_keys::PublishedKeys;
use super::refusal::{Refusal, RefusalLog};
use super::token::Token;
use crate::clock::unix_now;

/// Time that a request waits for keys to be fetched. Identity providers answer within a fraction of a
/// second; clients time out after about ten.
const KEY_WAIT_MAX: Duration = Duration::from_secs(3);

/// Number of fetches that a request with an unknown key waits for: one that began before the request,
/// and so may have missed the key, and one that began after it.
const FETCHES_MAX: usize = 2;

/// Checks tokens with keys that are known from the start, and with keys that URLs publish.
///
/// Requests fetch published keys when they need them. Fetched keys are used until newer ones arrive.
/// They are fetched again after five minutes, or when a token names a key that is not among them: five
/// times at once, then once a minute.
pub struct Authenticator {
    keys: Vec<Key>,
    published: Vec<Arc<PublishedKeys>>,
    audiences: Vec<String>,
    issuer: Option<String>,
    refusals: RefusalLog,
}

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
        let mut published = Vec::new();
        for url in urls {
            published.push(Arc::new(PublishedKeys::new(url.as_ref())?));
        }

        if keys.is_empty() && published.is_empty() {
            return Err(AuthConfigError::NoKey);
        }
        if audiences.is_empty() {
            return Err(AuthConfigError::NoAudience);
        }
        let refusals = RefusalLog::default();
        Ok(Self { keys, published, audiences, issuer: None, refusals })
    }

    /// Requires tokens to have been issued by this issuer (`iss`).
    #[must_use]
    pub fn with_issuer(self, issuer: impl Into<String>) -> Self {
        Self { issuer: Some(issuer.into()), ..self }
    }

    /// Fetches published keys before the first request. Failures are logged, and requests try again.
    pub async fn prefetch(&self) {
        self.refresh(false, unix_now(), Instant::now() + KEY_WAIT_MAX).await;
    }

    /// Checks the value of an `Authorization` header at `now`, in seconds since 1970. A refusal is
    /// logged and counted.
    pub(crate) async fn check(&self, header: Option<&[u8]>, now: i64) -> Result<Verified, Refusal> {
        let verdict = match header.ok_or(RefusalReason::Missing).and_then(Token::read) {
            Ok(token) => {
                let verdict = self.check_token(&token, now).await;
                verdict.map_err(|reason| Refusal::of(&token, reason))
            }
            Err(reason) => Err(Refusal::unread(reason)),
        };

        if let Err(refusal) = &verdict {
            self.refusals.record(refusal, now);
        }
        verdict
    }

    async fn check_token(&self, token: &Token<'_>, now: i64) -> Result<Verified, RefusalReason> {
        match verdict(token, &[&self.keys]) {
            Some(verdict) => verdict?,
            // Published keys verify only algorithms with a public key. A token with another algorithm
            // causes no request to another server.
            None if jwk_set::is_public(&token.alg) => self.check_published(token, now).await?,
            None if jwk_set::is_symmetric(&token.alg) => return Err(RefusalReason::UnknownKey),
            None => return Err(RefusalReason::Algorithm),
        }

        let payload = token.payload()?;
        claims::check(&payload, now, &self.audiences, self.issuer.as_deref())
    }

    /// Checks the signature with the published keys, which are fetched if necessary.
    async fn check_published(&self, token: &Token<'_>, now: i64) -> Result<(), RefusalReason> {
        let deadline = Instant::now() + KEY_WAIT_MAX;
        let started_before: Vec<u64> =
            self.published.iter().map(|keys| keys.fetches_started()).collect();

        let is_known = self.published_verdict(token).is_some();
        self.refresh(is_known, now, deadline).await;
        if let Some(verdict) = self.published_verdict(token) {
            return verdict;
        }

        // No key fits: the owner may have published another one since the last fetch.
        for _ in 0..FETCHES_MAX {
            let mut fetches = Vec::new();
            for (keys, started_before) in self.published.iter().zip(&started_before) {
                fetches.push(keys.fetch_for_unknown_key(*started_before, now, deadline));
            }
            let has_fetched = join_all(fetches).await.contains(&true);

            if let Some(verdict) = self.published_verdict(token) {
                return verdict;
            }
            if !has_fetched {
                break;
            }
        }

        // A set that is missing, or newer than the one that is known, may have the key.
        if self.published.iter().any(|keys| keys.is_uncertain()) {
            return Err(RefusalReason::NoKeys);
        }
        Err(RefusalReason::UnknownKey)
    }

    /// Fetches the sets that are old or missing.
    async fn refresh(&self, is_known: bool, now: i64, deadline: Instant) {
        let refreshed = self.published.iter().map(async |keys| {
            // A missing set is not fetched if another set knows the token: a server that is down
            // must not slow down tokens of others.
            if !is_known || keys.current().is_some() {
                keys.refresh_if_old(now, deadline).await;
            }
        });
        join_all(refreshed).await;
    }

    /// Returns the verdict of the keys that were fetched, as [`verdict`] does.
    fn published_verdict(&self, token: &Token<'_>) -> Option<Result<(), RefusalReason>> {
        let current: Vec<_> = self.published.iter().filter_map(|keys| keys.current()).collect();
        let sets: Vec<&[Key]> = current.iter().map(|keys| &**keys).collect();
        verdict(token, &sets)
    }
}

/// Checks the signature. The key that the token names decides alone; otherwise any key without a name
/// that fits. Returns `None` if no key can tell.
fn verdict(token: &Token<'_>, sets: &[&[Key]]) -> Option<Result<(), RefusalReason>> {
    if let Some(kid) = &token.kid
        && let Some(named) =
            sets.iter().copied().flatten().find(|key| key.kid.as_ref() == Some(kid))
    {
        if !named.has_algorithm(&token.alg) {
            return Some(Err(RefusalReason::Algorithm));
        }
        let has_signed = named.has_signed(&token.alg, token.message, token.signature);
        return Some(if has_signed { Ok(()) } else { Err(RefusalReason::Signature) });
    }

    let mut unnamed = sets.iter().copied().flatten().filter(|key| key.kid.is_none());
    unnamed.any(|key| key.has_signed(&token.alg, token.message, token.signature)).then_some(Ok(()))
}

#[cfg(test)]
mod tests;
