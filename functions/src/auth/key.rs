//! One key, and what it says of a signature.

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};

/// An algorithm and its name in a token's header.
pub(super) type NamedAlgorithm = (&'static str, SignatureScheme);

/// How a signature of an algorithm is verified.
#[derive(Clone, Copy, Debug)]
pub(super) enum SignatureScheme {
    Jwt(Algorithm),
    /// ECDSA over P-521, which `jsonwebtoken` lacks and its crypto library has.
    Es512,
}

/// What is verified with.
pub(super) enum Material {
    Jwt(DecodingKey),
    /// A point of P-521, uncompressed.
    P521(Vec<u8>),
}

/// A key that verifies tokens.
pub(super) struct Key {
    /// The name by which tokens choose it; a key without one serves all that name no known key.
    pub(super) kid: Option<String>,
    /// What it may be used with. A token's header chooses among these and nothing else.
    pub(super) algorithms: Vec<NamedAlgorithm>,
    pub(super) material: Material,
}

impl Key {
    /// Whether who verifies with it could also sign.
    pub(super) fn is_secret(&self) -> bool {
        use Algorithm::{HS256, HS384, HS512};
        self.algorithms
            .iter()
            .any(|(_, scheme)| matches!(scheme, SignatureScheme::Jwt(HS256 | HS384 | HS512)))
    }

    /// Whether it signed the message, by an algorithm that is its own.
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
