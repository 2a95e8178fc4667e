//! Checks tokens.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::error::{AuthConfigError, AuthError};
use super::jwk_set;
use super::key::Key;
use super::published_keys::PublishedKeys;
use super::token::Token;
use crate::clock::unix_now;

/// How far clocks may differ.
const SKEW_SECONDS: i64 = 60;
/// The longest life of a token, from `iat` to `exp`.
const LIFETIME_SECONDS_MAX: i64 = 86_400;
/// Longer subjects are refused: they are part of stored keys.
const SUBJECT_BYTES_MAX: usize = 512;
/// A request waits no longer for keys to be fetched.
const FETCH_WAIT: Duration = Duration::from_secs(3);

/// Checks tokens with keys that are known from the start, and with those that URLs publish.
///
/// Published keys are fetched by the requests that need them. They serve for an hour, and are
/// fetched again once they are five minutes old, or when a token names a key that is not among them
/// (five times at once, then once a minute).
pub struct Authenticator {
    keys: Vec<Key>,
    published: Vec<PublishedKeys>,
    audiences: Vec<String>,
    issuer: Option<String>,
}

/// What a valid token says.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    /// `sub` as text.
    pub(crate) user_id: String,
    /// All claims.
    pub(crate) claims: Map<String, Value>,
    /// `exp`, in seconds since 1970.
    pub(crate) expires_at: i64,
}

impl Authenticator {
    /// Takes the keys of JWK Sets (the texts of the files) and the audiences of which a token must
    /// name one.
    ///
    /// # Errors
    /// When a set or a key in it cannot be used (the key is named), two keys have one `kid`, or
    /// there is no key or no audience.
    pub fn new<T: AsRef<str>>(
        jwk_sets: &[T],
        audiences: Vec<String>,
    ) -> Result<Self, AuthConfigError> {
        Self::with_urls(jwk_sets, &[] as &[&str], audiences)
    }

    /// The same, with URLs at which further JWK Sets are published. Of keys with one `kid` that of
    /// a set counts, then that of the first URL. A set may be missing as long as there is a URL.
    ///
    /// # Errors
    /// As `new`, and when a URL cannot be used: it must be `https`, or lead to this machine.
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

    /// The same, but tokens must also have been issued (`iss`) by this issuer.
    #[must_use]
    pub fn with_issuer(self, issuer: impl Into<String>) -> Self {
        Self { issuer: Some(issuer.into()), ..self }
    }

    /// Fetches published keys ahead of the first request. What goes wrong is logged, and tried
    /// again by requests.
    pub async fn prefetch(&self) {
        self.refresh_published(false, unix_now(), Instant::now() + FETCH_WAIT).await;
    }

    /// Checks the value of an `Authorization` header at `now` (seconds since 1970).
    pub(crate) async fn check(
        &self,
        header: Option<&[u8]>,
        now: i64,
    ) -> Result<Verified, AuthError> {
        let token = Token::read(header.ok_or(AuthError::Missing)?)?;
        let verdict = match verdict(&token, &[&self.keys]) {
            Some(verdict) => verdict,
            // Nothing else is worth a request to somebody else's server.
            None if jwk_set::is_public(&token.alg) => self.published_verdict(&token, now).await?,
            None => false,
        };
        if !verdict {
            return Err(AuthError::Invalid);
        }
        self.claims(&token.payload()?, now)
    }

    /// What the published keys say; they are fetched if need be.
    async fn published_verdict(&self, token: &Token<'_>, now: i64) -> Result<bool, AuthError> {
        let deadline = Instant::now() + FETCH_WAIT;
        let is_known = verdict_of(token, &self.published_keys(now)).is_some();
        let asked = self.refresh_published(is_known, now, deadline).await;
        let sets = self.published_keys(now);
        if let Some(verdict) = verdict_of(token, &sets) {
            return Ok(verdict);
        }
        let again = self.published.iter().zip(&sets).zip(asked);
        let again = again.filter_map(|((one, seen), asked)| match seen {
            Some(seen) if !asked => Some(one.refetch_for_unknown_key(seen, now, deadline)),
            _ => None,
        });
        if join_all(again).await.contains(&true)
            && let Some(verdict) = verdict_of(token, &self.published_keys(now))
        {
            return Ok(verdict);
        }
        if self.published_keys(now).iter().any(Option::is_none) {
            return Err(AuthError::NoKeys);
        }
        Ok(false)
    }

