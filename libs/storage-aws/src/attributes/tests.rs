use std::path::{Path, PathBuf};

/// Signs of an expression of DynamoDB in a string literal.
const EXPRESSION_SIGNS: &[&str] =
    &["=", "attribute_", "begins_with", "BETWEEN", "SET ", "REMOVE ", "ADD "];

/// Returns the files of the crate that must not spell names: all but this module and tests, which
/// check stored names.
fn checked_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(checked_files(&path));
        } else if !path.ends_with("attributes.rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    files
}

/// Returns the string literals of a file, up to its unit tests.
fn literals(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let mut literals = Vec::new();
    for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
        // A literal that spans lines is a message, never an expression.
        literals.extend(line.split('"').skip(1).step_by(2).map(str::to_owned));
    }
    literals
}

/// Returns the names that a literal spells: all of it, or words of an expression. Placeholders of
/// constants and of values are not names.
fn spelt_names(literal: &str) -> Vec<&str> {
    let is_name = |word: &&str| word.len() == 1 && word.chars().all(|c| c.is_ascii_lowercase());
    let words = literal.split(|c: char| !(c.is_alphanumeric() || "_:{}".contains(c)));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();

    let is_list_of_names = words.iter().all(is_name);
    let is_expression = EXPRESSION_SIGNS.iter().any(|sign| literal.contains(sign));
    if is_list_of_names || is_expression {
        words.into_iter().filter(is_name).collect()
    } else {
        Vec::new()
    }
}

#[test]
fn no_other_file_spells_the_name_of_an_attribute() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = checked_files(&src);
    assert!(files.len() > 20, "the files of the crate are found");

    for file in files {
        for literal in literals(&std::fs::read_to_string(&file).unwrap()) {
            let names = spelt_names(&literal);
            assert!(names.is_empty(), "{} spells {names:?} in \"{literal}\"", file.display());
        }
    }
}

#[test]
fn names_are_found_in_literals_and_expressions_only() {
    assert_eq!(spelt_names("t = :expected OR t = :new"), ["t", "t"]);
    assert_eq!(spelt_names("attribute_not_exists(p)"), ["p"]);
    assert_eq!(spelt_names("p, s, o"), ["p", "s", "o"]);
    assert_eq!(spelt_names("x"), ["x"]);
    for literal in ["{NEWEST_OP} = :t", "a write without a condition failed", "S", ""] {
        assert_eq!(spelt_names(literal), [""; 0], "{literal}");
    }
}
