//! Converts PostgreSQL's composite output to JSON.

use super::converter::{CompositeMember, Converter};
use super::field;
use crate::value::EvaluationError;

/// Writes a member; `None` is NULL. Returns `false` and writes nothing for bytes, which JSON lacks.
pub(crate) type PushMember<'a> =
    dyn FnMut(Converter, Option<&str>, &mut String) -> Result<bool, EvaluationError> + 'a;

/// Writes `(1,"a b",)` as an object.
///
/// A type may change between the catalog read and a value. A field without a member was added later
/// and is skipped. A member without a field is NULL, as in PostgreSQL.
pub(crate) fn push_json(
    text: &str,
    members: &[CompositeMember],
    out: &mut String,
    push_member: &mut PushMember<'_>,
) -> Result<(), EvaluationError> {
    if !text.starts_with('(') {
        return Err(EvaluationError::BadText);
    }

    let mut members = members.iter();
    let mut separator = "{";

    let mut at = 0;
    while text.as_bytes().get(at) != Some(&b')') {
        let (value, end) = field::field(text, at + 1, b",)")?;
        if let Some(member) = members.next() {
            push_entry(member, value.as_deref(), &mut separator, out, push_member)?;
        }
        at = end;
    }

    if at + 1 != text.len() {
        return Err(EvaluationError::BadText);
    }

    for member in members {
        push_entry(member, None, &mut separator, out, push_member)?;
    }

    if separator == "{" {
        out.push('{');
    }

    out.push('}');
    Ok(())
}

/// Writes one entry of the object, or nothing if the member has no JSON form.
fn push_entry(
    member: &CompositeMember,
    value: Option<&str>,
    separator: &mut &'static str,
    out: &mut String,
    push_member: &mut PushMember<'_>,
) -> Result<(), EvaluationError> {
    let before = out.len();
    out.push_str(separator);
    out.push_str(&member.key);

    if push_member(member.converter, value, out)? {
        *separator = ",";
    } else {
        out.truncate(before);
    }
    Ok(())
}
