//! JSON web tokens of users, and the keys that sign them.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};

/// The audience of every token, unless a test sets another one.
pub const AUDIENCE: &str = "tidewater-tests";

/// A symmetric key for HS256.
#[derive(Clone, Debug)]
pub struct SigningKey {
    id: String,
    secret: [u8; 32],
}

impl SigningKey {
    /// Creates a random key with the id `id`.
    #[must_use]
    pub fn random(id: &str) -> Self {
        Self { id: id.to_owned(), secret: rand::random() }
    }

    /// Writes a JWK Set file with this key alone, and returns its path.
    ///
    /// # Errors
    /// Fails when the file system fails.
    pub fn write_jwk_set(&self, folder: &Path) -> Result<PathBuf> {
        let k = URL_SAFE_NO_PAD.encode(self.secret);
        let set = json!({"keys": [{"kty": "oct", "alg": "HS256", "kid": self.id, "k": k}]});
        let path = folder.join(format!("{}.jwks.json", self.id));
        std::fs::write(&path, set.to_string())?;
        Ok(path)
    }

    /// Begins a token of a user that is valid for an hour.
    #[must_use]
    pub fn token(&self, user: &str) -> Token<'_> {
        let mut claims = Map::new();
        claims.insert("sub".to_owned(), user.into());
        claims.insert("aud".to_owned(), AUDIENCE.into());
        Token { key: self, claims, valid_seconds: 3600 }
    }
}

/// A builder of a token.
#[derive(Clone, Debug)]
pub struct Token<'a> {
    key: &'a SigningKey,
    claims: Map<String, Value>,
    valid_seconds: i64,
}

impl Token<'_> {
    /// Sets a claim.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Sets the seconds from now to the expiry. They are negative for an expired token.
    #[must_use]
    pub fn valid_seconds(mut self, seconds: i64) -> Self {
        self.valid_seconds = seconds;
        self
    }

    /// Signs the token.
    ///
    /// # Errors
    /// Fails when the claims cannot be written as JSON.
    pub fn sign(mut self) -> Result<String> {
        let now = i64::try_from(now().as_secs())?;
        let issued = now.min(now + self.valid_seconds - 60);
        self.claims.insert("iat".to_owned(), issued.into());
        self.claims.insert("exp".to_owned(), (now + self.valid_seconds).into());

        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(self.key.id.clone());
        let secret = EncodingKey::from_secret(&self.key.secret);
        Ok(jsonwebtoken::encode(&header, &self.claims, &secret)?)
    }
}

#[expect(clippy::disallowed_methods, reason = "a token expires by the real clock")]
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
