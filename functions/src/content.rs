//! The form of a response: what a client accepts, and compression.

mod accept;
mod compression;

pub(crate) use accept::{BSON_STREAM, Coding, accepted_coding, accepts_bson};
pub(crate) use compression::compressed;
