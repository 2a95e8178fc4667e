//! Equal contents have equal hashes, other contents others.

use expect_test::expect;

use super::{compile, definition, stream};

fn definition_hashes(yaml: &str) -> Vec<String> {
    compile(yaml).definitions().iter().map(|definition| definition.hash.clone()).collect()
}

fn lookup_hashes(yaml: &str) -> Vec<String> {
    compile(yaml).lookups().iter().map(|lookup| lookup.hash.clone()).collect()
}

const QUERY: &str = "SELECT id, a || 'x' AS b FROM t WHERE n > 1 AND a = auth.user_id()";

#[test]
fn do_not_depend_on_how_the_file_is_written() {
    let hashes = definition_hashes(&stream(QUERY));
    for same in [
        "SELECT  id,\n a||'x' AS \"b\" -- comment\nFROM public.T WHERE (n > 1) AND auth.user_id() = a;",
        "select Id, (a || 'x') b from t as t where n>1 and a=auth.user_id()",
    ] {
        assert_eq!(definition_hashes(&stream(same)), hashes, "{same}");
    }
    let flow = format!("streams: {{s: {{query: \"{QUERY}\"}}}}\nconfig: {{edition: 3}}\n");
    assert_eq!(definition_hashes(&flow), hashes);
}

#[test]
fn do_not_depend_on_other_streams() {
    let yaml = |names: [&str; 2]| {
        let stream = |name: &str| format!("  {name}:\n    query: SELECT * FROM {name}\n");
        format!("config: {{edition: 3}}\nstreams:\n{}{}", stream(names[0]), stream(names[1]))
    };
    let (forth, back) =
        (definition_hashes(&yaml(["a", "b"])), definition_hashes(&yaml(["b", "a"])));
    assert_eq!(forth[0], back[1]);
    assert_eq!(forth[1], back[0]);
    assert_ne!(forth[0], forth[1]);
}

#[test]
fn do_not_depend_on_who_may_read() {
    let other = QUERY.replace("auth.user_id()", "connection.parameter('u')");
    assert_eq!(definition_hashes(&stream(QUERY)), definition_hashes(&stream(&other)));
    let prompt = format!("{}    priority: 0\n    auto_subscribe: true\n", stream(QUERY));
    assert_eq!(definition_hashes(&stream(QUERY)), definition_hashes(&prompt));
}

#[test]
fn depend_on_all_that_changes_the_contents() {
    let mut hashes = definition_hashes(&stream(QUERY));
    for other in [
        QUERY.replace("id,", "n AS id,"),
        QUERY.replace("'x'", "'y'"),
        QUERY.replace("AS b", "AS c"),
        QUERY.replace("FROM t", "FROM u"),
        QUERY.replace("FROM t", "FROM app.t"),
        QUERY.replace("FROM t", "FROM t AS u"),
        QUERY.replace("n > 1", "n > 2"),
        QUERY.replace("n > 1", "n > 1.0"),
        QUERY.replace("n > 1", "n >= 1"),
        QUERY.replace("a = auth", "b = auth"),
        QUERY.replace(" AND a = auth.user_id()", ""),
        QUERY.replace("id,", "*,"),
    ] {
        hashes.extend(definition_hashes(&stream(&other)));
    }
    hashes.extend(definition_hashes(&stream(QUERY).replace("  s:", "  renamed:")));
    for option in [
        "timestamps_iso8601: false",
        "timestamp_max_precision: seconds",
        "fixed_json_extract: false",
        "custom_postgres_types: false",
    ] {
        let yaml = stream(QUERY).replace("edition: 3", &format!("edition: 3\n  {option}"));
        hashes.extend(definition_hashes(&yaml));
    }
    let count = hashes.len();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), count);
}

#[test]
fn of_lookups_are_those_of_their_rows() {
    let query = |inner: &str| stream(&format!("SELECT * FROM t WHERE a IN ({inner})"));
    let hashes = lookup_hashes(&query("SELECT o FROM m WHERE u = auth.user_id()"));
    assert_eq!(lookup_hashes(&query("SELECT o FROM m x WHERE auth.parameter('y') = x.u")), hashes);
    for other in [
        "SELECT p FROM m WHERE u = auth.user_id()",
        "SELECT o FROM m WHERE v = auth.user_id()",
        "SELECT o FROM m WHERE u = auth.user_id() AND z",
        "SELECT o FROM n WHERE u = auth.user_id()",
        "SELECT o FROM m",
    ] {
        assert_ne!(lookup_hashes(&query(other)), hashes, "{other}");
    }
}

/// A failure means that every device downloads everything again: raise `EVALUATOR_VERSION` if rows
/// may come out differently, else keep the form that is hashed.
#[test]
fn stay_what_they_are_from_release_to_release() {
    expect!["f9205d26b5c6cb25eda4334e88268a867956a2a0d093974e5524ed1b5d8d0032"]
        .assert_eq(&definition_hashes(&stream(QUERY)).join("\n"));
    let yaml = definition(
        &["SELECT a, b FROM m WHERE c = request.user_id() AND d"],
        &["SELECT * FROM t WHERE a = bucket.a AND bucket.b IN e AND lower(f) IN ('x', 1.5)"],
    );
    expect!["a6e7201900da5ee8eea3cf087ad17eb71ecb55f3fdc4633b95a72bacb2ae0b84"]
        .assert_eq(&definition_hashes(&yaml).join("\n"));
    expect!["a2e33a14c7794d92cb609e3c50c85ff11d4341587c325be38459f22981634b51"]
        .assert_eq(&lookup_hashes(&yaml).join("\n"));
}
