//! Converts PostgreSQL's range output to JSON.

use super::field;
use crate::value::EvaluationError;

/// Writes a bound; `None` is infinite. Returns `false` and writes nothing for `bytea`.
pub(crate) type PushBound<'a> =
    dyn FnMut(Option<&str>, &mut String) -> Result<bool, EvaluationError> + 'a;

/// The empty range, which stays a text.
pub(crate) const EMPTY: &str = "empty";

/// Writes `[1,5)` as an object.
pub(crate) fn push_range(
    text: &str,
    out: &mut String,
    push_bound: &mut PushBound<'_>,
) -> Result<(), EvaluationError> {
    if text == EMPTY {
        out.push_str("\"empty\"");
        return Ok(());
    }
    let end = range(text, 0, out, push_bound)?;
    if end == text.len() { Ok(()) } else { Err(EvaluationError::BadText) }
}

/// Writes `{[1,3),[5,7)}` as an array of range objects.
pub(crate) fn push_multirange(
    text: &str,
    out: &mut String,
    push_bound: &mut PushBound<'_>,
) -> Result<(), EvaluationError> {
    if text == "{}" {
        out.push_str("[]");
        return Ok(());
    }

    let mut separator = (b'{', '[');
    let mut at = 0;
    while text.as_bytes().get(at) == Some(&separator.0) {
        out.push(separator.1);
        at = range(text, at + 1, out, push_bound)?;
        separator = (b',', ',');
    }

    if at == 0 || text.get(at..) != Some("}") {
        return Err(EvaluationError::BadText);
    }

    out.push(']');
    Ok(())
}

/// Writes the range that begins at `start` and returns its end.
fn range(
    text: &str,
    start: usize,
    out: &mut String,
    push_bound: &mut PushBound<'_>,
) -> Result<usize, EvaluationError> {
    let lower_exclusive = match text.as_bytes().get(start) {
        Some(b'[') => '0',
        Some(b'(') => '1',
        _ => return Err(EvaluationError::BadText),
    };
    let (lower, middle) = field::field(text, start + 1, b",")?;
    let (upper, end) = field::field(text, middle + 1, b"])")?;
    let upper_exclusive = if text.as_bytes().get(end) == Some(&b')') { '1' } else { '0' };

    out.push('{');

    for (key, bound) in [("\"lower\":", lower), ("\"upper\":", upper)] {
        let before = out.len();
        out.push_str(key);
        if push_bound(bound.as_deref(), out)? {
            out.push(',');
        } else {
            out.truncate(before);
        }
    }

    out.push_str("\"lower_exclusive\":");
    out.push(lower_exclusive);
    out.push_str(",\"upper_exclusive\":");
    out.push(upper_exclusive);
    out.push('}');

    Ok(end + 1)
}
