//! PostgreSQL's array output to a JSON array.

use crate::value::EvaluationError;

/// Writes an element that lies in so many structures; `None` is NULL.
pub(crate) type PushElement<'a> =
    dyn FnMut(Option<&str>, usize, &mut String) -> Result<(), EvaluationError> + 'a;

/// Most structures that a value may lie in: ten below the outermost.
const DEPTH_MAX: usize = 11;

/// A value that lies in so many structures must not lie in too many.
pub(crate) fn check_depth(depth: usize) -> Result<(), EvaluationError> {
    if depth > DEPTH_MAX { Err(EvaluationError::TooDeep) } else { Ok(()) }
}

/// Writes an array, which itself lies in `depth` structures, as JSON. Arrays with other lower bounds
/// than 1 begin with `[..]=`, which is left out.
pub(crate) fn push_json(
    text: &str,
    delimiter: u8,
    depth: usize,
    out: &mut String,
    push_element: &mut PushElement<'_>,
) -> Result<(), EvaluationError> {
    let text = match (text.starts_with('['), text.find("]={")) {
        (true, Some(end)) => &text[end + 2..],
        _ => text,
    };
    let mut reader = Reader { text, at: 0, delimiter, scratch: String::new() };
    reader.array(depth, out, push_element)?;
    if reader.at == text.len() { Ok(()) } else { Err(EvaluationError::BadText) }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    delimiter: u8,
    /// An element without its quotes and backslashes.
    scratch: String,
}

impl<'t> Reader<'t> {
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
        depth: usize,
        out: &mut String,
        push_element: &mut PushElement<'_>,
    ) -> Result<(), EvaluationError> {
        check_depth(depth)?;
        self.take(b'{')?;
        out.push('[');
        if self.peek() == Some(b'}') {
            self.at += 1;
            out.push(']');
            return Ok(());
        }
        loop {
            match self.peek() {
                Some(b'{') => self.array(depth + 1, out, push_element)?,
                Some(b'"') => {
                    let plain = self.quoted()?;
                    push_element(Some(plain.unwrap_or(&self.scratch)), depth + 1, out)?;
                }
                Some(_) => {
                    let element = self.unquoted()?;
                    push_element((element != "NULL").then_some(element), depth + 1, out)?;
                }
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

    fn unquoted(&mut self) -> Result<&'t str, EvaluationError> {
        let rest = &self.text[self.at..];
        let ends = |byte: u8| byte == self.delimiter || byte == b'}';
        let length = rest.bytes().position(ends).ok_or(EvaluationError::BadText)?;
        self.at += length;
        Ok(&rest[..length])
    }

    /// An element in quotes; `None` if it is in `scratch`, for it has backslashes.
    fn quoted(&mut self) -> Result<Option<&'t str>, EvaluationError> {
        let start = self.at + 1;
        let mut from = start;
        self.scratch.clear();
        loop {
            let rest = self.text.get(from..).ok_or(EvaluationError::BadText)?;
            let is_special = |byte: u8| matches!(byte, b'"' | b'\\');
            let length = rest.bytes().position(is_special).ok_or(EvaluationError::BadText)?;
            let end = from + length;
            if rest.as_bytes()[length] == b'"' {
                self.at = end + 1;
                if from == start {
                    return Ok(Some(&self.text[start..end]));
                }
                self.scratch.push_str(&rest[..length]);
                return Ok(None);
            }
            self.scratch.push_str(&rest[..length]);
            let taken = rest[length + 1..].chars().next().ok_or(EvaluationError::BadText)?;
            self.scratch.push(taken);
            from = end + 1 + taken.len_utf8();
        }
    }
}
