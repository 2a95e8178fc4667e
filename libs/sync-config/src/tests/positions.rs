//! Places of findings in the file, for each way of writing SQL in YAML.

use expect_test::expect;
use proptest::prelude::*;

use super::refused;
use crate::file::source_file::SourceFile;
use crate::file::source_map::SourceMap;
use crate::file::yaml::{self, NodeValue};
use crate::{Diagnostic, SyncConfig};

/// Checks that the findings are at the occurrences of `nope` in the file.
fn check_places(yaml: &str) {
    let findings = SyncConfig::compile(yaml).expect_err("`nope` is no function");
    let found: Vec<(usize, usize)> =
        findings.iter().map(|finding| (finding.line, finding.column)).collect();
    let mut expected = Vec::new();
    for (line, text) in yaml.lines().enumerate() {
        for (index, _) in text.match_indices("nope") {
            expected.push((line + 1, text[..index].chars().count() + 1));
        }
    }
    assert!(!expected.is_empty());
    assert_eq!(found, expected, "{yaml}\n{findings:?}");
}

fn with_query(query: &str) -> String {
    format!("# ü\nconfig: {{edition: 3}}\nstreams:\n  s:\n    query: {query}\n")
}

#[test]
fn findings_in_plain_scalars_have_their_place() {
    check_places(&with_query("SELECT id, nope(a) AS b FROM t"));
    check_places(&with_query("SELECT id, 'é' AS e, nope(a) AS b FROM t WHERE nope() = 1"));
}

#[test]
fn findings_in_plain_scalars_of_several_lines_have_their_place() {
    check_places(&with_query(
        "SELECT id,\n      nope(a) AS b\n\n      FROM t\n        WHERE nope() = 1",
    ));
}

#[test]
fn findings_in_single_quotes_have_their_place() {
    check_places(&with_query("'SELECT id, ''it'''' s'' AS e, nope(a) AS b FROM t'"));
    check_places(&with_query(
        "'SELECT id, '''' AS e,\n\n      nope(a) AS b FROM t WHERE nope() = 1'",
    ));
}

#[test]
fn findings_in_double_quotes_have_their_place() {
    check_places(&with_query(
        r#""SELECT id, \"a\", '\x41\u00e9\U0001F600\t' AS e, nope(a) AS b FROM t""#,
    ));
    check_places(&with_query(
        "\"SELECT id, 'x \\\n      y' AS e,\n      nope(a) AS b\\n FROM t WHERE\\tnope() = 1\"",
    ));
}

#[test]
fn findings_in_literal_blocks_have_their_place() {
    check_places(&with_query(
        "|\n      SELECT id,\n        nope(a) AS b\n\n      FROM t -- 'x\n      WHERE nope() = 1",
    ));
    check_places(&with_query(
        "|2- # a comment with nothing in it\n        SELECT id,\n        nope(a) AS b FROM t",
    ));
}

#[test]
fn findings_in_folded_blocks_have_their_place() {
    check_places(&with_query(
        ">\n      SELECT id,\n      'a  b' AS e, nope(a) AS b\n\n      FROM t\n        WHERE nope() = 1\n",
    ));
    check_places(&with_query(">-\n      SELECT id,\n\n\n      nope(a) AS b FROM t"));
}

#[test]
fn findings_in_lists_have_their_place() {
    check_places(
        "config: {edition: 3}\nstreams:\n  s:\n    queries:\n      - SELECT id, nope() AS a FROM t\n      \
         - \"SELECT id, nope() AS b FROM t\"\n      - |\n        SELECT id,\n        nope() AS b FROM t\n",
    );
    check_places(
        "config: {edition: 3}\nstreams: {s: {queries: [SELECT nope() AS id FROM t, 'SELECT nope() AS id \
         FROM t']}}\n",
    );
}

#[test]
fn windows_line_breaks_do_not_move_places() {
    let yaml =
        with_query("|\n      SELECT id,\n        nope(a) AS b\n      FROM t WHERE nope() = 1");
    check_places(&yaml.replace('\n', "\r\n"));
    let yaml = with_query(">\n      SELECT id,\n      nope(a) AS b\n      FROM t WHERE nope() = 1");
    check_places(&yaml.replace('\n', "\r\n"));
}

