//! Hostile input: the compiler and the evaluator do a bounded amount of work and never panic.

mod cpu_time;
mod files;
mod mutations;
mod queries;
mod values;

use proptest::prelude::*;

use super::{TestRequest, stream, table};
use crate::file::diagnostic::lines;
use crate::{Diagnostic, RowOutput, SyncConfig};
use cpu_time::within_work_limit;

/// Number of findings to render for each file: rendering one takes time proportional to the file.
const RENDERED_MAX: usize = 20;

/// Compiles a file and, if it compiles, evaluates rows and a request. Fails if that is too much work.
fn check_survives(yaml: &str) {
    within_work_limit(yaml, || match SyncConfig::compile(yaml) {
        Ok(config) => exercise(&config),
        Err(findings) => {
            assert!(!findings.is_empty());
            check_findings(&findings, yaml);
        }
    });
}

/// Checks that each finding has a message and a place that exists in the file.
fn check_findings(findings: &[Diagnostic], yaml: &str) {
    let lines: Vec<&str> = lines(yaml).collect();
    for (index, finding) in findings.iter().enumerate() {
        let line = finding.line.checked_sub(1).and_then(|before| lines.get(before));
        let line = line.unwrap_or_else(|| panic!("no such line: {finding:?}"));
        let is_within = (1..=line.chars().count() + 1).contains(&finding.column);
        assert!(is_within, "no such column: {finding:?} in {line:?}");
        assert!(!finding.message.trim().is_empty(), "{finding:?}");
        if index < RENDERED_MAX {
            assert!(finding.render("f", yaml).contains(&finding.message));
        }
    }
}

