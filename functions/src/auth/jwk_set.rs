//! Keys as a JWK Set names them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tracing::{debug, warn};

use super::error::AuthConfigError;
use super::key::{Key, Material, NamedAlgorithm, SignatureScheme};

const fn jwt(name: &'static str, algorithm: Algorithm) -> NamedAlgorithm {
    (name, SignatureScheme::Jwt(algorithm))
}

const HMAC: [NamedAlgorithm; 3] = [
    jwt("HS256", Algorithm::HS256),
    jwt("HS384", Algorithm::HS384),
    jwt("HS512", Algorithm::HS512),
];
const RSA: [NamedAlgorithm; 3] = [
    jwt("RS256", Algorithm::RS256),
    jwt("RS384", Algorithm::RS384),
    jwt("RS512", Algorithm::RS512),
];
const P256: [NamedAlgorithm; 1] = [jwt("ES256", Algorithm::ES256)];
const P384: [NamedAlgorithm; 1] = [jwt("ES384", Algorithm::ES384)];
const P521: [NamedAlgorithm; 1] = [("ES512", SignatureScheme::Es512)];
const ED25519: [NamedAlgorithm; 1] = [jwt("EdDSA", Algorithm::EdDSA)];

/// The algorithms of keys that may be fetched: those with a public half. A published secret would
/// be none.
const PUBLIC: [&[NamedAlgorithm]; 5] = [&RSA, &P256, &P384, &P521, &ED25519];

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

/// Keys that a fetched set may have at most.
const PUBLISHED_MAX: usize = 100;

/// Whether a key that was fetched may be used with this algorithm.
pub(super) fn is_public(alg: &str) -> bool {
    PUBLIC.iter().any(|family| family.iter().any(|(name, _)| *name == alg))
}

/// Reads a JWK Set of our own. Keys that are not for verifying are left out; any other that cannot
/// be used is an error.
pub(super) fn read(text: &str) -> Result<Vec<Key>, AuthConfigError> {
    let set: JwkSet = serde_json::from_str(text).map_err(AuthConfigError::NotAJwkSet)?;
    let mut keys = Vec::new();
    for (index, value) in set.keys.into_iter().enumerate() {
        let key = shown(&value, index);
        match usable(value, &key) {
            Ok(Some(usable)) => keys.push(usable),
            Ok(None) => warn!(key, "left out: it is not for verifying signatures"),
            Err(problem) => return Err(AuthConfigError::Key { key, problem }),
        }
    }
    Ok(keys)
}

/// Why a fetched text is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublishedError {
    #[error("it is not a JWK Set (a JSON object with a list \"keys\")")]
    NotAJwkSet(#[source] serde_json::Error),
    #[error("it holds {0} keys; the most is {PUBLISHED_MAX}")]
    TooMany(usize),
}

/// Reads a JWK Set that somebody publishes for all: what we cannot use is meant for others. Of two
/// keys with one `kid` the first counts.
pub(super) fn read_published(text: &[u8]) -> Result<Vec<Key>, PublishedError> {
    let set: JwkSet = serde_json::from_slice(text).map_err(PublishedError::NotAJwkSet)?;
    if set.keys.len() > PUBLISHED_MAX {
        return Err(PublishedError::TooMany(set.keys.len()));
    }
    let mut keys: Vec<Key> = Vec::new();
    for (index, value) in set.keys.into_iter().enumerate() {
        let key = shown(&value, index);
        let problem = match usable(value, &key) {
            Ok(Some(usable)) if !usable.is_secret() => {
                let twice = usable.kid.is_some() && keys.iter().any(|one| one.kid == usable.kid);
                if !twice {
                    keys.push(usable);
                    continue;
                }
                "another key has the same kid".to_owned()
            }
            Ok(Some(_)) => "a secret that is published is none".to_owned(),
            Ok(None) => "it is not for verifying signatures".to_owned(),
            Err(problem) => problem,
        };
        debug!(key, problem, "a published key is left out");
    }
    Ok(keys)
}

