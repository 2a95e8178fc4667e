//! The keys of `config`.

use expect_test::expect;

use super::super::{compile, refused};

const STREAM: &str = "streams: {s: {query: SELECT * FROM todos}}";
const DEFINITION: &str = "bucket_definitions: {b: {data: [SELECT * FROM todos]}}";

/// Returns the findings of a file with this `config`, or `accepted`.
fn check(config: &str, content: &str) -> String {
    refused(&format!("config: {{{config}}}\n{content}\n"))
}

#[test]
fn the_default_edition_is_one() {
    compile(DEFINITION);
    compile(&format!("config: {{}}\n{DEFINITION}"));
    expect![[r#"
        accepted
    "#]]
    .assert_eq(&refused(STREAM));
}

#[test]
fn the_edition_is_one_two_or_three() {
    for (edition, content) in [
        ("1", DEFINITION),
        ("2", DEFINITION),
        ("2", STREAM),
        ("3", STREAM),
        ("3.0", STREAM),
        ("2.00", DEFINITION),
    ] {
        assert_eq!(check(&format!("edition: {edition}"), content), "accepted\n", "{edition}");
    }

    for edition in ["0", "4", "30", "3.5", "3.01", "-1", "'3'", "three", "true", "~", "[3]"] {
        let found = check(&format!("edition: {edition}"), STREAM);
        assert_eq!(found, "1:19 `edition` must be 1, 2 or 3\n", "{edition}");
    }
}

#[test]
fn each_edition_has_its_own_sections() {
    expect![[r#"
        2:1 `bucket_definitions` are not supported in edition 3
          write `streams`, or set `edition: 2` in `config`
    "#]]
    .assert_eq(&check("edition: 3", DEFINITION));
    assert_eq!(check("edition: 2", &format!("{STREAM}\n{DEFINITION}")), "accepted\n");
}

#[test]
fn fixes_can_be_switched_on_and_off() {
    for key in [
        "timestamps_iso8601",
        "versioned_bucket_ids",
        "fixed_json_extract",
        "custom_postgres_types",
    ] {
        for value in ["true", "false", "True", "FALSE"] {
            for config in [format!("{key}: {value}"), format!("edition: 2, {key}: {value}")] {
                assert_eq!(check(&config, DEFINITION), "accepted\n", "{config}");
            }
            let config = format!("edition: 3, {key}: {value}");
            assert_eq!(check(&config, STREAM), "accepted\n", "{config}");
        }

        for value in ["1", "yes", "'true'", "~"] {
            let found = check(&format!("{key}: {value}"), DEFINITION);
            assert!(found.contains(&format!("`{key}` must be `true` or `false`")), "{found}");
        }
    }
}

#[test]
fn the_sqlite_engine_needs_edition_3_and_fixed_json_extract() {
    let key = "unstable_sqlite_expression_engine";
    for config in [
        format!("edition: 3, {key}: true"),
        format!("{key}: true, edition: 3, fixed_json_extract: true"),
        format!("edition: 3, {key}: false, fixed_json_extract: false"),
    ] {
        assert_eq!(check(&config, STREAM), "accepted\n", "{config}");
    }
    assert_eq!(check(&format!("edition: 2, {key}: false"), DEFINITION), "accepted\n");
    let found = check(&format!("edition: 2, {key}: true"), DEFINITION);
    assert!(found.starts_with(&format!("1:22 `{key}` requires edition 3")), "{found}");
    let found = check(&format!("edition: 3, fixed_json_extract: false, {key}: true"), STREAM);
    assert!(found.starts_with(&format!("1:49 `{key}` needs `fixed_json_extract`")), "{found}");
}

#[test]
fn a_time_precision_is_a_name_and_needs_iso_timestamps() {
    let key = "timestamp_max_precision";
    for value in ["seconds", "milliseconds", "microseconds", "nanoseconds"] {
        let config = format!("edition: 3, {key}: {value}");
        assert_eq!(check(&config, STREAM), "accepted\n", "{config}");
        let found = check(&format!("{key}: {value}"), DEFINITION);
        assert!(found.starts_with(&format!("1:35 `{key}` needs `timestamps_iso8601`")), "{found}");
        let config = format!("timestamps_iso8601: true, {key}: {value}");
        assert_eq!(check(&config, DEFINITION), "accepted\n", "{config}");
    }
    for value in ["Seconds", "6", "~", "days"] {
        let found = check(&format!("edition: 3, {key}: {value}"), STREAM);
        assert!(found.starts_with(&format!("1:47 `{key}` must be `seconds`")), "{found}");
    }
}

#[test]
fn the_storage_version_is_two_or_three() {
    for value in ["2", "3", "2.0"] {
        let config = format!("edition: 3, storage_version: {value}");
        assert_eq!(check(&config, STREAM), "accepted\n", "{config}");
    }
    for value in ["1", "4", "'2'", "~"] {
        let found = check(&format!("edition: 3, storage_version: {value}"), STREAM);
        assert_eq!(found, "1:39 `storage_version` must be 2 or 3\n", "{value}");
    }
}

#[test]
fn unknown_keys_are_rejected() {
    let found = check("edition: 3, iso: true", STREAM);
    assert!(found.starts_with("1:22 unknown key `iso`"), "{found}");
    let found = check("edition: 3", &format!("rules: []\n{STREAM}"));
    assert!(found.starts_with("2:1 unknown key `rules`"), "{found}");
}
