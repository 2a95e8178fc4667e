//! The modules of a crate, and the imports between their files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::imports::{self, Import};

/// Maximum number of re-exports that are followed to the definition of a path.
const REEXPORTS_MAX: usize = 8;

/// One file: its path in the module tree, and the paths that it names.
struct Module {
    file: String,
    imports: Vec<Import>,
    children: BTreeSet<String>,
}

/// The modules of a crate, by their path; the root's is empty.
pub(crate) struct Crate {
    modules: BTreeMap<Vec<String>, Module>,
}

/// Returns all Rust files below a folder, in order, without test modules.
pub(crate) fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?
    {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();

        if path.is_dir() && name != "tests" && name != "bin" {
            found.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") && name != "tests.rs" {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

impl Crate {
    /// Reads the modules of a crate from its `src` folder.
    pub(crate) fn read(src: &Path) -> Result<Self> {
        let mut sources = BTreeMap::new();
        for path in rust_files(src)? {
            let relative = path.strip_prefix(src)?.with_extension("");
            let mut module: Vec<String> =
                relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();

            if module.last().is_some_and(|last| {
                last == "mod" || module.len() == 1 && (last == "lib" || last == "main")
            }) {
                module.pop();
            }

            let text = std::fs::read_to_string(&path)?;
            sources.insert(module, (relative.display().to_string(), text));
        }
        Ok(Self::of(sources))
    }

    /// Makes modules of their files' names and texts.
    fn of(sources: BTreeMap<Vec<String>, (String, String)>) -> Self {
        let names: Vec<_> = sources.keys().cloned().collect();
        let mut modules = BTreeMap::new();
        for (module, (file, text)) in sources {
            let code = imports::without_tests(&imports::without_comments(&text));
            let children: BTreeSet<String> = names
                .iter()
                .filter(|name| name.len() == module.len() + 1 && name.starts_with(&module))
                .filter_map(|name| name.last().cloned())
                .collect();

            let mut heads = vec!["crate".to_owned(), "super".to_owned()];
            heads.extend(children.iter().cloned());
            let mut imports = imports::uses(&code);
            let paths = imports::qualified(&imports::without_uses(&code), &heads).into_iter();
            imports.extend(paths.map(|path| Import { path, exported_as: None }));
            modules.insert(module, Module { file, imports, children });
        }
        Self { modules }
    }

    /// Returns the module whose file defines what `path` names in `module`.
    fn resolve(&self, module: &[String], path: &[String], follow: usize) -> Option<Vec<String>> {
        let (mut at, mut rest) = match path.first()?.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (module.to_vec(), &path[1..]),
            "super" => (module[..module.len().checked_sub(1)?].to_vec(), &path[1..]),
            head if self.modules[module].children.contains(head) => (module.to_vec(), path),
            _ => return None,
        };
        while let Some((next, after)) = rest.split_first() {
            let mut inner = at.clone();
            inner.push(next.clone());
            if next == "super" {
                at.pop();
            } else if self.modules.contains_key(&inner) {
                at = inner;
            } else {
                break;
            }
            rest = after;
        }

        // A file that only re-exports the item is not imported: the file that defines it is.
        let item = rest.first();
        let here = self.modules.get(&at)?;
        let exported = here
            .imports
            .iter()
            .find(|import| import.exported_as.is_some() && import.exported_as.as_ref() == item);
        match exported {
            Some(import) if follow > 0 => self.resolve(&at, &import.path, follow - 1).or(Some(at)),
            _ => Some(at),
        }
    }

    /// Returns the modules that each module imports.
    fn edges(&self) -> BTreeMap<&Vec<String>, BTreeSet<Vec<String>>> {
        let mut edges = BTreeMap::new();
        for (name, module) in &self.modules {
            // A re-export is not a use of the item.
            let used = module.imports.iter().filter(|import| import.exported_as.is_none());
            let targets = used.filter_map(|import| self.resolve(name, &import.path, REEXPORTS_MAX));
            edges.insert(name, targets.filter(|target| target != name).collect::<BTreeSet<_>>());
        }
        edges
    }

    /// Returns the groups of files that import each other, directly or by way of others.
    pub(crate) fn cycles(&self) -> Vec<Vec<String>> {
        let edges = self.edges();
        let reached: BTreeMap<_, _> =
            edges.keys().map(|from| (*from, reachable(from, &edges))).collect();
        let mut seen: BTreeSet<&Vec<String>> = BTreeSet::new();
        let mut cycles = Vec::new();

        for (from, targets) in &reached {
            if seen.contains(*from) || !targets.contains(*from) {
                continue;
            }
            let group: Vec<_> = reached
                .keys()
                .filter(|to| targets.contains(**to) && reached[**to].contains(*from))
                .copied()
                .collect();
            cycles.push(group.iter().map(|name| self.modules[*name].file.clone()).collect());
            seen.extend(group);
        }
        cycles
    }
}

/// Returns everything that can be reached from `from` by one edge or more.
fn reachable(
    from: &Vec<String>,
    edges: &BTreeMap<&Vec<String>, BTreeSet<Vec<String>>>,
) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&Vec<String>> = vec![from];
    while let Some(next) = open.pop() {
        for target in edges.get(next).into_iter().flatten() {
            if found.insert(target.clone()) {
                open.push(target);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the cycles of a crate of these files.
    fn check(files: &[(&str, &str)], expected: &[&[&str]]) {
        let sources = files.iter().map(|(file, text)| {
            let module = file.split('/').filter(|part| *part != "lib").map(str::to_owned).collect();
            (module, ((*file).to_owned(), (*text).to_owned()))
        });
        assert_eq!(Crate::of(sources.collect()).cycles(), expected, "{files:?}");
    }

    #[test]
    fn a_chain_of_imports_is_no_cycle() {
        check(&[("lib", "mod a; mod b;"), ("a", "use crate::b::B;"), ("b", "struct B;")], &[]);
    }

    #[test]
    fn files_that_import_each_other_are_a_cycle() {
        check(&[("lib", ""), ("a", "use crate::b::B;"), ("b", "use crate::a::A;")], &[&["a", "b"]]);
        check(
            &[("lib", ""), ("a", "fn f() { crate::b::g() }"), ("b", "use super::a::A;")],
            &[&["a", "b"]],
        );
        check(
            &[
                ("lib", ""),
                ("a", "use crate::b::B;"),
                ("b", "use crate::c::C;"),
                ("c", "use crate::a;"),
            ],
            &[&["a", "b", "c"]],
        );
    }

    #[test]
    fn a_parent_and_a_child_that_import_each_other_are_a_cycle() {
        check(
            &[("lib", ""), ("a", "mod b;\nuse b::B;"), ("a/b", "use super::A;")],
            &[&["a", "a/b"]],
        );
        check(&[("lib", ""), ("a", "mod b;\npub use b::B;"), ("a/b", "use super::A;")], &[]);
    }

    #[test]
    fn a_re_export_is_an_import_of_the_file_that_defines_the_item() {
        let root = ("lib", "mod a;\nmod b;\npub use a::A;");
        check(&[root, ("a", "use crate::b::B;"), ("b", "use crate::A;")], &[&["a", "b"]]);
        check(&[root, ("a", "struct A;"), ("b", "use crate::A;")], &[]);
    }

    #[test]
    fn tests_may_import_what_they_test() {
        check(
            &[
                ("lib", ""),
                ("a", "use crate::b::B;"),
                ("b", "#[cfg(test)]\nmod tests {\n use crate::a::A;\n}"),
            ],
            &[],
        );
    }
}
