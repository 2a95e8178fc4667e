//! Errors of authentication.

/// Why a token is refused. The reply tells no more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    /// There is none.
    #[error("no token")]
    Missing,
    /// Anything else: malformed, unknown key, wrong signature, a claim missing or ill-typed.
    #[error("the token is not valid")]
    Invalid,
    /// It was valid.
    #[error("the token has expired")]
    Expired,
    /// It lives longer than a day.
    #[error("the token's lifetime is too long")]
    Lifetime,
    /// It is meant for others.
    #[error("the token is for another audience")]
    Audience,
    /// No key verifies it, but there are keys that cannot be had.
    #[error("the keys to check the token with cannot be fetched")]
    NoKeys,
}

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
    /// A URL of keys cannot be used.
    #[error("{url}: {problem}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// Nothing can be fetched at all: this machine's certificates, mostly.
    #[error("the HTTP client for the keys cannot be started")]
    Http(#[source] reqwest::Error),
    /// No key is left to check tokens with.
    #[error("no key that can verify a token is configured")]
    NoKey,
    /// Tokens must be meant for somebody.
    #[error("no audience is configured")]
    NoAudience,
}
