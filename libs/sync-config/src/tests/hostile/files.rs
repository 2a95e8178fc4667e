//! YAML files that expand (aliases) or are large.

use super::super::refused;
use super::check_survives;
use crate::file::yaml::FILE_BYTES_MAX;

/// Returns a file in which each list refers ten times to the one before it.
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
fn alias_expansion_is_bounded() {
    for levels in [2, 10, 200] {
        check_survives(&aliases(levels));
    }

    assert!(refused(&aliases(2)).contains("unknown key `a0`"), "{}", refused(&aliases(2)));
    for levels in [10, 200] {
        assert!(
            refused(&aliases(levels)).contains("the aliases up to here expand to too many nodes")
        );
    }

    for yaml in [
        "a: &a\n  b: *a\n",
        "streams: &a\n  s: {<<: *a, query: SELECT * FROM t}\n",
        "streams: *unknown\n",
        "? &a [*a]\n: *a\n",
        "config: !!binary aGVsbG8=\nstreams: !!set {? x}\n",
        "streams: !<tag:yaml.org,2002:map> {s: {query: SELECT * FROM t}}\n",
    ] {
        check_survives(yaml);
        assert_ne!(refused(yaml), "accepted\n", "{yaml}");
    }
}

fn unrelated_stream(n: usize) -> String {
    format!("  s{n}: {{query: SELECT * FROM t{n}}}\n")
}

#[test]
fn large_files_take_bounded_work() {
    let query = "query: SELECT id FROM t WHERE a = ";
    for length in [1_000, 60_000, 100_000, FILE_BYTES_MAX - 100, FILE_BYTES_MAX + 1] {
        let long = "x".repeat(length);
        check_survives(&long);
        check_survives(&format!("config: {{edition: 3}}\nstreams:\n  s:\n    {query}'{long}'\n"));
        check_survives(&format!(
            "config: {{edition: 3}}\nstreams:\n  s:\n    query: |\n      {long}\n"
        ));
        check_survives(&format!("config: {{edition: 3}}\nstreams:\n  {long}:\n    query: 1\n"));
        check_survives(&format!("config: {{edition: 3}}\nstreams:\n  s:\n    query: \"{long}\"\n"));
        check_survives(&format!("# {long}\n"));
        check_survives(&" ".repeat(length));
        check_survives(&"\n".repeat(length));
        check_survives(&"\u{1f600}".repeat(length / 4));
    }

    for count in [100, 100_000] {
        check_survives(&format!(
            "config: {{edition: 3}}\nstreams:\n  s:\n    {query}'' AND {}\n",
            "1+".repeat(count)
        ));
        let items = "a+1,".repeat(count);
        check_survives(&format!(
            "config: {{edition: 3}}\nstreams:\n  s: {{query: 'SELECT {items} id FROM t'}}\n"
        ));
    }

    for count in [100, 5_000] {
        let streams: String = (0..count).map(unrelated_stream).collect();
        check_survives(&format!("config: {{edition: 3}}\nstreams:\n{streams}"));
        check_survives(&format!(
            "config: {{edition: 3}}\nstreams:\n{}",
            "  s: {query: 1}\n".repeat(count)
        ));

        let queries = "      - SELECT * FROM t WHERE a = auth.user_id()\n".repeat(count);
        check_survives(&format!("config: {{edition: 3}}\nstreams:\n  s:\n    queries:\n{queries}"));
        check_survives(&"a: b\n".repeat(count));
        check_survives(&"- ".repeat(count));
        check_survives(&"[".repeat(count));
        check_survives(&"{a: ".repeat(count));
        check_survives(&"? ".repeat(count));
        check_survives(&"\"\\".repeat(count));
        check_survives(&"--- \n".repeat(count));
        check_survives(&"|\n".repeat(count));
    }
}

#[test]
fn duplicate_keys_are_errors() {
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
        check_survives(yaml);
        assert!(refused(yaml).contains("is defined twice"), "{yaml}\n{}", refused(yaml));
    }
}
