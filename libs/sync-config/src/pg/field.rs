//! Fields of composites and bounds of ranges, which PostgreSQL quotes alike.

use std::borrow::Cow;

use crate::value::EvaluationError;

/// Reads the field that begins at `start` and ends before one of the bytes `ends`; gives it and
/// where it ends. Nothing at all is `None`: a NULL, or no bound. An empty text is quoted.
pub(crate) fn field<'t>(
    text: &'t str,
    start: usize,
    ends: &[u8],
) -> Result<(Option<Cow<'t, str>>, usize), EvaluationError> {
    let rest = text.get(start..).ok_or(EvaluationError::BadText)?;
    let is_special = |byte: u8| matches!(byte, b'"' | b'\\') || ends.contains(&byte);
    let length = rest.bytes().position(is_special).ok_or(EvaluationError::BadText)?;
    if ends.contains(&rest.as_bytes()[length]) {
        let plain = (length > 0).then_some(Cow::Borrowed(&rest[..length]));
        return Ok((plain, start + length));
    }
    if let Some(plain) = plainly_quoted(rest, ends) {
        return Ok((Some(Cow::Borrowed(plain)), start + plain.len() + 2));
    }
    let (value, length) = quoted(rest, ends)?;
    Ok((Some(Cow::Owned(value)), start + length))
}

/// A field that is all in quotes and has nothing to take out between them.
fn plainly_quoted<'t>(rest: &'t str, ends: &[u8]) -> Option<&'t str> {
    let inner = rest.strip_prefix('"')?;
    let length = inner.bytes().position(|byte| matches!(byte, b'"' | b'\\'))?;
    let end = inner.as_bytes().get(length + 1)?;
    (inner.as_bytes()[length] == b'"' && ends.contains(end)).then(|| &inner[..length])
}

/// A quotation mark within quotes is doubled; a backslash takes what follows as it is.
fn quoted(rest: &str, ends: &[u8]) -> Result<(String, usize), EvaluationError> {
    let mut value = String::new();
    let mut in_quotes = false;
    let mut chars = rest.char_indices().peekable();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' if in_quotes && chars.peek().is_some_and(|(_, next)| *next == '"') => {
                chars.next();
                value.push('"');
            }
            '"' => in_quotes = !in_quotes,
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            _ if !in_quotes && u8::try_from(c).is_ok_and(|byte| ends.contains(&byte)) => {
                return Ok((value, index));
            }
            _ => value.push(c),
        }
    }
    Err(EvaluationError::BadText)
}
