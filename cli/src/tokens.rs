//! Tokens for development, and the keys that sign them.

pub(crate) mod admin_token;
pub(crate) mod claims;
pub(crate) mod dev_key;
