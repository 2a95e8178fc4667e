//! Bounds on the values in a body, which are checked before any of them is built.
//!
//! A value of JSON takes a hundred times the memory of its text. So the text is read twice: first to
//! count, which takes no memory, then to build.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_path_to_error::Track;

use super::error::ApiError;

/// Nesting of values that is accepted. Queries read members of members, no deeper trees.
const DEPTH_MAX: usize = 32;

/// Bytes of one text or name that is accepted within parameters.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// Bytes of a path that an error names. Names of members are the client's.
const PATH_BYTES_MAX: usize = 200;

/// Fields of a stream request whose values the app chooses.
const FIELDS: [&str; 3] = ["parameters", "streams", "app_metadata"];

/// Fails if parameters, subscriptions and metadata have more than `values_max` values together, or
/// larger or deeper ones than any query can use. Other errors are left to the second reading.
pub(super) fn check(body: &[u8], values_max: usize) -> Result<(), ApiError> {
    let mut counter = Counter { values_left: values_max, violation: None };
    let mut track = Track::new();
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = Fields(&mut counter)
        .deserialize(serde_path_to_error::Deserializer::new(&mut json, &mut track));

    match (read, counter.violation) {
        (Err(_), Some(violation)) => {
            let path = shortened(track.path().to_string());
            Err(ApiError::Invalid(violation.message(&path, values_max)))
        }
        (Ok(()) | Err(_), _) => Ok(()),
    }
}

fn shortened(mut path: String) -> String {
    let end = (0..=PATH_BYTES_MAX.min(path.len())).rev().find(|end| path.is_char_boundary(*end));
    path.truncate(end.unwrap_or(0));
    path
}

/// A bound that a body exceeds.
#[derive(Clone, Copy)]
enum Violation {
    Values,
    Depth,
    Text,
}

impl Violation {
    fn message(self, path: &str, values_max: usize) -> String {
        match self {
            Self::Values => format!(
                "\"{path}\" is one value too many: parameters and subscriptions may have {values_max} \
                 values in total. Send only what the streams read"
            ),
            Self::Depth => format!(
                "\"{path}\" is nested too deeply: parameters may have {DEPTH_MAX} levels. Send flat \
                 values"
            ),
            Self::Text => format!(
                "\"{path}\" has a text that is too long: a text in parameters may have \
                 {TEXT_BYTES_MAX} bytes. Store it in a row instead"
            ),
        }
    }
}

/// Counts values.
struct Counter {
    values_left: usize,
    violation: Option<Violation>,
}

impl Counter {
    fn count<E: serde::de::Error>(&mut self, depth: usize) -> Result<(), E> {
        if depth > DEPTH_MAX {
            return Err(self.violated(Violation::Depth));
        }
        let Some(left) = self.values_left.checked_sub(1) else {
            return Err(self.violated(Violation::Values));
        };
        self.values_left = left;
        Ok(())
    }

    fn text<E: serde::de::Error>(&mut self, text: &str) -> Result<(), E> {
        if text.len() > TEXT_BYTES_MAX { Err(self.violated(Violation::Text)) } else { Ok(()) }
    }

    fn violated<E: serde::de::Error>(&mut self, violation: Violation) -> E {
        self.violation = Some(violation);
        E::custom("a bound is exceeded")
    }
}

/// The fields of a body, of which only some have values of the app.
struct Fields<'c>(&'c mut Counter);

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key::<String>()? {
            if FIELDS.contains(&field.as_str()) {
                map.next_value_seed(Counted { counter: self.0, depth: 0 })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// A value that is counted with those within it.
struct Counted<'c> {
    counter: &'c mut Counter,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Counted<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        self.counter.count::<D::Error>(self.depth)?;
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Counted<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.counter.text(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let depth = self.depth + 1;
        while items.next_element_seed(Counted { counter: self.counter, depth })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let depth = self.depth + 1;
        while let Some(name) = members.next_key::<std::borrow::Cow<'_, str>>()? {
            self.counter.text::<A::Error>(&name)?;
            members.next_value_seed(Counted { counter: self.counter, depth })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the description of the error, or an empty text.
    fn checked(body: &str) -> String {
        match check(body.as_bytes(), 100) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_body_of_an_sdk_is_within_the_bounds() {
        let buckets = r#"{"name":"1#todos|0[\"u1\"]","after":"12"},"#.repeat(5_000);
        let body = format!(
            r#"{{"buckets":[{}],"raw_data":true,"client_id":"c","parameters":{{"a":[1,2.5,"x"]}},
               "streams":{{"include_defaults":true,"subscriptions":[
               {{"stream":"s","parameters":null,"override_priority":null}}]}}}}"#,
            buckets.trim_end_matches(',')
        );
        assert_eq!(checked(&body), "");
    }

    #[test]
    fn a_body_with_too_many_values_is_refused_with_the_path_of_one() {
        let many = format!(r#"{{"parameters":{{"ids":[{}0]}}}}"#, "[0],".repeat(524_000));
        let error = checked(&many);
        assert!(error.contains(r#""parameters.ids[49]"#), "{error}");
        assert!(error.contains("100 values in total"), "{error}");

        let subscription = r#"{"stream":"s","parameters":{"a":[1,2,3]}},"#.repeat(100);
        let many = format!(
            r#"{{"streams":{{"subscriptions":[{}]}}}}"#,
            subscription.trim_end_matches(',')
        );
        assert!(checked(&many).contains("streams.subscriptions[14]"), "{}", checked(&many));
    }

    #[test]
    fn a_body_with_deep_or_long_values_is_refused() {
        let deep = format!(r#"{{"parameters":{{"a":{}{}}}}}"#, "[".repeat(40), "]".repeat(40));
        assert!(checked(&deep).contains("nested too deeply"), "{}", checked(&deep));
        let long = format!(r#"{{"parameters":{{"a":"{}"}}}}"#, "x".repeat(70_000));
        assert!(checked(&long).contains(r#""parameters.a" has a text"#), "{}", checked(&long));
        let name = format!(r#"{{"parameters":{{"{}":1}}}}"#, "é".repeat(70_000));
        assert!(checked(&name).len() < 500);
    }

    #[test]
    fn other_errors_are_left_to_the_second_reading() {
        for body in ["", "{bad", "[]", r#"{"parameters":5,"streams":null}"#, r#"{"streams":[1"#] {
            assert_eq!(checked(body), "", "{body}");
        }
    }
}
