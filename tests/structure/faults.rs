//! The tables of `tests/FAULTS.md`, and the sources of the tests that they name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A row of a table: a fault, a security test or a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The number with its letter: `F1`, `S1` or `R1`.
    pub(crate) id: String,
    /// The tests, and remarks that are not in backticks.
    cell: String,
}

/// A test as `cargo nextest list` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedTest {
    pub(crate) package: String,
    modules: Vec<String>,
    function: String,
}

/// Returns the rows of all tables.
pub(crate) fn faults(text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if let [id, .., cell] = cells[..]
            && is_id(id)
        {
            faults.push(Fault { id: id.to_owned(), cell: cell.to_owned() });
        }
    }
    faults
}

/// Returns whether a word is the number of a fault, of a security test or of a rule.
fn is_id(word: &str) -> bool {
    word.strip_prefix(['F', 'S', 'R'])
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

impl Fault {
    /// Returns the tests. A row without tests must give a reason after `none yet:`.
    pub(crate) fn tests(&self) -> Result<Vec<NamedTest>> {
        if self.cell.starts_with("none yet: ") {
            return Ok(Vec::new());
        }

        let quoted = self.cell.split('`').skip(1).step_by(2);
        let names = quoted.filter(|name| name.starts_with("tidewater"));
        let tests = names.map(NamedTest::parse).collect::<Result<Vec<_>>>()?;
        anyhow::ensure!(!tests.is_empty(), "{} has neither a test nor a reason", self.id);
        Ok(tests)
    }
}

impl NamedTest {
    fn parse(name: &str) -> Result<Self> {
        let (binary, path) =
            name.split_once(' ').with_context(|| format!("'{name}' has no test"))?;
        let package = binary.split("::").next().unwrap_or_default();
        let mut modules: Vec<String> = path.split("::").map(str::to_owned).collect();
        let function = modules.pop().unwrap_or_default();
        Ok(Self { package: package.to_owned(), modules, function })
    }

    /// Returns whether a crate has a function of this name, and each module of the path.
    pub(crate) fn exists_in(&self, sources: &TestSources) -> bool {
        sources.functions.contains(&self.function)
            && self.modules.iter().all(|module| sources.modules.contains(module))
    }
}

/// The names of all functions and modules in the Rust files of a crate, with those of its tests.
#[derive(Default)]
pub(crate) struct TestSources {
    functions: BTreeSet<String>,
    modules: BTreeSet<String>,
}

impl TestSources {
    /// Reads all Rust files below a folder.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let mut sources = Self::default();
        for file in all_rust_files(folder)? {
            let parts = file.strip_prefix(folder)?.with_extension("");
            let parts = parts.iter().map(|part| part.to_string_lossy().into_owned());
            sources.modules.extend(parts);
            sources.add(&std::fs::read_to_string(&file)?);
        }
        Ok(sources)
    }

    fn add(&mut self, text: &str) {
        for line in text.lines() {
            if let Some(name) = name_after(line, "fn ") {
                self.functions.insert(name);
            }
            if let Some(name) = name_after(line, "mod ") {
                self.modules.insert(name);
            }
        }
    }
}

/// Returns the identifier that a keyword at the start of a declaration introduces.
fn name_after(line: &str, keyword: &str) -> Option<String> {
    let (before, rest) = line.split_once(keyword)?;
    let is_declaration =
        before.split_whitespace().all(|word| word.starts_with("pub") || word == "async");
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    (is_declaration && end > 0).then(|| rest[..end].to_owned())
}

/// Returns the Rust files below a folder, with those of tests.
pub(crate) fn all_rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(all_rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Returns the numbers that the comments of a file cite: "fault F5", "security tests S1 to S3".
pub(crate) fn cited(text: &str) -> BTreeSet<String> {
    let mut cited = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        let comment = line.strip_prefix("//").unwrap_or_default().to_lowercase();
        if comment.contains("fault f") || comment.contains("security test") {
            let words = line.split(|c: char| !c.is_alphanumeric());
            cited.extend(words.filter(|word| is_id(word)).map(str::to_owned));
        }
    }
    cited
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: &str) -> Fault {
        faults(line).pop().unwrap()
    }

    #[test]
    fn a_row_names_its_tests() {
        let fault = fault("| F1 | a kill | clean | `tidewater-x::it a::b::c`<br>`tidewater-y d` |");
        let tests = fault.tests().unwrap();
        assert_eq!(tests[0].package, "tidewater-x");
        assert_eq!(tests[0].modules, ["a", "b"]);
        assert_eq!(tests[0].function, "c");
        assert_eq!(tests[1].function, "d");
    }

    #[test]
    fn a_row_needs_a_test_or_a_reason() {
        assert_eq!(fault("| S4 | a | b | none yet: no server |").tests().unwrap(), []);
        assert!(fault("| S4 | a | b | none yet |").tests().is_err());
        assert!(fault("| S4 | a | b | (by hand) |").tests().is_err());
    }

    #[test]
    fn a_test_exists_if_its_function_and_modules_do() {
        let mut sources = TestSources::default();
        sources.add("mod a {\n    #[tokio::test]\n    async fn c() {}\n}\n// a fn d() and mod e");
        let exists = |name: &str| NamedTest::parse(name).unwrap().exists_in(&sources);
        assert!(exists("tidewater-x a::c"));
        assert!(!exists("tidewater-x a::d"));
        assert!(!exists("tidewater-x e::c"));
    }

    #[test]
    fn comments_cite_faults_by_number() {
        let text = "/// Fault F5, and promise 3.\n// Security tests S1 to S3.\nlet S9 = F7;";
        let expected = ["F5", "S1", "S3"].map(str::to_owned);
        assert_eq!(cited(text), BTreeSet::from(expected));
    }
}
