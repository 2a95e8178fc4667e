//! YAML that means more than it says, or that is large.

use super::super::refused;
use super::survive;
use crate::file::yaml::FILE_BYTES_MAX;

/// A list that names the one before it ten times, and so on.
fn aliases(levels: usize) -> String {
    let mut yaml = "a0: &a0 [x]\n".to_owned();
    for level in 1..levels {
        let before = format!("*a{}", level - 1);
        let list = [before.as_str(); 10].join(", ");
        yaml += &format!("a{level}: &a{level} [{list}]\n");
    }
    format!("{yaml}streams: *a{}\n", levels - 1)
}

#[test]
fn aliases_stand_for_so_much_and_no_more() {
    for levels in [2, 10, 200] {
        survive(&aliases(levels));
    }
    assert!(refused(&aliases(2)).contains("unknown key `a0`"), "{}", refused(&aliases(2)));
    for levels in [10, 200] {
        assert!(refused(&aliases(levels)).contains("the aliases up to here stand for too much"));
    }
    for yaml in [
        "a: &a\n  b: *a\n",
        "streams: &a\n  s: {<<: *a, query: SELECT * FROM t}\n",
        "streams: *unknown\n",
        "? &a [*a]\n: *a\n",
        "config: !!binary aGVsbG8=\nstreams: !!set {? x}\n",
        "streams: !<tag:yaml.org,2002:map> {s: {query: SELECT * FROM t}}\n",
    ] {
        survive(yaml);
        assert_ne!(refused(yaml), "accepted\n", "{yaml}");
    }
}

#[test]
fn large_files_are_bounded() {
    let query = "query: SELECT id FROM t WHERE a = ";
    for length in [1_000, 60_000, 100_000, FILE_BYTES_MAX - 100, FILE_BYTES_MAX + 1] {
        let long = "x".repeat(length);
        survive(&long);
        survive(&format!("config: {{edition: 3}}\nstreams:\n  s:\n    {query}'{long}'\n"));
        survive(&format!("config: {{edition: 3}}\nstreams:\n  s:\n    query: |\n      {long}\n"));
        survive(&format!("config: {{edition: 3}}\nstreams:\n  {long}:\n    query: 1\n"));
        survive(&format!("config: {{edition: 3}}\nstreams:\n  s:\n    query: \"{long}\"\n"));
        survive(&format!("# {long}\n"));
        survive(&" ".repeat(length));
        survive(&"\n".repeat(length));
        survive(&"\u{1f600}".repeat(length / 4));
    }
    for count in [100, 100_000] {
        survive(&format!(
            "config: {{edition: 3}}\nstreams:\n  s:\n    {query}'' AND {}\n",
            "1+".repeat(count)
        ));
        let items = "a+1,".repeat(count);
        survive(&format!(
            "config: {{edition: 3}}\nstreams:\n  s: {{query: 'SELECT {items} id FROM t'}}\n"
        ));
    }
    for count in [100, 5_000] {
        let streams = |n: usize| format!("  s{n}: {{query: SELECT * FROM t{n}}}\n");
        let streams: String = (0..count).map(streams).collect();
        survive(&format!("config: {{edition: 3}}\nstreams:\n{streams}"));
        survive(&format!(
            "config: {{edition: 3}}\nstreams:\n{}",
            "  s: {query: 1}\n".repeat(count)
        ));
        let queries = "      - SELECT * FROM t WHERE a = auth.user_id()\n".repeat(count);
        survive(&format!("config: {{edition: 3}}\nstreams:\n  s:\n    queries:\n{queries}"));
        survive(&"a: b\n".repeat(count));
        survive(&"- ".repeat(count));
        survive(&"[".repeat(count));
        survive(&"{a: ".repeat(count));
        survive(&"? ".repeat(count));
        survive(&"\"\\".repeat(count));
        survive(&"--- \n".repeat(count));
        survive(&"|\n".repeat(count));
    }
}

#[test]
fn what_is_said_twice_is_an_error() {
    for yaml in [
        "config: {edition: 3, edition: 3}\nstreams: {s: {query: SELECT * FROM t}}\n",
        "config: {edition: 3}\nstreams: {s: {query: SELECT * FROM t}}\nconfig: {edition: 3}\n",
        "config: {edition: 3}\nstreams: {s: {query: SELECT * FROM t, query: SELECT * FROM t}}\n",
        "config: {edition: 3}\nstreams: {s: {query: SELECT * FROM t}, s: {query: SELECT * FROM u}}\n",
        "config: {edition: 3}\nstreams: {s: {query: SELECT * FROM t}, 's': {query: SELECT * FROM u}}\n",
        "config: {edition: 3}\nstreams: {s: {query: SELECT * FROM t}}\nstreams: {}\n",
        "config: {edition: 3}\nwith: {c: SELECT a FROM t, c: SELECT a FROM t}\n\
         streams: {s: {query: SELECT * FROM t WHERE a IN c}}\n",
    ] {
        survive(yaml);
        assert!(refused(yaml).contains("is defined twice"), "{yaml}\n{}", refused(yaml));
    }
}
