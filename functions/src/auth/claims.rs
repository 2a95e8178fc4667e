//! The claims of a token whose signature is right.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::AuthError;

/// Difference of clocks that is tolerated, in seconds.
const CLOCK_SKEW_SECONDS: i64 = 60;

/// The longest lifetime of a token from `iat` to `exp`, in seconds: a day. A token cannot be revoked,
/// so a longer one would keep a removed user's access for longer.
const LIFETIME_SECONDS_MAX: i64 = 86_400;

/// The longest subject, in bytes. Subjects are part of stored keys.
const SUBJECT_BYTES_MAX: usize = 512;

/// The content of a valid token.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    /// `sub` as text.
    pub(crate) user_id: String,
    /// All claims.
    pub(crate) claims: Map<String, Value>,
    /// `exp`, in seconds since 1970.
    pub(crate) expires_at: i64,
}

/// The claims that are checked. A token that lacks one, or has one of another type, is not valid.
#[derive(Deserialize)]
struct Claims {
    sub: Subject,
    iat: i64,
    exp: i64,
    nbf: Option<i64>,
    aud: Audience,
    iss: Option<String>,
    // Read for its type only: if it is there, it must be an object.
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

/// Checks the payload of a token at `now`, in seconds since 1970. The token must name one of the
/// audiences, and the issuer if there is one.
pub(super) fn check(
    payload: &[u8],
    now: i64,
    audiences: &[String],
    issuer: Option<&str>,
) -> Result<Verified, AuthError> {
    let typed: Claims = serde_json::from_slice(payload).map_err(|_| AuthError::Invalid)?;
    let claims = serde_json::from_slice(payload).map_err(|_| AuthError::Invalid)?;

    if typed.exp.saturating_add(CLOCK_SKEW_SECONDS) <= now {
        return Err(AuthError::Expired);
    }
    let latest_start = now.saturating_add(CLOCK_SKEW_SECONDS);
    if typed.iat > latest_start || typed.nbf.is_some_and(|nbf| nbf > latest_start) {
        return Err(AuthError::Invalid);
    }
    if typed.exp.saturating_sub(typed.iat) > LIFETIME_SECONDS_MAX {
        return Err(AuthError::Lifetime);
    }

    let is_for_us = match &typed.aud {
        Audience::One(one) => audiences.contains(one),
        Audience::Many(many) => many.iter().any(|one| audiences.contains(one)),
    };
    if !is_for_us {
        return Err(AuthError::Audience);
    }
    if issuer.is_some() && issuer != typed.iss.as_deref() {
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