fn exercise(config: &SyncConfig) {
    let tables: Vec<_> =
        ["t(id text, a text, b int4)", "u(id text, a json, b text)"].map(table).into();
    let _ = config.check(&tables);

    let mut out = RowOutput::default();
    for table in &tables {
        if let Ok(Some(evaluator)) = config.bind(table) {
            evaluator.evaluate(&[Some("1"), Some("[1]"), Some("2")], &mut out);
            evaluator.evaluate(&[], &mut out);
        }
    }

    let request = TestRequest::new(r#"{"claims": {"x": [1, 2]}, "parameters": {"x": 1}}"#);
    let mut evaluation =
        config.prepare(&request.borrow(), &crate::RequestLimits::UNLIMITED).unwrap().evaluation();
    if !evaluation.questions().is_empty() {
        let answers = vec![vec!["[1]".to_owned()]; evaluation.questions().len()];
        evaluation.answer(&answers);
    }

    let _ = evaluation.finish().unwrap();
}

fn nested(open: &str, inner: &str, close: &str, depth: usize) -> String {
    format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
}

#[test]
fn deep_nesting_is_rejected_or_accepted_without_overflow() {
    for depth in [30, 95, 200, 2_000] {
        for (open, inner, close) in [
            ("(", "1", ")"),
            ("NOT ", "a", ""),
            ("- ", "1", ""),
            ("(SELECT ", "1", ")"),
            ("a IN (SELECT a FROM t WHERE ", "b", ")"),
            ("upper(", "a", ")"),
            ("CAST(", "a", " AS text)"),
            ("CASE WHEN ", "a", " THEN 1 END"),
            ("a + ", "1", ""),
            ("", "a", " + 1"),
            ("", "a", "::text"),
            ("", "a", " -> 'x'"),
            ("a = 1 AND ", "b", ""),
            ("a = 1 OR (b AND ", "b", ")"),
            ("a IN (", "1", ")"),
            ("[", "1", "]"),
            ("EXISTS (", "SELECT 1", ")"),
            ("a BETWEEN ", "1 AND 2", ""),
            ("", "a", " BETWEEN 1 AND 2"),
            ("", "a", " LIKE 'x'"),
            ("", "a", " IS TRUE"),
            ("", "a", " && a"),
            ("", "a", " << 1"),
            ("CASE a WHEN 1 THEN ", "a", " END"),
            ("coalesce(1, ", "a", ")"),
            ("TRIM('x' FROM ", "a", ")"),
            ("replace(a, '', ", "a", ")"),
            ("hex(", "a", ")"),
            ("a = ANY(", "1", ")"),
            ("INTERVAL ", "'1'", ""),
        ] {
            check_survives(&stream(&format!(
                "SELECT id FROM t WHERE {}",
                nested(open, inner, close, depth)
            )));
        }

        for (open, inner, close) in [
            ("(", "t", ")"),
            ("(SELECT * FROM ", "t", ") x"),
            ("((SELECT * FROM ", "t", ") x)"),
            ("t JOIN (", "t", ")"),
            ("LATERAL (", "t", ")"),
            ("(", "SELECT 1", ""),
        ] {
            check_survives(&stream(&format!(
                "SELECT id FROM {}",
                nested(open, inner, close, depth)
            )));
        }

        check_survives(&stream(&nested("(", "SELECT id FROM t", ")", depth)));
        check_survives(&stream(&nested("", "SELECT id FROM t", " UNION SELECT id FROM t", depth)));
        check_survives(&stream(&format!(
            "SELECT CAST(a AS {}) FROM t",
            nested("", "int", "[]", depth)
        )));
        check_survives(&stream(&format!(
            "SELECT CAST(a AS {}) FROM t",
            nested("ARRAY<", "int", ">", depth)
        )));
        check_survives(&nested("[", "", "]", depth));
        check_survives(&nested("{a: ", "b", "}", depth));
        check_survives(&nested("- ", "b", "", depth));
        check_survives(&nested("? ", "b", "", depth));
        check_survives(
            &(0..depth).map(|n| format!("{}a:\n", " ".repeat(n.min(600)))).collect::<String>(),
        );
    }
}

#[test]
fn long_queries_take_bounded_work() {
    for count in [10, 1_000, 8_000] {
        for (query, item, separator) in [
            ("SELECT id, {} FROM t", "a", ", "),
            ("SELECT id FROM t WHERE b IN ({})", "1", ", "),
            ("SELECT id FROM t WHERE {}", "b = 1", " AND "),
            ("SELECT id FROM t WHERE {}", "b = 1", " OR "),
            ("SELECT id FROM t WHERE {}", "a = auth.user_id()", " AND "),
            ("SELECT id FROM t WHERE {}", "a = auth.user_id()", " OR "),
            ("SELECT id FROM t WHERE a = {}", "'x'", " || "),
            ("SELECT id FROM t WHERE {}", "a LIKE '%'", " OR "),
            ("SELECT id FROM t WHERE a IN ARRAY[{}]", "1", ", "),
            ("SELECT id FROM t WHERE CASE {} END", "WHEN a = 1 THEN b", " "),
            ("SELECT id FROM t WHERE coalesce({})", "a", ", "),
            ("SELECT id FROM t WHERE a LIKE '{}'", "%_", ""),
            ("SELECT id FROM {}", "t", ", "),
            ("SELECT id FROM t {}", "JOIN t ON a", " "),
            ("{}", "'", ""),
            ("{}", "/*", " "),
            ("{}", "$", ""),
        ] {
            let list = vec![item; count].join(separator);
            check_survives(&stream(&query.replace("{}", &list)));
        }
    }

    let clauses: Vec<String> = (0..300)
        .map(|n| format!("(a = auth.parameter('{n}') OR b = auth.parameter('{n}'))"))
        .collect();
    check_survives(&stream(&format!("SELECT id FROM t WHERE {}", clauses.join(" AND "))));
    check_survives(&stream(&format!("SELECT id FROM t WHERE NOT ({})", clauses.join(" OR "))));
}

/// Words and tokens of SQL. Sequences of them parse more often than random text.
const WORDS: [&str; 72] = [
    "SELECT", "id", "*", "FROM", "t", "u", "WHERE", "a", "b", "=", "IN", "(", ")", ",", "AND",
    "OR", "NOT", "NULL", "IS", "'x'", "1", "1.5", "bucket.x", "->>", "->", "||", "::text", "AS",
    "upper(", "\"", "'", "--", "/*", ";", ".", "&&", "JOIN", "ON", "CASE", "WHEN", "END", "THEN",
    "ELSE", "BETWEEN", "LIKE", "IS TRUE", "ARRAY[", "ROW(", "replace(", "round(", "%", "&", "|",
    "<<", "[", "]", "é", "\n", "DISTINCT", "LIMIT", "UNION", "WITH", "EXISTS", "-", "+",
    "INTERVAL", "CAST(", "integer", "$1", "?", "@", "#",
];
const PHRASES: [&str; 10] = [
    "auth.user_id()",
    "auth.parameter('x')",
    "connection.parameter('x')",
    "request.user_id()",
    "(SELECT a FROM u WHERE b = 1)",
    "ESCAPE '!'",
    "IS NOT DISTINCT FROM",
    "TRIM(LEADING",
    "coalesce(",
    "datetime(",
];

fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select([&WORDS[..], &PHRASES[..]].concat());
    prop::collection::vec(word, 0..40).prop_map(|words| words.join(" "))
}

