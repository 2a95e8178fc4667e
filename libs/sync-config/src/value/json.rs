//! JSON text. It is written directly, and parsed by serde_json.

use serde_json::{Map, Value as Json};

use super::Value;
use super::any_json;
use super::number;

/// Escapes of ASCII bytes: the character after the backslash, `u` for a code, 0 for no escape.
const ESCAPES: [u8; 128] = {
    let mut table = [0; 128];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Writes a JSON string.
pub(crate) fn push_string(text: &str, out: &mut String) {
    out.push('"');
    push_escaped(text, out);
    out.push('"');
}

/// Writes the escaped content of a JSON string, without quotes.
pub(crate) fn push_escaped(text: &str, out: &mut String) {
    let mut start = 0;
    for (index, byte) in text.bytes().enumerate() {
        let escape = ESCAPES.get(usize::from(byte)).copied().unwrap_or(0);
        if escape == 0 {
            continue;
        }

        out.push_str(&text[start..index]);
        start = index + 1;
        out.push('\\');
        out.push(char::from(escape));

        if escape == b'u' {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.push_str("00");
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }

    out.push_str(&text[start..]);
}

/// Returns a member's name and the colon after it.
pub(crate) fn key(name: &str) -> String {
    let mut key = String::new();
    push_string(name, &mut key);
    key.push(':');
    key
}

/// Writes a value of a row. Returns `false` and writes nothing for a blob, which JSON lacks.
pub(crate) fn push_value(value: &Value<'_>, out: &mut String) -> bool {
    match value {
        Value::Null => out.push_str("null"),
        Value::Integer(integer) => number::push_integer(*integer, out),
        Value::Real(real) => number::push_real_json(*real, out),
        Value::Text(text) => push_string(text, out),
        Value::Blob(_) => return false,
    }
    true
}

/// Writes a bucket parameter or a part of a lookup key, in which `1.0` is `1`. Returns `false` and
/// writes nothing for NULL and blobs, which are equal to nothing.
pub(crate) fn push_parameter(value: &Value<'_>, out: &mut String) -> bool {
    match value {
        Value::Null | Value::Blob(_) => return false,
        Value::Real(real) => match number::exact_i64(*real) {
            Some(integer) => number::push_integer(integer, out),
            None => number::push_real_json(*real, out),
        },
        Value::Integer(integer) => number::push_integer(*integer, out),
        Value::Text(text) => push_string(text, out),
    }
    true
}

/// Parses JSON text, nested [`DEPTH_MAX`](any_json::DEPTH_MAX) levels deep at most.
pub(crate) fn parse(text: &str) -> Option<Json> {
    serde_json::from_str(text).ok().or_else(|| any_json::parse(text))
}

/// Converts JSON to an SQL value. Arrays and objects become their text.
pub(crate) fn to_value(json: &Json) -> Value<'_> {
    match json {
        Json::Null => Value::Null,
        Json::Bool(boolean) => Value::boolean(Some(*boolean)),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::Integer(integer),
            None => number.as_f64().map_or(Value::Null, Value::real),
        },
        Json::String(text) => Value::text(text.as_str()),
        Json::Array(_) | Json::Object(_) => Value::text(to_text(json)),
    }
}

/// Prints JSON without spaces.
pub(crate) fn to_text(json: &Json) -> String {
    let mut text = String::new();
    push_json(json, &mut text);
    text
}

/// Prints a JSON object without spaces.
pub(crate) fn object_to_text(entries: &Map<String, Json>) -> String {
    let mut text = String::new();
    push_object(entries, &mut text);
    text
}

/// Returns the members in JavaScript's order: integer names first, ascending, then the rest.
pub(crate) fn in_order(entries: &Map<String, Json>) -> Vec<(&String, &Json)> {
    let mut ordered: Vec<(&String, &Json)> = entries.iter().collect();
    ordered.sort_by_key(|(key, _)| index(key).map_or((1, 0), |index| (0, index)));
    ordered
}

/// Parses a member's name that JavaScript treats as an array index.
fn index(key: &str) -> Option<u32> {
    let index: u32 = key.parse().ok().filter(|index| *index < u32::MAX)?;
    (itoa::Buffer::new().format(index) == key).then_some(index)
}

/// Writes a JSON tree. The depth of parsed trees is limited, and so is this recursion.
fn push_json(json: &Json, out: &mut String) {
    match json {
        Json::Null => out.push_str("null"),
        Json::Bool(boolean) => out.push_str(if *boolean { "true" } else { "false" }),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(integer), _, _) => number::push_integer(integer, out),
            (None, Some(integer), _) => out.push_str(&integer.to_string()),
            (None, None, Some(real)) => number::push_real_json(real, out),
            (None, None, None) => out.push_str("null"),
        },
        Json::String(text) => push_string(text, out),
        Json::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_json(item, out);
            }
            out.push(']');
        }
        Json::Object(entries) => push_object(entries, out),
    }
}

fn push_object(entries: &Map<String, Json>, out: &mut String) {
    out.push('{');
    for (index, (key, item)) in in_order(entries).into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_string(key, out);
        out.push(':');
        push_json(item, out);
    }
    out.push('}');
}
