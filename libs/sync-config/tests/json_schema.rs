//! The JSON Schema for editors agrees with the reader of the file.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidewater_sync_config::{Diagnostic, SyncConfig};

const SCHEMA: &str = include_str!("../sync-config.schema.json");

/// Objects of the file: the place of their keys in the schema, and files in which `ENTRY` is one of
/// their entries.
const OBJECTS: [(&str, &[&str]); 4] = [
    (
        "/properties",
        &[
            "{ENTRY, config: {edition: 3}, streams: {s: {query: SELECT * FROM t}}}",
            "{ENTRY, config: {edition: 2}, bucket_definitions: {b: {data: [SELECT * FROM t]}}}",
        ],
    ),
    (
        "/$defs/config/properties",
        &[
            "{config: {timestamps_iso8601: true, ENTRY, edition: 3}, streams: {s: {query: SELECT * FROM t}}}",
            "{config: {ENTRY}, streams: {s: {query: SELECT * FROM t}}}",
            "{config: {ENTRY}, bucket_definitions: {b: {data: [SELECT * FROM t]}}}",
        ],
    ),
    (
        "/$defs/stream/properties",
        &[
            "{config: {edition: 3}, streams: {s: {ENTRY, query: SELECT * FROM t}}}",
            "{config: {edition: 3}, streams: {s: {ENTRY}}}",
        ],
    ),
    (
        "/$defs/bucketDefinition/properties",
        &[
            "{bucket_definitions: {b: {ENTRY, data: [SELECT * FROM t]}}}",
            "{bucket_definitions: {b: {ENTRY}}}",
        ],
    ),
];

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

fn properties(place: &str) -> Vec<(String, Value)> {
    let schema = schema();
    let properties = schema.pointer(place).unwrap().as_object().unwrap();
    properties.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Compiles each file with the entry in it and returns the best result.
fn compile(files: &[&str], key: &str, value: &str) -> Result<(), Vec<Diagnostic>> {
    let entry = format!("{key}: {value}");
    let mut results: Vec<_> =
        files.iter().map(|file| SyncConfig::compile(&file.replace("ENTRY", &entry))).collect();
    match results.iter().position(Result::is_ok) {
        Some(_) => Ok(()),
        None => results.swap_remove(0).map(|_| ()),
    }
}

/// Returns the keys that the reader lists in its error about an unknown key.
fn known_keys(files: &[&str]) -> BTreeSet<String> {
    let findings = compile(files, "no_such_key", "1").unwrap_err();
    let unknown = findings.iter().find(|one| one.message == "unknown key `no_such_key`").unwrap();
    let keys = unknown.hint.as_ref().unwrap().strip_prefix("the valid keys are: ").unwrap();
    keys.split(", ").map(str::to_owned).collect()
}

/// Prints values as YAML flow scalars, of which JSON's are a subset.
fn texts(values: &Value) -> Vec<String> {
    values.as_array().unwrap().iter().map(ToString::to_string).collect()
}

/// Returns values that the schema allows, and some that it does not. Both are empty if the property
/// needs more than a scalar.
fn samples(property: &Value) -> (Vec<String>, Vec<String>) {
    let schema = schema();
    let target = property["$ref"].as_str().map(|name| name.trim_start_matches('#'));
    let property = target.map_or(property, |place| schema.pointer(place).unwrap());
    let other = ["4", "\"other\"", "[]"].map(str::to_owned).to_vec();

    if property["enum"].is_array() {
        (texts(&property["enum"]), other)
    } else if property["type"] == "boolean" {
        (vec!["true".into(), "false".into()], other)
    } else if property["type"] == "string" {
        (vec!["SELECT * FROM t".into()], vec!["4".into(), "true".into(), "[]".into()])
    } else if property["type"] == "array" {
        (vec!["[SELECT * FROM t]".into()], vec!["[]".into(), "SELECT * FROM t".into()])
    } else {
        (vec![], vec![])
    }
}

#[test]
fn schema_keys_equal_reader_keys() {
    for (place, files) in OBJECTS {
        let keys: BTreeSet<_> = properties(place).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, known_keys(files), "{place}");
        assert_eq!(
            schema().pointer(place.strip_suffix("/properties").unwrap()).unwrap()["additionalProperties"],
            false,
            "{place}"
        );
    }
}

#[test]
fn schema_values_equal_accepted_values() {
    let mut count = 0;
    for (place, files) in OBJECTS {
        for (key, property) in properties(place) {
            let (allowed, refused) = samples(&property);
            for value in allowed {
                count += 1;
                let compiled = compile(files, &key, &value);
                assert!(compiled.is_ok(), "{place} {key}: {value}: {compiled:?}");
            }
            for value in refused {
                count += 1;
                assert!(compile(files, &key, &value).is_err(), "{place} {key}: {value}");
            }
        }
    }

    // Of 16 keys, each with at least one value of each sort.
    assert!(count >= 32, "the schema has lost its values");
}

#[test]
fn every_key_has_a_description() {
    for (place, _) in OBJECTS {
        for (key, property) in properties(place) {
            let schema = schema();
            let target = property["$ref"].as_str().map(|name| name.trim_start_matches('#'));
            let text = target.map_or(&property, |name| schema.pointer(name).unwrap());
            let text = property["description"].as_str().or(text["description"].as_str());
            assert!(text.is_some_and(|text| text.ends_with('.')), "{place} {key}");
        }
    }
}

#[test]
fn name_and_edition_limits_equal_the_readers() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["$defs"]["name"]["maxLength"], 500);

    for (length, is_name) in [(500, true), (501, false)] {
        let name = "n".repeat(length);
        let yaml = format!("bucket_definitions: {{{name}: {{data: [SELECT * FROM t]}}}}");
        assert_eq!(SyncConfig::compile(&yaml).is_ok(), is_name, "{length}");
    }
    assert_eq!(schema["then"]["properties"], json!({"bucket_definitions": false}));

    let before = &schema["else"];
    assert_eq!(before["properties"], json!({"with": false}));

    for (edition, streams, definitions) in [(1, true, true), (2, true, true), (3, true, false)] {
        let ctes = "with: {c: SELECT a FROM t}\nstreams: {s: {query: SELECT * FROM t}}";
        for (sections, is_accepted) in [
            ("streams: {s: {query: SELECT * FROM t}}", streams),
            ("bucket_definitions: {s: {data: [SELECT * FROM t]}}", definitions),
            (ctes, edition == 3),
        ] {
            let yaml = format!("config: {{edition: {edition}}}\n{sections}");
            assert_eq!(SyncConfig::compile(&yaml).is_ok(), is_accepted, "{yaml}");
        }
    }
}
