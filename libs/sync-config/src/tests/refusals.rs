//! Files that are rejected: place, message and hint of each finding.

use expect_test::{Expect, expect};

use super::{compile, definition, format_findings, refused, stream};

fn check(yaml: &str, expected: Expect) {
    expected.assert_eq(&refused(yaml));
}

#[test]
fn files_that_are_not_configs_are_rejected() {
    check(
        "",
        expect![[r#"
        1:1 the file is empty
          define `streams` or `bucket_definitions`
    "#]],
    );

    check(
        "a: [",
        expect![[r#"
        1:5 not YAML: while parsing a node, did not find expected node content
    "#]],
    );

    check(
        "- a",
        expect![[r#"
        1:1 the file must be a map, not a list
    "#]],
    );

    check(
        "a: 1\n---\nb: 2",
        expect![[r#"
        3:1 the file has more than one YAML document
    "#]],
    );

    check(
        "streams: !a {}\n",
        expect![[r#"
        1:10 YAML tags are not supported
    "#]],
    );

    check(
        "bucket_definitions: {}\n",
        expect![[r#"
        1:1 there is nothing to sync
          define `streams` (edition 3) or `bucket_definitions`
    "#]],
    );

    check(
        "config: {edition: 3}\n",
        expect![[r#"
        1:1 there is nothing to sync
          define `streams` (edition 3) or `bucket_definitions`
    "#]],
    );

    check(
        &format!("a: \"{}\"", " ".repeat(1 << 20)),
        expect![[r#"
        1:1 the file is larger than 1048576 bytes
    "#]],
    );
}

#[test]
fn unknown_wrong_or_duplicate_keys_are_rejected() {
    check(
        "config:\n  edition: 3\n  color: red\nstreams:\n  s:\n    qery: x\n    priority: 4\n    \
         auto_subscribe: yes\nstream: {}\n",
        expect![[r#"
            3:3 unknown key `color`
              the valid keys are: edition, timestamps_iso8601, timestamp_max_precision, fixed_json_extract, custom_postgres_types, versioned_bucket_ids, unstable_sqlite_expression_engine, storage_version
            5:3 the stream `s` must have either `query` or `queries`
            6:5 unknown key `qery`
              the valid keys are: auto_subscribe, priority, accept_potentially_dangerous_queries, with, query, queries
            7:15 `priority` must be 0, 1, 2 or 3, not `4`
            8:21 `auto_subscribe` must be `true` or `false`, not `yes`
              write `true`
            9:1 unknown key `stream`
              the valid keys are: config, with, streams, bucket_definitions, event_definitions
        "#]],
    );

    check(
        "config: {edition: 3}\nstreams:\n  s:\n    query: SELECT * FROM a\n    query: SELECT * FROM b\n  \
         s:\n    query: SELECT * FROM c\n",
        expect![[r#"
            5:5 `query` is defined twice
            6:3 `s` is defined twice
        "#]],
    );

    check(
        "config: [3]\nstreams: [a]\nbucket_definitions: ~\n",
        expect![[r#"
            1:9 `config` must be a map, not a list
            2:1 warning: without edition 3 `streams` are an early form with fewer features
              set `edition: 3` in `config`
            2:10 `streams` must be a map, not a list
            3:21 `bucket_definitions` is empty
              indent what belongs to it
        "#]],
    );

    check(
        "config: {edition: 3}\nstreams:\n  s: {query: SELECT * FROM a, queries: [SELECT * FROM a]}\n  \
         t: {queries: []}\n  u: {query: 5}\n  v: {query: {a: b}}\n  w: SELECT\n  \"x#y\": {query: a}\n",
        expect![[r#"
            3:3 the stream `s` must have either `query` or `queries`
            4:16 expected a list of at least one SQL query
            5:14 `5` is not an SQL query
            6:14 `query` must be an SQL query, not a map
            7:6 the stream `w` must be a map, not a scalar
            8:18 not SQL: expected SELECT, VALUES, or a subquery in the query body, f…
              is a word, comma or parenthesis missing before it, or one too many?
        "#]],
    );

    check(
        "with: {a: SELECT 1}\nevent_definitions: {}\nbucket_definitions: {}\n",
        expect![[r#"
            1:1 `with` requires edition 3
              set `edition: 3` in `config`
            2:1 warning: `event_definitions` has no effect: events are not delivered
              remove it, unless a PowerSync service reads the file
        "#]],
    );

    check(
        "config: {edition: 3}\nstreams: {s: {with: {}, query: SELECT * FROM a}}\n",
        expect![[r#"
            accepted
        "#]],
    );
}

#[test]
fn unsupported_options_are_rejected() {
    for (options, expected) in [
        (
            "edition: 4",
            expect![[r#"
            1:19 `edition` must be 1, 2 or 3
        "#]],
        ),
        (
            "edition: '3'",
            expect![[r#"
            1:19 `edition` must be 1, 2 or 3
        "#]],
        ),
        (
            "{edition: 3, unstable_sqlite_expression_engine: 1}",
            expect![[r#"
            1:57 `unstable_sqlite_expression_engine` must be `true` or `false`, not `1`
        "#]],
        ),
        (
            "{edition: 3, fixed_json_extract: false, unstable_sqlite_expression_engine: true}",
            expect![[r#"
            1:49 `unstable_sqlite_expression_engine` needs `fixed_json_extract`
              set `fixed_json_extract: true`, or remove it
        "#]],
        ),
        (
            "{edition: 2, unstable_sqlite_expression_engine: true}",
            expect![[r#"
                1:22 `unstable_sqlite_expression_engine` requires edition 3
                  set `edition: 3`, or remove it
                2:1 warning: without edition 3 `streams` are an early form with fewer features
                  set `edition: 3` in `config`
            "#]],
        ),
        (
            "{edition: 3, timestamp_max_precision: minutes}",
            expect![[r#"
            1:47 `timestamp_max_precision` must be `seconds`, `milliseconds`, `microseconds` or `nanoseconds`
        "#]],
        ),
        (
            "{edition: 3, timestamps_iso8601: false, timestamp_max_precision: seconds}",
            expect![[r#"
                1:74 `timestamp_max_precision` needs `timestamps_iso8601`
                  set `timestamps_iso8601: true`, or remove the precision
            "#]],
        ),
        (
            "{edition: 3, storage_version: 7}",
            expect![[r#"
            1:39 `storage_version` must be 2 or 3
        "#]],
        ),
        (
            "{edition: 3, fixed_json_extract: 1}",
            expect![[r#"
            1:42 `fixed_json_extract` must be `true` or `false`, not `1`
        "#]],
        ),
    ] {
        let options =
            if options.starts_with('{') { options.to_owned() } else { format!("{{{options}}}") };

        check(
            &format!("config: {options}\nstreams: {{s: {{query: SELECT * FROM a}}}}\n"),
            expected,
        );
    }
}

#[test]
fn options_without_effect_are_accepted() {
    compile(
        "config: {edition: 3, storage_version: 3, versioned_bucket_ids: false, \
         unstable_sqlite_expression_engine: false, custom_postgres_types: true, \
         timestamp_max_precision: nanoseconds}\nstreams: {s: {query: SELECT * FROM a}}\n",
    );
}

#[test]
fn each_edition_has_one_kind_of_section() {
    check(
        "config: {edition: 3}\nbucket_definitions: {b: {data: [SELECT * FROM a]}}\n",
        expect![[r#"
            2:1 `bucket_definitions` are not supported in edition 3
              write `streams`, or set `edition: 2` in `config`
        "#]],
    );

    check(
        "streams: {b: {query: SELECT * FROM a}}\n",
        expect![[r#"
            accepted
        "#]],
    );

    compile("bucket_definitions: {b: {data: [SELECT * FROM a]}}\n");
}

/// Returns a stream whose condition has `2^count` alternatives.
fn conjunction_of_pairs(count: usize) -> String {
    let pairs: Vec<String> = (0..count)
        .map(|index| format!("(a = auth.parameter('a{index}') OR b = auth.parameter('b{index}'))"))
        .collect();
    stream(&format!("SELECT id FROM t WHERE {}", pairs.join(" AND ")))
}

#[test]
fn conditions_with_too_many_alternatives_are_rejected() {
    compile(&conjunction_of_pairs(6));
    check(
        &conjunction_of_pairs(7),
        expect![[r#"
            6:31 the condition has more than 100 alternatives
              each alternative of OR with values of the request is a family of buckets: use fewer
        "#]],
    );
}

/// Returns a stream of `count` queries, each of which has a family of buckets.
fn stream_with_families(count: usize) -> String {
    let queries: String = (0..count)
        .map(|index| {
            format!("      - SELECT id FROM t WHERE a{index} = auth.user_id() || {index}\n")
        })
        .collect();
    format!("config: {{edition: 3}}\nstreams:\n  s:\n    queries:\n{queries}")
}

#[test]
fn streams_with_too_many_families_are_rejected() {
    assert_eq!(compile(&stream_with_families(100)).definitions().len(), 100);
    check(
        &stream_with_families(101),
        expect![[r#"
        105:9 the stream `s` has more than 100 families of buckets
    "#]],
    );
}

#[test]
fn all_errors_are_reported_at_once() {
    check(
        "config: {edition: 3}\nstreams:\n  a:\n    query: SELECT id, x() AS x, y() AS y FROM t \
         WHERE z() = 1\n  b:\n    query: SELECT a FROM t LIMIT 1\n  c:\n    query: SELECT\n",
        expect![[r#"
            4:23 unknown function `x`
              the functions are: upper, lower, length, hex, base64, typeof, ifnull, iif, instr, substring, substr, json_extract, json_array_length, json_valid, json_keys, unixepoch, datetime, uuid_blob, st_asgeojson, st_astext, st_x, st_y, coalesce, nullif, abs, round, trim, ltrim, rtrim, replace
            4:33 unknown function `y`
              the functions are: upper, lower, length, hex, base64, typeof, ifnull, iif, instr, substring, substr, json_extract, json_array_length, json_valid, json_keys, unixepoch, datetime, uuid_blob, st_asgeojson, st_astext, st_x, st_y, coalesce, nullif, abs, round, trim, ltrim, rtrim, replace
            4:55 unknown function `z`
              the functions are: upper, lower, length, hex, base64, typeof, ifnull, iif, instr, substring, substr, json_extract, json_array_length, json_valid, json_keys, unixepoch, datetime, uuid_blob, st_asgeojson, st_astext, st_x, st_y, coalesce, nullif, abs, round, trim, ltrim, rtrim, replace
            6:28 `LIMIT` is not supported
              all rows for which the condition holds are synced: order and limit them on the device
            8:12 the query has no `FROM`
              a stream selects rows of a table
        "#]],
    );
}

fn check_definitions(cases: &[(&[&str], &[&str])], expected: Expect) {
    let found: String = cases
        .iter()
        .map(|(parameters, data)| {
            format!("{parameters:?} {data:?}\n{}", refused(&definition(parameters, data)))
        })
        .collect();
    expected.assert_eq(&found);
}

#[test]
fn invalid_data_queries_are_rejected() {
    let user = "SELECT request.user_id() AS u";

    check_definitions(
        &[
            (&[user], &["SELECT id FROM t"]),
            (&[user], &["SELECT id FROM t WHERE a = bucket.v"]),
            (&[], &["SELECT id FROM t WHERE a = bucket.v"]),
            (&[user], &["SELECT id FROM t WHERE a = bucket.u OR b = 1"]),
            (&[user], &["SELECT id FROM t WHERE a = upper(bucket.u)"]),
            (&[user], &["SELECT id FROM t WHERE a > bucket.u"]),
            (&[user], &["SELECT id FROM t WHERE bucket.u = NULL"]),
            (&[user], &["SELECT id FROM t WHERE bucket.u IN '[null]'"]),
            (&[user], &["SELECT id FROM t WHERE a IN bucket.u"]),
            (&[user], &["SELECT id FROM t WHERE NOT a = bucket.u"]),
            (&[user], &["SELECT id, bucket.u AS u FROM t WHERE a = bucket.u"]),
            (&[user], &["SELECT id FROM t WHERE a = bucket.u AND b = request.user_id()"]),
            (&[user], &["SELECT a FROM t WHERE a = bucket.u"]),
            (&[user], &["SELECT id FROM t WHERE a = bucket.u AND b IN (SELECT c FROM v)"]),
        ],
        expect![[r#"
            ["SELECT request.user_id() AS u"] ["SELECT id FROM t"]
            10:9 the query does not use the parameter `bucket.u`
              add `AND column = bucket.u` to each alternative of WHERE
            ["SELECT request.user_id() AS u"] ["SELECT id FROM t WHERE a = bucket.v"]
            10:36 the bucket has no parameter `v`
              its parameters are: u
            [] ["SELECT id FROM t WHERE a = bucket.v"]
            7:36 the bucket has no parameter `v`
              `parameters` of this bucket definition select none
            ["SELECT request.user_id() AS u"] ["SELECT id FROM t WHERE a = bucket.u OR b = 1"]
            10:9 the query does not use the parameter `bucket.u`
              add `AND column = bucket.u` to each alternative of WHERE
            ["SELECT request.user_id() AS u"] ["SELECT id FROM t WHERE a = upper(bucket.u)"]
            10:32 a parameter of the bucket can only be compared with the row as it is
              write `column = bucket.<name>` or `bucket.<name> IN <array of the row>`
            ["SELECT request.user_id() AS u"] ["SELECT id FROM t WHERE a > bucket.u"]
            10:32 a parameter of the bucket can only be compared with the row as it is
              write `column = bucket.<name>` or `bucket.<name> IN <array of the row>`
            ["SELECT request.user_id() AS u"] ["SELECT id FROM t WHERE bucket.u = NULL"]
            10:32 a parameter of the bucket can only be compared with the row as it is
              write `column = bucket.<name>` or `bucket.<name> IN <array of the row>`
            ["SELECT request.user_id() AS u"] ["SELECT id FROM t WHERE bucket.u IN '[null]'"]
            10:32 a parameter of the bucket can only be compared with the row as it is
              write `column = bucket.<name>` or `bucket.<name> IN <array of the row>`
            ["SELECT request.user_id() AS u"] ["SELECT id FROM t WHERE a IN bucket.u"]
            10:32 a parameter of the bucket can only be compared with the row as it is
              write `column = bucket.<name>` or `bucket.<name> IN <array of the row>`
            ["SELECT request.user_id() AS u"] ["SELECT id FROM t WHERE NOT a = bucket.u"]
            10:36 a parameter of the bucket can only be compared with the row as it is
              write `column = bucket.<name>` or `bucket.<name> IN <array of the row>`
            ["SELECT request.user_id() AS u"] ["SELECT id, bucket.u AS u FROM t WHERE a = bucket.u"]
            10:20 a column of a synced row cannot depend on the request
              select columns of the table, and compare with the request in WHERE
            ["SELECT request.user_id() AS u"] ["SELECT id FROM t WHERE a = bucket.u AND b = request.user_id()"]
            10:53 `request.user_id` is not available in data queries
              select it in `parameters`, and compare with `bucket.<name>` here
            ["SELECT request.user_id() AS u"] ["SELECT a FROM t WHERE a = bucket.u"]
            10:9 the query has no column `id`
              every synced row needs one: name its key, as in `SELECT key AS id, ...`
            ["SELECT request.user_id() AS u"] ["SELECT id FROM t WHERE a = bucket.u AND b IN (SELECT c FROM v)"]
            10:55 a subquery is not supported here
              only the queries of streams support it
        "#]],
    );
}

#[test]
fn invalid_parameter_queries_are_rejected() {
    let user = "SELECT request.user_id() AS u";

    check_definitions(
        &[
            (&[user, "SELECT a AS v FROM t"], &["SELECT id FROM t WHERE a = bucket.u"]),
            (&["SELECT request.user_id()"], &["SELECT id FROM t"]),
            (&["SELECT a AS u, b AS u FROM t"], &["SELECT id FROM t"]),
            (&["SELECT * FROM t"], &["SELECT id FROM t"]),
            (&["SELECT x.a AS u FROM t AS x"], &["SELECT id FROM t"]),
            (&["SELECT a AS u"], &["SELECT id FROM t"]),
            (&["SELECT auth.user_id() AS u"], &["SELECT id FROM t"]),
            (&["SELECT request.user_id() AS u, 5 AS _priority"], &["SELECT id FROM t"]),
            (
                &["SELECT a || request.user_id() AS u FROM t"],
                &["SELECT id FROM t WHERE a = bucket.u"],
            ),
            (&["SELECT value AS u FROM json_each(request.jwt() -> 'x')"], &["SELECT id FROM t"]),
        ],
        expect![[r#"
            ["SELECT request.user_id() AS u", "SELECT a AS v FROM t"] ["SELECT id FROM t WHERE a = bucket.u"]
            9:9 all parameter queries of a bucket definition must select the same names
              the first selects: u
            ["SELECT request.user_id()"] ["SELECT id FROM t"]
            7:16 this expression has no name
              add an alias: `upper(name) AS name`
            ["SELECT a AS u, b AS u FROM t"] ["SELECT id FROM t"]
            7:24 the parameter `u` is selected twice
            ["SELECT * FROM t"] ["SELECT id FROM t"]
            7:16 `*` is not supported in `parameters`
              name each parameter, as in `SELECT id AS list_id FROM ...`
            ["SELECT x.a AS u FROM t AS x"] ["SELECT id FROM t"]
            7:30 the alias `x` is not supported here
            ["SELECT a AS u"] ["SELECT id FROM t"]
            7:16 `a` is a column, but the query has no table
            ["SELECT auth.user_id() AS u"] ["SELECT id FROM t"]
            7:16 `auth.user_id` is not available in bucket definitions
              write `request.user_id()`
            ["SELECT request.user_id() AS u, 5 AS _priority"] ["SELECT id FROM t"]
            7:40 `_priority` must be 0, 1, 2 or 3
            ["SELECT a || request.user_id() AS u FROM t"] ["SELECT id FROM t WHERE a = bucket.u"]
            7:16 a parameter cannot mix values of the row and of the request
            ["SELECT value AS u FROM json_each(request.jwt() -> 'x')"] ["SELECT id FROM t"]
            10:9 the query does not use the parameter `bucket.u`
              add `AND column = bucket.u` to each alternative of WHERE
        "#]],
    );
}

fn warnings(yaml: &str) -> String {
    format_findings(compile(yaml).warnings())
}

#[test]
fn data_readable_by_any_client_is_a_warning() {
    let query = "SELECT id FROM t WHERE a = subscription.parameter('a')";
    expect![[r#"
        6:7 warning: any client can read this: it depends on parameters that clients choose and on nothing in the token
          compare with `auth.user_id()` or `auth.parameter(...)` too, or set `accept_potentially_dangerous_queries: true`
    "#]].assert_eq(&warnings(&stream(query)));
    expect![[""]].assert_eq(&warnings(&stream(&format!("{query} AND b = auth.user_id()"))));
    expect![[""]].assert_eq(&warnings(&stream("SELECT id FROM t")));

    let quiet = format!("{}    accept_potentially_dangerous_queries: true\n", stream(query));
    expect![[""]].assert_eq(&warnings(&quiet));

    let legacy =
        definition(&["SELECT user_parameters.x AS x"], &["SELECT id FROM t WHERE a = bucket.x"]);
    expect![[r#"
        7:9 warning: any client can read this: it depends on parameters that clients choose and on nothing in the token
          compare with `auth.user_id()` or `auth.parameter(...)` too, or set `accept_potentially_dangerous_queries: true`
    "#]].assert_eq(&warnings(&legacy));
}
