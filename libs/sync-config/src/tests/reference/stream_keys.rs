//! The keys of a stream.

use expect_test::expect;

use super::super::{compile, granted, list, refused};

/// A file with one stream of these keys.
fn file(keys: &str) -> String {
    format!("config: {{edition: 3}}\nstreams:\n  s:\n    {}\n", keys.replace('\n', "\n    "))
}

const QUERY: &str = "query: SELECT * FROM todos";

/// What a request is granted, and with which priority.
fn granted_to(keys: &str, request: &str) -> String {
    granted(&file(keys), request, &[])
}

#[test]
fn a_stream_subscribes_by_itself_only_if_it_says_so() {
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
fn there_is_one_query_or_a_list_of_them() {
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
        4:14 expected a list of SQL queries, with one at least
        queries: SELECT * FROM todos
        4:14 expected a list of SQL queries, with one at least
        query: [SELECT * FROM todos]
        4:12 `query` must be an SQL query, not a list
        query: 5
        4:12 `5` is not an SQL query
        query:
        4:10 `query` must be an SQL query, not nothing
        query: SELECT * FROM todos
        data: []
        5:5 unknown key `data`
          the keys here are: auto_subscribe, priority, accept_potentially_dangerous_queries, with, query, queries
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
    .assert_eq(&list(compile(yaml).warnings()));
}

#[test]
fn danger_is_warned_of_unless_it_is_accepted() {
    let query = "query: SELECT * FROM todos WHERE list = subscription.parameter('list')";
    let warnings = |keys: &str| compile(&file(keys)).warnings().len();
    assert_eq!(warnings(query), 1);
    let of_connection = query.replace("subscription", "connection");
    assert_eq!(warnings(&of_connection), 1);
    let of_token = format!("{query} AND owner = auth.user_id()");
    assert_eq!(warnings(&of_token), 0);
    let accepted = format!("accept_potentially_dangerous_queries: true\n{query}");
    assert_eq!(warnings(&accepted), 0);
}
