//! PostgreSQL's array output to a JSON array.

use crate::expression::EvaluationError;

/// Deepest nesting; PostgreSQL's own limit is 6 dimensions.
const DEPTH_MAX: usize = 10;

/// Writes an element that is not NULL.
pub(crate) type PushElement<'a> = dyn FnMut(&str, &mut String) -> Result<(), EvaluationError> + 'a;

/// Writes the array as JSON. Arrays with other lower bounds than 1 begin with `[..]=`, which is
/// left out.
pub(crate) fn push_json(
    text: &str,
    delimiter: u8,
    out: &mut String,
    push_element: &mut PushElement<'_>,
) -> Result<(), EvaluationError> {
    let text = match (text.starts_with('['), text.find("]={")) {
        (true, Some(end)) => &text[end + 2..],
        _ => text,
    };
    let mut reader = Reader { text, at: 0, delimiter, scratch: String::new() };
    reader.array(out, push_element, 0)?;
    if reader.at == text.len() { Ok(()) } else { Err(EvaluationError::BadText) }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    delimiter: u8,
    /// An element without its quotes and backslashes.
    scratch: String,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Result<(), EvaluationError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(EvaluationError::BadText)
    }

    fn array(
        &mut self,
        out: &mut String,
        push_element: &mut PushElement<'_>,
        depth: usize,
    ) -> Result<(), EvaluationError> {
        if depth == DEPTH_MAX {
            return Err(EvaluationError::BadText);
        }
        self.take(b'{')?;
        out.push('[');
        if self.peek() == Some(b'}') {
            self.at += 1;
            out.push(']');
            return Ok(());
        }
        loop {
            match self.peek() {
                Some(b'{') => self.array(out, push_element, depth + 1)?,
                Some(b'"') => {
                    self.quoted()?;
                    push_element(&self.scratch, out)?;
                }
                Some(_) => self.unquoted(out, push_element)?,
                None => return Err(EvaluationError::BadText),
            }
            if self.peek() == Some(b'}') {
                self.at += 1;
                out.push(']');
                return Ok(());
            }
            self.take(self.delimiter)?;
            out.push(',');
        }
    }

    fn unquoted(
        &mut self,
        out: &mut String,
        push_element: &mut PushElement<'_>,
    ) -> Result<(), EvaluationError> {
        let rest = &self.text[self.at..];
        let ends = |byte: u8| byte == self.delimiter || byte == b'}';
        let length = rest.bytes().position(ends).ok_or(EvaluationError::BadText)?;
        let element = &rest[..length];
        self.at += length;
        if element == "NULL" {
            out.push_str("null");
            return Ok(());
        }
        push_element(element, out)
    }

    fn quoted(&mut self) -> Result<(), EvaluationError> {
        self.scratch.clear();
        let mut escaped = false;
        for (index, c) in self.text[self.at + 1..].char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => {
                    escaped = true;
                    continue;
                }
                '"' => {
                    self.at += 1 + index + 1;
                    return Ok(());
                }
                _ => {}
            }
            self.scratch.push(c);
        }
        Err(EvaluationError::BadText)
    }
}
