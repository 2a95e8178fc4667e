//! The findings about a sync config and its source database, as text and as JSON.

use std::io::Write;

use anyhow::Context;
use serde_json::{Value, json};
use tidewater_ingest_worker::Finding;
use tidewater_sync_config::{Diagnostic, Severity, SyncConfig};

use super::failure::Failure;
use super::format::{Format, counted};

/// The findings about a sync config and its source database.
pub(crate) struct FindingsReport {
    /// Name of the file.
    pub(crate) file: String,
    /// Text of the file.
    pub(crate) text: String,
    /// Compiled config, if it compiles.
    pub(crate) config: Option<SyncConfig>,
    /// Errors and warnings in the order of the file.
    pub(crate) findings: Vec<Diagnostic>,
    /// Findings about the source database, errors first; `None` if it was not checked.
    pub(crate) source: Option<Vec<Finding>>,
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

    /// Prints the report to stdout, and fails if it has an error.
    pub(crate) fn finish(&self, format: Format) -> Result<(), Failure> {
        let output = self.render(format);
        std::io::stdout().write_all(output.as_bytes()).context("cannot write to stdout")?;
        match (self.is_valid(), self.is_source_ready()) {
            (true, true) => Ok(()),
            (true, false) => Err(Failure::SourceNotReady),
            (false, _) => Err(Failure::AlreadyReported),
        }
    }

    /// Returns whether the source database was not checked or has no error.
    fn is_source_ready(&self) -> bool {
        !self.source.iter().flatten().any(|finding| finding.is_fatal)
    }

    /// Returns whether the sync config has no error.
    fn is_valid(&self) -> bool {
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
                counted_streams(config),
                counted(config.tables().len(), "table"),
            ),
            _ => format!("is not valid: {}", counted(errors, "error")),
        };
        out.push_str(&format!("{} {verdict}", self.file));
        if warnings > 0 {
            out.push_str(&format!(", {}", counted(warnings, "warning")));
        }
        out.push('\n');
        if let Some(source) = &self.source {
            out.push_str(&source_text(source));
        }
        out
    }

    fn json(&self) -> Value {
        let findings: Vec<Value> = self.findings.iter().map(finding_json).collect();
        let ok = self.is_valid() && self.is_source_ready();
        let mut document = json!({"ok": ok, "findings": findings});
        if let Some(source) = &self.source {
            document["source"] = source.iter().map(source_json).collect();
        }
        document
    }
}

/// Returns the numbers of streams and of bucket definitions, as the file has them.
fn counted_streams(config: &SyncConfig) -> String {
    let streams = config.explain().streams;
    let definitions = streams.iter().filter(|stream| stream.is_bucket_definition).count();
    match (streams.len() - definitions, definitions) {
        (streams, 0) => counted(streams, "stream"),
        (0, definitions) => counted(definitions, "bucket definition"),
        (streams, definitions) => format!(
            "{} and {}",
            counted(streams, "stream"),
            counted(definitions, "bucket definition")
        ),
    }
}

/// Returns the findings about the source database, each with its fix, and the verdict.
fn source_text(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        out.push_str(&format!("\n{}: {finding}\n", severity_of(finding)));
    }

    let errors = findings.iter().filter(|finding| finding.is_fatal).count();
    let warnings = findings.len() - errors;
    if !findings.is_empty() {
        out.push('\n');
    }
    out.push_str(&match errors {
        0 => "the source database is ready".to_owned(),
        _ => format!("the source database is not ready: {}", counted(errors, "error")),
    });
    if warnings > 0 {
        out.push_str(&format!(", {}", counted(warnings, "warning")));
    }
    out.push('\n');
    out
}

fn severity_of(finding: &Finding) -> &'static str {
    if finding.is_fatal { "error" } else { "warning" }
}

fn source_json(finding: &Finding) -> Value {
    json!({
        "severity": severity_of(finding),
        "message": finding.problem,
        "fix": finding.fix,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn report(source: Option<&[(bool, &str)]>) -> FindingsReport {
        let finding = |&(is_fatal, problem): &(bool, &str)| Finding {
            is_fatal,
            problem: problem.to_owned(),
            fix: "GRANT;".to_owned(),
        };
        FindingsReport {
            file: "c.yaml".to_owned(),
            text: String::new(),
            config: None,
            findings: Vec::new(),
            source: source.map(|source| source.iter().map(finding).collect()),
        }
    }

    fn code(report: &FindingsReport) -> &'static str {
        match (report.is_valid(), report.is_source_ready()) {
            (true, true) => "ok",
            (true, false) => "not ready",
            (false, _) => "not valid",
        }
    }

    #[test]
    fn findings_about_the_source_follow_those_about_the_config() {
        let text = report(Some(&[(true, "no right"), (false, "slow")])).render(Format::Text);
        let expected = "\nerror: no right\n    fix: GRANT;\n\nwarning: slow\n    fix: GRANT;\n\nthe \
                        source database is not ready: 1 error, 1 warning\n";
        assert!(text.ends_with(expected), "{text}");

        let json = report(Some(&[(true, "no right")])).json();
        let source = json!([{"severity": "error", "message": "no right", "fix": "GRANT;"}]);
        assert_eq!(json, json!({"ok": false, "findings": [], "source": source}));
    }

    #[test]
    fn only_errors_of_the_source_keep_it_from_being_ready() {
        assert_eq!(code(&report(None)), "ok");
        assert_eq!(code(&report(Some(&[]))), "ok");
        assert_eq!(code(&report(Some(&[(false, "slow")]))), "ok");
        assert_eq!(code(&report(Some(&[(true, "no right")]))), "not ready");
        assert_eq!(report(None).json(), json!({"ok": true, "findings": []}));
    }
}
