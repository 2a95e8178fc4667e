//! Signs tokens as an identity provider does. The tests over HTTP use it, too.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// A private key of the issuer, and the JWK that the server is given.
pub(crate) struct Issuer {
    pub(crate) jwk: Value,
    pub(crate) alg: &'static str,
    sign: Sign,
}

impl Issuer {
    pub(crate) fn oct(kid: Option<&str>, alg: &'static str, secret: &'static [u8]) -> Self {
        let algorithm = match alg {
            "HS384" => hmac::HMAC_SHA384,
            "HS512" => hmac::HMAC_SHA512,
            _ => hmac::HMAC_SHA256,
        };
        let key = hmac::Key::new(algorithm, secret);
        let jwk = with_kid(json!({ "kty": "oct", "k": base64(secret) }), kid);
        Self {
            jwk,
            alg,
            sign: Box::new(move |message| hmac::sign(&key, message).as_ref().to_vec()),
        }
    }

    pub(crate) fn rsa(kid: &str, alg: &'static str, size: KeySize) -> Self {
        let pair = RsaKeyPair::generate(size).unwrap();
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        let jwk = json!({ "kty": "RSA", "kid": kid, "n": base64(public.n), "e": base64(public.e) });

        let encoding: &'static dyn RsaEncoding = match alg {
            "RS384" => &RSA_PKCS1_SHA384,
            "RS512" => &RSA_PKCS1_SHA512,
            "PS256" => &RSA_PSS_SHA256,
            _ => &RSA_PKCS1_SHA256,
        };

        Self {
            jwk,
            alg,
            sign: Box::new(move |message| {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }),
        }
    }

    pub(crate) fn ec(kid: &str, alg: &'static str) -> Self {
        let (curve, algorithm): (_, &'static EcdsaSigningAlgorithm) = match alg {
            "ES384" => ("P-384", &ECDSA_P384_SHA384_FIXED_SIGNING),
            "ES512" => ("P-521", &ECDSA_P521_SHA512_FIXED_SIGNING),
            _ => ("P-256", &ECDSA_P256_SHA256_FIXED_SIGNING),
        };

        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let point = pair.public_key().as_ref()[1..].to_vec();
        let (x, y) = point.split_at(point.len() / 2);
        let jwk = json!({ "kty": "EC", "crv": curve, "kid": kid, "x": base64(x), "y": base64(y) });

        Self {
            jwk,
            alg,
            sign: Box::new(move |message| {
                pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
            }),
        }
    }

    pub(crate) fn ed25519(kid: &str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let jwk = json!({
            "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64(pair.public_key()),
        });
        Self {
            jwk,
            alg: "EdDSA",
            sign: Box::new(move |message| pair.sign(message).as_ref().to_vec()),
        }
    }

    pub(crate) fn header(&self) -> Value {
        json!({ "alg": self.alg, "typ": "JWT", "kid": self.jwk.get("kid") })
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_with(&self.header(), &claims.to_string())
    }

    pub(crate) fn token_with(&self, header: &Value, payload: &str) -> String {
        let mut header = header.clone();
        if header.get("kid").is_some_and(Value::is_null) {
            header.as_object_mut().unwrap().remove("kid");
        }
        let message = format!("{}.{}", base64(header.to_string()), base64(payload));
        let signature = base64((self.sign)(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

fn with_kid(mut jwk: Value, kid: Option<&str>) -> Value {
    if let Some(kid) = kid {
        jwk["kid"] = kid.into();
    }
    jwk
}
