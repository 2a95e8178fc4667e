//! NOT before inner queries that is refused, where, and what is said to write instead.

use expect_test::{Expect, expect};

use crate::tests::{compile, list, refused, stream, table};
use crate::{Severity, SyncConfig};

fn check(queries: &[&str], expected: Expect) {
    let found: String =
        queries.iter().map(|query| format!("{query}\n{}", refused(&stream(query)))).collect();
    expected.assert_eq(&found);
}

/// That each is about a row around the inner query, and said to be.
#[test]
fn a_row_around_the_inner_query_cannot_be_asked_for_what_is_not_there() {
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
        let message = "`NOT` with an inner query that depends on a row around it is not supported";
        assert!(found.contains(message), "{condition}\n{found}");
        assert!(found.contains("`auth.user_id() NOT IN (SELECT ...)`"), "{condition}\n{found}");
    }
}

#[test]
fn it_is_said_what_is_possible() {
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
            6:40 `NOT` with an inner query that depends on a row around it is not supported
              a bucket can be found by what is there, not by what is not; what depends on the request alone may be negated, as in `auth.user_id() NOT IN (SELECT ...)`
            SELECT id FROM t WHERE a = 1 AND (b = 2 OR NOT EXISTS (SELECT 1 FROM b WHERE x = t.a))
            6:62 `NOT` with an inner query that depends on a row around it is not supported
              a bucket can be found by what is there, not by what is not; what depends on the request alone may be negated, as in `auth.user_id() NOT IN (SELECT ...)`
            SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT x, y FROM b)
            6:30 the inner query must select one column
            SELECT id FROM t WHERE (auth.user_id() NOT IN (SELECT x FROM b)) = 1
            6:31 an inner query is not supported here
              it must be a condition of its own, joined by AND or OR to others
            SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT c.x FROM b LEFT JOIN c ON c.y = b.y)
            6:81 a condition on the table of this `LEFT JOIN` also holds where no row is joined
              a bucket can be found by what is there, not by what is not
        "#]],
    );
}

#[test]
fn earlier_editions_do_not_have_it() {
    let query = "SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT x FROM b)";
    let yaml = stream(query).replace("edition: 3", "edition: 2");
    let found = refused(&yaml);
    assert!(found.contains("6:30 `NOT ... (SELECT ...)` is of edition 3\n"), "{found}");
}

#[test]
fn what_would_not_be_found_equal_cannot_be_compared() {
    check(
        &[
            "SELECT id FROM t WHERE uuid_blob(auth.user_id()) NOT IN (SELECT x FROM b)",
            "SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT CAST(x AS blob) FROM b)",
            "SELECT id FROM t WHERE auth.user_id() NOT IN \
             (SELECT CASE WHEN y = 1 THEN uuid_blob(x) ELSE x END FROM b)",
            "SELECT id FROM t WHERE NOT EXISTS \
             (SELECT 1 FROM b JOIN c ON ifnull(c.x, uuid_blob(c.y)) = b.x)",
            // Within one thing all is compared as it is.
            "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM b WHERE uuid_blob(b.x) = b.y)",
            "SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT hex(uuid_blob(x)) FROM b)",
        ],
        expect![[r#"
            SELECT id FROM t WHERE uuid_blob(auth.user_id()) NOT IN (SELECT x FROM b)
            6:30 a blob cannot be compared after `NOT` with an inner query
              compare `hex(...)` of it with hexadecimal digits
            SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT CAST(x AS blob) FROM b)
            6:30 a blob cannot be compared after `NOT` with an inner query
              compare `hex(...)` of it with hexadecimal digits
            SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT CASE WHEN y = 1 THEN uuid_blob(x) ELSE x END FROM b)
            6:30 a blob cannot be compared after `NOT` with an inner query
              compare `hex(...)` of it with hexadecimal digits
            SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM b JOIN c ON ifnull(c.x, uuid_blob(c.y)) = b.x)
            6:42 a blob cannot be compared after `NOT` with an inner query
              compare `hex(...)` of it with hexadecimal digits
            SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM b WHERE uuid_blob(b.x) = b.y)
            accepted
            SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT hex(uuid_blob(x)) FROM b)
            accepted
        "#]],
    );
}

#[test]
fn a_column_of_blobs_is_found_when_the_tables_are_known() {
    let check = |query: &str, is_error: bool| {
        let config = compile(&stream(&format!("SELECT id FROM t WHERE {query}")));
        let found = config.check(&[table("t(id text)"), table("b(u bytea, n int8)")]);
        let errors = found.iter().filter(|one| one.severity == Severity::Error).count();
        assert_eq!(errors, usize::from(is_error), "{query}\n{}", list(&found));
        assert_eq!(config.bind(&table("b(u bytea, n int8)")).is_err(), is_error, "{query}");
    };
    check("auth.parameter('u') NOT IN (SELECT u FROM b)", true);
    check("auth.parameter('u') NOT IN (SELECT coalesce(u, '') FROM b)", true);
    check("NOT EXISTS (SELECT 1 FROM b JOIN b AS c ON c.u = b.u)", true);
    check("auth.parameter('u') NOT IN (SELECT hex(u) FROM b)", false);
    check("auth.parameter('u') NOT IN (SELECT n FROM b WHERE u IS NULL)", false);
    check("auth.parameter('u') NOT IN (SELECT n FROM b WHERE u = CAST('x' AS blob))", false);
    // Who finds nothing sees nothing.
    check("auth.parameter('u') IN (SELECT u FROM b)", false);
}

#[test]
fn it_is_warned_of_a_list_in_which_nobody_is() {
    let config = compile(&stream("SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT n FROM b)"));
    let found = list(&config.check(&[table("t(id text)"), table("b(n int8)")]));
    assert!(
        found.starts_with("6:30 warning: `n` is a number on devices and is never equal to a text"),
        "{found}"
    );
}

#[test]
fn a_cast_does_not_convert_the_other_side_in_secret() {
    let yaml = |value: &str| {
        stream(&format!("SELECT id FROM t WHERE {value} NOT IN (SELECT x FROM b)"))
            .replace("edition: 3", "edition: 3\n  unstable_sqlite_expression_engine: true")
    };
    let found = refused(&yaml("CAST(auth.parameter('n') AS integer)"));
    assert!(found.contains("7:35 a `CAST` cannot be compared after `NOT`"), "{found}");
    assert_eq!(refused(&yaml("+CAST(auth.parameter('n') AS integer)")), "accepted\n");
    let in_default_engine =
        "SELECT id FROM t WHERE CAST(auth.parameter('n') AS integer) NOT IN (SELECT x FROM b)";
    assert_eq!(refused(&stream(in_default_engine)), "accepted\n");
}

#[test]
fn alternatives_within_alternatives_are_limited() {
    // Each level multiplies those of the one within by 8.
    let nested = |depth: usize| {
        let choices = "(x = 1 OR y = auth.user_id()) AND (x = 2 OR z = auth.user_id()) \
                       AND (x = 3 OR w = auth.user_id())";
        let mut query = format!("NOT EXISTS (SELECT 1 FROM b WHERE {choices})");
        for _ in 1..depth {
            query = format!("NOT EXISTS (SELECT 1 FROM b WHERE {choices} AND {query})");
        }
        SyncConfig::compile(&stream(&format!("SELECT id FROM t WHERE {query}")))
    };
    // 8 + 8 * (8 + 8 * 8), and one for the query itself.
    assert!(nested(3).is_ok());
    for depth in [4, 10] {
        let found = list(&nested(depth).unwrap_err());
        assert!(found.contains("after `NOT` have more than 1000 alternatives"), "{found}");
    }
}
