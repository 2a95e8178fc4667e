//! Keys as a JWK Set names them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tracing::warn;

/// Why the keys or audiences that were configured cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthConfigError {
    /// The text is no JWK Set.
    #[error("not a JWK Set (a JSON object with a list \"keys\")")]
    NotAJwkSet(#[source] serde_json::Error),
    /// One of the keys cannot be used.
    #[error("{key}: {problem}")]
    Key {
        /// Its `kid`, or its place in the list.
        key: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// No key is left to check tokens with.
    #[error("no key that can verify a token is configured")]
    NoKey,
    /// Tokens must be meant for somebody.
    #[error("no audience is configured")]
    NoAudience,
}

/// An algorithm and its name in a token's header.
pub(super) type Named = (&'static str, Algorithm);

const HMAC: [Named; 3] =
    [("HS256", Algorithm::HS256), ("HS384", Algorithm::HS384), ("HS512", Algorithm::HS512)];
const RSA: [Named; 3] =
    [("RS256", Algorithm::RS256), ("RS384", Algorithm::RS384), ("RS512", Algorithm::RS512)];
const P256: [Named; 1] = [("ES256", Algorithm::ES256)];
const P384: [Named; 1] = [("ES384", Algorithm::ES384)];
const ED25519: [Named; 1] = [("EdDSA", Algorithm::EdDSA)];

/// A key that verifies tokens.
pub(super) struct Key {
    /// The name by which tokens choose it; a key without one serves all that name no known key.
    pub(super) kid: Option<String>,
    /// What it may be used with. A token's header chooses among these and nothing else.
    pub(super) algorithms: Vec<Named>,
    pub(super) decoding: DecodingKey,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    k: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Bits of the smallest RSA modulus accepted; smaller ones have been factored or soon may be.
const RSA_BITS_MIN: usize = 2048;

/// Reads a JWK Set. Keys that are not for verifying are left out.
pub(super) fn read(text: &str) -> Result<Vec<Key>, AuthConfigError> {
    let set: JwkSet = serde_json::from_str(text).map_err(AuthConfigError::NotAJwkSet)?;
    let mut keys = Vec::new();
    for (index, value) in set.keys.into_iter().enumerate() {
        let kid = value.get("kid").and_then(|kid| kid.as_str());
        let key = kid.map_or(format!("key {}", index + 1), |kid| format!("key \"{kid}\""));
        let error = |problem| AuthConfigError::Key { key: key.clone(), problem };
        let jwk: Jwk = serde_json::from_value(value)
            .map_err(|_| error("a member is missing or has the wrong type".to_owned()))?;
        let verifies = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
            && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !verifies {
            warn!(key, "left out: it is not for verifying signatures");
            continue;
        }
        let (algorithms, decoding) = material(&jwk, &key).map_err(error)?;
        let algorithms = narrowed(algorithms, jwk.alg.as_deref()).map_err(error)?;
        keys.push(Key { kid: jwk.kid, algorithms, decoding });
    }
    Ok(keys)
}

/// The key itself and the algorithms of its family.
fn material(jwk: &Jwk, name: &str) -> Result<(&'static [Named], DecodingKey), String> {
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("oct", _) => {
            let secret = member("k", jwk.k.as_ref())?;
            if secret.is_empty() {
                return Err("the secret \"k\" is empty".to_owned());
            }
            if secret.len() < 32 {
                warn!(key = name, bytes = secret.len(), "a secret below 32 bytes can be guessed");
            }
            Ok((&HMAC, DecodingKey::from_secret(&secret)))
        }
        ("RSA", _) => {
            let (n, e) = (member("n", jwk.n.as_ref())?, member("e", jwk.e.as_ref())?);
            let leading = n.iter().take_while(|&&byte| byte == 0).count();
            if (n.len() - leading) * 8 < RSA_BITS_MIN {
                return Err(format!("an RSA modulus needs at least {RSA_BITS_MIN} bits"));
            }
            Ok((&RSA, DecodingKey::from_rsa_raw_components(&n[leading..], &e)))
        }
        ("EC", Some(curve @ ("P-256" | "P-384"))) => {
            let (algorithms, bytes): (&[Named], _) =
                if curve == "P-256" { (&P256, 32) } else { (&P384, 48) };
            let mut point = vec![4]; // The form in which both coordinates follow.
            for (name, text) in [("x", &jwk.x), ("y", &jwk.y)] {
                let coordinate = member(name, text.as_ref())?;
                if coordinate.len() != bytes {
                    return Err(format!("\"{name}\" must have {bytes} bytes for {curve}"));
                }
                point.extend_from_slice(&coordinate);
            }
            Ok((algorithms, DecodingKey::from_ec_der(&point)))
        }
        ("OKP", Some("Ed25519")) => {
            let x = member("x", jwk.x.as_ref())?;
            if x.len() != 32 {
                return Err("\"x\" must have 32 bytes for Ed25519".to_owned());
            }
            Ok((&ED25519, DecodingKey::from_ed_der(&x)))
        }
        ("EC", _) => Err("\"crv\" must be P-256 or P-384".to_owned()),
        ("OKP", _) => Err("\"crv\" must be Ed25519".to_owned()),
        (kty, _) => Err(format!("kty \"{kty}\" is not one of oct, RSA, EC and OKP")),
    }
}

/// The family's algorithms, or the one that the key names.
fn narrowed(family: &[Named], alg: Option<&str>) -> Result<Vec<Named>, String> {
    let Some(alg) = alg else { return Ok(family.to_vec()) };
    let found = family.iter().find(|(name, _)| *name == alg);
    let names: Vec<_> = family.iter().map(|(name, _)| *name).collect();
    found
        .map(|one| vec![*one])
        .ok_or_else(|| format!("alg \"{alg}\" does not fit the key: use {}", names.join(" or ")))
}

fn member(name: &str, text: Option<&String>) -> Result<Vec<u8>, String> {
    let text = text.ok_or_else(|| format!("\"{name}\" is missing"))?;
    URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|_| format!("\"{name}\" is not base64url"))
}
