//! The claims of a token, and their signature.

use std::time::Duration;

use anyhow::Context;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Map, Value, json};

use super::dev_key::SigningKey;

/// The content of a token.
pub(crate) struct Claims<'a> {
    /// Value of `sub`.
    pub(crate) user_id: &'a str,
    /// Values of `aud`.
    pub(crate) audience: &'a [String],
    /// Time from `iat` to `exp`.
    pub(crate) lifetime: Duration,
    /// Further claims.
    pub(crate) more: Map<String, Value>,
}

impl Claims<'_> {
    /// Returns a signed token that is valid from `now`, which is the time since 1970.
    pub(crate) fn sign(self, key: &SigningKey, now: Duration) -> anyhow::Result<String> {
        let mut claims = self.more;
        let audience = match self.audience {
            [one] => json!(one),
            several => json!(several),
        };

        claims.insert("sub".to_owned(), json!(self.user_id));
        claims.insert("aud".to_owned(), audience);
        claims.insert("iat".to_owned(), json!(now.as_secs()));
        claims.insert("exp".to_owned(), json!((now + self.lifetime).as_secs()));

        let header = Header { kid: key.kid.clone(), ..Header::new(key.algorithm) };
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&key.secret))
            .context("cannot sign the token")
    }
}