/// A key's `kid`, or its place in the list.
fn shown(value: &serde_json::Value, index: usize) -> String {
    let kid = value.get("kid").and_then(|kid| kid.as_str());
    kid.map_or(format!("key {}", index + 1), |kid| format!("key \"{kid}\""))
}

/// The key, if it is for verifying.
fn usable(value: serde_json::Value, name: &str) -> Result<Option<Key>, String> {
    let jwk: Jwk = serde_json::from_value(value)
        .map_err(|_| "a member is missing or has the wrong type".to_owned())?;
    let verifies = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
        && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !verifies {
        return Ok(None);
    }
    let (family, material) = material(&jwk, name)?;
    let algorithms = narrowed(family, jwk.alg.as_deref())?;
    Ok(Some(Key { kid: jwk.kid, algorithms, material }))
}

/// The key itself and the algorithms of its family.
fn material(jwk: &Jwk, name: &str) -> Result<(&'static [NamedAlgorithm], Material), String> {
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("oct", _) => {
            let secret = member("k", jwk.k.as_ref())?;
            if secret.is_empty() {
                return Err("the secret \"k\" is empty".to_owned());
            }
            if secret.len() < 32 {
                warn!(key = name, bytes = secret.len(), "a secret below 32 bytes can be guessed");
            }
            Ok((&HMAC, Material::Jwt(DecodingKey::from_secret(&secret))))
        }
        ("RSA", _) => {
            let (n, e) = (member("n", jwk.n.as_ref())?, member("e", jwk.e.as_ref())?);
            let leading = n.iter().take_while(|&&byte| byte == 0).count();
            if bits(&n[leading..]) < RSA_BITS_MIN {
                return Err(format!("an RSA modulus needs at least {RSA_BITS_MIN} bits"));
            }
            let key = DecodingKey::from_rsa_raw_components(&n[leading..], &e);
            Ok((&RSA, Material::Jwt(key)))
        }
        ("EC", Some(curve @ "P-256")) => {
            Ok((&P256, Material::Jwt(DecodingKey::from_ec_der(&point(jwk, curve, 32)?))))
        }
        ("EC", Some(curve @ "P-384")) => {
            Ok((&P384, Material::Jwt(DecodingKey::from_ec_der(&point(jwk, curve, 48)?))))
        }
        ("EC", Some(curve @ "P-521")) => Ok((&P521, Material::P521(point(jwk, curve, 66)?))),
        ("OKP", Some("Ed25519")) => {
            let x = member("x", jwk.x.as_ref())?;
            if x.len() != 32 {
                return Err("\"x\" must have 32 bytes for Ed25519".to_owned());
            }
            Ok((&ED25519, Material::Jwt(DecodingKey::from_ed_der(&x))))
        }
        ("EC", _) => Err("\"crv\" must be P-256, P-384 or P-521".to_owned()),
        ("OKP", Some("Ed448")) => {
            Err("Ed448 is not supported: of EdDSA, use a key of Ed25519".to_owned())
        }
        ("OKP", _) => Err("\"crv\" must be Ed25519".to_owned()),
        (kty, _) => Err(format!("kty \"{kty}\" is not one of oct, RSA, EC and OKP")),
    }
}

/// How long a number without leading zero bytes is.
fn bits(number: &[u8]) -> usize {
    let unused = number.first().map_or(0, |first| first.leading_zeros() as usize);
    number.len() * 8 - unused
}

/// A point of a curve, in the form in which both coordinates follow a 4.
fn point(jwk: &Jwk, curve: &str, bytes: usize) -> Result<Vec<u8>, String> {
    let mut point = vec![4];
    for (name, text) in [("x", &jwk.x), ("y", &jwk.y)] {
        let coordinate = member(name, text.as_ref())?;
        if coordinate.len() != bytes {
            return Err(format!("\"{name}\" must have {bytes} bytes for {curve}"));
        }
        point.extend_from_slice(&coordinate);
    }
    Ok(point)
}

/// The family's algorithms, or the one that the key names.
fn narrowed(family: &[NamedAlgorithm], alg: Option<&str>) -> Result<Vec<NamedAlgorithm>, String> {
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
