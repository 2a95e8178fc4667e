//! Rejected uses of NOT before subqueries, with the place and hint of each finding.

use expect_test::{Expect, expect};

use crate::tests::{compile, format_findings, refused, stream, table};
use crate::{Diagnostic, Severity, SyncConfig};

fn check(queries: &[&str], expected: Expect) {
    let found: String =
        queries.iter().map(|query| format!("{query}\n{}", refused(&stream(query)))).collect();
    expected.assert_eq(&found);
}

/// Each finding names the subquery that refers to a row of the outer query.
#[test]
fn not_before_a_correlated_subquery_is_rejected() {
    for condition in [
        "t.a NOT IN (SELECT x FROM b)",
        "NOT EXISTS (SELECT 1 FROM b WHERE b.x = t.a)",
        "NOT EXISTS (SELECT 1 FROM b WHERE t.a = 1 AND b.x = 1)",
        "auth.user_id() NOT IN (SELECT t.a FROM b)",
        "auth.user_id() NOT IN (SELECT x FROM b WHERE y IN (SELECT y FROM c WHERE c.z = t.a))",
        "NOT EXISTS (SELECT 1 FROM json_each(t.a) e WHERE e.value = auth.user_id())",
        "NOT EXISTS (SELECT 1 FROM json_each(t.a) e, b WHERE e.value = b.x)",
        "NOT (t.a && (SELECT x FROM b))",
        "NOT (t.b = 1 OR auth.user_id() IN (SELECT x FROM b WHERE b.y IN t.a))",
        "NOT EXISTS (SELECT 1 FROM b WHERE NOT EXISTS (SELECT 1 FROM c WHERE c.x = b.x))",
        "NOT EXISTS (SELECT 1 FROM b WHERE NOT EXISTS (SELECT 1 FROM c WHERE c.x = t.a))",
        "EXISTS (SELECT 1 FROM b WHERE b.x NOT IN (SELECT x FROM c))",
        "EXISTS (SELECT 1 FROM b WHERE b.x = t.a AND NOT EXISTS (SELECT 1 FROM c WHERE c.x = b.x))",
        "NOT EXISTS (SELECT 1 FROM b LEFT JOIN c ON c.x = t.a WHERE c.y = 1)",
    ] {
        let found = refused(&stream(&format!("SELECT t.id FROM t WHERE {condition}")));
        let message = "`NOT` with a correlated subquery is not supported";

        assert!(found.contains(message), "{condition}\n{found}");
        assert!(found.contains("`auth.user_id() NOT IN (SELECT ...)`"), "{condition}\n{found}");
    }
}

#[test]
fn rejected_negations_have_hints() {
    check(
        &[
            "SELECT id FROM t WHERE a = 1 AND a NOT IN (SELECT x FROM b)",
            "SELECT id FROM t WHERE a = 1 AND (b = 2 OR NOT EXISTS (SELECT 1 FROM b WHERE x = t.a))",
            "SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT x, y FROM b)",
            "SELECT id FROM t WHERE (auth.user_id() NOT IN (SELECT x FROM b)) = 1",
            "SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT c.x FROM b LEFT JOIN c ON c.y = b.y)",
        ],
        expect![[r#"
            SELECT id FROM t WHERE a = 1 AND a NOT IN (SELECT x FROM b)
            6:40 `NOT` with a correlated subquery is not supported
              a bucket can be found by an existing row only; a subquery that depends on the request alone may be negated, as in `auth.user_id() NOT IN (SELECT ...)`
            SELECT id FROM t WHERE a = 1 AND (b = 2 OR NOT EXISTS (SELECT 1 FROM b WHERE x = t.a))
            6:62 `NOT` with a correlated subquery is not supported
              a bucket can be found by an existing row only; a subquery that depends on the request alone may be negated, as in `auth.user_id() NOT IN (SELECT ...)`
            SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT x, y FROM b)
            6:30 the subquery must select one column
            SELECT id FROM t WHERE (auth.user_id() NOT IN (SELECT x FROM b)) = 1
            6:31 a subquery is not supported here
              write it as a separate condition, joined by AND or OR
            SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT c.x FROM b LEFT JOIN c ON c.y = b.y)
            6:81 a condition on the table of this `LEFT JOIN` also holds where no row is joined
              a bucket can be found by an existing row only
        "#]],
    );
}

#[test]
fn earlier_editions_reject_not_before_inner_queries() {
    let query = "SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT x FROM b)";
    let yaml = stream(query).replace("edition: 3", "edition: 2");
    let found = refused(&yaml);
    assert!(found.contains("6:30 `NOT ... (SELECT ...)` requires edition 3\n"), "{found}");
}

