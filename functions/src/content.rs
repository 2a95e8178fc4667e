//! The form of a response: what a client accepts, compression, and the bound on its length.

mod accept;
mod bounded;
mod compression;

pub(crate) use accept::{BSON_STREAM, Coding, accepted_coding, accepts_bson};
pub(crate) use bounded::{AnswerBound, bounded};
pub(crate) use compression::compressed;