#[test]
fn a_finding_at_the_end_of_a_query_has_its_place() {
    expect![[r#"
        5:26 not SQL: expected identifier, found: EOF
          is a word, comma or parenthesis missing before it, or one too many?
    "#]]
    .assert_eq(&refused(&with_query("SELECT id FROM")));
    expect![[r#"
        5:27 not SQL: expected identifier, found: EOF
          is a word, comma or parenthesis missing before it, or one too many?
    "#]]
    .assert_eq(&refused(&with_query("'SELECT id FROM'")));
}

#[test]
fn places_are_rendered_with_their_line() {
    let yaml = with_query("SELECT id, nope(a) AS b FROM t");
    let findings = SyncConfig::compile(&yaml).unwrap_err();

    expect![[r#"
        sync.yaml:5:23: error: unknown function `nope`
         5 |     query: SELECT id, nope(a) AS b FROM t
           |                       ^
          hint: the functions are: upper, lower, length, hex, base64, typeof, ifnull, iif, instr, substring, substr, json_extract, json_array_length, json_valid, json_keys, unixepoch, datetime, uuid_blob, st_asgeojson, st_astext, st_x, st_y, coalesce, nullif, abs, round, trim, ltrim, rtrim, replace
    "#]].assert_eq(&findings[0].render("sync.yaml", &yaml));

    let far = with_query(&format!("SELECT {} nope(a) AS b FROM t", "id, ".repeat(100)));
    let findings = SyncConfig::compile(&far).unwrap_err();

    expect![[r#"
        sync.yaml:5:420: error: unknown function `nope`
         5 | d, id, id, id, id, id, id, id, id, id, id, id, id, id, id, id, id, id, id, id,  nope(a) AS b FROM t
           |                                                                                 ^
          hint: the functions are: upper, lower, length, hex, base64, typeof, ifnull, iif, instr, substring, substr, json_extract, json_array_length, json_valid, json_keys, unixepoch, datetime, uuid_blob, st_asgeojson, st_astext, st_x, st_y, coalesce, nullif, abs, round, trim, ltrim, rtrim, replace
    "#]].assert_eq(&findings[0].render("sync.yaml", &far));
}

#[test]
fn places_beyond_the_file_are_rendered_without_a_line() {
    let findings = SyncConfig::compile("").unwrap_err();
    let moved = Diagnostic { line: 9, column: 9, hint: None, ..findings[0].clone() };
    expect![[r#"
        sync.yaml:9:9: error: the file is empty
    "#]]
    .assert_eq(&moved.render("sync.yaml", "a\nb"));
}

/// Returns a scalar in any YAML style. Each of its visible characters must be found again.
fn styled() -> impl Strategy<Value = String> {
    let word = "[a-z0-9_=(),.<>*é'\"\\\\ ]{1,12}";
    let text = prop::collection::vec(word, 1..6);

    (text, 0..5_usize).prop_map(|(words, style)| {
        let text: Vec<String> = words.iter().map(|word| word.trim().to_owned()).collect();
        match style {
            0 => format!("a{}", text.join("\n  a").replace(['#', ':'], "")),
            1 => format!("'{}'", text.join("\n\n  ").replace('\'', "''")),
            2 => {
                let escaped = text.join(" \\\n  ");
                let escaped =
                    escaped.replace("\\\n", "\u{0}").replace('\\', "\\\\").replace('"', "\\\"");
                format!("\"{}\"", escaped.replace('\u{0}', "\\\n"))
            }
            3 => format!("|\n  x{}\n", text.join("\n    ")),
            _ => format!(">-\n  x{}\n", text.join("\n\n  ")),
        }
    })
}

proptest! {
    #[test]
    fn visible_characters_are_at_their_mapped_places(scalar in styled()) {
        let file = format!("k: {scalar}\n");
        let source = SourceFile::new(&file);
        let Ok(Some(root)) = yaml::parse(&file, &source) else { return Ok(()) };
        let NodeValue::Map(entries) = &root.value else { return Ok(()) };
        let NodeValue::Scalar(scalar) = &entries[0].1.value else { return Ok(()) };
        let map = SourceMap::new(&source, scalar);
        let lines: Vec<Vec<char>> = file.split('\n').map(|line| line.chars().collect()).collect();

        for (index, c) in scalar.text.chars().enumerate().filter(|(_, c)| !c.is_whitespace()) {
            let place = map.position(index);
            let mut there = lines[place.line - 1][place.column - 1];
            if there == '\\' && scalar.style == saphyr_parser::ScalarStyle::DoubleQuoted {
                there = lines[place.line - 1][place.column];
            }
            prop_assert_eq!(there, c, "{:?} at {}", file, index);
        }
    }
}
