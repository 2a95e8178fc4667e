//! Reads JWK Sets (RFC 7517).

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ParsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tracing::{debug, info, warn};

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

/// The algorithms of keys that may be published: those with a public key. A published symmetric key
/// is not secret.
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

/// The smallest RSA modulus, in bits. NIST and RFC 7518 require this size; smaller ones may be factored
/// soon.
const RSA_BITS_MIN: usize = 2048;

/// The largest RSA modulus that the crypto library verifies with, in bits.
const RSA_BITS_MAX: usize = 8192;

/// The longest RSA exponent that the crypto library verifies with, in bits. Nearly all keys have 65537.
const RSA_EXPONENT_BITS_MAX: usize = 33;

/// The largest number of keys of a fetched set. Owners publish a handful; each key costs a check for
/// tokens without a `kid`.
const PUBLISHED_KEYS_MAX: usize = 100;

/// Returns whether a published key can have this algorithm.
pub(super) fn is_public(alg: &str) -> bool {
    PUBLIC.iter().any(|family| family.iter().any(|(name, _)| *name == alg))
}

/// Returns whether the algorithm is one of symmetric keys.
pub(super) fn is_symmetric(alg: &str) -> bool {
    HMAC.iter().any(|(name, _)| *name == alg)
}

/// Reads a configured JWK Set. Keys that are not for verifying signatures are left out. Any other key
/// that cannot be used is an error.
pub(super) fn read(text: &str) -> Result<Vec<Key>, AuthConfigError> {
    let set: JwkSet = serde_json::from_str(text).map_err(AuthConfigError::NotAJwkSet)?;
    let mut keys = Vec::new();
    for (index, value) in set.keys.into_iter().enumerate() {
        let label = key_label(&value, index);
        match usable_key(value, &label) {
            Ok(Some(key)) => keys.push(key),
            Ok(None) => warn!(key = label, "left out a key that is not for verifying signatures"),
            Err(problem) => return Err(AuthConfigError::Key { key: label, problem }),
        }
    }
    Ok(keys)
}

/// The reason why a fetched set cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublishedError {
    #[error("not a JWK Set (a JSON object with a list \"keys\")")]
    NotAJwkSet(#[source] serde_json::Error),
    #[error("the set has {0} keys; at most {PUBLISHED_KEYS_MAX} are accepted")]
    TooMany(usize),
}

/// Reads a published JWK Set. Keys that cannot be used are meant for others and are left out. Of two
/// keys with the same `kid`, the first is used.
pub(super) fn read_published(text: &[u8]) -> Result<Vec<Key>, PublishedError> {
    let set: JwkSet = serde_json::from_slice(text).map_err(PublishedError::NotAJwkSet)?;
    if set.keys.len() > PUBLISHED_KEYS_MAX {
        return Err(PublishedError::TooMany(set.keys.len()));
    }

    let mut keys: Vec<Key> = Vec::new();
    for (index, value) in set.keys.into_iter().enumerate() {
        let label = key_label(&value, index);
        let problem = match usable_key(value, &label) {
            Ok(Some(key)) if key.is_secret() => {
                "a published symmetric key is not secret".to_owned()
            }
            Ok(Some(key)) if key.kid.is_some() && keys.iter().any(|one| one.kid == key.kid) => {
                "another key has the same kid".to_owned()
            }
            Ok(Some(key)) => {
                keys.push(key);
                continue;
            }
            // Owners publish keys for encryption in the same set.
            Ok(None) => {
                debug!(key = label, "left out a published key that is not for signatures");
                continue;
            }
            Err(problem) => problem,
        };
        info!(key = label, problem, "left out a published key");
    }
    Ok(keys)
}

/// Returns a key's `kid`, or its place in the list, for messages.
fn key_label(value: &serde_json::Value, index: usize) -> String {
    let kid = value.get("kid").and_then(|kid| kid.as_str());
    kid.map_or(format!("key {}", index + 1), |kid| format!("key \"{kid}\""))
}

/// Returns the key, if it is for verifying signatures.
fn usable_key(value: serde_json::Value, name: &str) -> Result<Option<Key>, String> {
    let jwk: Jwk = serde_json::from_value(value)
        .map_err(|_| "a member is missing or has the wrong type".to_owned())?;
    let verifies = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
        && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !verifies {
        return Ok(None);
    }
    let (family, material) = material(&jwk, name)?;
    let algorithms = narrow_algorithms(family, jwk.alg.as_deref())?;
    Ok(Some(Key { kid: jwk.kid, algorithms, material }))
}

