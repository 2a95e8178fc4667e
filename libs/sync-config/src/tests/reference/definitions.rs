//! Bucket definitions of editions 1 and 2.

use crate::tests::{compile, definition, format_findings, granted, refused, row, rows, table};

const USER: &str = "SELECT request.user_id() AS u";
const DATA: &str = "SELECT id FROM t WHERE a = bucket.u";

/// Checks that each parameter query has a finding with this text, or is `accepted`.
fn check_parameters(cases: &[(&str, &str)]) {
    for (query, reason) in cases {
        let found = refused(&definition(&[query], &[DATA]));
        assert!(found.contains(reason), "{query}: {found}");
    }
}

/// Checks data queries likewise. A parameter query that yields `u` is added where it is used.
fn check_data(cases: &[(&str, &str)]) {
    for (query, reason) in cases {
        let parameters = if query.contains("bucket.u") { &[USER][..] } else { &[] };
        let found = refused(&definition(parameters, &[query]));
        assert!(found.contains(reason), "{query}: {found}");
    }
}

/// Returns the buckets that a request gets without lookups, as `["u1"] 3`.
fn buckets(parameters: &[&str], request: &str) -> Vec<String> {
    let text = granted(&definition(parameters, &[DATA]), request, &[]);
    let lines = text.lines().filter_map(|line| line.strip_prefix('b'));
    lines.map(|line| line.split_once(" [{").unwrap().0.replace("priority ", "")).collect()
}

