//! Errors of authentication.

/// The part of a refusal that the reply tells. Everything else is for the log and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    /// The request has no token.
    #[error("no token")]
    Missing,
    /// The token is malformed, its key is unknown, its signature is wrong, or a claim is missing or
    /// of the wrong type.
    #[error("the token is not valid")]
    Invalid,
    /// The token was valid and has expired.
    #[error("the token has expired")]
    Expired,
    /// The token's lifetime exceeds a day.
    #[error("the token's lifetime is too long")]
    Lifetime,
    /// The token is for another audience.
    #[error("the token is for another audience")]
    Audience,
    /// No known key verifies the token, and some keys cannot be fetched.
    #[error("the keys that verify the token cannot be fetched")]
    NoKeys,
}

impl AuthError {
    /// Returns the code by which clients know the refusal.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Missing => "PSYNC_S2106",
            Self::Invalid => "PSYNC_S2101",
            Self::Expired => "PSYNC_S2103",
            Self::Lifetime => "PSYNC_S2104",
            Self::Audience => "PSYNC_S2105",
            Self::NoKeys => "PSYNC_S2204",
        }
    }
}

/// The reason why a token is refused, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalReason {
    /// The request has no token, or the header has another form.
    Missing,
    /// The token is not three parts of base64url with a header of JSON, or it is too long.
    Malformed,
    /// The header has an extension that changes the meaning of the signature, such as `crit`.
    Extension,
    /// The key that the token names does not have the token's algorithm, or no key could have it.
    Algorithm,
    /// The token names no known key, and no key without a name verifies it.
    UnknownKey,
    /// The key that the token names did not sign it.
    Signature,
    /// A claim is missing, of the wrong type, or out of bounds.
    Claim(&'static str),
    /// `iat` or `nbf` is in the future.
    NotYetValid,
    /// `exp` is in the past.
    Expired,
    /// The time from `iat` to `exp` exceeds a day.
    Lifetime,
    /// No entry of `aud` is ours.
    Audience,
    /// `iss` is not the configured issuer.
    Issuer,
    /// No known key verifies the token, and the keys of a URL cannot be fetched.
    NoKeys,
}

impl RefusalReason {
    /// Returns what the reply tells.
    pub(crate) fn error(self) -> AuthError {
        match self {
            Self::Missing => AuthError::Missing,
            Self::Malformed
            | Self::Extension
            | Self::Algorithm
            | Self::UnknownKey
            | Self::Signature
            | Self::Claim(_)
            | Self::NotYetValid
            | Self::Issuer => AuthError::Invalid,
            Self::Expired => AuthError::Expired,
            Self::Lifetime => AuthError::Lifetime,
            Self::Audience => AuthError::Audience,
            Self::NoKeys => AuthError::NoKeys,
        }
    }

    /// Returns the reason's name in logs and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Extension => "extension",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Claim(_) => "claim",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::Lifetime => "lifetime",
            Self::Audience => "audience",
            Self::Issuer => "issuer",
            Self::NoKeys => "keys_unavailable",
        }
    }

    /// Returns the claim that is at fault, if one is.
    pub(crate) fn claim(self) -> Option<&'static str> {
        if let Self::Claim(name) = self { Some(name) } else { None }
    }
}

/// The reason why the configured keys or audiences cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthConfigError {
    /// The text is not a JWK Set.
    #[error("not a JWK Set (a JSON object with a list \"keys\")")]
    NotAJwkSet(#[source] serde_json::Error),
    /// One of the keys cannot be used.
    #[error("{key}: {problem}")]
    Key {
        /// The key's `kid`, or its place in the list.
        key: String,
        /// The problem, and what would be right.
        problem: String,
    },
    /// A URL of keys cannot be used.
    #[error("{url}: {problem}")]
    Url {
        /// The URL, without secrets.
        url: String,
        /// The problem, and what would be right.
        problem: String,
    },
    /// The HTTP client cannot start. In most cases the system's certificates cannot be read.
    #[error("the HTTP client for the keys cannot be started")]
    Http(#[source] reqwest::Error),
    /// No key verifies tokens.
    #[error("no key that can verify a token is configured")]
    NoKey,
    /// No audience is configured, so every token of the keys' owner would be accepted.
    #[error("no audience is configured")]
    NoAudience,
}