/// Returns the key's bytes and the algorithms of its family.
fn material(jwk: &Jwk, name: &str) -> Result<(&'static [NamedAlgorithm], Material), String> {
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("oct", _) => Ok((&HMAC, Material::Jwt(symmetric_key(jwk, name)?))),
        ("RSA", _) => Ok((&RSA, Material::Jwt(rsa_key(jwk)?))),

        ("EC", Some("P-256")) => {
            let point =
                point(jwk, &Curve { name: "P-256", bytes: 32, of: &ECDSA_P256_SHA256_FIXED })?;
            Ok((&P256, Material::Jwt(DecodingKey::from_ec_der(&point))))
        }
        ("EC", Some("P-384")) => {
            let point =
                point(jwk, &Curve { name: "P-384", bytes: 48, of: &ECDSA_P384_SHA384_FIXED })?;
            Ok((&P384, Material::Jwt(DecodingKey::from_ec_der(&point))))
        }
        ("EC", Some("P-521")) => {
            let point =
                point(jwk, &Curve { name: "P-521", bytes: 66, of: &ECDSA_P521_SHA512_FIXED })?;
            Ok((&P521, Material::P521(point)))
        }

        ("OKP", Some("Ed25519")) => {
            let x = member("x", jwk.x.as_ref())?;
            if x.len() != 32 {
                return Err("\"x\" must have 32 bytes for Ed25519".to_owned());
            }
            Ok((&ED25519, Material::Jwt(DecodingKey::from_ed_der(&x))))
        }

        ("EC", _) => Err("\"crv\" must be P-256, P-384 or P-521".to_owned()),
        ("OKP", Some("Ed448")) => {
            Err("Ed448 is not supported: use an Ed25519 key for EdDSA".to_owned())
        }
        ("OKP", _) => Err("\"crv\" must be Ed25519".to_owned()),
        (kty, _) => Err(format!("kty \"{kty}\" is not one of oct, RSA, EC and OKP")),
    }
}

fn symmetric_key(jwk: &Jwk, name: &str) -> Result<DecodingKey, String> {
    let secret = member("k", jwk.k.as_ref())?;
    if secret.is_empty() {
        return Err("the secret \"k\" is empty".to_owned());
    }
    if secret.len() < 32 {
        warn!(key = name, bytes = secret.len(), "a secret shorter than 32 bytes can be guessed");
    }
    Ok(DecodingKey::from_secret(&secret))
}

fn rsa_key(jwk: &Jwk) -> Result<DecodingKey, String> {
    let modulus = member("n", jwk.n.as_ref())?;
    let exponent = member("e", jwk.e.as_ref())?;
    let n = without_zeros(&modulus);
    let e = without_zeros(&exponent);

    if bits(n) < RSA_BITS_MIN {
        return Err(format!("an RSA modulus needs at least {RSA_BITS_MIN} bits"));
    }
    if bits(n) > RSA_BITS_MAX || !is_odd(n) {
        return Err(format!("an RSA modulus must be odd, and have at most {RSA_BITS_MAX} bits"));
    }
    // With the exponent 1 every message is its own signature.
    if bits(e) < 2 || bits(e) > RSA_EXPONENT_BITS_MAX || !is_odd(e) {
        return Err(
            "an RSA exponent \"e\" must be odd and at least 3; nearly all keys have 65537 \
                    (\"AQAB\")"
                .to_owned(),
        );
    }
    Ok(DecodingKey::from_rsa_raw_components(n, e))
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let leading = number.iter().take_while(|&&byte| byte == 0).count();
    &number[leading..]
}

fn is_odd(number: &[u8]) -> bool {
    number.last().is_some_and(|last| last % 2 == 1)
}

/// Returns the number of bits of a number without leading zero bytes.
fn bits(number: &[u8]) -> usize {
    let unused = number.first().map_or(0, |first| first.leading_zeros() as usize);
    number.len() * 8 - unused
}

/// An elliptic curve.
struct Curve {
    name: &'static str,
    /// Length of a coordinate.
    bytes: usize,
    of: &'static dyn VerificationAlgorithm,
}

/// Returns a point of a curve in uncompressed form: a 4, and both coordinates.
fn point(jwk: &Jwk, curve: &Curve) -> Result<Vec<u8>, String> {
    let mut point = vec![4];
    for (name, text) in [("x", &jwk.x), ("y", &jwk.y)] {
        let coordinate = member(name, text.as_ref())?;
        if coordinate.len() != curve.bytes {
            return Err(format!("\"{name}\" must have {} bytes for {}", curve.bytes, curve.name));
        }
        point.extend_from_slice(&coordinate);
    }

    match ParsedPublicKey::new(curve.of, &point) {
        Ok(_) => Ok(point),
        Err(_) => Err(format!("\"x\" and \"y\" are not a point of the curve {}", curve.name)),
    }
}

/// Returns the family's algorithms, or the one that the key names.
fn narrow_algorithms(
    family: &[NamedAlgorithm],
    alg: Option<&str>,
) -> Result<Vec<NamedAlgorithm>, String> {
    let Some(alg) = alg else { return Ok(family.to_vec()) };
    let found = family.iter().find(|(name, _)| *name == alg);
    let names: Vec<_> = family.iter().map(|(name, _)| *name).collect();
    found
        .map(|one| vec![*one])
        .ok_or_else(|| format!("alg \"{alg}\" does not fit the key: use {}", names.join(" or ")))
}

/// Decodes a member that is base64url.
fn member(name: &str, text: Option<&String>) -> Result<Vec<u8>, String> {
    let text = text.ok_or_else(|| format!("\"{name}\" is missing"))?;
    URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|_| format!("\"{name}\" is not base64url"))
}
