//! Joins and subqueries that are rejected: place, message and hint of each finding.

use expect_test::expect;

use super::refused_queries::check;
use super::{format_findings, refused};
use crate::SyncConfig;

#[test]
fn unsupported_joins_are_rejected() {
    check(
        &[
            "SELECT t.id FROM t RIGHT JOIN u ON u.a = t.a",
            "SELECT t.id FROM t FULL JOIN u ON u.a = t.a",
            "SELECT t.id FROM t NATURAL JOIN u",
            "SELECT t.id FROM t JOIN u USING (a)",
            "SELECT t.id FROM t LEFT JOIN u",
            "SELECT t.id FROM t JOIN (u JOIN v ON u.a = v.a) ON u.a = t.a",
            "SELECT t.id FROM (t JOIN u ON u.a = t.a) AS x",
            "SELECT t.id FROM t, LATERAL (SELECT 1 AS a) x",
            "SELECT t.id FROM t, generate_series(1, 2) x",
            "SELECT t.id FROM t, json_each(t.a, t.b) x",
            "SELECT id FROM (SELECT id FROM t)",
            "WITH RECURSIVE c AS (SELECT 1 AS a) SELECT id FROM t",
        ],
        expect![[r#"
            SELECT t.id FROM t RIGHT JOIN u ON u.a = t.a
            6:26 `RIGHT` is not supported
              write `JOIN ... ON`, or a condition with `IN (SELECT ...)`
            SELECT t.id FROM t FULL JOIN u ON u.a = t.a
            6:26 `FULL` is not supported
              write `JOIN ... ON`, or a condition with `IN (SELECT ...)`
            SELECT t.id FROM t NATURAL JOIN u
            6:26 `NATURAL` is not supported
              write `ON a.x = b.x`
            SELECT t.id FROM t JOIN u USING (a)
            6:33 `USING` is not supported
              write `ON a.x = b.x`
            SELECT t.id FROM t LEFT JOIN u
            6:26 `LEFT` is not supported
              write the join's condition: `LEFT JOIN t ON ...`
            SELECT t.id FROM t JOIN (u JOIN v ON u.a = v.a) ON u.a = t.a
            6:19 a join in parentheses is supported at the start of `FROM` only
              write `FROM a JOIN b ON ...`, or a condition with `IN (SELECT ...)`
            SELECT t.id FROM (t JOIN u ON u.a = t.a) AS x
            6:19 a join in parentheses is supported at the start of `FROM` only
              write `FROM a JOIN b ON ...`, or a condition with `IN (SELECT ...)`
            SELECT t.id FROM t, LATERAL (SELECT 1 AS a) x
            6:19 `FROM` must name tables, queries or `json_each(...)`
              write `FROM a JOIN b ON ...`, or a condition with `IN (SELECT ...)`
            SELECT t.id FROM t, generate_series(1, 2) x
            6:27 the function `generate_series` is not supported in `FROM`
              use `json_each(array)`
            SELECT t.id FROM t, json_each(t.a, t.b) x
            6:27 `json_each` takes 1 argument, not 2
            SELECT id FROM (SELECT id FROM t)
            6:23 the subquery in `FROM` has no alias
              add one: `(SELECT ...) AS name`
            WITH RECURSIVE c AS (SELECT 1 AS a) SELECT id FROM t
            6:7 `WITH RECURSIVE` is not supported
              write one query per level
        "#]],
    );
}

#[test]
fn ambiguous_or_unknown_names_are_rejected() {
    check(
        &[
            "SELECT t.id FROM t, u WHERE a = 1",
            "SELECT * FROM t, u",
            "SELECT x.* FROM t, u",
            "SELECT t.id FROM t, t",
            "SELECT t.id FROM t, u WHERE x.a = t.a",
            "SELECT t.id FROM t, json_each(t.a) e WHERE e.path = 1",
            "SELECT d.b AS id FROM (SELECT a FROM t) d",
            "SELECT d.id FROM (SELECT id, a AS id FROM t) d",
            "SELECT d.id FROM (SELECT * FROM t) d",
            "SELECT t.id FROM t, (SELECT a FROM u WHERE u.b = t.b) d",
        ],
        expect![[r#"
            SELECT t.id FROM t, u WHERE a = 1
            6:35 `a` is ambiguous between the tables `t`, `u`
              qualify it: `t.a`
            SELECT * FROM t, u
            6:14 `*` is ambiguous: there is more than one table
              qualify it: `t.*`
            SELECT x.* FROM t, u
            6:14 `x` is not a table of this query
              the tables are `t`, `u`
            SELECT t.id FROM t, t
            6:27 `t` is named twice in `FROM`
              give one of them another name: `... AS name`
            SELECT t.id FROM t, u WHERE x.a = t.a
            6:35 `x` in `x.a` is not a table of this query
              the tables are `t`, `u`
            SELECT t.id FROM t, json_each(t.a) e WHERE e.path = 1
            6:50 `json_each` has no column `path`
              it has `value` and `key`
            SELECT d.b AS id FROM (SELECT a FROM t) d
            6:14 `d` has no column `b`
              it selects: a
            SELECT d.id FROM (SELECT id, a AS id FROM t) d
            6:36 the subquery selects `id` twice
            SELECT d.id FROM (SELECT * FROM t) d
            6:32 `*` is not supported in a subquery
              name its columns
            SELECT t.id FROM t, (SELECT a FROM u WHERE u.b = t.b) d
            6:56 `t` in `t.b` is not a table of this query
              the table is `u`
        "#]],
    );
}

#[test]
fn selecting_rows_of_several_tables_is_rejected() {
    check(
        &[
            "SELECT t.id, u.a FROM t, u",
            "SELECT t.id, t.a || u.a AS b FROM t, u",
            "SELECT t.id, e.value AS tag FROM t, json_each(t.tags) e",
            "SELECT 'x' AS id FROM t, u",
            "SELECT e.* FROM json_each(auth.parameter('x')) e",
        ],
        expect![[r#"
            SELECT t.id, u.a FROM t, u
            6:20 the columns of a synced row must be of one table
              sync the other table with a separate query
            SELECT t.id, t.a || u.a AS b FROM t, u
            6:20 the columns of a synced row must be of one table
              sync the other table with a separate query
            SELECT t.id, e.value AS tag FROM t, json_each(t.tags) e
            6:20 elements of an array cannot be synced as columns
              select columns of the table
            SELECT 'x' AS id FROM t, u
            6:7 the query selects no column of a table
            SELECT e.* FROM json_each(auth.parameter('x')) e
            6:14 elements of an array cannot be synced as columns
              select columns of the table
        "#]],
    );
}

#[test]
fn conditions_that_cannot_find_buckets_are_rejected() {
    check(
        &[
            "SELECT t.id FROM t, u WHERE t.a < u.a",
            "SELECT t.id FROM t, u WHERE NOT t.a = u.a",
            "SELECT t.id FROM t, u WHERE t.a = u.a || auth.user_id()",
            "SELECT t.id FROM t LEFT JOIN u ON u.a = t.a WHERE u.a IS NULL",
            "SELECT t.id FROM t LEFT JOIN u ON u.a = t.a WHERE ifnull(u.b, 1) = 1",
            "SELECT t.id FROM t LEFT JOIN json_each(t.a) e ON TRUE WHERE e.value = 1 OR t.b = 2",
            "SELECT t.id FROM t LEFT JOIN json_each(t.a) e ON TRUE WHERE t.b IN (e.value, t.b)",
            "SELECT t.id FROM t LEFT JOIN json_each(auth.parameter('x')) e ON TRUE \
             WHERE auth.user_id() IN (e.value, auth.parameter('y'))",
            "SELECT t.id FROM t LEFT JOIN json_each(t.a) e ON TRUE \
             WHERE coalesce(e.value, t.b) = auth.user_id()",
            "SELECT t.id FROM t, json_each(t.a) e, json_each(e.value) f",
            "SELECT t.id FROM t, u, json_each(ifnull(t.a, u.a)) e",
            "SELECT t.id FROM t LEFT JOIN (SELECT auth.user_id() AS u) x ON x.u = t.a",
        ],
        expect![[r#"
            SELECT t.id FROM t, u WHERE t.a < u.a
            6:35 values of different tables, or of a row and the request, can be compared by `=` and `IN` only
              write `column = <request value>` or `column IN <request array>`
            SELECT t.id FROM t, u WHERE NOT t.a = u.a
            6:39 values of different tables, or of a row and the request, can be compared by `=` and `IN` only
              negation of such a comparison is not supported: buckets are found by equal values
            SELECT t.id FROM t, u WHERE t.a = u.a || auth.user_id()
            6:35 one side mixes values of the row and of the request
              compare a value of the row on one side with a value of the request on the other
            SELECT t.id FROM t LEFT JOIN u ON u.a = t.a WHERE u.a IS NULL
            6:36 a condition on the table of this `LEFT JOIN` also holds where no row is joined
              a bucket can be found by an existing row only
            SELECT t.id FROM t LEFT JOIN u ON u.a = t.a WHERE ifnull(u.b, 1) = 1
            6:36 a condition on the table of this `LEFT JOIN` also holds where no row is joined
              a bucket can be found by an existing row only
            SELECT t.id FROM t LEFT JOIN json_each(t.a) e ON TRUE WHERE e.value = 1 OR t.b = 2
            6:36 a condition on the table of this `LEFT JOIN` also holds where no row is joined
              a bucket can be found by an existing row only
            SELECT t.id FROM t LEFT JOIN json_each(t.a) e ON TRUE WHERE t.b IN (e.value, t.b)
            6:36 a condition on the table of this `LEFT JOIN` also holds where no row is joined
              a bucket can be found by an existing row only
            SELECT t.id FROM t LEFT JOIN json_each(auth.parameter('x')) e ON TRUE WHERE auth.user_id() IN (e.value, auth.parameter('y'))
            6:36 a condition on the table of this `LEFT JOIN` also holds where no row is joined
              a bucket can be found by an existing row only
            SELECT t.id FROM t LEFT JOIN json_each(t.a) e ON TRUE WHERE coalesce(e.value, t.b) = auth.user_id()
            6:36 a condition on the table of this `LEFT JOIN` also holds where no row is joined
              a bucket can be found by an existing row only
            SELECT t.id FROM t, json_each(t.a) e, json_each(e.value) f
            6:55 an array within an element of another array is not supported
              the array must be of a table's row or of the request
            SELECT t.id FROM t, u, json_each(ifnull(t.a, u.a)) e
            6:40 an array must be of one table's row or of the request
            SELECT t.id FROM t LEFT JOIN (SELECT auth.user_id() AS u) x ON x.u = t.a
            6:65 `LEFT JOIN` of a query without a table is not supported
        "#]],
    );
}

/// Returns the findings of a config with `count` CTEs, each of which reads the one before.
fn chained_ctes(count: usize, first: &str, next: fn(usize) -> String) -> String {
    let mut yaml = format!("config: {{edition: 3}}\nwith:\n  c0: {first}\n");
    for index in 1..count {
        yaml += &format!("  c{index}: {}\n", next(index - 1));
    }
    let last = count - 1;
    yaml += &format!("streams:\n  s:\n    query: SELECT id FROM t WHERE a IN c{last}\n");
    format_findings(&SyncConfig::compile(&yaml).unwrap_err())
}

fn joined_twice(before: usize) -> String {
    format!("SELECT x.a FROM c{before} x, c{before} y")
}

#[test]
fn too_large_queries_are_rejected() {
    let tables: Vec<String> = (0..101).map(|index| format!("t t{index}")).collect();
    let query = format!("SELECT t0.id FROM {}", tables.join(", "));
    let found = refused(&super::stream(&query));

    expect![[r#"
        6:715 the query reads more than 100 tables and arrays
          CTEs and subqueries count each time they are used
    "#]]
    .assert_eq(&found);

    // Each CTE doubles its source, whether it contains a table or not.
    let mut found = chained_ctes(10, "SELECT a FROM t", joined_twice);
    found += &chained_ctes(10, "SELECT 1 AS a", joined_twice);
    found += &chained_ctes(1_000, "SELECT a FROM t", |before| format!("SELECT a FROM c{before}"));

    expect![[r#"
        3:3 the CTEs are used too often, or nested too deeply
          one query may use 200 of them, at most 16 levels deep
        3:3 the CTEs are used too often, or nested too deeply
          one query may use 200 of them, at most 16 levels deep
        986:3 the CTEs are used too often, or nested too deeply
          one query may use 200 of them, at most 16 levels deep
    "#]]
    .assert_eq(&found);
}
