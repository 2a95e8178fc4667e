//! Compiles the sync config: from the file to the plan.
//!
//! Each query takes three passes. `resolve` gives names and calls their meaning and returns a
//! condition tree over the row sources of the query. `normalise` brings the tree into disjunctive
//! normal form. `solve` turns each branch into the steps that a request takes and the rows that a
//! bucket holds.

mod bucket_definition;
mod file_compiler;
mod normalise;
mod null_extension;
mod resolve;
mod row_sources;
mod solve;
mod stream;
mod term;

use crate::file;
use crate::file::diagnostic::{Diagnostic, Findings, Position};
use crate::file::source_file::SourceFile;
use crate::file::yaml::{self, FILE_BYTES_MAX};
use crate::plan::SyncPlan;
use file_compiler::FileCompiler;

/// Compiles a file.
///
/// # Errors
/// Returns all errors and warnings, in the order of the file.
pub(crate) fn compile(text: &str) -> Result<(SyncPlan, Vec<Diagnostic>), Vec<Diagnostic>> {
    let start = Position { line: 1, column: 1 };
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file is larger than {FILE_BYTES_MAX} bytes");
        return Err(vec![Diagnostic::error(start, message)]);
    }

    let source = SourceFile::new(text);
    let root = yaml::parse(text, &source).map_err(|error| vec![error])?;
    let Some(root) = root else {
        let error = Diagnostic::error(start, "the file is empty");
        return Err(vec![error.hint("define `streams` or `bucket_definitions`")]);
    };

    let mut findings = Findings::default();
    let file = file::read(&root, &mut findings);
    let mut compiler = FileCompiler::new(&source, file.options, findings);
    let ctes = compiler.ctes(&file.ctes);
    for entry in &file.streams {
        compiler.stream(entry, &ctes);
    }
    for entry in &file.definitions {
        compiler.definition(entry);
    }
    compiler.check_unused(&ctes);
    let FileCompiler { mut plan, findings, .. } = compiler;
    plan.references.sort();
    plan.references.dedup();
    let failed = findings.has_errors();
    let findings = findings.into_sorted();
    if failed { Err(findings) } else { Ok((plan, findings)) }
}
