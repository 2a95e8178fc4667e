//! Fields of composites and bounds of ranges. PostgreSQL quotes both in the same way.

use std::borrow::Cow;

use crate::value::EvaluationError;

/// Reads the field that begins at `start` and ends before one of the bytes `ends`. Returns it and
/// its end. An empty field is `None`: a NULL or an infinite bound. An empty text is quoted.
pub(crate) fn field<'t>(
    text: &'t str,
    start: usize,
    ends: &[u8],
) -> Result<(Option<Cow<'t, str>>, usize), EvaluationError> {
    let rest = text.get(start..).ok_or(EvaluationError::BadText)?;
    let length = rest
        .bytes()
        .position(|byte| matches!(byte, b'"' | b'\\') || ends.contains(&byte))
        .ok_or(EvaluationError::BadText)?;
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

/// Returns the content of a field that is quoted as a whole and contains no escapes.
fn plainly_quoted<'t>(rest: &'t str, ends: &[u8]) -> Option<&'t str> {
    let inner = rest.strip_prefix('"')?;
    let length = inner.bytes().position(|byte| matches!(byte, b'"' | b'\\'))?;
    let end = inner.as_bytes().get(length + 1)?;
    (inner.as_bytes()[length] == b'"' && ends.contains(end)).then(|| &inner[..length])
}

/// Reads a field with escapes: a doubled quote within quotes, or a backslash before a character.
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
