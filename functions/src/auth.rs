//! Who is asking: JSON Web Tokens.
//!
//! The algorithm comes from our key's configuration, never from the token alone; the signature is
//! checked before a claim is looked at; every claim we use is typed and required.

mod address;
mod authenticator;
mod error;
mod fetch_rate;
mod jwk_set;
mod key;
mod key_source;
mod published_keys;
mod token;

pub use authenticator::Authenticator;
pub(crate) use authenticator::Verified;
pub use error::AuthConfigError;
pub(crate) use error::AuthError;
