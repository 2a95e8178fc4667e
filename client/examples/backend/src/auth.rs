//! Authentication: which user sends an upload.

use std::path::Path;

use anyhow::Context;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

/// The keys that sign your users' tokens, and the accepted audiences.
pub(crate) struct Keys {
    set: JwkSet,
    audience: Vec<String>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
}

impl Keys {
    /// Reads a JWK Set from a file.
    pub(crate) fn read(path: &Path, audience: &[String]) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the keys {}", path.display()))?;
        let set: JwkSet = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a JWK Set", path.display()))?;
        for key in &set.keys {
            algorithm(key).context("a key needs an `alg` that this program supports")?;
        }
        anyhow::ensure!(!set.keys.is_empty(), "{} holds no key", path.display());
        Ok(Self { set, audience: audience.to_vec() })
    }

    /// Returns the `sub` of a valid token, or `None`.
    pub(crate) fn user_of(&self, headers: &HeaderMap) -> Option<String> {
        let token = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
        let kid = decode_header(token).ok()?.kid;

        // If the set has the key that the token names, only that one counts. Otherwise the keys
        // without a name are tried.
        let named = self.set.keys.iter().any(|key| kid.is_some() && key.common.key_id == kid);
        let wanted = if named { kid } else { None };
        self.set
            .keys
            .iter()
            .filter(|key| key.common.key_id == wanted)
            .find_map(|key| self.verify(token, key))
    }

    fn verify(&self, token: &str, key: &Jwk) -> Option<String> {
        // The key decides the algorithm, never the token: a token could choose a weaker one.
        let mut validation = Validation::new(algorithm(key)?);
        validation.set_required_spec_claims(&["sub", "exp", "aud"]);
        validation.set_audience(&self.audience);
        validation.validate_nbf = true;
        let key = DecodingKey::from_jwk(key).ok()?;
        decode::<Claims>(token, &key, &validation).ok().map(|token| token.claims.sub)
    }
}

fn algorithm(key: &Jwk) -> Option<Algorithm> {
    key.common.key_algorithm?.to_string().parse().ok()
}