#[test]
fn a_static_query_yields_no_bucket_or_one_for_a_request() {
    let query = "SELECT request.user_id() AS u WHERE request.jwt() ->> 'role' = 'x'";
    assert_eq!(buckets(&[query], r#"{"claims": {"role": "x"}}"#), [r#"["u1"] 3"#]);
    assert!(buckets(&[query], r#"{"claims": {"role": "y"}}"#).is_empty());
    assert!(buckets(&[query], "{}").is_empty());
    assert_eq!(buckets(&["SELECT 1.0 AS u"], "{}"), ["[1] 3"]);
    // NULL is equal to nothing.
    assert!(buckets(&["SELECT request.jwt() ->> 'org' AS u"], "{}").is_empty());
    check_parameters(&[
        ("SELECT a AS u", "`a` is a column, but the query has no table"),
        ("SELECT request.user_id()", "this expression has no name"),
        ("SELECT bucket.x AS u", "bucket"),
    ]);
}

#[test]
fn a_table_query_is_of_one_table_without_alias_join_or_inner_query() {
    check_parameters(&[
        ("SELECT id AS u FROM lists WHERE owner = request.user_id()", "accepted"),
        ("SELECT lists.id AS u FROM app.lists WHERE lists.owner = request.user_id()", "accepted"),
        ("SELECT id AS u FROM lists AS l", "the alias `l` is not supported"),
        ("SELECT id AS u FROM lists, users", "more than one table"),
        ("SELECT l.id AS u FROM lists JOIN users ON a = b", "more than one table"),
        ("SELECT id AS u FROM lists WHERE a IN (SELECT b FROM c)", "a subquery"),
        ("SELECT id AS u FROM (SELECT id FROM lists) AS l", "a subquery in `FROM`"),
        ("SELECT * FROM lists", "`*` is not supported in `parameters`"),
    ]);
}

#[test]
fn outputs_come_from_the_row_or_from_the_request() {
    check_parameters(&[
        ("SELECT upper(id) AS u FROM lists", "accepted"),
        ("SELECT request.user_id() AS u FROM lists", "accepted"),
        ("SELECT 'x' AS u FROM lists", "accepted"),
        ("SELECT id || request.user_id() AS u FROM lists", "cannot mix values of the row and of"),
    ]);
}

fn lookup_line(key: &str) -> String {
    format!("lookup 0 {key} -> [\"l1\"]\n")
}

/// Returns the lookups of a row of `lists` under a table query with this condition.
fn lookups_with_condition(condition: &str) -> String {
    let lists = table("lists(id text, owner text, members text, archived bool)");
    let query = format!("SELECT id AS u FROM lists WHERE {condition}");
    let config = compile(&definition(&[&query], &[DATA]));
    rows(&config, &lists, &[r#"l1|u1|["u1","u2"]|f"#])
}

#[test]
fn a_table_query_has_row_filters_and_equalities_with_the_request() {
    assert_eq!(lookups_with_condition("owner = request.user_id()"), lookup_line(r#"["u1"]"#));
    assert_eq!(
        lookups_with_condition("request.user_id() = owner AND NOT archived"),
        lookup_line(r#"["u1"]"#)
    );
    assert_eq!(lookups_with_condition("owner = request.user_id() AND archived"), "");
    assert_eq!(
        lookups_with_condition("upper(owner) = upper(request.user_id())"),
        lookup_line(r#"["U1"]"#)
    );
    assert_eq!(lookups_with_condition("id IN request.jwt() -> 'ids'"), lookup_line(r#"["l1"]"#));
    assert_eq!(lookups_with_condition("id IN (request.jwt() -> 'ids')"), lookup_line(r#"["l1"]"#));
    assert_eq!(
        lookups_with_condition("request.user_id() IN members"),
        lookup_line(r#"["u1"]"#) + &lookup_line(r#"["u2"]"#)
    );
    assert_eq!(lookups_with_condition("request.jwt() ->> 'role' = 'x'"), lookup_line("[]"));

    check_parameters(&[
        ("SELECT id AS u FROM lists WHERE owner > request.user_id()", "by `=` and `IN` only"),
        ("SELECT id AS u FROM lists WHERE owner <> request.user_id()", "by `=` and `IN` only"),
        ("SELECT id AS u FROM lists WHERE NOT owner = request.user_id()", "by `=` and `IN` only"),
        (
            "SELECT id AS u FROM lists WHERE owner IN request.user_id()",
            "a single value, not an array",
        ),
        (
            "SELECT id AS u FROM lists WHERE owner IN (request.user_id())",
            "a single value, not an array",
        ),
        ("SELECT id AS u FROM lists WHERE owner || request.user_id() = 'x'", "mixes values"),
    ]);
}

/// Two equalities with one request value must both be true.
#[test]
fn two_equalities_with_one_request_value_are_both_looked_up() {
    let query =
        "SELECT id AS u FROM lists WHERE owner = request.user_id() AND id = request.user_id()";
    let yaml = definition(&[query], &[DATA]);
    let found = row(&yaml, "lists(id text, owner text)", "l1|u1");
    assert_eq!(found, "lookup 0 [\"u1\",\"l1\"] -> [\"l1\"]\n");
    let found = granted(&yaml, "{}", &[]);
    assert!(found.starts_with("question 0 [\"u1\",\"u1\"]\n"), "{found}");
}

/// OR between conditions that need different parameters acts like two queries.
#[test]
fn alternatives_with_different_parameters_act_like_two_queries() {
    let one = "SELECT id AS u FROM lists WHERE owner = request.user_id() OR org = request.jwt() ->> 'org'";
    let two = [
        "SELECT id AS u FROM lists WHERE owner = request.user_id()",
        "SELECT id AS u FROM lists WHERE org = request.jwt() ->> 'org'",
    ];
    let request = r#"{"claims": {"org": "o1"}}"#;
    let answers: [(&str, &[&str]); 2] =
        [(r#"0 ["u1"]"#, &[r#"["l1"]"#]), (r#"1 ["o1"]"#, &[r#"["l2"]"#])];
    let found = granted(&definition(&[one], &[DATA]), request, &answers);

    assert_eq!(found, granted(&definition(&two, &[DATA]), request, &answers));
    assert!(
        found.contains("b[\"l1\"] priority 3") && found.contains("b[\"l2\"] priority 3"),
        "{found}"
    );
}

#[test]
fn a_table_valued_query_yields_a_bucket_for_each_value() {
    let claims =
        r#"{"claims": {"ids": ["p1", 2, null, 3.5, "p1"], "one": "p1", "o": {"a": "p1"}}}"#;

    assert_eq!(
        buckets(&["SELECT value AS u FROM json_each(request.jwt() -> 'ids')"], claims),
        [r#"["p1"] 3"#, "[2] 3", "[3.5] 3"]
    );

    assert_eq!(
        buckets(
            &[
                "SELECT e.value AS u FROM json_each(request.jwt() -> 'ids') AS e WHERE e.value = 'p1'"
            ],
            claims
        ),
        [r#"["p1"] 3"#]
    );

    // A scalar is one element, an object has its member values.
    assert_eq!(
        buckets(&["SELECT value AS u FROM json_each(request.jwt() -> 'one')"], claims),
        [r#"["p1"] 3"#]
    );
    assert_eq!(
        buckets(&["SELECT value AS u FROM json_each(request.jwt() -> 'o')"], claims),
        [r#"["p1"] 3"#]
    );
    assert!(
        buckets(&["SELECT value AS u FROM json_each(request.jwt() -> 'none')"], claims).is_empty()
    );
    assert_eq!(
        buckets(&["SELECT key AS u FROM json_each(request.jwt() -> 'o')"], claims),
        [r#"["a"] 3"#]
    );
    assert_eq!(
        buckets(&["SELECT value || 'x' AS u FROM json_each('[\"y\", 1]')"], claims),
        [r#"["yx"] 3"#, r#"["1x"] 3"#]
    );

    check_parameters(&[
        (
            "SELECT path AS u FROM json_each(request.jwt() -> 'a')",
            "`json_each` has no column `path`",
        ),
        ("SELECT value AS u FROM json_each()", "`json_each` takes 1 argument"),
        ("SELECT value AS u FROM json_tree(request.jwt())", "json_tree"),
    ]);
}

#[test]
fn parameter_queries_are_a_union_with_equal_names_in_any_order() {
    let data = "SELECT id FROM t WHERE a = bucket.a AND b = bucket.b";
    let queries = ["SELECT 'x' AS a, 'y' AS b", "SELECT 'v' AS b, 'u' AS a"];
    let found = granted(&definition(&queries, &[data]), "{}", &[]);
    assert!(found.contains("b[\"x\",\"y\"]") && found.contains("b[\"u\",\"v\"]"), "{found}");
    for other in ["SELECT 'x' AS a", "SELECT 'x' AS a, 'y' AS c", "SELECT 1 AS a, 2 AS b, 3 AS c"] {
        let found = refused(&definition(&[queries[0], other], &[data]));
        assert!(found.contains("must select the same names"), "{other}: {found}");
    }
}

fn with_priority_key(query: &str, priority: &str) -> String {
    definition(&[query], &[DATA]).replace("  b:\n", &format!("  b:\n    priority: {priority}\n"))
}

#[test]
fn a_priority_comes_from_the_query_or_from_a_key() {
    for priority in 0..4 {
        let query = format!("SELECT request.user_id() AS u, {priority} AS _priority");
        assert_eq!(buckets(&[&query], "{}"), [format!(r#"["u1"] {priority}"#)]);
    }

    let queries = ["SELECT 'x' AS u, 2 AS _priority", "SELECT 'x' AS u, 1 AS _priority"];
    assert_eq!(buckets(&queries, "{}"), [r#"["x"] 1"#]);

    let queries = ["SELECT 'x' AS u, 1 AS _priority", "SELECT 'y' AS u"];
    assert_eq!(buckets(&queries, "{}"), [r#"["x"] 1"#, r#"["y"] 3"#]);

    for priority in ["4", "-1", "1 + 1", "'1'", "1.0", "NULL", "TRUE", "request.parameter('p')"] {
        let query = format!("SELECT request.user_id() AS u, {priority} AS _priority");
        check_parameters(&[(&query, "`_priority` must be")]);
    }

    assert_eq!(refused(&with_priority_key(USER, "0")), "accepted\n");
    assert!(refused(&with_priority_key(USER, "4")).contains("`priority` must be 0, 1, 2 or 3"));

    let found = refused(&with_priority_key("SELECT request.user_id() AS u, 1 AS _priority", "1"));
    assert!(found.contains("`_priority` and the key `priority` cannot both be given"), "{found}");
}

#[test]
fn the_request_is_read_by_functions_and_two_tables() {
    let request =
        r#"{"claims": {"org": "o1", "parameters": {"team": "t1"}}, "parameters": {"p": "q"}}"#;

    for (expression, bucket) in [
        ("request.user_id()", r#"["u1"] 3"#),
        ("request.jwt() ->> 'org'", r#"["o1"] 3"#),
        ("request.parameters() ->> 'p'", r#"["q"] 3"#),
        ("request.parameter('p')", r#"["q"] 3"#),
        ("token_parameters.user_id", r#"["u1"] 3"#),
        ("token_parameters.team", r#"["t1"] 3"#),
        ("user_parameters.p", r#"["q"] 3"#),
    ] {
        assert_eq!(
            buckets(&[&format!("SELECT {expression} AS u")], request),
            [bucket],
            "{expression}"
        );
    }

    assert!(buckets(&["SELECT token_parameters.org AS u"], request).is_empty());

    check_parameters(&[
        ("SELECT auth.user_id() AS u", "`auth.user_id` is not available in bucket definitions"),
        ("SELECT subscription.parameter('x') AS u", "is not available in bucket definitions"),
        ("SELECT request.foo() AS u", "unknown function `request.foo`"),
        ("SELECT request.user_id(1) AS u", "`request.user_id` takes no argument"),
        ("SELECT request.parameter() AS u", "`request.parameter` takes one argument"),
    ]);

    check_data(&[(
        "SELECT id FROM t WHERE a = request.user_id()",
        "not available in data queries",
    )]);
}

/// Returns whether the parameter query is a warning, which the stream's key silences.
fn is_dangerous(query: &str) -> bool {
    let yaml = definition(&[query], &[DATA]);
    let quiet = yaml.replace("  b:\n", "  b:\n    accept_potentially_dangerous_queries: true\n");
    assert_eq!(format_findings(compile(&quiet).warnings()), "", "{query}");
    format_findings(compile(&yaml).warnings()).contains("any client can read this")
}

#[test]
fn depending_only_on_unauthenticated_parameters_is_a_warning() {
    for query in [
        "SELECT request.parameter('p') AS u",
        "SELECT user_parameters.p AS u",
        "SELECT id AS u FROM lists WHERE id = request.parameter('p')",
        "SELECT id AS u FROM lists WHERE id IN request.parameters() -> 'ids'",
        "SELECT value AS u FROM json_each(request.parameter('ids'))",
        "SELECT 'x' AS u WHERE request.parameter('p')",
    ] {
        assert!(is_dangerous(query), "{query}");
    }

    for query in [
        USER,
        "SELECT id AS u FROM lists",
        "SELECT id AS u FROM lists WHERE id = request.parameter('p') AND owner = request.user_id()",
        "SELECT request.user_id() AS u WHERE request.parameter('p')",
    ] {
        assert!(!is_dangerous(query), "{query}");
    }
}

#[test]
fn a_data_query_uses_each_parameter_once_and_unchanged() {
    check_data(&[
        ("SELECT id FROM t WHERE a = bucket.u", "accepted"),
        ("SELECT id FROM t WHERE upper(a) = bucket.u AND b", "accepted"),
        ("SELECT id FROM t WHERE bucket.u IN a", "accepted"),
        ("SELECT id FROM t WHERE bucket.u IN (a)", "accepted"),
        ("SELECT id FROM t WHERE a = bucket.u AND a = bucket.u", "accepted"),
        ("SELECT id FROM t WHERE a = bucket.u OR b = bucket.u", "accepted"),
        ("SELECT id FROM t WHERE a = bucket.u AND b = bucket.u", "accepted"),
        ("SELECT id FROM t WHERE a = bucket.u AND (a = bucket.u OR b = bucket.u)", "accepted"),
        ("SELECT id FROM t WHERE a = bucket.u OR b", "does not use the parameter `bucket.u`"),
        (
            "SELECT id FROM t WHERE a = upper(bucket.u)",
            "can only be compared with the row as it is",
        ),
        ("SELECT id FROM t WHERE a > bucket.u", "can only be compared with the row as it is"),
        ("SELECT id FROM t WHERE NOT a = bucket.u", "can only be compared with the row as it is"),
        ("SELECT id FROM t WHERE a = 1 AND bucket.u", "can only be compared with the row as it is"),
        ("SELECT id FROM t WHERE a IN bucket.u", "can only be compared with the row as it is"),
        ("SELECT id, bucket.u AS x FROM t WHERE a = bucket.u", "cannot depend on the request"),
    ]);

    let found = refused(&definition(&[USER], &["SELECT id FROM t"]));
    assert!(found.contains("does not use the parameter `bucket.u`"), "{found}");

    let found = refused(&definition(&[], &[DATA]));
    assert!(found.contains("the bucket has no parameter `u`"), "{found}");
}

fn bucket_line(key: &str) -> String {
    format!("b[{key}] t/1 {{\"id\":\"1\"}}\n")
}

fn row_with_condition(condition: &str) -> String {
    let yaml = definition(&[USER], &[&format!("SELECT id FROM t WHERE {condition}")]);
    row(&yaml, "t(id text, a text)", "1|x")
}

/// Then all rows are in the bucket with that value.
#[test]
fn a_parameter_may_be_compared_with_a_constant() {
    assert_eq!(row_with_condition("bucket.u = 'u1'"), bucket_line("\"u1\""));
    assert_eq!(row_with_condition("1.0 = bucket.u AND a = 'x'"), bucket_line("1"));
    assert_eq!(row_with_condition("bucket.u = 'u1' AND a = 'y'"), "");

    assert_eq!(
        row_with_condition("bucket.u = 'u1' OR bucket.u = a"),
        bucket_line("\"u1\"") + &bucket_line("\"x\"")
    );

    assert_eq!(
        row_with_condition("bucket.u IN '[\"u1\", null, 2]'"),
        bucket_line("\"u1\"") + &bucket_line("2")
    );

    assert_eq!(
        row_with_condition("bucket.u IN ('u1', 'u2')"),
        bucket_line("\"u1\"") + &bucket_line("\"u2\"")
    );
}

fn output_of(query: &str) -> String {
    row(&definition(&[], &[query]), "t(id text, a text, _b text)", "1|x|y")
}

#[test]
fn a_data_query_outputs_an_id_under_the_name_of_its_table_or_alias() {
    assert_eq!(output_of("SELECT * FROM t"), "b[] t/1 {\"id\":\"1\",\"a\":\"x\"}\n");
    assert_eq!(output_of("SELECT * FROM t AS o"), "b[] o/1 {\"id\":\"1\",\"a\":\"x\"}\n");
    assert_eq!(output_of("SELECT o.* FROM t o"), "b[] o/1 {\"id\":\"1\",\"a\":\"x\"}\n");
    assert_eq!(output_of("SELECT id FROM t AS \"O\""), "b[] O/1 {\"id\":\"1\"}\n");
    assert_eq!(output_of("SELECT id FROM t AS O"), "b[] o/1 {\"id\":\"1\"}\n");
    assert_eq!(
        output_of("SELECT a AS id, _b FROM public.t"),
        "b[] t/x {\"id\":\"x\",\"_b\":\"y\"}\n"
    );
    assert_eq!(
        output_of("SELECT id, a AS x, _b AS x FROM t"),
        "b[] t/1 {\"id\":\"1\",\"x\":\"y\"}\n"
    );

    check_data(&[
        ("SELECT a FROM t", "the query has no column `id`"),
        ("SELECT id, upper(a) FROM t", "this expression has no name"),
        ("SELECT t.id FROM t AS o", "`t`"),
        ("SELECT id", "the query has no `FROM`"),
        ("SELECT value AS id FROM json_each('[1]')", "must select from a table"),
    ]);
}

#[test]
fn all_other_sql_is_rejected() {
    for (rest, reason) in [
        ("JOIN s ON s.a = t.a", "more than one table"),
        (", s", "more than one table"),
        ("GROUP BY id", "`GROUP` is not supported"),
        ("HAVING 1", "`HAVING` is not supported"),
        ("ORDER BY id", "`ORDER` is not supported"),
        ("LIMIT 1", "`LIMIT` is not supported"),
        ("OFFSET 1", "`OFFSET` is not supported"),
        ("FOR UPDATE", "`FOR` is not supported"),
        ("UNION SELECT id FROM s", "`UNION` is not supported"),
        ("WHERE a LIKE 'x'", "`LIKE` requires edition 3"),
        ("WHERE a BETWEEN 1 AND 2", "`BETWEEN` requires edition 3"),
        ("WHERE CASE WHEN a THEN 1 END", "`CASE` requires edition 3"),
        ("WHERE a IN (SELECT a FROM s)", "a subquery"),
        ("WHERE EXISTS (SELECT a FROM s)", "a subquery"),
        ("WHERE a = ?", "`?` is not supported"),
        ("WHERE a = now()", "`now`"),
    ] {
        check_data(&[(&format!("SELECT id FROM t {rest}"), reason)]);
    }

    check_data(&[
        ("SELECT DISTINCT id FROM t", "`DISTINCT` and `ALL` are not supported here"),
        ("WITH c AS (SELECT 1 AS x) SELECT id FROM t", "`WITH` is not supported here"),
        ("SELECT count(*) AS id FROM t", "count"),
        ("SELECT id FROM (SELECT id FROM t) AS s", "a subquery in `FROM`"),
        ("INSERT INTO t VALUES (1)", "SELECT"),
    ]);
}

#[test]
fn an_evaluation_error_skips_the_row_for_its_query() {
    let yaml = definition(&[], &["SELECT id, a ->> 'x' AS x FROM t", "SELECT id FROM t AS u"]);
    let found = row(&yaml, "t(id text, a text)", "1|{");
    assert_eq!(
        found,
        "b[] u/1 {\"id\":\"1\"}\nerror b: a value is not valid JSON, or is nested more than 1000 levels deep\n"
    );
    let yaml = definition(&["SELECT a ->> 'x' AS u FROM t"], &[DATA]);
    let found = row(&yaml, "t(id text, a text)", "1|{");
    assert_eq!(
        found,
        "b[\"{\"] t/1 {\"id\":\"1\"}\nerror lookup 0: a value is not valid JSON, or is nested more than 1000 levels deep\n"
    );
}

#[test]
fn parameters_are_optional_and_data_is_required() {
    for keys in [
        "    data: [SELECT id FROM t]\n",
        "    parameters: SELECT 1 AS u\n    data: [SELECT id FROM t WHERE a = bucket.u]\n",
        "    parameters: [SELECT 1 AS u]\n    data: [SELECT id FROM t WHERE a = bucket.u]\n",
        "    accept_potentially_dangerous_queries: true\n    priority: 1\n    data: [SELECT id FROM t]\n",
    ] {
        let found = refused(&format!("bucket_definitions:\n  b:\n{keys}"));
        assert_eq!(found, "accepted\n", "{keys}");
    }

    for (keys, reason) in [
        ("    parameters: SELECT 1 AS u\n", "data"),
        ("    data: []\n", "expected a list of at least one SQL query"),
        ("    data: SELECT id FROM t\n", "expected a list of at least one SQL query"),
        ("    query: SELECT id FROM t\n    data: [SELECT id FROM t]\n", "query"),
        ("    data: [5]\n", "5"),
    ] {
        let found = refused(&format!("bucket_definitions:\n  b:\n{keys}"));
        assert!(found.contains(reason) && found != "accepted\n", "{keys}: {found}");
    }
}
