//! Table patterns: one name that stands for all tables with a prefix.

use expect_test::expect;

use super::{compile, definition, format_findings, refused, row, stream, table};

/// Returns the output of one row of each table.
fn rows_of_tables(yaml: &str, tables: &[(&str, &str)]) -> String {
    let config = compile(yaml);
    tables
        .iter()
        .map(|(spec, values)| match config.bind(&table(spec)).unwrap() {
            Some(_) => super::rows(&config, &table(spec), &[values]),
            None => format!("{spec} is not read\n"),
        })
        .collect()
}

#[test]
fn a_pattern_matches_tables_by_prefix() {
    let yaml = stream(r#"SELECT * FROM "ev_%""#);

    expect![[r#"
        s|0[] ev_1/a {"id":"a"}
        s|0[] ev_/b {"id":"b"}
        ev(id text) is not read
        EV_1(id text) is not read
        app.ev_1(id text) is not read
    "#]]
    .assert_eq(&rows_of_tables(
        &yaml,
        &[
            ("ev_1(id text)", "a"),
            ("ev_(id text)", "b"),
            ("ev(id text)", "c"),
            ("EV_1(id text)", "d"),
            ("app.ev_1(id text)", "e"),
        ],
    ));
}

#[test]
fn a_percent_sign_within_a_name_is_literal() {
    let yaml = stream(r#"SELECT * FROM "a%b%""#);
    assert!(compile(&yaml).bind(&table("a%b1(id text)")).unwrap().is_some());
    assert!(compile(&yaml).bind(&table("axb1(id text)")).unwrap().is_none());
}

#[test]
fn the_schema_can_be_a_pattern_too() {
    let yaml = stream(r#"SELECT id, t.schema() AS tenant FROM "tenant_%".todos AS t"#);
    expect![[r#"
        s|0[] t/a {"id":"a","tenant":"tenant_x"}
        tenant_x.lists(id text) is not read
        todos(id text) is not read
    "#]]
    .assert_eq(&rows_of_tables(
        &yaml,
        &[
            ("tenant_x.todos(id text)", "a"),
            ("tenant_x.lists(id text)", "b"),
            ("todos(id text)", "c"),
        ],
    ));

    let yaml = stream(r#"SELECT * FROM "%"."%""#);
    expect![[r#"
        s|0[] b/x {"id":"x"}
    "#]]
    .assert_eq(&rows_of_tables(&yaml, &[("a.b(id text)", "x")]));
}

#[test]
fn rows_of_a_pattern_are_named_by_its_alias() {
    let yaml = stream(r#"SELECT * FROM "ev_%" AS ev"#);
    expect![[r#"
        s|0[] ev/a {"id":"a"}
    "#]]
    .assert_eq(&row(&yaml, "ev_1(id text)", "a"));
    let yaml = definition(&[], &[r#"SELECT * FROM "ev_%" ev"#, r#"SELECT * FROM "log_%""#]);
    expect![[r#"
        b[] ev/a {"id":"a"}
        b[] log_2/b {"id":"b"}
    "#]]
    .assert_eq(&rows_of_tables(&yaml, &[("ev_1(id text)", "a"), ("log_2(id text)", "b")]));
}

#[test]
fn the_matched_suffix_can_be_selected_and_compared() {
    let yaml = stream(
        r#"SELECT id, "ev_%".table_suffix() AS suffix, "ev_%".table_name() AS name,
           "ev_%".schema() AS schema
           FROM "ev_%" WHERE "ev_%".table_suffix() = auth.parameter('year')"#,
    );
    expect![[r#"
        s|0["2024"] ev_2024/a {"id":"a","suffix":"2024","name":"ev_2024","schema":"public"}
    "#]]
    .assert_eq(&row(&yaml, "ev_2024(id text)", "a"));

    let yaml = definition(
        &["SELECT request.jwt() ->> 'year' AS year"],
        &[r#"SELECT id, _table_suffix AS suffix FROM "ev_%" WHERE _table_suffix = bucket.year"#],
    );
    expect![[r#"
        b["é"] ev_é/a {"id":"a","suffix":"é"}
    "#]]
    .assert_eq(&row(&yaml, "ev_é(id text)", "a"));
}

#[test]
fn a_full_table_name_has_an_empty_suffix() {
    let yaml = stream("SELECT id, t.table_suffix() AS suffix, t.table_name() AS name FROM t");
    expect![[r#"
        s|0[] t/a {"id":"a","suffix":"","name":"t"}
    "#]]
    .assert_eq(&row(&yaml, "t(id text)", "a"));
    // The same is true for a pattern of the schema alone.
    let yaml = stream(r#"SELECT id, t.table_suffix() AS suffix FROM "x%".t"#);
    expect![[r#"
        s|0[] t/a {"id":"a","suffix":""}
    "#]]
    .assert_eq(&row(&yaml, "xy.t(id text)", "a"));
}

#[test]
fn each_edition_has_its_own_name_for_the_suffix() {
    expect![[r#"
        6:18 `_table_suffix` is not available in edition 3
          write `"ev_%".table_suffix()`
    "#]]
    .assert_eq(&refused(&stream(r#"SELECT id, _table_suffix AS s FROM "ev_%""#)));

    // For a table with a full name it is an ordinary column.
    let yaml = definition(&[], &["SELECT id, _table_suffix AS s FROM ev_1"]);
    expect![[r#"
        7:20 the table `ev_1` has no column `_table_suffix`
          its columns are: id
    "#]]
    .assert_eq(&format_findings(&compile(&yaml).check(&[table("ev_1(id text)")])));

    let yaml = stream(r#"SELECT id, e.table_suffix(1) AS s FROM "ev_%" e"#);
    expect![[r#"
        6:18 unknown function `e.table_suffix`
          the functions of the request are auth.user_id(), auth.parameter(name), connection.parameter(name) and subscription.parameter(name)
    "#]]
    .assert_eq(&refused(&yaml));
}

#[test]
fn rows_of_all_tables_of_a_pattern_answer_a_lookup() {
    let yaml = stream(
        r#"SELECT * FROM docs WHERE org IN
           (SELECT org FROM "members_%" AS m WHERE m.usr = auth.user_id())"#,
    );

    expect![[r#"
        lookup 0 ["u"] -> ["o1"]
        lookup 0 ["u"] -> ["o2"]
        s|0["o1"] docs/d {"id":"d","org":"o1"}
    "#]]
    .assert_eq(&rows_of_tables(
        &yaml,
        &[
            ("members_a(usr text, org text)", "u|o1"),
            ("members_b(org text, usr text)", "o2|u"),
            ("docs(id text, org text)", "d|o1"),
        ],
    ));

    let yaml = definition(
        &[r#"SELECT org FROM "members_%" WHERE usr = request.user_id()"#],
        &["SELECT * FROM docs WHERE org = bucket.org"],
    );
    expect![[r#"
        lookup 0 ["u"] -> ["o1"]
    "#]]
    .assert_eq(&rows_of_tables(&yaml, &[("members_a(usr text, org text)", "u|o1")]));
}

#[test]
fn a_table_may_match_a_name_and_patterns() {
    let yaml = "config: {edition: 3}\nstreams:\n  s:\n    queries:\n\
                \x20     - SELECT id, 'all' AS by FROM \"%\"\n\
                \x20     - SELECT id, 'ev' AS by, x.table_suffix() AS rest FROM \"ev_%\" AS x\n\
                \x20     - SELECT id, 'one' AS by FROM ev_1 WHERE id = 'a'\n";

    // The last query wins for rows with the same device table and id.
    expect![[r#"
        s|0[] ev_1/a {"id":"a","by":"one"}
        s|0[] x/a {"id":"a","by":"ev","rest":"1"}
        s|0[] ev_1/b {"id":"b","by":"all"}
        s|0[] x/b {"id":"b","by":"ev","rest":"1"}
        s|0[] other/c {"id":"c","by":"all"}
    "#]]
    .assert_eq(&rows_of_tables(
        yaml,
        &[("ev_1(id text)", "a"), ("ev_1(id text)", "b"), ("other(id text)", "c")],
    ));
}

#[test]
fn columns_that_a_matched_table_lacks_are_null() {
    let yaml = stream(
        r#"SELECT id, note, n + 1 AS more, coalesce(note, 'none') AS text FROM "ev_%" AS ev
           WHERE hidden IS NULL"#,
    );

    expect![[r#"
        s|0[] ev/a {"id":"a","note":"x","more":2,"text":"x"}
        s|0[] ev/b {"id":"b","more":null,"text":"none"}
    "#]]
    .assert_eq(&rows_of_tables(
        &yaml,
        &[("ev_1(id text, note text, n int4)", "a|x|1"), ("ev_2(id text)", "b")],
    ));

    let tables = ["ev_1(id text, note text, n int4)", "ev_2(id text)", "ev_3(id text, nota text)"];
    expect![[r#"
        6:18 warning: the table `ev_2` has no column `note`; the same holds for another matching table
          its columns are: id; where it is missing, it is NULL and is not synced
        6:24 warning: the table `ev_2` has no column `n`; the same holds for another matching table
          its columns are: id; where it is missing, it is NULL and is not synced
        6:48 warning: the table `ev_2` has no column `note`; the same holds for another matching table
          its columns are: id; where it is missing, it is NULL and is not synced
        7:24 warning: the table `ev_1` has no column `hidden`; the same holds for 2 other matching tables
          its columns are: id, note, n; where it is missing, it is NULL and is not synced
    "#]]
    .assert_eq(&format_findings(&compile(&yaml).check(&tables.map(table))));
}

#[test]
fn a_pattern_skips_tables_without_an_id() {
    let yaml = "config: {edition: 3}\nstreams:\n  s:\n    queries:\n\
                \x20     - SELECT * FROM \"ev_%\"\n      - SELECT key AS id FROM ev_1\n";
    expect![[r#"
        s|0[] ev_1/a {"id":"a"}
    "#]]
    .assert_eq(&row(yaml, "ev_1(key text)", "a"));
    expect![[r#"
        5:16 warning: the table `ev_1` has no column `id`
          rows of a table without it are not synced by this query
    "#]]
    .assert_eq(&format_findings(&compile(yaml).check(&[table("ev_1(key text)")])));
}

#[test]
fn a_pattern_without_tables_is_accepted() {
    let yaml = stream(r#"SELECT * FROM "ev_%""#);
    expect![[r#"
        6:21 warning: no table matches `ev_%` yet
    "#]]
    .assert_eq(&format_findings(&compile(&yaml).check(&[table("todos(id text)")])));
}

#[test]
fn a_pattern_may_name_its_connection() {
    let yaml = stream(r#"SELECT * FROM "default.app"."todos""#);
    expect![[r#"
        s|0[] todos/a {"id":"a"}
        todos(id text) is not read
    "#]]
    .assert_eq(&rows_of_tables(&yaml, &[("app.todos(id text)", "a"), ("todos(id text)", "a")]));

    expect![[r#"
        6:21 unknown connection `other` before the schema `app`
          write `table`, `schema.table` or `"default.schema".table`; the only connection is `default`
    "#]]
    .assert_eq(&refused(&stream(r#"SELECT * FROM "other.app"."todos""#)));

    expect![[r#"
        6:21 unknown connection `default` before the schema `a.b`
          write `table`, `schema.table` or `"default.schema".table`; the only connection is `default`
    "#]]
    .assert_eq(&refused(&stream(r#"SELECT * FROM "default.a.b".todos"#)));
}

fn overlapping_queries(first: &str, second: &str) -> String {
    format!(
        "config: {{edition: 3}}\nstreams:\n  s:\n    queries:\n      - SELECT id, {first}\n      \
         - SELECT id, {second}\n"
    )
}

fn first_hash(yaml: &str) -> String {
    compile(yaml).definitions()[0].hash.clone()
}

#[test]
fn query_order_matters_where_patterns_overlap() {
    let all = r#"1 AS a FROM "ev_%""#;
    let one = "2 AS a FROM ev_1";

    assert_ne!(
        first_hash(&overlapping_queries(all, one)),
        first_hash(&overlapping_queries(one, all))
    );

    let other = "1 AS a FROM t";
    let another = "2 AS a FROM ev_1";
    assert_eq!(
        first_hash(&overlapping_queries(other, another)),
        first_hash(&overlapping_queries(another, other))
    );
    assert_ne!(
        first_hash(&stream(r#"SELECT * FROM "a%""#)),
        first_hash(&stream(r#"SELECT * FROM "a%" AS a"#))
    );
    assert_ne!(
        first_hash(&stream(r#"SELECT * FROM "a%""#)),
        first_hash(&stream(r#"SELECT * FROM "ab%""#))
    );
}

#[test]
fn a_blob_column_in_any_matched_table_is_rejected_under_not() {
    let yaml = stream(
        r#"SELECT * FROM t WHERE auth.parameter('key') NOT IN (SELECT key FROM "banned_%")"#,
    );
    let config = compile(&yaml);
    assert!(config.bind(&table("banned_1(key text)")).unwrap().is_some());

    expect![[r#"
        6:29 `key` is a blob, which cannot be compared after `NOT` with a subquery
          compare `hex(key)` with hexadecimal digits
    "#]]
    .assert_eq(&format_findings(&config.bind(&table("banned_2(key bytea)")).unwrap_err()));

    let tables = ["banned_1(key text)", "banned_2(key bytea)", "t(id text)"].map(table);
    expect![[r#"
        6:29 `key` is a blob, which cannot be compared after `NOT` with a subquery
          compare `hex(key)` with hexadecimal digits
    "#]]
    .assert_eq(&format_findings(&config.check(&tables)));
}
