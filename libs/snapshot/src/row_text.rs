//! Conversion between a row's JSON text and its values.
//!
//! A row is stored as values only if its text can be made from them again byte for byte, since its
//! checksum is that of the text. So [`parse`] accepts exactly the texts that [`push_member`] makes,
//! which are those of Tidewater's ingest worker. Any other row is stored as text.

use std::borrow::Cow;

use crate::value::ColumnValue;

/// A member of a row's JSON object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member<'a> {
    pub(crate) key: Cow<'a, str>,
    pub(crate) value: ColumnValue<'a>,
}

/// Returns the members of a row, or `None` if its text cannot be made from them again.
pub(crate) fn parse(text: &str) -> Option<Vec<Member<'_>>> {
    let mut rest = text.strip_prefix('{')?.strip_suffix('}')?;
    let mut members = Vec::new();
    while !rest.is_empty() {
        if !members.is_empty() {
            rest = rest.strip_prefix(',')?;
        }
        let (key, after) = string(rest)?;
        let (value, after) = value(after.strip_prefix(':')?)?;
        members.push(Member { key, value });
        rest = after;
    }
    Some(members)
}

/// Parses a value at the start of `text`. Returns it and the rest.
fn value(text: &str) -> Option<(ColumnValue<'_>, &str)> {
    match text.as_bytes().first()? {
        b'"' => string(text).map(|(text, rest)| (ColumnValue::Text(text), rest)),
        b'n' => text.strip_prefix("null").map(|rest| (ColumnValue::Null, rest)),
        _ => {
            let end = text.find(',').unwrap_or(text.len());
            number(&text[..end]).map(|number| (number, &text[end..]))
        }
    }
}

/// Parses a string at the start of `text`. Returns it and the rest.
fn string(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let inside = text.strip_prefix('"')?;
    let bytes = inside.as_bytes();
    let mut end = 0;
    let mut is_escaped = false;

    loop {
        match bytes.get(end)? {
            b'"' => break,
            b'\\' => {
                is_escaped = true;
                end += 2;
            }
            0..0x20 => return None,
            _ => end += 1,
        }
    }

    let rest = &inside[end + 1..];
    if !is_escaped {
        return Some((inside[..end].into(), rest));
    }

    let quoted = &text[..end + 2];
    let decoded: String = serde_json::from_str(quoted).ok()?;
    // Some functions of SQLite take a NUL for the end of a text.
    let is_exact = !decoded.contains('\0') && json_string(&decoded) == quoted;
    is_exact.then_some((decoded.into(), rest))
}

/// Parses a number, if it is written as [`push_member`] writes it.
fn number(text: &str) -> Option<ColumnValue<'static>> {
    let value = match text.parse::<i64>() {
        Ok(integer) => ColumnValue::Integer(integer),
        Err(_) => ColumnValue::Real(text.parse().ok()?),
    };
    let mut same = String::with_capacity(text.len());
    push_value(&value, &mut same);
    (same == text).then_some(value)
}

/// Appends `"key":value`.
pub(crate) fn push_member(key: &str, value: &ColumnValue<'_>, out: &mut String) {
    push_string(key, out);
    out.push(':');
    push_value(value, out);
}

fn push_value(value: &ColumnValue<'_>, out: &mut String) {
    match value {
        ColumnValue::Null => out.push_str("null"),
        ColumnValue::Integer(number) => out.push_str(itoa::Buffer::new().format(*number)),
        ColumnValue::Real(number) => push_real(*number, out),
        ColumnValue::Text(text) => push_string(text, out),
    }
}

/// Appends a number as JavaScript prints it, with `.0` added to a whole one so that it stays a real.
/// Infinities are written as numbers that SQLite reads as infinities.
fn push_real(real: f64, out: &mut String) {
    if real.is_nan() {
        return out.push_str("null");
    }
    if real.is_infinite() {
        return out.push_str(if real > 0.0 { "9e999" } else { "-9e999" });
    }
    let mut buffer = ryu_js::Buffer::new();
    let text = buffer.format_finite(real);
    out.push_str(text);
    if !text.contains(['.', 'e']) {
        out.push_str(".0");
    }
}

fn push_string(text: &str, out: &mut String) {
    let is_plain = !text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\');
    if is_plain {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&json_string(text));
    }
}

fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("every text has a JSON form")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(members: &[Member<'_>]) -> String {
        let mut out = String::from("{");
        for (at, member) in members.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            push_member(&member.key, &member.value, &mut out);
        }
        out.push('}');
        out
    }

    #[test]
    fn rows_as_the_ingest_worker_writes_them_are_accepted() {
        for accepted in [
            "{}",
            r#"{"id":"1","a":null,"b":-5,"c":1.5,"d":2.0,"e":9e999,"f":-9e999}"#,
            r#"{"a":"é\n\"\\\u001f\u2028"}"#.replace("\\u2028", "\u{2028}").as_str(),
            r#"{"a":9223372036854775807,"b":-9223372036854775808,"c":1e+21,"d":5e-324}"#,
            r#"{"a,b":"c,d}"}"#,
        ] {
            let members = parse(accepted).unwrap_or_else(|| panic!("{accepted}"));
            assert_eq!(text(&members), accepted);
        }
    }

    #[test]
    fn texts_that_could_not_be_written_back_are_refused() {
        for other in [
            "",
            "[]",
            "{",
            "{]",
            r#"{"a":1 }"#,
            r#"{ "a":1}"#,
            r#"{"a":1,}"#,
            r#"{,"a":1}"#,
            r#"{"a":true}"#,
            r#"{"a":{}}"#,
            r#"{"a":[1,2]}"#,
            r#"{"a":1.50}"#,
            r#"{"a":1e3}"#,
            r#"{"a":-0}"#,
            r#"{"a":-0.0}"#,
            r#"{"a":+1}"#,
            r#"{"a":01}"#,
            r#"{"a":NaN}"#,
            r#"{"a":inf}"#,
            r#"{"a":9223372036854775808}"#,
            r#"{"a":0.1000000000000000055}"#,
            r#"{"a":"\u0041"}"#,
            r#"{"a":"\/"}"#,
            r#"{"a":"\u0000"}"#,
            r#"{"a":"\ud800"}"#,
            "{\"a\":\"\n\"}",
            r#"{"a":"x"y}"#,
            r#"{"a":"x\"}"#,
            r#"{"a":1}{"a":1}"#,
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn every_accepted_text_is_written_back_byte_for_byte(
            parts in proptest::collection::vec(proptest::sample::select(&[
                "{", "}", "\"a\"", "\"b\"", ":", ",", "null", "1", "-", "0", ".5", "e5", "\\", "\"",
                "é", "\\u0000", "\\n", " ", "true", "[", "]", "9e999", "1.5", "2.0",
            ][..]), 0..12),
        ) {
            for row in [parts.concat(), format!("{{\"a\":{}}}", parts.concat())] {
                if let Some(members) = parse(&row) {
                    prop_assert_eq!(text(&members), row);
                }
            }
        }

        #[test]
        fn every_written_text_is_accepted(integer: i64, real: f64, words in "[^\\x00]{0,9}") {
            prop_assume!(!real.is_nan() && real.to_bits() != (-0.0_f64).to_bits());
            let values = [ColumnValue::Integer(integer), ColumnValue::Real(real), ColumnValue::Text(words.as_str().into())];
            for value in values {
                let written = text(&[Member { key: words.as_str().into(), value }]);
                let read = parse(&written);
                prop_assert!(read.is_some(), "{written}");
                prop_assert_eq!(text(&read.unwrap_or_default()), written);
            }
        }
    }
}
