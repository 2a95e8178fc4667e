//! Queries that expand to much more than their text, or contain misleading characters.

use super::super::{compile, format_findings, refused, stream, table};
use super::{check_findings, check_survives};
use crate::SyncConfig;

/// Returns nested subqueries, each of which names the column of the next `names` times.
fn columns(levels: usize, names: usize) -> String {
    let mut query = "SELECT a AS c FROM t".to_owned();
    for level in 0..levels {
        let named = vec!["c"; names].join(" || ");
        query = format!("SELECT {named} AS c FROM ({query}) s{level}");
    }
    stream(&format!("SELECT 'x' AS id, c FROM ({query}) s"))
}

#[test]
fn repeated_columns_of_inner_queries_are_bounded() {
    // The sum 11 + 21 + ... of nodes is within the limit.
    assert!(SyncConfig::compile(&columns(2, 5)).is_ok());
    for (levels, names) in [(1, 90), (4, 10), (6, 10), (12, 2), (16, 2), (20, 2), (5, 90)] {
        check_survives(&columns(levels, names));
    }

    let message = "the columns of subqueries are named too often, or nested too deeply";
    assert!(refused(&columns(6, 10)).contains(message));

    // CTEs can nest deeper than the parser's own limit on queries.
    let mut ctes = "with:\n  c0: SELECT a AS c FROM t\n".to_owned();
    for level in 1..16 {
        let before = level - 1;
        ctes += &format!("  c{level}: SELECT {} AS c FROM c{before}\n", nested_call(30));
    }

    let yaml = format!(
        "config: {{edition: 3}}\n{ctes}streams:\n  s:\n    query: SELECT c AS id FROM c15\n"
    );
    check_survives(&yaml);
    assert!(refused(&yaml).contains(message));
}

fn nested_call(depth: usize) -> String {
    format!("{}c{}", "upper(".repeat(depth), ")".repeat(depth))
}

#[test]
fn repeated_ctes_are_bounded() {
    for width in [2, 3, 10] {
        let mut ctes = "with:\n  c0: SELECT a AS c FROM t\n".to_owned();
        for level in 1..12 {
            let before = level - 1;
            let from: Vec<String> = (0..width).map(|n| format!("c{before} AS x{n}")).collect();
            ctes += &format!("  c{level}: SELECT x0.c AS c FROM {}\n", from.join(", "));
        }
        let query = "SELECT t.id FROM t JOIN c11 ON c11.c = t.a";
        check_survives(&format!(
            "config: {{edition: 3}}\n{ctes}streams:\n  s:\n    query: {query}\n"
        ));
    }
}

#[test]
fn a_value_is_not_copied_for_each_item_of_a_list() {
    let value = format!("coalesce({})", vec!["a"; 1_500].join(", "));
    let list = vec!["1"; 20_000].join(", ");
    let query = format!("SELECT id FROM t WHERE b = 1 AND {value} IN ({list}, auth.user_id())");
    check_survives(&stream(&query));
    // The finding is about this list, not about the alternatives of the whole condition.
    let column = 7 + query.find("coalesce").unwrap();
    let finding = refused(&stream(&query));
    let expected = format!("6:{column} the condition has more than 100 alternatives");
    assert!(finding.starts_with(&expected), "{finding}");
}

#[test]
fn alternatives_of_conditions_are_bounded() {
    let ties: Vec<String> = (0..60)
        .map(|n| format!("(a = auth.parameter('{n}') OR b IN auth.parameter('{n}'))"))
        .collect();
    check_survives(&stream(&format!("SELECT id FROM t WHERE {}", ties.join(" AND "))));

    let mut query = "b = auth.user_id()".to_owned();
    for n in 0..20 {
        query = format!("a IN (SELECT a FROM u u{n} WHERE {query} OR a = auth.parameter('{n}'))");
        check_survives(&stream(&format!("SELECT id FROM t WHERE {query}")));
    }

    for operator in ["EXISTS", "a IN"] {
        let inner = format!("{operator} (SELECT a FROM u WHERE a = auth.user_id() OR b = 1)");
        for joined in [" AND ", " OR "] {
            let all = vec![inner.as_str(); 120].join(joined);
            check_survives(&stream(&format!("SELECT id FROM t WHERE {all}")));
        }
    }

    let joins: String =
        (0..150).map(|n| format!(" JOIN u u{n} ON u{n}.a = t.a OR u{n}.b = t.b")).collect();
    check_survives(&stream(&format!("SELECT t.id FROM t{joins}")));

    let left: String =
        (0..90).map(|n| format!(" LEFT JOIN u u{n} ON u{n}.a = t.a OR u{n}.b = t.b")).collect();
    let where_: Vec<String> = (0..90).map(|n| format!("u{n}.b = 1")).collect();
    check_survives(&stream(&format!("SELECT t.id FROM t{left} WHERE {}", where_.join(" AND "))));
}

#[test]
fn unclosed_or_misleading_text_is_an_error_with_its_place() {
    for query in [
        "SELECT id FROM t WHERE a = 'x",
        "SELECT id FROM t WHERE a = \"x",
        "SELECT id FROM t WHERE a = 'x''",
        "SELECT id FROM t /* x",
        "SELECT id FROM t WHERE a = $x$y",
        "SELECT id FROM t WHERE a = E'\\",
        "SELECT id FROM t WHERE a = U&'\\",
        "SELECT id FROM t WHERE a = x'0",
        // Spaces and operators of other scripts.
        "SELECT\u{a0}id FROM\u{3000}t WHERE \u{200b} a = 1",
        "SELECT id FROM t WHERE a \u{ff1d} 1",
        "SELECT id FROM t WHERE a \u{2260} 1",
        "SELECT id FROM t\u{37e} DROP TABLE t",
        "SELECT id FROM t; DROP TABLE t",
        "SELECT id FROM t; SELECT id FROM u",
        "SELECT id FROM t -- x\n; DELETE FROM t",
        "\u{feff}SELECT id FROM t WHERE",
        "SELECT \u{1f600} FROM \u{1f468}\u{200d}\u{1f469} WHERE",
    ] {
        check_survives(&stream(query));
        assert_ne!(refused(&stream(query)), "accepted\n", "{query}");

        check_survives(&stream(query).replace('\n', "\r\n"));
        check_survives(&stream(query).replace('\n', "\r"));
    }
}

/// Like PostgreSQL, the lexer accepts every character beyond ASCII in names.
#[test]
fn quotes_of_other_scripts_are_parts_of_names() {
    for name in ["\u{2018}x\u{2019}", "\u{ff07}x\u{ff07}", "\u{202e}x\u{202c}", "\u{e000}"] {
        let yaml = stream(&format!("SELECT id FROM t WHERE a = {name}"));
        check_survives(&yaml);
        let findings = compile(&yaml).check(&[table("t(id text, a text)")]);
        check_findings(&findings, &yaml);
        assert!(format_findings(&findings).contains("has no column"), "{name}");
    }

    for name in ["na\u{ef}ve", "\u{540d}", "a\u{301}", "\u{202e}x", "x\u{0}", "\u{1f468}\u{200d}"] {
        let quoted = format!("\"{name}\"");
        check_survives(&stream(&format!(
            "SELECT id, a AS {quoted} FROM {quoted} WHERE {quoted} = 'x'"
        )));
        check_survives(&stream(&format!("SELECT id, {name} FROM {name}")));
    }
}
