//! The file of the sync config.

use std::path::Path;

use anyhow::{Context, anyhow};
use tidewater_sync_config::{Diagnostic, Severity, SyncConfig};

use crate::terminal::failure::Failure;
use crate::terminal::logging;

/// A sync config that compiles, with its text and the name of its file.
pub(crate) struct ConfigFile {
    name: String,
    text: String,
    config: SyncConfig,
}

impl ConfigFile {
    /// Reads and compiles a file. Its errors and warnings are printed to stderr.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the sync config '{name}'"))
            .map_err(Failure::Usage)?;
        Self::compile(name, text)
    }

    /// Compiles a text. Its errors and warnings are printed to stderr.
    pub(crate) fn compile(name: String, text: String) -> Result<Self, Failure> {
        match SyncConfig::compile(&text) {
            Ok(config) => {
                let file = Self { name, text, config };
                file.print(file.config.warnings());
                Ok(file)
            }
            Err(findings) => {
                print(&findings, &name, &text);
                Err(unusable(&name))
            }
        }
    }

    /// Returns the compiled config.
    pub(crate) fn config(&self) -> &SyncConfig {
        &self.config
    }

    /// Returns the text of the file.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Prints findings about the file to stderr, and fails if one of them is an error.
    pub(crate) fn check(&self, findings: &[Diagnostic]) -> Result<(), Failure> {
        self.print(findings);
        if findings.iter().any(|finding| finding.severity == Severity::Error) {
            return Err(unusable(&self.name));
        }
        Ok(())
    }

    fn print(&self, findings: &[Diagnostic]) {
        print(findings, &self.name, &self.text);
    }
}

fn print(findings: &[Diagnostic], name: &str, text: &str) {
    let text: String = findings.iter().map(|finding| finding.render(name, text) + "\n").collect();
    logging::eprint(&text);
}

fn unusable(name: &str) -> Failure {
    Failure::Usage(anyhow!("the sync config '{name}' cannot be used"))
}
