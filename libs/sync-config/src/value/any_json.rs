//! Parses JSON that serde_json refuses: nested more than 128 levels deep, or with numbers beyond an
//! `f64`. PostgreSQL stores both.

use serde_json::{Map, Number, Value as Json};

/// Maximum nesting, that of SQLite's JSON functions. It bounds the recursion of whoever reads a tree.
pub(crate) const DEPTH_MAX: usize = 1_000;

/// An array or object whose end is not read yet.
enum Open {
    Array(Vec<Json>),
    /// The members so far, and the name of the next one.
    Object(Map<String, Json>, String),
}

/// Parses a text without recursion. A number beyond an `f64` is the largest one with its sign.
pub(super) fn parse(text: &str) -> Option<Json> {
    let mut reader = Reader { text, at: 0 };
    let mut open: Vec<Open> = Vec::new();

    'values: loop {
        if open.len() > DEPTH_MAX {
            return None;
        }

        let mut value = match reader.peek()? {
            b'[' => {
                reader.at += 1;
                if !reader.skip(b']') {
                    open.push(Open::Array(Vec::new()));
                    continue 'values;
                }
                Json::Array(Vec::new())
            }
            b'{' => {
                reader.at += 1;
                if !reader.skip(b'}') {
                    open.push(Open::Object(Map::new(), reader.name()?));
                    continue 'values;
                }
                Json::Object(Map::new())
            }
            b'"' => Json::String(reader.string()?),
            _ => reader.scalar()?,
        };

        // The value is complete. It goes into what is open around it, which may end with it.
        loop {
            let Some(innermost) = open.pop() else {
                return reader.peek().is_none().then_some(value);
            };
            match innermost {
                Open::Array(mut items) => {
                    items.push(value);
                    if reader.skip(b',') {
                        open.push(Open::Array(items));
                        continue 'values;
                    }
                    reader.expect(b']')?;
                    value = Json::Array(items);
                }
                Open::Object(mut members, name) => {
                    members.insert(name, value);
                    if reader.skip(b',') {
                        open.push(Open::Object(members, reader.name()?));
                        continue 'values;
                    }
                    reader.expect(b'}')?;
                    value = Json::Object(members);
                }
            }
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    /// Returns the next byte that is not a space.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// Skips a byte if it is next.
    fn skip(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip(byte).then_some(())
    }

    /// Reads a member's name and the colon after it.
    fn name(&mut self) -> Option<String> {
        self.peek();
        let name = self.string()?;
        self.expect(b':')?;
        Some(name)
    }

    fn string(&mut self) -> Option<String> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut end = start + 1;
        while *bytes.get(end)? != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        self.at = end + 1;
        serde_json::from_str(self.text.get(start..self.at)?).ok()
    }

    /// Reads a number, `true`, `false` or `null`.
    fn scalar(&mut self) -> Option<Json> {
        let rest: &'t str = &self.text[self.at..];
        let end = rest.find([',', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(rest.len());
        let scalar = &rest[..end];
        self.at += end;
        serde_json::from_str(scalar).ok().or_else(|| beyond_range(scalar).map(Json::Number))
    }
}

/// Returns the largest number with the sign of one that is beyond an `f64`.
fn beyond_range(text: &str) -> Option<Number> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (digits, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };

    let exponent = exponent.map(|text| text.strip_prefix(['+', '-']).unwrap_or(text));
    let is_number = is_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(is_digits)
        && exponent.is_none_or(is_digits);
    if !is_number || !text.parse::<f64>().is_ok_and(f64::is_infinite) {
        return None;
    }
    Number::from_f64(if text.starts_with('-') { f64::MIN } else { f64::MAX })
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_beyond_range_are_the_largest_ones() {
        let max = json!(f64::MAX);
        let min = json!(f64::MIN);
        assert_eq!(
            parse(r#"{"a": [1e309, -1.5E+400], "b": 2}"#),
            Some(json!({"a": [max, min], "b": 2}))
        );
        assert_eq!(parse(&format!("{}.0", "9".repeat(400))), Some(max));
        for wrong in
            ["01e999", "1.e999", "1e", "-", "1e999x", "--1e999", ".5e999", "1e9e9", "inf", "NaN"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nesting_is_limited_to_a_thousand_levels() {
        for (depth, is_json) in [(129, true), (1_000, true), (1_001, false), (1_000_000, false)] {
            let arrays = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
            assert_eq!(parse(&arrays).is_some(), is_json, "{depth}");
            let objects = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
            assert_eq!(parse(&objects).is_some(), is_json, "{depth}");
        }
    }

    proptest! {
        /// Texts of JSON's tokens, most of which are not JSON.
        #[test]
        fn a_text_is_read_as_by_serde_json(
            tokens in prop::collection::vec(
                prop::sample::select(vec![
                    "[", "]", "{", "}", ",", ":", "\"a\"", "\"b\\\"\"", "\"\\u00e9\"", "\"", "\\", "1", "-0.5",
                    "1e3", "true", "null", "nul", " ", "\n", "é", "01", "+",
                ]),
                0..12,
            ),
        ) {
            let text = tokens.concat();
            let expected: Option<Json> = serde_json::from_str(&text).ok();
            prop_assert_eq!(parse(&text), expected, "{:?}", text);
        }

        #[test]
        fn json_is_read_as_by_serde_json(
            value in any::<i64>().prop_map(|n| json!(n)).prop_recursive(5, 40, 4, |inner| prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                prop::collection::vec(("[a-c\\\\\"é]{0,3}", inner), 0..4)
                    .prop_map(|members| Json::Object(members.into_iter().collect())),
            ]),
        ) {
            prop_assert_eq!(parse(&value.to_string()), Some(value.clone()));
            let spaced = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(parse(&spaced), Some(value));
        }
    }
}
