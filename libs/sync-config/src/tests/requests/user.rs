//! The user of a request whom the token names by a number.

use crate::tests::{auto_subscribed, definition, granted, row};

const NOTES: &str = "notes(id text, owner text, n int8, list jsonb)";

/// Returns what is granted to user 7, whose `sub` is a number or a text.
fn granted_to_seven(yaml: &str, is_number: bool, answers: &[(&str, &[&str])]) -> String {
    let sub = if is_number { "7" } else { "\"7\"" };
    granted(yaml, &format!(r#"{{"sub": "7", "claims": {{"sub": {sub}}}}}"#), answers)
}

/// Returns whether a bucket is granted that needs nothing but the condition.
fn is_granted(condition: &str, is_number: bool, answers: &[(&str, &[&str])]) -> bool {
    let yaml = auto_subscribed(&format!("SELECT id FROM notes WHERE {condition}"));
    granted_to_seven(&yaml, is_number, answers).contains("s|0[] priority")
}

/// Checks that the buckets of a note are granted to a user whose `sub` is a number, and whether they
/// are with a text.
fn check_note(yaml: &str, with_text: bool) {
    let found = row(yaml, NOTES, "1|7|7|[7]");
    let bucket = found.split_once(' ').map(|(bucket, _)| bucket).unwrap();
    let bucket = format!("{bucket} priority");
    assert!(granted_to_seven(yaml, true, &[]).contains(&bucket), "{yaml}{bucket}");
    assert_eq!(granted_to_seven(yaml, false, &[]).contains(&bucket), with_text, "{yaml}{bucket}");
}

#[test]
fn a_numeric_user_finds_rows_by_texts_and_by_numbers() {
    for (condition, with_text) in [
        ("n = auth.user_id()", false),
        ("owner = auth.user_id()", true),
        ("auth.user_id() IN list", false),
    ] {
        let query = format!("SELECT id FROM notes WHERE {condition}");
        check_note(&auto_subscribed(&query), with_text);
    }

    for value in ["request.user_id()", "token_parameters.user_id"] {
        for (column, with_text) in [("n", false), ("owner", true)] {
            let parameters = format!("SELECT {value} AS u");
            let data = format!("SELECT id FROM notes WHERE {column} = bucket.u");
            check_note(&definition(&[&parameters], &[&data]), with_text);
        }
    }
}

#[test]
fn a_lookup_is_asked_for_the_text_and_the_number() {
    let yaml = auto_subscribed(
        "SELECT id FROM notes WHERE owner IN (SELECT org FROM members WHERE usr = auth.user_id())",
    );
    for key in [r#"0 ["7"]"#, "0 [7]"] {
        let found = granted_to_seven(&yaml, true, &[(key, &[r#"["o"]"#])]);
        assert!(found.contains(r#"s|0["o"] priority"#), "{key}: {found}");
    }
    let found = granted_to_seven(&yaml, false, &[("0 [7]", &[r#"["o"]"#])]);
    assert!(!found.contains("s|0"), "{found}");
}

/// A list in a text column excludes as one in an integer column does.
#[test]
fn a_numeric_user_is_excluded_by_texts_and_by_numbers() {
    for condition in [
        "auth.user_id() NOT IN (SELECT usr FROM banned)",
        "NOT EXISTS (SELECT 1 FROM banned WHERE usr = auth.user_id())",
        "NOT (auth.user_id() IN (SELECT usr FROM banned))",
    ] {
        assert!(is_granted(condition, true, &[]), "{condition}");
        for key in [r#"0 ["7"]"#, "0 [7]"] {
            assert!(!is_granted(condition, true, &[(key, &["[]"])]), "{condition} {key}");
        }
        assert!(!is_granted(condition, false, &[(r#"0 ["7"]"#, &["[]"])]), "{condition}");
    }

    let of_array = "auth.user_id() NOT IN (SELECT value FROM json_each(auth.parameter('list')))";
    let yaml = auto_subscribed(&format!("SELECT id FROM notes WHERE {of_array}"));
    for (list, is_granted) in [(r#"["7"]"#, false), ("[7]", false), (r#"["8", 8]"#, true)] {
        let request = format!(r#"{{"sub": "7", "claims": {{"sub": 7, "list": {list}}}}}"#);
        let found = granted(&yaml, &request, &[]);
        assert_eq!(found.contains("s|0[] priority"), is_granted, "{list}: {found}");
    }
}

#[test]
fn a_numeric_user_equals_the_text_and_the_number_in_conditions() {
    for value in ["7", "'7'"] {
        for equal in [
            format!("auth.user_id() = {value}"),
            format!("{value} = auth.user_id()"),
            format!("auth.user_id() IN ({value}, 'x')"),
            format!("{value} IN ('x', auth.user_id())"),
            format!("auth.user_id() IS NOT DISTINCT FROM {value}"),
            format!("auth.user_id() IN '[{}]'", value.replace('\'', "\"")),
            format!("CASE auth.user_id() WHEN {value} THEN true ELSE false END"),
        ] {
            assert!(is_granted(&equal, true, &[]), "{equal}");
            assert!(!is_granted(&format!("NOT ({equal})"), true, &[]), "NOT ({equal})");
        }
        assert!(!is_granted(&format!("auth.user_id() <> {value}"), true, &[]), "<> {value}");
        assert!(
            !is_granted(&format!("auth.user_id() NOT IN ({value}, 'x')"), true, &[]),
            "{value}"
        );
    }
    for other in ["auth.user_id() <> 8", "auth.user_id() <> '8'", "auth.user_id() NOT IN (8, '8')"]
    {
        assert!(is_granted(other, true, &[]), "{other}");
    }
}

#[test]
fn a_user_that_is_a_text_equals_no_number() {
    assert!(is_granted("auth.user_id() <> 7", false, &[]));
    assert!(!is_granted("auth.user_id() = 7", false, &[]));
    assert!(is_granted("auth.user_id() = '7'", false, &[]));
}

/// The text stays what every other expression sees.
#[test]
fn other_expressions_see_the_text_of_a_numeric_user() {
    let yaml = auto_subscribed("SELECT id FROM notes WHERE owner = 'u' || auth.user_id()");
    let found = granted_to_seven(&yaml, true, &[]);
    assert!(found.starts_with(r#"s|0["u7"] priority"#), "{found}");
    assert!(is_granted("typeof(auth.user_id()) = 'text'", true, &[]));
}

/// As a real it would be rounded, and equal other users.
#[test]
fn a_number_beyond_64_bits_is_a_text_only() {
    let yaml = auto_subscribed("SELECT id FROM notes WHERE owner = auth.user_id()");
    for (sub, has_number) in [
        ("9223372036854775807", true),
        ("-9223372036854775808", true),
        ("9223372036854775808", false),
        ("18446744073709551615", false),
    ] {
        let request = format!(r#"{{"sub": "{sub}", "claims": {{"sub": {sub}}}}}"#);
        let found = granted(&yaml, &request, &[]);
        assert!(found.contains(&format!(r#"s|0["{sub}"] priority"#)), "{found}");
        assert_eq!(found.contains(&format!("s|0[{sub}] priority")), has_number, "{found}");
        assert_eq!(found.matches("s|0[").count(), 1 + usize::from(has_number), "{found}");
    }
}
