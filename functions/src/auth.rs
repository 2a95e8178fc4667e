//! Authentication: checks the JSON Web Tokens of requests.
//!
//! The algorithm comes from the configured key, never from the token alone. The signature is checked
//! before any claim is read. Every claim that is used is required to be there and of the right type.

mod address;
mod authenticator;
mod claims;
mod error;
mod fetch_rate;
mod jwk_set;
mod key;
mod key_source;
mod published_keys;
mod refusal;
mod token;

pub use authenticator::Authenticator;
pub(crate) use claims::Verified;
pub use error::AuthConfigError;
pub(crate) use error::AuthError;
