//! Writes documents.

use serde_json::Value;

use super::element;

/// A writer of documents into the caller's buffer. Every document or array that was begun must be
/// ended.
///
/// Names are C strings: they must not contain NUL. All names of the protocol are constants.
pub(crate) struct BsonWriter<'a> {
    out: &'a mut Vec<u8>,
}

/// The place of a document's length, which is written once the document ends.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct OpenDocument(usize);

impl<'a> BsonWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Begins a document that is no element of another.
    pub(crate) fn begin(&mut self) -> OpenDocument {
        let at = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        OpenDocument(at)
    }

    pub(crate) fn begin_document(&mut self, name: &str) -> OpenDocument {
        self.head(element::DOCUMENT, name);
        self.begin()
    }

    pub(crate) fn begin_array(&mut self, name: &str) -> OpenDocument {
        self.head(element::ARRAY, name);
        self.begin()
    }

    /// Begins a document that is an element of an array.
    pub(crate) fn begin_item(&mut self, index: usize) -> OpenDocument {
        self.begin_document(itoa::Buffer::new().format(index))
    }

    /// Ends a document or array.
    ///
    /// # Panics
    /// If it has 2 GiB or more, which no line has: a row has a few MB, and so has a line.
    pub(crate) fn end(&mut self, document: OpenDocument) {
        self.out.push(0);
        let length = self.out.len() - document.0;
        let length = i32::try_from(length).expect("a line has less than 2 GiB");
        self.out[document.0..document.0 + 4].copy_from_slice(&length.to_le_bytes());
    }

    pub(crate) fn string(&mut self, name: &str, text: &str) {
        self.head(element::STRING, name);
        let length = i32::try_from(text.len() + 1).expect("a text has less than 2 GiB");
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(0);
    }

    pub(crate) fn boolean(&mut self, name: &str, value: bool) {
        self.head(element::BOOLEAN, name);
        self.out.push(value.into());
    }

    pub(crate) fn null(&mut self, name: &str) {
        self.head(element::NULL, name);
    }

    /// Writes an integer as JavaScript has it: 32 bits if it fits, otherwise a double. A double holds
    /// every checksum and every count exactly.
    pub(crate) fn integer(&mut self, name: &str, value: i64) {
        if let Ok(small) = i32::try_from(value) {
            self.head(element::INT32, name);
            self.out.extend_from_slice(&small.to_le_bytes());
        } else {
            #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
            self.double(name, value as f64);
        }
    }

    fn double(&mut self, name: &str, value: f64) {
        self.head(element::DOUBLE, name);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// Writes any JSON value.
    pub(crate) fn value(&mut self, name: &str, value: &Value) {
        match value {
            Value::Null => self.null(name),
            Value::Bool(value) => self.boolean(name, *value),
            Value::String(text) => self.string(name, text),
            Value::Number(number) => match number.as_i64() {
                Some(integer) => self.integer(name, integer),
                None => self.double(name, number.as_f64().unwrap_or(f64::NAN)),
            },

            Value::Array(items) => {
                let array = self.begin_array(name);
                for (index, item) in items.iter().enumerate() {
                    self.value(itoa::Buffer::new().format(index), item);
                }
                self.end(array);
            }

            Value::Object(members) => {
                let document = self.begin_document(name);
                for (name, member) in members {
                    self.value(name, member);
                }
                self.end(document);
            }
        }
    }

    fn head(&mut self, kind: u8, name: &str) {
        debug_assert!(!name.contains('\0'), "a name is a C string");
        self.out.push(kind);
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(0);
    }
}