fn yaml() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "config:",
        "  edition: 3",
        "  edition: 2",
        "streams:",
        "bucket_definitions:",
        "  s:",
        "    query: ",
        "    queries:",
        "      - ",
        "    data:",
        "    parameters: ",
        "    priority: 1",
        "|",
        ">",
        "'",
        "\"",
        "SELECT * FROM t",
        "\n",
        "  ",
        "\t",
        "# x",
        "&a",
        "*a",
        "!!str",
        "---",
        "...",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "?",
        "é",
        "\r\n",
        "%YAML 1.2",
        "\u{feff}",
        "\u{85}",
        "\u{2028}",
        "<<: *a",
    ]);

    prop::collection::vec((line, any::<bool>()), 0..30).prop_map(|lines| {
        lines
            .into_iter()
            .map(|(line, ends)| format!("{line}{}", if ends { "\n" } else { "" }))
            .collect()
    })
}

proptest! {
    #[test]
    fn random_text_does_not_panic(text in any::<String>()) {
        check_survives(&text);
        check_survives(&stream(&text));
        check_survives(&format!("config: {{edition: 3}}\nstreams:\n  s:\n    query: {text:?}\n"));
    }

    #[test]
    fn random_yaml_does_not_panic(text in yaml()) {
        check_survives(&text);
    }

    #[test]
    fn random_sql_words_do_not_panic(words in words()) {
        check_survives(&stream(&words));
        check_survives(&stream(&format!("SELECT id FROM t WHERE {words}")));
        check_survives(&stream(&format!("SELECT {words} AS id FROM t")));
        let words = words.replace('\n', " ");
        check_survives(&format!(
            "bucket_definitions:\n  s:\n    parameters: |\n      {words}\n    data:\n    - |\n      {words}\n"
        ));
    }

    #[test]
    fn random_column_values_do_not_panic(text in any::<String>(), oid in 0..7000_u32) {
        let config = super::compile(&stream("SELECT id, v, upper(v) AS u, v ->> '$.a.0' AS j, length(replace(v, v, v || v)) AS l, trim(v, v) AS m, round(v, v) AS r, v LIKE '%a_%' AS p, datetime(v, 'subsec') AS d, unixepoch(v, 'unixepoch') AS e, substring(v, v, v) AS s, v % v AS q, v << v AS x FROM t WHERE auth.user_id() IN v OR v = 1"));
        let mut table = table("t(id text, v text)");
        table.types = super::custom_types::types();

        let mut out = RowOutput::default();
        for oid in [oid, 16, 17, 20, 114, 700, 1007, 1009, 1082, 1083, 1114, 1184, 1185, 3220, 3904, 3910, 4451, 3905, 100_008, 100_010, 100_013, 100_017, 100_018, 200_000] {
            table.columns[1].type_oid = oid;
            let evaluator = config.bind(&table).unwrap().unwrap();
            for text in [&text, &format!("{{{text}}}"), &format!("[{text},)"), &format!("({text},)"), &format!("2024-01-01 {text}")] {
                evaluator.evaluate(&[Some("1"), Some(text)], &mut out);
                for bucket in out.buckets() {
                    prop_assert!(serde_json::from_str::<serde_json::Value>(bucket.data).is_ok() || bucket.data.contains("9e999"));
                    prop_assert!(serde_json::from_str::<serde_json::Value>(bucket.params).is_ok());
                }
            }
        }
    }
}
