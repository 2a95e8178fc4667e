//! Reads a document as JSON text.

use super::element;

/// The deepest nesting that is read. JSON readers stop at 128 levels; requests have five.
const DEPTH_MAX: u32 = 64;

/// Greatest integer that a double holds together with all smaller ones: 2^53.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// The reason why a document cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BsonError {
    /// A length, a text or an element does not end where it should.
    #[error("the BSON is malformed")]
    Malformed,
    /// An element has a type that JSON does not have, such as binary data or a date.
    #[error("the BSON has an element of type {0:#04x}, which JSON does not have")]
    UnsupportedType(u8),
    /// Documents are nested too deeply.
    #[error("the BSON is nested too deeply")]
    TooDeep,
}

/// Returns a document as JSON text, with the values that `JSON.stringify` writes: a double without a
/// fraction is an integer, one that is not finite is null, and undefined members are left out.
///
/// # Errors
/// Fails if the bytes are not exactly one document, or if it has what JSON cannot express. No input
/// panics, and the text has at most about six times as many bytes.
pub fn bson_to_json(document: &[u8]) -> Result<Vec<u8>, BsonError> {
    let mut reader = Reader { rest: document };
    let mut json = Vec::with_capacity(document.len());
    reader.document(&mut json, Brackets::OBJECT, DEPTH_MAX)?;
    if reader.rest.is_empty() { Ok(json) } else { Err(BsonError::Malformed) }
}

struct Reader<'a> {
    rest: &'a [u8],
}

/// The characters around a document's elements.
struct Brackets {
    open: u8,
    close: u8,
}

impl Brackets {
    const ARRAY: Self = Self { open: b'[', close: b']' };
    const OBJECT: Self = Self { open: b'{', close: b'}' };
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BsonError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(BsonError::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], BsonError> {
        self.take(N)?.try_into().map_err(|_| BsonError::Malformed)
    }

    fn length(&mut self) -> Result<usize, BsonError> {
        usize::try_from(i32::from_le_bytes(self.bytes()?)).map_err(|_| BsonError::Malformed)
    }

    fn c_string(&mut self) -> Result<&'a str, BsonError> {
        let end = self.rest.iter().position(|&byte| byte == 0).ok_or(BsonError::Malformed)?;
        let text = self.take(end)?;
        self.take(1)?;
        std::str::from_utf8(text).map_err(|_| BsonError::Malformed)
    }

    fn string(&mut self) -> Result<&'a str, BsonError> {
        let length = self.length()?.checked_sub(1).ok_or(BsonError::Malformed)?;
        let text = self.take(length)?;
        if self.bytes()? != [0] {
            return Err(BsonError::Malformed);
        }
        std::str::from_utf8(text).map_err(|_| BsonError::Malformed)
    }

    /// Reads a document or an array. The names of an array's elements are their indices.
    fn document(
        &mut self,
        json: &mut Vec<u8>,
        brackets: Brackets,
        depth: u32,
    ) -> Result<(), BsonError> {
        let depth = depth.checked_sub(1).ok_or(BsonError::TooDeep)?;
        // The length includes its own four bytes and the NUL at the end.
        let length = self.length()?.checked_sub(5).ok_or(BsonError::Malformed)?;
        let mut elements = Reader { rest: self.take(length)? };
        if self.bytes()? != [0] {
            return Err(BsonError::Malformed);
        }

        let is_object = brackets.open == b'{';
        let mut is_first = true;
        json.push(brackets.open);
        while !elements.rest.is_empty() {
            let [kind] = elements.bytes()?;
            let name = elements.c_string()?;
            if kind == element::UNDEFINED && is_object {
                continue;
            }
            if !std::mem::take(&mut is_first) {
                json.push(b',');
            }
            if is_object {
                push_json(json, name);
                json.push(b':');
            }
            elements.element(json, kind, depth)?;
        }
        json.push(brackets.close);
        Ok(())
    }

    fn element(&mut self, json: &mut Vec<u8>, kind: u8, depth: u32) -> Result<(), BsonError> {
        match kind {
            element::DOUBLE => push_double(json, f64::from_le_bytes(self.bytes()?)),
            element::STRING => push_json(json, self.string()?),
            element::DOCUMENT => self.document(json, Brackets::OBJECT, depth)?,
            element::ARRAY => self.document(json, Brackets::ARRAY, depth)?,
            element::BOOLEAN => match self.bytes()? {
                [0] => json.extend_from_slice(b"false"),
                [1] => json.extend_from_slice(b"true"),
                [_] => return Err(BsonError::Malformed),
            },
            element::NULL | element::UNDEFINED => json.extend_from_slice(b"null"),
            element::INT32 => push_json(json, &i32::from_le_bytes(self.bytes()?)),
            element::INT64 => push_json(json, &i64::from_le_bytes(self.bytes()?)),
            other => return Err(BsonError::UnsupportedType(other)),
        }
        Ok(())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the number is an integer below 2^53")]
fn push_double(json: &mut Vec<u8>, number: f64) {
    if number.fract() == 0.0 && number.abs() <= EXACT_INTEGER_MAX {
        push_json(json, &(number as i64));
    } else {
        push_json(json, &number); // One that is not finite becomes null.
    }
}

fn push_json(json: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    serde_json::to_writer(json, value).expect("texts and numbers are valid JSON");
}
