//! Splits a token into its parts. Nothing of them is trusted yet.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::error::RefusalReason;

/// The longest token in bytes; longer ones are refused unread. Tokens have one or two KB, and some
/// identity providers list all groups of a user.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// The parts of a token.
pub(super) struct Token<'a> {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    /// The signed text: header and payload, as received.
    pub(super) message: &'a str,
    pub(super) signature: &'a str,
    payload: &'a str,
}

/// The parts of a token's header that are used. Others have no effect, such as `jku`, `x5u` and `jwk`,
/// by which a token would name its own key.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    // Extensions that change the meaning of the signature. None of them is supported.
    #[serde(default, deserialize_with = "present")]
    crit: Option<()>,
    #[serde(default, deserialize_with = "present")]
    b64: Option<()>,
    #[serde(default, deserialize_with = "present")]
    enc: Option<()>,
}

impl<'a> Token<'a> {
    /// Reads the value of an `Authorization` header: `Token <token>` or `Bearer <token>`.
    pub(super) fn read(header: &'a [u8]) -> Result<Self, RefusalReason> {
        let text = std::str::from_utf8(header).map_err(|_| RefusalReason::Malformed)?;
        let token = text.strip_prefix("Token ").or_else(|| text.strip_prefix("Bearer "));
        let token = token.ok_or(RefusalReason::Missing)?;

        let fits = !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
        if !fits || token.contains(char::is_whitespace) {
            return Err(RefusalReason::Malformed);
        }

        let (message, signature) = token.rsplit_once('.').ok_or(RefusalReason::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(RefusalReason::Malformed)?;
        if payload.contains('.') {
            return Err(RefusalReason::Malformed); // An encrypted token has five parts.
        }

        let header: Header =
            serde_json::from_slice(&decoded(header)?).map_err(|_| RefusalReason::Malformed)?;
        if header.crit.is_some() || header.b64.is_some() || header.enc.is_some() {
            return Err(RefusalReason::Extension);
        }
        Ok(Self { alg: header.alg, kid: header.kid, message, signature, payload })
    }

    /// Returns the payload. Nothing of it is trusted before the signature is checked.
    pub(super) fn payload(&self) -> Result<Vec<u8>, RefusalReason> {
        decoded(self.payload)
    }
}

fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<()>, D::Error> {
    serde::de::IgnoredAny::deserialize(value).map(|_| Some(()))
}

fn decoded(part: &str) -> Result<Vec<u8>, RefusalReason> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| RefusalReason::Malformed)
}
