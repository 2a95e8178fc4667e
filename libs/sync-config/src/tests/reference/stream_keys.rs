//! The keys of a stream.

use expect_test::expect;

use super::super::{compile, format_findings, granted, refused};

/// Returns a file with one stream that has these keys.
fn file(keys: &str) -> String {
    format!("config: {{edition: 3}}\nstreams:\n  s:\n    {}\n", keys.replace('\n', "\n    "))
}

const QUERY: &str = "query: SELECT * FROM todos";

/// Returns what is granted to a request, with priorities.
fn granted_to(keys: &str, request: &str) -> String {
    granted(&file(keys), request, &[])
}

#[test]
fn a_stream_is_auto_subscribed_only_with_its_key() {
    for keys in [QUERY.to_owned(), format!("auto_subscribe: false\n{QUERY}")] {
        expect![""].assert_eq(&granted_to(&keys, "{}"));
    }
    let auto = format!("auto_subscribe: true\n{QUERY}");
    expect![[r#"
        s|0[] priority 3 [{"default":0}]
        stream s default
    "#]]
    .assert_eq(&granted_to(&auto, "{}"));
    expect![""].assert_eq(&granted_to(&auto, r#"{"defaults": false}"#));
}

#[test]
fn the_priority_is_three_unless_it_is_given() {
    for (priority, expected) in [("0", 0), ("1", 1), ("2", 2), ("3", 3), ("1.0", 1)] {
        let keys = format!("priority: {priority}\nauto_subscribe: true\n{QUERY}");
        let expected = format!("s|0[] priority {expected} [{{\"default\":0}}]\nstream s default\n");
        assert_eq!(granted_to(&keys, "{}"), expected);
    }
    for priority in ["4", "-1", "1.5", "'1'", "high", "true"] {
        let found = refused(&file(&format!("priority: {priority}\n{QUERY}")));
        let text = priority.trim_matches('\'');
        assert_eq!(found, format!("4:15 `priority` must be 0, 1, 2 or 3, not `{text}`\n"));
    }
}

#[test]
fn a_stream_has_one_query_or_a_list() {
    for keys in [
        QUERY,
        "queries: [SELECT * FROM todos]",
        "queries:\n- SELECT * FROM todos\n- SELECT * FROM lists",
    ] {
        assert_eq!(refused(&file(keys)), "accepted\n", "{keys}");
    }

    let mut found = String::new();
    for keys in [
        "auto_subscribe: true",
        "query: SELECT * FROM todos\nqueries: [SELECT * FROM lists]",
        "queries: []",
        "queries: SELECT * FROM todos",
        "query: [SELECT * FROM todos]",
        "query: 5",
        "query:",
        "query: SELECT * FROM todos\ndata: []",
    ] {
        found += &format!("{keys}\n{}", refused(&file(keys)));
    }

    expect![[r#"
        auto_subscribe: true
        3:3 the stream `s` must have either `query` or `queries`
        query: SELECT * FROM todos
        queries: [SELECT * FROM lists]
        3:3 the stream `s` must have either `query` or `queries`
        queries: []
        4:14 expected a list of at least one SQL query
        queries: SELECT * FROM todos
        4:14 expected a list of at least one SQL query
        query: [SELECT * FROM todos]
        4:12 `query` must be an SQL query, not a list
        query: 5
        4:12 `5` is not an SQL query
        query:
        4:10 `query` must be an SQL query, not nothing
        query: SELECT * FROM todos
        data: []
        5:5 unknown key `data`
          the valid keys are: auto_subscribe, priority, accept_potentially_dangerous_queries, with, query, queries
    "#]]
    .assert_eq(&found);
}

#[test]
fn a_cte_of_the_stream_hides_the_one_of_the_file() {
    let yaml = "config: {edition: 3}\nwith:\n  mine: SELECT id FROM lists WHERE owner = auth.parameter('file')\n\
                streams:\n  s:\n    auto_subscribe: true\n    with:\n      \
                mine: SELECT id FROM lists WHERE owner = auth.parameter('stream')\n    \
                query: SELECT * FROM todos WHERE list IN mine\n";

    expect![[r#"
        question 0 ["b"]
        s|0["l1"] priority 3 [{"default":0}]
        stream s default
    "#]]
    .assert_eq(&granted(
        yaml,
        r#"{"claims": {"file": "a", "stream": "b"}}"#,
        &[(r#"0 ["b"]"#, &[r#"["l1"]"#])],
    ));

    expect![[r#"
        3:3 warning: `mine` is not used
    "#]]
    .assert_eq(&format_findings(compile(yaml).warnings()));
}

fn warning_count(keys: &str) -> usize {
    compile(&file(keys)).warnings().len()
}

#[test]
fn dangerous_queries_are_a_warning_unless_accepted() {
    let query = "query: SELECT * FROM todos WHERE list = subscription.parameter('list')";
    assert_eq!(warning_count(query), 1);
    let of_connection = query.replace("subscription", "connection");
    assert_eq!(warning_count(&of_connection), 1);
    let of_token = format!("{query} AND owner = auth.user_id()");
    assert_eq!(warning_count(&of_token), 0);
    let accepted = format!("accept_potentially_dangerous_queries: true\n{query}");
    assert_eq!(warning_count(&accepted), 0);
}

#[test]
fn a_yaml_alias_stands_for_its_anchor() {
    let yaml = "config: {edition: 3}\nstreams:\n  a: &all\n    auto_subscribe: true\n    \
                query: &todos SELECT * FROM todos\n  b: *all\n  c:\n    auto_subscribe: &yes true\n    \
                queries: [*todos, SELECT * FROM lists]\n  d: {auto_subscribe: *yes, query: *todos}\n";

    expect![[r#"
        a|0[] priority 3 [{"default":0}]
        b|0[] priority 3 [{"default":1}]
        c|0[] priority 3 [{"default":2}]
        d|0[] priority 3 [{"default":3}]
        stream a default
        stream b default
        stream c default
        stream d default
    "#]]
    .assert_eq(&granted(yaml, "{}", &[]));

    expect![[r#"
        5:39 `LIMIT` is not supported
          all rows for which the condition holds are synced: order and limit them on the device
    "#]]
    .assert_eq(&refused(&yaml.replace("FROM todos", "FROM todos LIMIT 1")));
}

#[test]
fn findings_in_anchored_values_are_at_the_anchor() {
    for (query, place) in [
        ("&q SELECT id FROM t LIMIT 1", "4:32"),
        ("&q 'SELECT id FROM t LIMIT 1'", "4:33"),
        ("&q \"SELECT id FROM t LIMIT 1\"", "4:33"),
        ("&q\n      SELECT id FROM t LIMIT 1", "5:24"),
        ("&q |\n      SELECT id FROM t\n      LIMIT 1", "6:7"),
        ("&q >-\n      SELECT id FROM t\n      LIMIT 1", "6:7"),
        ("|\n      SELECT id FROM t\n      LIMIT 1", "6:7"),
    ] {
        let yaml = format!("config: {{edition: 3}}\nstreams:\n  s:\n    query: {query}\n");
        let found = refused(&yaml);
        assert!(found.starts_with(&format!("{place} `LIMIT` is not supported\n")), "{found}");
    }
}

#[test]
fn yaml_aliases_are_bounded_and_cannot_be_recursive() {
    expect![[r#"
        2:17 an alias cannot refer to a node that contains it
    "#]]
    .assert_eq(&refused("config: {edition: 3}\nstreams: &a {s: *a}\n"));

    let mut doubled = "a0: &a0 {x: 1}\n".to_owned();
    for level in 1..=25 {
        let former = level - 1;
        doubled += &format!("a{level}: &a{level} [*a{former}, *a{former}]\n");
    }

    let found = refused(&doubled);
    assert!(found.contains("the aliases up to here expand to too many nodes"), "{found}");

    let mut nested = "a0: &a0 {x: 1}\n".to_owned();
    for level in 1..=40 {
        nested += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
    }

    let found = refused(&nested);
    assert!(found.contains("the file is nested too deeply"), "{found}");
}
