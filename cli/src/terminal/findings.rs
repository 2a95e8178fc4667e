//! The findings about a sync config, as text and as JSON.

use serde_json::{Value, json};
use tidewater_sync_config::{Diagnostic, Severity, SyncConfig};

use super::format::{Format, counted};

/// The findings about a sync config.
pub(crate) struct FindingsReport {
    /// Name of the file.
    pub(crate) file: String,
    /// Text of the file.
    pub(crate) text: String,
    /// Compiled config, if it compiles.
    pub(crate) config: Option<SyncConfig>,
    /// Errors and warnings in the order of the file.
    pub(crate) findings: Vec<Diagnostic>,
}

impl FindingsReport {
    /// Returns the text to print.
    pub(crate) fn render(&self, format: Format) -> String {
        match format {
            Format::Text => self.text(),
            Format::Json => format!("{}\n", self.json()),
        }
    }

    fn with_severity(&self, severity: Severity) -> impl Iterator<Item = &Diagnostic> {
        self.findings.iter().filter(move |finding| finding.severity == severity)
    }

    /// Returns whether there is no error.
    pub(crate) fn is_valid(&self) -> bool {
        self.with_severity(Severity::Error).next().is_none()
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for finding in &self.findings {
            out.push_str(&finding.render(&self.file, &self.text));
            out.push('\n');
        }

        let errors = self.with_severity(Severity::Error).count();
        let warnings = self.with_severity(Severity::Warning).count();
        let verdict = match &self.config {
            Some(config) if errors == 0 => format!(
                "is valid: {} over {}",
                counted(config.definitions().len(), "definition"),
                counted(config.tables().len(), "table"),
            ),
            _ => format!("is not valid: {}", counted(errors, "error")),
        };
        out.push_str(&format!("{} {verdict}", self.file));
        if warnings > 0 {
            out.push_str(&format!(", {}", counted(warnings, "warning")));
        }
        out.push('\n');
        out
    }

    fn json(&self) -> Value {
        let findings: Vec<Value> = self.findings.iter().map(finding_json).collect();
        json!({"ok": self.is_valid(), "findings": findings})
    }
}

fn finding_json(finding: &Diagnostic) -> Value {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    json!({
        "severity": severity,
        "line": finding.line,
        "column": finding.column,
        "message": finding.message,
        "hint": finding.hint,
    })
}