    /// Which sets were asked for. Those that are missing can wait when another decides: a server
    /// that is gone must not slow down tokens that are not its own.
    async fn refresh_published(&self, is_known: bool, now: i64, deadline: Instant) -> Vec<bool> {
        let each = self.published.iter().map(async |one| {
            let can_wait = is_known && one.keys(now).is_none();
            !can_wait && one.refresh_if_old(now, deadline).await
        });
        join_all(each).await
    }

    fn published_keys(&self, now: i64) -> Vec<Option<Arc<[Key]>>> {
        self.published.iter().map(|one| one.keys(now)).collect()
    }

    fn claims(&self, payload: &[u8], now: i64) -> Result<Verified, AuthError> {
        let typed: Claims = serde_json::from_slice(payload).map_err(|_| AuthError::Invalid)?;
        let claims = serde_json::from_slice(payload).map_err(|_| AuthError::Invalid)?;
        if typed.exp.saturating_add(SKEW_SECONDS) <= now {
            return Err(AuthError::Expired);
        }
        let latest_start = now.saturating_add(SKEW_SECONDS);
        if typed.iat > latest_start || typed.nbf.is_some_and(|nbf| nbf > latest_start) {
            return Err(AuthError::Invalid);
        }
        if typed.exp.saturating_sub(typed.iat) > LIFETIME_SECONDS_MAX {
            return Err(AuthError::Lifetime);
        }
        let for_us = match &typed.aud {
            Audience::One(one) => self.audiences.contains(one),
            Audience::Many(many) => many.iter().any(|one| self.audiences.contains(one)),
        };
        if !for_us {
            return Err(AuthError::Audience);
        }
        if self.issuer.is_some() && self.issuer != typed.iss {
            return Err(AuthError::Invalid);
        }
        let user_id = match typed.sub {
            Subject::Text(text) => text,
            Subject::Signed(number) => number.to_string(),
            Subject::Unsigned(number) => number.to_string(),
        };
        if user_id.is_empty() || user_id.len() > SUBJECT_BYTES_MAX {
            return Err(AuthError::Invalid);
        }
        Ok(Verified { user_id, claims, expires_at: typed.exp })
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: Subject,
    iat: i64,
    exp: i64,
    nbf: Option<i64>,
    aud: Audience,
    iss: Option<String>,
    // Read for its type: if it is there it is an object.
    #[serde(default, rename = "parameters", deserialize_with = "object")]
    _parameters: (),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Subject {
    Text(String),
    Signed(i64),
    Unsigned(u64),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

fn object<'de, D: serde::Deserializer<'de>>(value: D) -> Result<(), D::Error> {
    Map::<String, Value>::deserialize(value).map(|_| ())
}

/// Whether the signature is right: a key that the token names decides alone, else any key without a
/// name that fits. `None` if no key says anything.
fn verdict(token: &Token<'_>, sets: &[&[Key]]) -> Option<bool> {
    let signed = |key: &Key| key.has_signed(&token.alg, token.message, token.signature);
    let all = || sets.iter().copied().flatten();
    if let Some(kid) = &token.kid
        && let Some(named) = all().find(|key| key.kid.as_ref() == Some(kid))
    {
        return Some(signed(named));
    }
    all().filter(|key| key.kid.is_none()).any(signed).then_some(true)
}

fn verdict_of(token: &Token<'_>, sets: &[Option<Arc<[Key]>>]) -> Option<bool> {
    let sets: Vec<&[Key]> = sets.iter().flatten().map(|keys| &**keys).collect();
    verdict(token, &sets)
}

#[cfg(test)]
mod tests;
