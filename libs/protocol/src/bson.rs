//! BSON, as far as the protocol needs it: documents of JSON values.
//!
//! A stream of BSON lines is a sequence of documents without separators, since each begins with its
//! length. Lines are written as a JavaScript serializer writes them, because PowerSync's own service
//! does so and all SDKs read that.

mod reader;
mod writer;

pub use reader::{BsonError, bson_to_json};
pub(crate) use writer::{BsonWriter, OpenDocument};

/// The types of elements that occur in lines and requests.
mod element {
    pub(super) const DOUBLE: u8 = 0x01;
    pub(super) const STRING: u8 = 0x02;
    pub(super) const DOCUMENT: u8 = 0x03;
    pub(super) const ARRAY: u8 = 0x04;
    pub(super) const UNDEFINED: u8 = 0x06;
    pub(super) const BOOLEAN: u8 = 0x08;
    pub(super) const NULL: u8 = 0x0A;
    pub(super) const INT32: u8 = 0x10;
    pub(super) const INT64: u8 = 0x12;
}

#[cfg(test)]
mod tests;