#[test]
fn comparisons_that_may_miss_equal_values_are_rejected_under_not() {
    check(
        &[
            "SELECT id FROM t WHERE uuid_blob(auth.user_id()) NOT IN (SELECT x FROM b)",
            "SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT CAST(x AS blob) FROM b)",
            "SELECT id FROM t WHERE auth.user_id() NOT IN \
             (SELECT CASE WHEN y = 1 THEN uuid_blob(x) ELSE x END FROM b)",
            "SELECT id FROM t WHERE NOT EXISTS \
             (SELECT 1 FROM b JOIN c ON ifnull(c.x, uuid_blob(c.y)) = b.x)",
            // A comparison within one row or within the request is exact.
            "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM b WHERE uuid_blob(b.x) = b.y)",
            "SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT hex(uuid_blob(x)) FROM b)",
        ],
        expect![[r#"
            SELECT id FROM t WHERE uuid_blob(auth.user_id()) NOT IN (SELECT x FROM b)
            6:30 a blob cannot be compared after `NOT` with a subquery
              compare `hex(...)` of it with hexadecimal digits
            SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT CAST(x AS blob) FROM b)
            6:30 a blob cannot be compared after `NOT` with a subquery
              compare `hex(...)` of it with hexadecimal digits
            SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT CASE WHEN y = 1 THEN uuid_blob(x) ELSE x END FROM b)
            6:30 a blob cannot be compared after `NOT` with a subquery
              compare `hex(...)` of it with hexadecimal digits
            SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM b JOIN c ON ifnull(c.x, uuid_blob(c.y)) = b.x)
            6:42 a blob cannot be compared after `NOT` with a subquery
              compare `hex(...)` of it with hexadecimal digits
            SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM b WHERE uuid_blob(b.x) = b.y)
            accepted
            SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT hex(uuid_blob(x)) FROM b)
            accepted
        "#]],
    );
}

/// Checks whether `u`, a `bytea` column, may be compared in the condition.
fn check_blobs(query: &str, is_error: bool) {
    let config = compile(&stream(&format!("SELECT id FROM t WHERE {query}")));
    let found = config.check(&[table("t(id text)"), table("b(u bytea, n int8)")]);
    let errors = found.iter().filter(|one| one.severity == Severity::Error).count();
    assert_eq!(errors, usize::from(is_error), "{query}\n{}", format_findings(&found));
    assert_eq!(config.bind(&table("b(u bytea, n int8)")).is_err(), is_error, "{query}");
}

#[test]
fn blob_columns_under_not_are_rejected_when_the_tables_are_known() {
    check_blobs("auth.parameter('u') NOT IN (SELECT u FROM b)", true);
    check_blobs("auth.parameter('u') NOT IN (SELECT coalesce(u, '') FROM b)", true);
    check_blobs("NOT EXISTS (SELECT 1 FROM b JOIN b AS c ON c.u = b.u)", true);
    check_blobs("auth.parameter('u') NOT IN (SELECT hex(u) FROM b)", false);
    check_blobs("auth.parameter('u') NOT IN (SELECT n FROM b WHERE u IS NULL)", false);
    check_blobs("auth.parameter('u') NOT IN (SELECT n FROM b WHERE u = CAST('x' AS blob))", false);

    // Without NOT a missed match only withholds rows.
    check_blobs("auth.parameter('u') IN (SELECT u FROM b)", false);
}

#[test]
fn not_in_a_list_that_never_matches_is_a_warning() {
    let config = compile(&stream("SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT n FROM b)"));
    let found = format_findings(&config.check(&[table("t(id text)"), table("b(n int8)")]));
    assert!(
        found.starts_with("6:30 warning: `n` is a number on devices: it equals the user only if"),
        "{found}"
    );
}

fn sqlite_engine_stream(value: &str) -> String {
    stream(&format!("SELECT id FROM t WHERE {value} NOT IN (SELECT x FROM b)"))
        .replace("edition: 3", "edition: 3\n  unstable_sqlite_expression_engine: true")
}

#[test]
fn a_cast_under_not_is_rejected_if_it_converts_the_other_side() {
    let found = refused(&sqlite_engine_stream("CAST(auth.parameter('n') AS integer)"));
    assert!(found.contains("7:35 a `CAST` cannot be compared after `NOT`"), "{found}");
    assert_eq!(
        refused(&sqlite_engine_stream("+CAST(auth.parameter('n') AS integer)")),
        "accepted\n"
    );
    let in_default_engine =
        "SELECT id FROM t WHERE CAST(auth.parameter('n') AS integer) NOT IN (SELECT x FROM b)";
    assert_eq!(refused(&stream(in_default_engine)), "accepted\n");
}

fn nested_alternatives(depth: usize) -> Result<SyncConfig, Vec<Diagnostic>> {
    let choices = "(x = 1 OR y = auth.user_id()) AND (x = 2 OR z = auth.user_id()) \
                   AND (x = 3 OR w = auth.user_id())";
    let mut query = format!("NOT EXISTS (SELECT 1 FROM b WHERE {choices})");
    for _ in 1..depth {
        query = format!("NOT EXISTS (SELECT 1 FROM b WHERE {choices} AND {query})");
    }
    SyncConfig::compile(&stream(&format!("SELECT id FROM t WHERE {query}")))
}

#[test]
fn nested_alternatives_under_not_are_limited() {
    // Each level multiplies the alternatives of the next inner level by 8.
    // 8 + 8 * (8 + 8 * 8), and one for the query itself.
    assert!(nested_alternatives(3).is_ok());

    for depth in [4, 10] {
        let found = format_findings(&nested_alternatives(depth).unwrap_err());
        assert!(found.contains("after `NOT` have more than 1000 alternatives"), "{found}");
    }
}
