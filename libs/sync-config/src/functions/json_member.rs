//! Reads one member of a JSON text without building a tree of the others.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;

/// Returns the member at a path of names; the whole text for an empty path. Of several members with
/// one name it is the last, as in a tree. Fails if any part of the text is not JSON.
pub(super) fn member(text: &str, names: &[&str]) -> Result<Option<Json>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = MemberSeed(names).deserialize(&mut reader)?;
    reader.end()?;
    Ok(found)
}

/// Parses an array index in its canonical form: `0`, not `00`.
pub(super) fn array_index(name: &str) -> Option<usize> {
    let index: usize = name.parse().ok()?;
    (index.to_string() == name).then_some(index)
}

/// Deserializer seed that keeps only the member at the path.
#[derive(Clone, Copy)]
struct MemberSeed<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for MemberSeed<'_> {
    type Value = Option<Json>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            [] => Json::deserialize(reader).map(Some),
            [name, rest @ ..] => {
                reader.deserialize_any(MemberVisitor { name, rest: MemberSeed(rest) })
            }
        }
    }
}

struct MemberVisitor<'n> {
    name: &'n str,
    rest: MemberSeed<'n>,
}

impl<'de> Visitor<'de> for MemberVisitor<'_> {
    type Value = Option<Json>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(NameSeed(self.name))? {
            if is_it {
                found = map.next_value_seed(self.rest)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        if let Some(index) = array_index(self.name) {
            for _ in 0..index {
                if items.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(None);
                }
            }
        }
        let found = match array_index(self.name) {
            Some(_) => items.next_element_seed(self.rest)?.flatten(),
            None => None,
        };
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Deserializer seed that compares a member's name without copying it.
struct NameSeed<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::json_path::walk;
    use super::*;
    use crate::value::json;

    fn member_name() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "0", "1", "é\\n", ""])
    }

    fn text() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec![
            "null",
            "true",
            "0",
            "-7",
            "1.50",
            "1e3",
            "\"x\\\"y\"",
            "\"\"",
            "9007199254740993",
            "[]",
            "{}",
            "nul",
            "01",
            "\"",
        ]);

        leaf.prop_map(str::to_owned).prop_recursive(4, 24, 4, move |inner| {
            let members = prop::collection::vec((member_name(), inner.clone()), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4)
                    .prop_map(|items| format!("[{}]", items.join(", "))),
                members.prop_map(|members| {
                    let members: Vec<String> = members
                        .iter()
                        .map(|(name, value)| format!("\"{name}\": {value}"))
                        .collect();
                    format!("{{{}}}", members.join(" ,"))
                }),
            ]
        })
    }

    proptest! {
        /// The texts include invalid JSON and duplicate members.
        #[test]
        fn a_member_is_that_of_the_tree(
            text in text(),
            names in prop::collection::vec(prop::sample::select(vec!["a", "b", "0", "1", "00", "é\n", ""]), 0..4),
        ) {
            let expected = json::parse(&text).map(|tree| walk(&tree, &names).cloned());
            prop_assert_eq!(member(&text, &names).ok(), expected, "{:?} of {}", names, text);
        }
    }
}
