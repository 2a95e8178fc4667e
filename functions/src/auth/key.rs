//! A key that verifies signatures.

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};

/// An algorithm with its name in a token's header.
pub(super) type NamedAlgorithm = (&'static str, SignatureScheme);

/// The way in which signatures of an algorithm are verified.
#[derive(Clone, Copy, Debug)]
pub(super) enum SignatureScheme {
    /// An algorithm of `jsonwebtoken`.
    Jwt(Algorithm),
    /// ECDSA over P-521. `jsonwebtoken` lacks it, and its crypto library has it.
    Es512,
}

/// The key's own bytes.
pub(super) enum Material {
    /// A key of `jsonwebtoken`.
    Jwt(DecodingKey),
    /// An uncompressed point of P-521.
    P521(Vec<u8>),
}

/// A key that verifies tokens.
pub(super) struct Key {
    /// The name by which tokens choose the key. A key without a name serves tokens that name no
    /// known key.
    pub(super) kid: Option<String>,
    /// The algorithms of the key. A token's header chooses among these and no others.
    pub(super) algorithms: Vec<NamedAlgorithm>,
    pub(super) material: Material,
}

impl Key {
    /// Returns whether the key is symmetric, so that whoever verifies could also sign.
    pub(super) fn is_secret(&self) -> bool {
        use Algorithm::{HS256, HS384, HS512};
        self.algorithms
            .iter()
            .any(|(_, scheme)| matches!(scheme, SignatureScheme::Jwt(HS256 | HS384 | HS512)))
    }

    /// Returns whether the key may be used with an algorithm.
    pub(super) fn has_algorithm(&self, alg: &str) -> bool {
        self.algorithms.iter().any(|(name, _)| *name == alg)
    }

    /// Returns whether the key has signed the message with `alg`, which must be one of its own.
    pub(super) fn has_signed(&self, alg: &str, message: &str, signature: &str) -> bool {
        let found = self.algorithms.iter().find(|(name, _)| *name == alg);
        let Some(&(_, scheme)) = found else { return false };

        match (scheme, &self.material) {
            (SignatureScheme::Jwt(algorithm), Material::Jwt(key)) => {
                let message = message.as_bytes();
                let verdict = jsonwebtoken::crypto::verify(signature, message, key, algorithm);
                matches!(verdict, Ok(true))
            }
            (SignatureScheme::Es512, Material::P521(point)) => {
                let key = UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point);
                let signature = URL_SAFE_NO_PAD.decode(signature);
                signature.is_ok_and(|bytes| key.verify(message.as_bytes(), &bytes).is_ok())
            }
            (SignatureScheme::Jwt(_), Material::P521(_))
            | (SignatureScheme::Es512, Material::Jwt(_)) => false,
        }
    }
}
