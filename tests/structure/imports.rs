//! Reads the paths that a Rust file names: `use` trees and qualified paths in expressions.

/// Returns the code without comments and without the contents of string literals.
pub(crate) fn without_comments(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;

    while let Some(next) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
        } else if let Some(hashes) = raw_text(rest) {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = &rest[hashes + 2..];
            rest = body.find(&close).map_or("", |end| &body[end + close.len()..]);
        } else if next == '"' {
            rest = after_text(&rest[1..]);
            out.push_str("\"\"");
        } else {
            out.push(next);
            rest = &rest[next.len_utf8()..];
            // A quotation mark in a character literal does not begin a string literal.
            if next == '\'' && rest.starts_with("\"'") {
                rest = &rest[2..];
            }
        }
    }
    out
}

/// Returns the number of `#` if a raw string literal begins here.
fn raw_text(code: &str) -> Option<usize> {
    let after = code.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// Returns the code after the string literal that begins before `code`.
fn after_text(code: &str) -> &str {
    let mut is_escaped = false;
    for (at, next) in code.char_indices() {
        match next {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return &code[at + 1..],
            _ => {}
        }
    }
    ""
}

/// Returns the code before its inline test module.
pub(crate) fn without_tests(code: &str) -> String {
    let end = code.find("#[cfg(test)]\nmod tests {").unwrap_or(code.len());
    code[..end].to_owned()
}

/// Returns whether the path `name` occurs, and not as a part of a longer name.
pub(crate) fn mentions(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + name.len()..].chars().next();
        before.is_none_or(|c| !is_word(c) && c != '.') && after.is_none_or(|c| !is_word(c))
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A path in a file, and the name under which the file exports it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    /// The name under which a `pub use` makes it visible; `*` for a glob.
    pub(crate) exported_as: Option<String>,
}

/// Returns all paths of the `use` declarations.
pub(crate) fn uses(code: &str) -> Vec<Import> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let line = code[..at].rsplit('\n').next().unwrap_or_default().trim();
        let is_declaration =
            line.is_empty() || line == "pub" || line.starts_with("pub(") && line.ends_with(')');
        if !is_declaration {
            continue;
        }
        let tree = code[at + 4..].split(';').next().unwrap_or_default();
        let tree: String = tree.replace(" as ", "@").split_whitespace().collect();
        expand(&tree, &[], !line.is_empty(), &mut found);
    }
    found
}

/// Adds the paths of a `use` tree below `prefix`.
fn expand(tree: &str, prefix: &[String], is_public: bool, found: &mut Vec<Import>) {
    if let Some((head, group)) = tree.split_once('{') {
        let head = head.trim_end_matches("::").split("::").filter(|part| !part.is_empty());
        let prefix: Vec<String> = prefix.iter().cloned().chain(head.map(str::to_owned)).collect();
        let group = group.strip_suffix('}').unwrap_or(group);

        let mut depth = 0;
        let mut start = 0;
        for (at, next) in group.char_indices().chain([(group.len(), ',')]) {
            match next {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    if start < at {
                        expand(&group[start..at], &prefix, is_public, found);
                    }
                    start = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let (path, alias) = tree.split_once('@').unwrap_or((tree, ""));
    let parts = path.split("::").filter(|part| !part.is_empty() && *part != "self");
    let is_relative = path.starts_with("self::") && prefix.is_empty();
    let mut path: Vec<String> = prefix.iter().cloned().chain(parts.map(str::to_owned)).collect();
    if is_relative {
        path.insert(0, "self".to_owned());
    }
    let name =
        if alias.is_empty() { path.last().cloned().unwrap_or_default() } else { alias.to_owned() };
    found.push(Import { path, exported_as: is_public.then_some(name) });
}

/// Returns the code without its `use` declarations.
pub(crate) fn without_uses(code: &str) -> String {
    let mut out = String::new();
    let mut is_use = false;
    for line in code.split_inclusive('\n') {
        let start = line.trim_start();
        is_use |= start.starts_with("use ")
            || start.starts_with("pub use ")
            || start.starts_with("pub(") && start.contains(") use ");
        if !is_use {
            out.push_str(line);
        }
        is_use &= !line.contains(';');
    }
    out
}

/// Returns the qualified paths in expressions and types that begin with one of `heads`.
pub(crate) fn qualified(code: &str, heads: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for head in heads {
        for (at, _) in code.match_indices(&format!("{head}::")) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| is_word(c) || c == ':' || c == '.') {
                continue;
            }

            let end =
                code[at..].find(|c: char| !is_word(c) && c != ':').map_or(code.len(), |n| at + n);
            let parts = code[at..end].split("::").filter(|part| !part.is_empty());
            found.push(parts.map(str::to_owned).collect());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(code: &str) -> Vec<String> {
        uses(code).iter().map(|import| import.path.join("::")).collect()
    }

    #[test]
    fn use_trees_are_expanded() {
        assert_eq!(paths("use crate::a::B;"), ["crate::a::B"]);
        assert_eq!(
            paths("use crate::{a::{B, C as D}, e, f::{self, G}};\n"),
            ["crate::a::B", "crate::a::C", "crate::e", "crate::f", "crate::f::G"],
        );
        assert_eq!(paths("pub(crate) use super::x::*;"), ["super::x::*"]);
        assert!(paths("let reuse = because;").is_empty());
    }

    #[test]
    fn reexports_keep_their_name() {
        let found = uses("pub use a::{B, C as D};");
        let names: Vec<_> = found.iter().map(|i| i.exported_as.as_deref().unwrap_or("-")).collect();
        assert_eq!(names, ["B", "D"]);
        assert_eq!(uses("use a::B;")[0].exported_as, None);
    }

    #[test]
    fn comments_and_string_literals_have_no_paths() {
        let code = "// use crate::a;\nlet x = \"use crate::b; \\\" \"; /* crate::c::d */ r#\"crate::e\"#; '\"'; f()";
        let clean = without_comments(code);
        assert!(!clean.contains("crate"), "{clean}");
        assert!(clean.ends_with("f()"));
    }

    #[test]
    fn qualified_paths_are_found_whole() {
        let heads = ["crate".to_owned(), "child".to_owned()];
        let found = qualified("fn f() -> crate::a::B { child::make(x::child::no()) }", &heads);
        assert_eq!(found, [vec!["crate", "a", "B"], vec!["child", "make"]]);
    }

    #[test]
    fn a_name_is_mentioned_only_as_a_whole() {
        assert!(mentions("use tokio::fs;", "tokio"));
        assert!(!mentions("let tokio_like = x.tokio;", "tokio"));
    }
}
