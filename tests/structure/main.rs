//! Compares the code with the documents: the imports of crates and files with ARCHITECTURE.md, and
//! the tests with the faults in tests/FAULTS.md.
//!
//! `imports` reads the paths that a file names, `modules` resolves them to files, and `faults` reads
//! the tables of faults.

mod faults;
mod imports;
mod modules;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::faults::TestSources;
use crate::modules::Crate;

/// Folders and files that must do no I/O, with the names that they must not use.
const PURE: &[(&str, &[&str])] = &[
    ("libs/protocol/src", VALUES_ONLY),
    ("libs/sync-config/src", VALUES_ONLY),
    ("client/src/core", SANS_IO),
    ("client/src/core.rs", SANS_IO),
    ("functions/src/stream/checkpoint_state.rs", SANS_IO),
    ("functions/src/stream/send_plan.rs", SANS_IO),
    ("ingest-worker/src/replication/assembler.rs", SANS_IO),
    ("ingest-worker/src/replication/assembler", SANS_IO),
    ("ingest-worker/src/start/takeover.rs", SANS_IO),
];

/// Names that pure functions must not use.
const VALUES_ONLY: &[&str] =
    &["tokio", "reqwest", "rusqlite", "std::fs", "std::net", "std::env", "std::time::Instant"];

/// Names that state machines must not use. Times are arguments, so the types of clocks are permitted.
const SANS_IO: &[&str] = &[
    "reqwest",
    "rusqlite",
    "std::fs",
    "std::net",
    "std::env",
    "tokio::spawn",
    "tokio::net",
    "tokio::sync",
    "tokio_postgres",
    "pgwire_replication",
];

/// Returns the repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies below the root").to_path_buf()
}

/// Returns the folders and package names of the workspace's members.
fn members() -> Result<BTreeMap<String, String>> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml"))?;
    let list = manifest.split_once("members = [").context("no members")?.1;
    let list = list.split_once(']').context("no end of members")?.0;

    let mut members = BTreeMap::new();
    for folder in list.split('"').skip(1).step_by(2) {
        let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml"))?;
        let name = manifest.split("name = \"").nth(1).and_then(|rest| rest.split('"').next());
        members.insert(folder.to_owned(), name.context("a package has a name")?.to_owned());
    }
    Ok(members)
}

/// Returns our own crates among the `[dependencies]` of a manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut is_wanted = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_wanted = line == "[dependencies]";
        } else if is_wanted && line.starts_with("tidewater") {
            found.extend(line.split(['.', ' ', '=']).next().map(str::to_owned));
        }
    }
    found
}

/// Returns the packages that the table of ARCHITECTURE.md allows a folder to import.
fn allowed(table: &str, folder: &str, members: &BTreeMap<String, String>) -> Option<Vec<String>> {
    let start = format!("| `{folder}` |");
    let row = table.lines().find(|line| line.starts_with(&start))?;
    let cell = row.trim_end_matches([' ', '|']).rsplit('|').next()?.trim();

    let mut names = Vec::new();
    for word in cell.split(',').map(str::trim) {
        if word.starts_with("all") {
            names.extend(members.values().cloned());
        } else if word == "`libs`" {
            names.extend(
                members.iter().filter(|(f, _)| f.starts_with("libs/")).map(|(_, n)| n.clone()),
            );
        } else if word != "nothing" {
            names.push(format!("tidewater-{}", word.trim_matches('`')));
        }
    }
    Some(names)
}

#[test]
fn crates_import_only_what_the_architecture_allows() -> Result<()> {
    let table = std::fs::read_to_string(root().join("ARCHITECTURE.md"))?;
    let members = members()?;
    ensure!(members.len() > 10, "the workspace's members are not found");

    let mut wrong = Vec::new();
    for (folder, name) in &members {
        let Some(allowed) = allowed(&table, folder, &members) else {
            wrong.push(format!("ARCHITECTURE.md has no row for `{folder}`"));
            continue;
        };
        let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml"))?;
        for dependency in dependencies(&manifest) {
            if !allowed.contains(&dependency) {
                wrong.push(format!("{name} imports {dependency}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "edges that ARCHITECTURE.md does not draw:\n{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn no_two_files_import_each_other() -> Result<()> {
    let mut found = Vec::new();
    for folder in members()?.keys() {
        let code = Crate::read(&root().join(folder).join("src"))?;
        for cycle in code.cycles() {
            found.push(format!("{folder}: {}", cycle.join(" -> ")));
        }
    }
    ensure!(found.is_empty(), "files that import each other:\n{}", found.join("\n"));
    Ok(())
}

#[test]
fn state_machines_do_no_io() -> Result<()> {
    let mut found = Vec::new();
    for (place, forbidden) in PURE {
        let path = root().join(place);
        let files = if path.is_file() { vec![path] } else { modules::rust_files(&path)? };
        ensure!(!files.is_empty(), "{place} has no files");

        for file in files {
            let text = imports::without_tests(&imports::without_comments(
                &std::fs::read_to_string(&file)?,
            ));
            for name in forbidden.iter().filter(|name| imports::mentions(&text, name)) {
                found.push(format!("{} uses {name}", file.display()));
            }
        }
    }
    ensure!(found.is_empty(), "I/O where none may be:\n{}", found.join("\n"));
    Ok(())
}

#[test]
fn every_test_in_the_list_of_faults_exists() -> Result<()> {
    let list = std::fs::read_to_string(root().join("tests/FAULTS.md"))?;
    let faults = faults::faults(&list);
    ensure!(faults.len() > 50, "the tables of FAULTS.md are not found");

    let mut sources = BTreeMap::new();
    for (folder, package) in members()? {
        sources.insert(package, TestSources::read(&root().join(folder))?);
    }

    let mut missing = Vec::new();
    for fault in &faults {
        for test in fault.tests()? {
            let sources = sources.get(&test.package);
            if !sources.is_some_and(|sources| test.exists_in(sources)) {
                missing.push(format!("{}: {test:?}", fault.id));
            }
        }
    }
    ensure!(missing.is_empty(), "FAULTS.md names tests that do not exist:\n{}", missing.join("\n"));
    Ok(())
}

#[test]
fn every_fault_that_a_test_cites_is_in_the_list() -> Result<()> {
    let list = std::fs::read_to_string(root().join("tests/FAULTS.md"))?;
    let known: BTreeSet<String> = faults::faults(&list).into_iter().map(|fault| fault.id).collect();
    for file in faults::all_rust_files(&root().join("tests/tests"))? {
        let cited = faults::cited(&std::fs::read_to_string(&file)?);
        let unknown: Vec<_> = cited.difference(&known).collect();
        ensure!(unknown.is_empty(), "{} cites {unknown:?}", file.display());
    }
    Ok(())
}
