//! Queries that are rejected: place, message and hint of each finding.

use expect_test::{Expect, expect};

use super::{refused, stream};

/// Compares the findings of each query, as the only one of a stream. The query begins at 6:7.
pub(super) fn check(queries: &[&str], expected: Expect) {
    let found: String =
        queries.iter().map(|query| format!("{query}\n{}", refused(&stream(query)))).collect();
    expected.assert_eq(&found);
}

#[test]
fn unsupported_clauses_are_rejected() {
    check(
        &[
            "SELECT DISTINCT ON (id) id FROM t",
            "SELECT id FROM t GROUP BY id",
            "SELECT id FROM t GROUP BY ALL",
            "SELECT id FROM t WHERE a = 1 HAVING b = 1",
            "SELECT id FROM t ORDER BY id",
            "SELECT id FROM t LIMIT 1",
            "SELECT id FROM t OFFSET 1",
            "SELECT id FROM t FETCH FIRST 1 ROWS ONLY",
            "SELECT id FROM t FOR UPDATE",
            "SELECT id FROM t UNION SELECT id FROM u",
            "WITH c AS (SELECT 1) SELECT id FROM c",
            "SELECT id FROM t WINDOW w AS (ORDER BY a)",
            "SELECT id INTO u FROM t",
        ],
        expect![[r#"
            SELECT DISTINCT ON (id) id FROM t
            6:14 `DISTINCT` is not supported
              a bucket holds each row once: remove it
            SELECT id FROM t GROUP BY id
            6:24 `GROUP` is not supported
              rows are synced as they are: aggregate on the device, or keep the result in a table
            SELECT id FROM t GROUP BY ALL
            6:24 `GROUP` is not supported
              rows are synced as they are: aggregate on the device, or keep the result in a table
            SELECT id FROM t WHERE a = 1 HAVING b = 1
            6:36 `HAVING` is not supported
              rows are synced as they are: aggregate on the device, or keep the result in a table
            SELECT id FROM t ORDER BY id
            6:24 `ORDER` is not supported
              all rows for which the condition holds are synced: order and limit them on the device
            SELECT id FROM t LIMIT 1
            6:24 `LIMIT` is not supported
              all rows for which the condition holds are synced: order and limit them on the device
            SELECT id FROM t OFFSET 1
            6:24 `OFFSET` is not supported
              all rows for which the condition holds are synced: order and limit them on the device
            SELECT id FROM t FETCH FIRST 1 ROWS ONLY
            6:24 `FETCH` is not supported
              all rows for which the condition holds are synced: order and limit them on the device
            SELECT id FROM t FOR UPDATE
            6:24 `FOR` is not supported
              a sync query only reads: remove it
            SELECT id FROM t UNION SELECT id FROM u
            6:24 `UNION` is not supported
              write several queries
            WITH c AS (SELECT 1) SELECT id FROM c
            6:35 `c` has no column `id`
              it selects: "1"
            SELECT id FROM t WINDOW w AS (ORDER BY a)
            6:24 `WINDOW` is not supported
              rows are synced as they are: aggregate on the device, or keep the result in a table
            SELECT id INTO u FROM t
            6:17 `INTO` is not supported
              a sync query only reads: remove it
        "#]],
    );
}

#[test]
fn queries_without_exactly_one_table_are_rejected() {
    check(
        &[
            "SELECT t.id FROM t JOIN u ON t.a = u.a",
            "SELECT t.id FROM t LEFT JOIN u USING (a)",
            "SELECT t.id FROM t, u",
            "SELECT id FROM (SELECT id FROM t) x",
            "SELECT value AS id FROM json_each(auth.parameter('x'))",
            "SELECT id FROM t AS x (a, b)",
            "SELECT id FROM a.b.c",
            "SELECT id FROM \"todos_%\"",
            "SELECT id FROM t TABLESAMPLE BERNOULLI (10)",
        ],
        expect![[r#"
            SELECT t.id FROM t JOIN u ON t.a = u.a
            accepted
            SELECT t.id FROM t LEFT JOIN u USING (a)
            6:38 `USING` is not supported
              write `ON a.x = b.x`
            SELECT t.id FROM t, u
            accepted
            SELECT id FROM (SELECT id FROM t) x
            accepted
            SELECT value AS id FROM json_each(auth.parameter('x'))
            6:7 the query selects no column of a table
            SELECT id FROM t AS x (a, b)
            6:27 an alias of a table cannot name columns
            SELECT id FROM a.b.c
            6:22 a table is named `table` or `schema.table`
            SELECT id FROM "todos_%"
            accepted
            SELECT id FROM t TABLESAMPLE BERNOULLI (10)
            6:22 only a name and an alias are supported for a table
              write `table AS name`
        "#]],
    );
}

#[test]
fn statements_that_are_not_queries_are_rejected() {
    check(
        &[
            "VALUES (1)",
            "TABLE t",
            "(SELECT id FROM t)",
            "DELETE FROM t",
            "SELECT 1 AS id",
            "SELECT FROM t",
            "SELECT id FROM t; SELECT id FROM u",
            "SELECT id FROM",
            "SELECT id FROM t WHERE",
            "SELECT id FROM t WHERE (a = 1",
            "SELECT 'x FROM t",
        ],
        expect![[r#"
            VALUES (1)
            6:7 only a plain `SELECT` is supported
              write `SELECT ... FROM ... WHERE ...`
            TABLE t
            6:7 only a plain `SELECT` is supported
              write `SELECT ... FROM ... WHERE ...`
            (SELECT id FROM t)
            6:7 only a plain `SELECT` is supported
              write `SELECT ... FROM ... WHERE ...`
            DELETE FROM t
            6:7 only a plain `SELECT` is supported
              write `SELECT ... FROM ... WHERE ...`
            SELECT 1 AS id
            6:7 the query has no `FROM`
              a stream selects rows of a table
            SELECT FROM t
            6:7 the query selects no column
              write `SELECT * FROM ...`, or name the columns
            SELECT id FROM t; SELECT id FROM u
            6:25 unexpected `SELECT` after the query
              write one query per item of the list `queries`
            SELECT id FROM
            6:21 not SQL: expected identifier, found: EOF
              is a word, comma or parenthesis missing before it, or one too many?
            SELECT id FROM t WHERE
            6:29 not SQL: expected an expression, found: EOF
              is a word, comma or parenthesis missing before it, or one too many?
            SELECT id FROM t WHERE (a = 1
            6:36 not SQL: expected ), found: EOF
              is a word, comma or parenthesis missing before it, or one too many?
            SELECT 'x FROM t
            6:14 Unterminated string literal
              close a text with a single quote, and a name with a double quote
        "#]],
    );
}

#[test]
fn patterns_that_are_not_literals_are_rejected() {
    check(
        &[
            "SELECT id FROM t WHERE b = 1 AND a LIKE c",
            "SELECT id FROM t WHERE a LIKE 'x' ESCAPE 'no'",
            "SELECT id FROM t WHERE a LIKE 'x' ESCAPE ''",
            "SELECT id FROM t WHERE a LIKE 'x!' ESCAPE '!'",
            "SELECT id FROM t WHERE a LIKE ANY ('x')",
        ],
        expect![[r#"
            SELECT id FROM t WHERE b = 1 AND a LIKE c
            6:42 the pattern of `LIKE` must be a text in quotes
              a pattern that depends on the row or the request is not supported
            SELECT id FROM t WHERE a LIKE 'x' ESCAPE 'no'
            6:41 `ESCAPE` must be followed by one character in quotes
            SELECT id FROM t WHERE a LIKE 'x' ESCAPE ''
            6:41 `ESCAPE` must be followed by one character in quotes
            SELECT id FROM t WHERE a LIKE 'x!' ESCAPE '!'
            6:32 the pattern of `LIKE` ends with its escape character
              write it twice for the character itself
            SELECT id FROM t WHERE a LIKE ANY ('x')
            6:37 `ANY` is not supported
              write `x IN <array>`
        "#]],
    );
}

#[test]
fn unsupported_operators_are_rejected() {
    check(
        &[
            "SELECT id FROM t WHERE a SIMILAR TO 'x'",
            "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u)",
            "SELECT id FROM t WHERE a IS UNKNOWN",
            "SELECT id FROM t WHERE a = ANY(b)",
            "SELECT id FROM t WHERE a ^ 2 = 1",
            "SELECT id FROM t WHERE ~a = 1",
            "SELECT id FROM t WHERE a IS JSON",
            "SELECT id FROM t WHERE a COLLATE \"C\" = 'x'",
            "SELECT id FROM t WHERE a AT TIME ZONE 'UTC' = 1",
            "SELECT id FROM t WHERE a IN ARRAY[b]",
            "SELECT id FROM t WHERE a IN ROW(1, b)",
            "SELECT id, ARRAY['x'] AS a FROM t",
            "SELECT id FROM t WHERE a = ARRAY[1]",
        ],
        expect![[r#"
            SELECT id FROM t WHERE a SIMILAR TO 'x'
            6:32 `SIMILAR` is not supported
              write `LIKE` with a pattern in quotes
            SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u)
            accepted
            SELECT id FROM t WHERE a IS UNKNOWN
            6:35 `UNKNOWN` is not supported
              write `IS NULL`
            SELECT id FROM t WHERE a = ANY(b)
            6:34 `ANY` is not supported
              write `x IN <array>`
            SELECT id FROM t WHERE a ^ 2 = 1
            6:32 `^` is not supported
              there is no operator for powers
            SELECT id FROM t WHERE ~a = 1
            6:31 `~` is not supported before an expression
            SELECT id FROM t WHERE a IS JSON
            6:30 this expression is not supported
              the documentation of the sync config lists the operators and functions; read a member of JSON with `j ->> 'name'`
            SELECT id FROM t WHERE a COLLATE "C" = 'x'
            6:32 `COLLATE` is not supported
              texts are compared byte by byte: remove it
            SELECT id FROM t WHERE a AT TIME ZONE 'UTC' = 1
            6:32 `AT` is not supported
              a `timestamptz` is a text in UTC here: convert it on the device
            SELECT id FROM t WHERE a IN ARRAY[b]
            6:41 only numbers, texts, TRUE, FALSE and NULL are supported here
              write `x IN (a, b)` for other values
            SELECT id FROM t WHERE a IN ROW(1, b)
            6:42 only numbers, texts, TRUE, FALSE and NULL are supported here
              write `x IN (a, b)` for other values
            SELECT id, ARRAY['x'] AS a FROM t
            6:18 an array or row is supported after `IN` only
              elsewhere write an array as JSON text, as in `'[1, 2]'`
            SELECT id FROM t WHERE a = ARRAY[1]
            6:34 an array or row is supported after `IN` only
              elsewhere write an array as JSON text, as in `'[1, 2]'`
        "#]],
    );
}

#[test]
fn json_paths_that_never_match_are_rejected() {
    check(
        &[
            "SELECT id, j ->> '$[0]' AS a FROM t",
            "SELECT id, j -> '$.a[0]' AS a FROM t",
            "SELECT id, json_extract(j, '$a') AS a FROM t",
            "SELECT id FROM t WHERE a = auth.parameter('$[0]')",
        ],
        expect![[r#"
            SELECT id, j ->> '$[0]' AS a FROM t
            6:24 the path `$[0]` is not supported
              names and indices are separated by dots, as in `$.list.0.name`
            SELECT id, j -> '$.a[0]' AS a FROM t
            6:23 the path `$.a[0]` is not supported
              names and indices are separated by dots, as in `$.list.0.name`
            SELECT id, json_extract(j, '$a') AS a FROM t
            6:34 the path `$a` is not supported
              names and indices are separated by dots, as in `$.list.0.name`
            SELECT id FROM t WHERE a = auth.parameter('$[0]')
            6:49 the path `$[0]` is not supported
              names and indices are separated by dots, as in `$.list.0.name`
        "#]],
    );
}

#[test]
fn unsupported_functions_and_casts_are_rejected() {
    check(
        &[
            "SELECT id, a::uuid AS a FROM t",
            "SELECT id, a::varchar(3) AS a FROM t",
            "SELECT id, trim(a, b, c) AS a FROM t",
            "SELECT id, coalesce(a) AS a FROM t",
            "SELECT id, datetime() AS a FROM t",
            "SELECT id, datetime('now') AS a FROM t",
            "SELECT id, unixepoch(a, 'auto') AS a FROM t",
            "SELECT id, datetime(a, 'subsec', 'unixepoch') AS a FROM t",
            "SELECT id, datetime(a, b) AS a FROM t",
            "SELECT id, count(*) AS n FROM t",
            "SELECT id, max(a) AS n FROM t",
            "SELECT id, count(a) OVER () AS n FROM t",
            "SELECT id, uper(a) AS a FROM t",
            "SELECT id, random() AS a FROM t",
            "SELECT id, upper(a => b) AS a FROM t",
            "SELECT id, upper(DISTINCT a) AS a FROM t",
            "SELECT id, a[1] AS a FROM t",
        ],
        expect![[r#"
            SELECT id, a::uuid AS a FROM t
            6:19 a cast to this type is not supported
              cast to text, integer, real, numeric or blob
            SELECT id, a::varchar(3) AS a FROM t
            6:19 a cast to this type is not supported
              cast to text, integer, real, numeric or blob
            SELECT id, trim(a, b, c) AS a FROM t
            6:18 `trim` takes 1 or 2 arguments, not 3
            SELECT id, coalesce(a) AS a FROM t
            6:18 `coalesce` takes 2 arguments or more, not 1
            SELECT id, datetime() AS a FROM t
            6:18 `datetime` takes 1 to 3 arguments, not 0
            SELECT id, datetime('now') AS a FROM t
            6:27 `now` is not supported: its value changes with each call
              what is synced may depend on the row and the request only
            SELECT id, unixepoch(a, 'auto') AS a FROM t
            6:31 the modifier `auto` is not supported here
              write `unixepoch(x)`, or `unixepoch(x, 'unixepoch')` for seconds since 1970; 'subsec' may follow
            SELECT id, datetime(a, 'subsec', 'unixepoch') AS a FROM t
            6:40 the modifier `unixepoch` is not supported here
              write `datetime(x)`, or `datetime(x, 'unixepoch')` for seconds since 1970; 'subsec' may follow
            SELECT id, datetime(a, b) AS a FROM t
            6:30 a modifier must be a text in quotes
              write `datetime(x)`, or `datetime(x, 'unixepoch')` for seconds since 1970; 'subsec' may follow
            SELECT id, count(*) AS n FROM t
            6:18 `count` is not supported: it is an aggregate or window function
              every row is evaluated by itself; aggregate in the app, or keep the result in a table
            SELECT id, max(a) AS n FROM t
            6:18 `max` is not supported: it is an aggregate or window function
              every row is evaluated by itself; aggregate in the app, or keep the result in a table
            SELECT id, count(a) OVER () AS n FROM t
            6:18 `count` is not supported: it is an aggregate or window function
              every row is evaluated by itself; aggregate in the app, or keep the result in a table
            SELECT id, uper(a) AS a FROM t
            6:18 unknown function `uper`
              did you mean `upper`?
            SELECT id, random() AS a FROM t
            6:18 `random` is not supported: its value changes with each call
              what is synced may depend on the row and the request only; keep times in a column
            SELECT id, upper(a => b) AS a FROM t
            6:18 the arguments of `upper` must be expressions
            SELECT id, upper(DISTINCT a) AS a FROM t
            6:18 `upper` supports plain arguments only
            SELECT id, a[1] AS a FROM t
            6:18 this expression is not supported
              the documentation of the sync config lists the operators and functions; read a member of JSON with `j ->> 'name'`
        "#]],
    );
}

#[test]
fn other_unsupported_expressions_are_rejected() {
    check(
        &[
            "SELECT id FROM t WHERE a = $1",
            "SELECT id FROM t WHERE a = ?",
            "SELECT id FROM t WHERE a = x'00'",
            "SELECT id FROM t WHERE a = 1e999",
            "SELECT id FROM t WHERE a IN (1, (SELECT 2))",
            "SELECT id FROM t WHERE a = (SELECT 1)",
            "SELECT id FROM t WHERE (a, b) = (1, 2)",
            "SELECT id FROM t WHERE a IN (auth.user_id())",
            "SELECT id, upper(a, b) AS a FROM t",
            "SELECT id, INTERVAL '1 day' AS a FROM t",
            "SELECT id, current_date AS a FROM t",
            "SELECT id, `a` FROM t",
            "SELECT id, a.b.c FROM t",
            "SELECT * EXCEPT (a) FROM t",
            "SELECT u.* FROM t",
            "SELECT id, u.a FROM t",
        ],
        expect![[r#"
            SELECT id FROM t WHERE a = $1
            6:34 `$1` is not supported
              values of the request are functions: `auth.user_id()`, `auth.parameter('name')`, `subscription.parameter('name')`
            SELECT id FROM t WHERE a = ?
            6:34 `?` is not supported
              values of the request are functions: `auth.user_id()`, `auth.parameter('name')`, `subscription.parameter('name')`
            SELECT id FROM t WHERE a = x'00'
            6:34 this kind of literal is not supported
              write a number, a text in single quotes, TRUE, FALSE or NULL
            SELECT id FROM t WHERE a = 1e999
            6:34 `1e999` is not a number
              write a number such as `17`, `0.5` or `1e-7`, up to 1.8e308
            SELECT id FROM t WHERE a IN (1, (SELECT 2))
            6:40 a query is not supported here
              write `x IN (SELECT ...)` in the condition
            SELECT id FROM t WHERE a = (SELECT 1)
            6:35 a query is not supported here
              write `x IN (SELECT ...)` in the condition
            SELECT id FROM t WHERE (a, b) = (1, 2)
            6:31 a list of values is not supported here
              compare value by value, as in `a = x AND b = y`
            SELECT id FROM t WHERE a IN (auth.user_id())
            6:36 this is a single value, not an array
              write `=` to compare with one value
            SELECT id, upper(a, b) AS a FROM t
            6:18 `upper` takes 1 argument, not 2
            SELECT id, INTERVAL '1 day' AS a FROM t
            6:18 `INTERVAL` is not supported
              dates and times are texts here: compare with a text, as in `at >= '2026-01-31'`
            SELECT id, current_date AS a FROM t
            6:18 `current_date` is not supported: its value changes with each call
              what is synced may depend on the row and the request only; keep times in a column
            SELECT id, `a` FROM t
            6:18 not SQL: expected an expression, found: `
              is a word, comma or parenthesis missing before it, or one too many?
            SELECT id, a.b.c FROM t
            6:18 `b` in `b.c` is not a table of this query
              the table is `t`
            SELECT * EXCEPT (a) FROM t
            6:24 not SQL: expected SELECT, VALUES, or a subquery in the query body, f…
              is a word, comma or parenthesis missing before it, or one too many?
            SELECT u.* FROM t
            6:14 `u` is not a table of this query
              it is `t`
            SELECT id, u.a FROM t
            6:18 `u` in `u.a` is not a table of this query
              the table is `t`
        "#]],
    );
}

#[test]
fn comparisons_that_cannot_find_buckets_are_rejected() {
    check(
        &[
            "SELECT id FROM t WHERE a != auth.user_id()",
            "SELECT id FROM t WHERE a < auth.user_id()",
            "SELECT id FROM t WHERE NOT a = auth.user_id()",
            "SELECT id FROM t WHERE NOT (b = 1 AND a IN auth.parameter('x'))",
            "SELECT id FROM t WHERE a NOT IN auth.parameter('x')",
            "SELECT id FROM t WHERE a NOT IN (SELECT b FROM u)",
            "SELECT id FROM t WHERE NOT a IN (SELECT b FROM u)",
            "SELECT id FROM t WHERE a BETWEEN 1 AND auth.parameter('x')",
            "SELECT id FROM t WHERE CASE WHEN a THEN auth.user_id() END = 'x'",
            "SELECT id FROM t WHERE a IS DISTINCT FROM auth.user_id()",
            "SELECT id FROM t WHERE a % 2 = 0 AND a & connection.parameter('x') = 1",
            "SELECT id FROM t WHERE a && auth.parameter('x')",
        ],
        expect![[r#"
            SELECT id FROM t WHERE a != auth.user_id()
            6:30 values of the row and of the request can be compared by `=` and `IN` only
              write `column = <request value>` or `column IN <request array>`
            SELECT id FROM t WHERE a < auth.user_id()
            6:30 values of the row and of the request can be compared by `=` and `IN` only
              write `column = <request value>` or `column IN <request array>`
            SELECT id FROM t WHERE NOT a = auth.user_id()
            6:34 values of the row and of the request can be compared by `=` and `IN` only
              negation of such a comparison is not supported: buckets are found by equal values
            SELECT id FROM t WHERE NOT (b = 1 AND a IN auth.parameter('x'))
            6:45 values of the row and of the request can be compared by `=` and `IN` only
              negation of such a comparison is not supported: buckets are found by equal values
            SELECT id FROM t WHERE a NOT IN auth.parameter('x')
            6:30 values of the row and of the request can be compared by `=` and `IN` only
              negation of such a comparison is not supported: buckets are found by equal values
            SELECT id FROM t WHERE a NOT IN (SELECT b FROM u)
            6:30 `NOT` with a correlated subquery is not supported
              a bucket can be found by an existing row only; a subquery that depends on the request alone may be negated, as in `auth.user_id() NOT IN (SELECT ...)`
            SELECT id FROM t WHERE NOT a IN (SELECT b FROM u)
            6:34 `NOT` with a correlated subquery is not supported
              a bucket can be found by an existing row only; a subquery that depends on the request alone may be negated, as in `auth.user_id() NOT IN (SELECT ...)`
            SELECT id FROM t WHERE a BETWEEN 1 AND auth.parameter('x')
            6:30 values of the row and of the request can be compared by `=` and `IN` only
              write `column = <request value>` or `column IN <request array>`
            SELECT id FROM t WHERE CASE WHEN a THEN auth.user_id() END = 'x'
            6:30 one side mixes values of the row and of the request
              compare a value of the row on one side with a value of the request on the other
            SELECT id FROM t WHERE a IS DISTINCT FROM auth.user_id()
            6:30 values of the row and of the request can be compared by `=` and `IN` only
              write `column = <request value>` or `column IN <request array>`
            SELECT id FROM t WHERE a % 2 = 0 AND a & connection.parameter('x') = 1
            6:44 one side mixes values of the row and of the request
              compare a value of the row on one side with a value of the request on the other
            SELECT id FROM t WHERE a && auth.parameter('x')
            accepted
        "#]],
    );
}

#[test]
fn inner_queries_that_cannot_be_lookups_are_rejected() {
    check(
        &[
            "SELECT id FROM t WHERE (a IN (SELECT b FROM u)) = 1",
            "SELECT id, a IN (SELECT b FROM u) AS x FROM t",
            "SELECT id FROM t WHERE a IN (SELECT * FROM u)",
            "SELECT id FROM t WHERE a IN (SELECT b, c FROM u)",
            "SELECT id FROM t WHERE a IN (SELECT auth.user_id() FROM u)",
            "SELECT id FROM t WHERE a IN (SELECT 1)",
            "SELECT id FROM t WHERE a IN (SELECT b FROM u WHERE c = t.d)",
            "SELECT id FROM t WHERE a IN (SELECT b FROM u WHERE c IN (SELECT d FROM v))",
        ],
        expect![[r#"
            SELECT id FROM t WHERE (a IN (SELECT b FROM u)) = 1
            6:31 a subquery is not supported here
              write it as a separate condition, joined by AND or OR
            SELECT id, a IN (SELECT b FROM u) AS x FROM t
            6:18 a subquery is not supported here
              write it as a separate condition, joined by AND or OR
            SELECT id FROM t WHERE a IN (SELECT * FROM u)
            6:43 `*` is not supported in a subquery
              name its columns
            SELECT id FROM t WHERE a IN (SELECT b, c FROM u)
            6:30 the subquery must select one column
            SELECT id FROM t WHERE a IN (SELECT auth.user_id() FROM u)
            accepted
            SELECT id FROM t WHERE a IN (SELECT 1)
            accepted
            SELECT id FROM t WHERE a IN (SELECT b FROM u WHERE c = t.d)
            accepted
            SELECT id FROM t WHERE a IN (SELECT b FROM u WHERE c IN (SELECT d FROM v))
            accepted
        "#]],
    );
}

#[test]
fn values_in_unsupported_places_are_rejected() {
    check(
        &[
            "SELECT name FROM t",
            "SELECT id, auth.user_id() AS u FROM t",
            "SELECT id, a || auth.user_id() AS u FROM t",
            "SELECT id FROM t WHERE a = b || auth.user_id()",
            "SELECT id FROM t WHERE ifnull(a, auth.user_id()) IS NULL",
            "SELECT id FROM t WHERE a = auth.users()",
            "SELECT id FROM t WHERE a = auth.parameter()",
            "SELECT id FROM t WHERE a = request.user_id()",
            "SELECT id FROM t WHERE a = bucket.x",
        ],
        expect![[r#"
            SELECT name FROM t
            6:7 the query has no column `id`
              every synced row needs one: name its key, as in `SELECT key AS id, ...`
            SELECT id, auth.user_id() AS u FROM t
            6:18 a column of a synced row cannot depend on the request
              select columns of the table, and compare with the request in WHERE
            SELECT id, a || auth.user_id() AS u FROM t
            6:18 a column of a synced row cannot depend on the request
              select columns of the table, and compare with the request in WHERE
            SELECT id FROM t WHERE a = b || auth.user_id()
            6:30 one side mixes values of the row and of the request
              compare a value of the row on one side with a value of the request on the other
            SELECT id FROM t WHERE ifnull(a, auth.user_id()) IS NULL
            6:30 values of the row and of the request can be compared by `=` and `IN` only
              write `column = <request value>` or `column IN <request array>`
            SELECT id FROM t WHERE a = auth.users()
            6:34 unknown function `auth.users`
              did you mean `auth.parameter('users')`?
            SELECT id FROM t WHERE a = auth.parameter()
            6:34 `auth.parameter` takes one argument
              name a claim of the token, as in `auth.parameter('org_id')`
            SELECT id FROM t WHERE a = request.user_id()
            6:34 `request.user_id` is not available in streams
              write `auth.user_id()`
            SELECT id FROM t WHERE a = bucket.x
            6:34 `bucket` in `bucket.x` is not a table of this query
              the table is `t`
        "#]],
    );
}
