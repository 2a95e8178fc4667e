//! The documentation: each sync config in it compiles, and each command and flag in it exists.

use std::path::{Path, PathBuf};

use tidewater_sync_config::SyncConfig;

use crate::program::{Program, stdout};

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages = vec![root.join("README.md")];
    let docs = std::fs::read_dir(root.join("docs")).unwrap();
    pages.extend(docs.map(|entry| entry.unwrap().path()));
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages
}

/// Returns the code blocks of a page in one language.
fn blocks(page: &Path, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let mut blocks = Vec::new();
    let mut block: Option<Vec<&str>> = None;
    let mut wanted = false;

    for line in text.lines() {
        match (line.strip_prefix("```"), &mut block) {
            (Some(_), Some(lines)) => {
                if wanted {
                    blocks.push(lines.join("\n"));
                }
                block = None;
            }
            (Some(info), None) => {
                wanted = info == language;
                block = Some(Vec::new());
            }
            (None, Some(lines)) => lines.push(line),
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn sync_configs_in_the_documentation_compile() {
    let mut count = 0;
    for page in pages() {
        for block in blocks(&page, "yaml") {
            count += 1;
            if let Err(findings) = SyncConfig::compile(&block) {
                let text: String = findings.iter().map(|one| one.render("", &block)).collect();
                panic!("{}:\n{text}", page.display());
            }
        }
    }
    assert!(count >= 5, "the documentation has too few examples");
}

#[test]
fn commands_in_the_documentation_exist() {
    let program = Program::new();
    let mut count = 0;

    for page in pages() {
        for line in blocks(&page, "sh").iter().flat_map(|block| block.lines()) {
            let Some(words) = line.strip_prefix("tidewater ") else { continue };
            let command = words.split_whitespace().next().unwrap();
            let help = stdout(&program.run(&[command, "--help"]), 0);
            for flag in words.split_whitespace().filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap();
                let mut shown = help.split_whitespace();
                assert!(shown.any(|word| word == flag), "{}: {flag}", page.display());
                count += 1;
            }
        }
    }
    assert!(count >= 5, "the documentation has too few examples");
}
