//! Who is asking: JSON Web Tokens.
//!
//! The algorithm comes from our key's configuration, never from the token alone; the signature is
//! checked before a claim is looked at; every claim we use is typed and required.

mod keys;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use keys::Key;

pub use keys::AuthConfigError;

/// How far clocks may differ.
const SKEW_SECONDS: i64 = 60;
/// The longest life of a token, from `iat` to `exp`.
const LIFETIME_SECONDS_MAX: i64 = 86_400;
/// Longer tokens are refused unread.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Longer subjects are refused: they are part of stored keys.
const SUBJECT_BYTES_MAX: usize = 512;

/// Checks tokens with keys that are known from the start.
pub struct Authenticator {
    keys: Vec<Key>,
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

/// Why a token is refused. The reply tells no more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    /// There is none.
    #[error("no token")]
    Missing,
    /// Anything else: malformed, unknown key, wrong signature, a claim missing or ill-typed.
    #[error("the token is not valid")]
    Invalid,
    /// It was valid.
    #[error("the token has expired")]
    Expired,
    /// It lives longer than a day.
    #[error("the token's lifetime is too long")]
    Lifetime,
    /// It is meant for others.
    #[error("the token is for another audience")]
    Audience,
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
        let mut keys: Vec<Key> = Vec::new();
        for text in jwk_sets {
            for key in keys::read(text.as_ref())? {
                if key.kid.is_some() && keys.iter().any(|other| other.kid == key.kid) {
                    let key = format!("key \"{}\"", key.kid.unwrap_or_default());
                    let problem = "another key has the same kid".to_owned();
                    return Err(AuthConfigError::Key { key, problem });
                }
                keys.push(key);
            }
        }
        if keys.is_empty() {
            return Err(AuthConfigError::NoKey);
        }
        if audiences.is_empty() {
            return Err(AuthConfigError::NoAudience);
        }
        Ok(Self { keys, audiences, issuer: None })
    }

    /// The same, but tokens must also have been issued (`iss`) by this issuer.
    #[must_use]
    pub fn with_issuer(self, issuer: impl Into<String>) -> Self {
        Self { issuer: Some(issuer.into()), ..self }
    }

    /// Checks the value of an `Authorization` header at `now` (seconds since 1970).
    pub(crate) fn check(&self, header: Option<&[u8]>, now: i64) -> Result<Verified, AuthError> {
        let header = header.ok_or(AuthError::Missing)?;
        let token = token(header)?;
        let payload = self.verified_payload(token)?;
        self.claims(&payload, now)
    }

    /// The payload of a token whose signature is right.
    fn verified_payload(&self, token: &str) -> Result<Vec<u8>, AuthError> {
        let (message, signature) = token.rsplit_once('.').ok_or(AuthError::Invalid)?;
        let (header, payload) = message.split_once('.').ok_or(AuthError::Invalid)?;
        if payload.contains('.') {
            return Err(AuthError::Invalid); // Five parts: encrypted.
        }
        let header: Header =
            serde_json::from_slice(&decoded(header)?).map_err(|_| AuthError::Invalid)?;
        if header.crit.is_some() || header.b64.is_some() || header.enc.is_some() {
            return Err(AuthError::Invalid);
        }
        let named = header
            .kid
            .as_ref()
            .and_then(|kid| self.keys.iter().find(|key| key.kid.as_ref() == Some(kid)));
        let valid = match named {
            Some(key) => is_signed(key, &header.alg, message, signature),
            None => self
                .keys
                .iter()
                .filter(|key| key.kid.is_none())
                .any(|key| is_signed(key, &header.alg, message, signature)),
        };
        if valid { decoded(payload) } else { Err(AuthError::Invalid) }
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

/// What we read of a token's header. Whatever else it names (`jku`, `x5u`, `jwk`) has no effect.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    // Extensions that change what the signature means: we know none of them.
    #[serde(default, deserialize_with = "present")]
    crit: Option<()>,
    #[serde(default, deserialize_with = "present")]
    b64: Option<()>,
    #[serde(default, deserialize_with = "present")]
    enc: Option<()>,
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

fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<()>, D::Error> {
    serde::de::IgnoredAny::deserialize(value).map(|_| Some(()))
}

fn object<'de, D: serde::Deserializer<'de>>(value: D) -> Result<(), D::Error> {
    Map::<String, Value>::deserialize(value).map(|_| ())
}

/// The token of `Token <token>` or `Bearer <token>`.
fn token(header: &[u8]) -> Result<&str, AuthError> {
    let text = std::str::from_utf8(header).map_err(|_| AuthError::Invalid)?;
    let token = text.strip_prefix("Token ").or_else(|| text.strip_prefix("Bearer "));
    let token = token.ok_or(AuthError::Missing)?;
    let fits = !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
    if fits && !token.contains(char::is_whitespace) { Ok(token) } else { Err(AuthError::Invalid) }
}

fn decoded(part: &str) -> Result<Vec<u8>, AuthError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| AuthError::Invalid)
}

fn is_signed(key: &Key, alg: &str, message: &str, signature: &str) -> bool {
    let algorithm = key.algorithms.iter().find(|(name, _)| *name == alg);
    algorithm.is_some_and(|&(_, algorithm)| {
        let verdict =
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.decoding, algorithm);
        matches!(verdict, Ok(true))
    })
}

#[cfg(test)]
mod tests;
