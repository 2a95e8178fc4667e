//! Converts PostgreSQL's array output to JSON.

use crate::value::EvaluationError;

/// Writes an element at a depth of nesting. `None` is NULL.
pub(crate) type PushElement<'a> =
    dyn FnMut(Option<&str>, usize, &mut String) -> Result<(), EvaluationError> + 'a;

/// Maximum number of structures around a value: ten within the outermost. It bounds the recursion.
const DEPTH_MAX: usize = 11;

/// Fails if a value is nested too deeply.
pub(crate) fn check_depth(depth: usize) -> Result<(), EvaluationError> {
    if depth > DEPTH_MAX { Err(EvaluationError::TooDeep) } else { Ok(()) }
}

/// Writes an array that is within `depth` structures as JSON. An array with lower bounds other than
/// 1 begins with `[..]=`, which is skipped.
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
    let mut reader = ArrayReader { text, at: 0, delimiter, scratch: String::new() };
    reader.array(depth, out, push_element)?;
    if reader.at == text.len() { Ok(()) } else { Err(EvaluationError::BadText) }
}

struct ArrayReader<'t> {
    text: &'t str,
    at: usize,
    delimiter: u8,
    /// Buffer for an element without its quotes and backslashes.
    scratch: String,
}

impl<'t> ArrayReader<'t> {
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
        let length = rest
            .bytes()
            .position(|byte| byte == self.delimiter || byte == b'}')
            .ok_or(EvaluationError::BadText)?;
        self.at += length;
        Ok(&rest[..length])
    }

    /// Reads a quoted element. Returns `None` if it has backslashes; then it is in `scratch`.
    fn quoted(&mut self) -> Result<Option<&'t str>, EvaluationError> {
        let start = self.at + 1;
        let mut from = start;
        self.scratch.clear();

        loop {
            let rest = self.text.get(from..).ok_or(EvaluationError::BadText)?;
            let length = rest
                .bytes()
                .position(|byte| matches!(byte, b'"' | b'\\'))
                .ok_or(EvaluationError::BadText)?;
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
