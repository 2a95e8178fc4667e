//! A token taken apart; nothing in it is believed yet.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::error::AuthError;

/// Longer tokens are refused unread.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

pub(super) struct Token<'a> {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    /// What is signed: header and payload, as they came.
    pub(super) message: &'a str,
    pub(super) signature: &'a str,
    payload: &'a str,
}

/// What we read of a token's header. Whatever else it names (`jku`, `x5u`, `jwk`) has no effect.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    // Extensions that change what the signature means: we know none of them.
    #[serde(default, deserialize_with = "present")]
    crit: Option<()>,
    #[serde(default, deserialize_with = "present")]
    b64: Option<()>,
    #[serde(default, deserialize_with = "present")]
    enc: Option<()>,
}

impl<'a> Token<'a> {
    /// Reads the value of an `Authorization` header: `Token <token>` or `Bearer <token>`.
    pub(super) fn read(header: &'a [u8]) -> Result<Self, AuthError> {
        let text = std::str::from_utf8(header).map_err(|_| AuthError::Invalid)?;
        let token = text.strip_prefix("Token ").or_else(|| text.strip_prefix("Bearer "));
        let token = token.ok_or(AuthError::Missing)?;
        let fits = !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
        if !fits || token.contains(char::is_whitespace) {
            return Err(AuthError::Invalid);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(AuthError::Invalid)?;
        let (header, payload) = message.split_once('.').ok_or(AuthError::Invalid)?;
        if payload.contains('.') {
            return Err(AuthError::Invalid); // Five parts: encrypted.
        }
        let header: Header =
            serde_json::from_slice(&decoded(header)?).map_err(|_| AuthError::Invalid)?;
        if header.crit.is_some() || header.b64.is_some() || header.enc.is_some() {
            return Err(AuthError::Invalid);
        }
        Ok(Self { alg: header.alg, kid: header.kid, message, signature, payload })
    }

    /// For whoever has checked the signature.
    pub(super) fn payload(&self) -> Result<Vec<u8>, AuthError> {
        decoded(self.payload)
    }
}

fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<()>, D::Error> {
    serde::de::IgnoredAny::deserialize(value).map(|_| Some(()))
}

fn decoded(part: &str) -> Result<Vec<u8>, AuthError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| AuthError::Invalid)
}
