//! PostgreSQL's range output to JSON.

use crate::expression::EvaluationError;
use crate::json;
use crate::pg_array::PushElement;

/// Writes `[1,5)` as an object; the range of nothing is a text.
pub(crate) fn push_range(
    text: &str,
    out: &mut String,
    push_bound: &mut PushElement<'_>,
) -> Result<(), EvaluationError> {
    if text == "empty" {
        json::push_string(text, out);
        return Ok(());
    }
    let end = range(text, out, push_bound)?;
    if end == text.len() { Ok(()) } else { Err(EvaluationError::BadText) }
}

/// Writes `{[1,3),[5,7)}` as an array of what ranges are.
pub(crate) fn push_multirange(
    text: &str,
    out: &mut String,
    push_bound: &mut PushElement<'_>,
) -> Result<(), EvaluationError> {
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let mut rest = inner.ok_or(EvaluationError::BadText)?;
    out.push('[');
    while !rest.is_empty() {
        let end = range(rest, out, push_bound)?;
        rest = &rest[end..];
        if let Some(next) = rest.strip_prefix(',') {
            out.push(',');
            rest = next;
            if rest.is_empty() {
                return Err(EvaluationError::BadText);
            }
        }
    }
    out.push(']');
    Ok(())
}

/// Writes the range that a text begins with; the length of its text.
fn range(
    text: &str,
    out: &mut String,
    push_bound: &mut PushElement<'_>,
) -> Result<usize, EvaluationError> {
    let lower_exclusive = match text.as_bytes().first() {
        Some(b'[') => 0,
        Some(b'(') => 1,
        _ => return Err(EvaluationError::BadText),
    };
    out.push_str("{\"lower\":");
    let middle = bound(text, 1, b",", out, push_bound)?;
    out.push_str(",\"upper\":");
    let end = bound(text, middle + 1, b"])", out, push_bound)?;
    let upper_exclusive = u8::from(text.as_bytes().get(end) == Some(&b')'));
    out.push_str(",\"lower_exclusive\":");
    out.push(char::from(b'0' + lower_exclusive));
    out.push_str(",\"upper_exclusive\":");
    out.push(char::from(b'0' + upper_exclusive));
    out.push('}');
    Ok(end + 1)
}

/// Writes the bound that ends before one of these bytes, which is where it ends.
fn bound(
    text: &str,
    start: usize,
    ends: &[u8],
    out: &mut String,
    push_bound: &mut PushElement<'_>,
) -> Result<usize, EvaluationError> {
    let mut value = String::new();
    let mut quoted = false;
    let mut chars = text.get(start..).unwrap_or("").char_indices().peekable();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' if quoted && chars.peek().is_some_and(|(_, next)| *next == '"') => {
                chars.next();
                value.push('"');
            }
            '"' => quoted = !quoted,
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            _ if !quoted && u8::try_from(c).is_ok_and(|byte| ends.contains(&byte)) => {
                if index == 0 {
                    out.push_str("null"); // No bound.
                } else {
                    push_bound(&value, out)?;
                }
                return Ok(start + index);
            }
            _ => value.push(c),
        }
    }
    Err(EvaluationError::BadText)
}
