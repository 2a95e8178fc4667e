//! A compiled config and the questions it answers.

use crate::compile;
use crate::explain::{Explanation, streams};
use crate::file::diagnostic::{Diagnostic, Severity};
use crate::plan::SyncPlan;
use crate::request::Request;
use crate::request::evaluation::{RequestEvaluation, begin};
use crate::row::bind::bind;
use crate::row::evaluate::TableEvaluator;
use crate::schema::{TablePattern, TableSchema};

/// A compiled sync config.
#[derive(Clone, Debug)]
pub struct SyncConfig {
    plan: SyncPlan,
    warnings: Vec<Diagnostic>,
    definitions: Vec<Definition>,
    lookups: Vec<Lookup>,
}

/// A family of buckets: a variant of a stream, or a bucket definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The readable part of its buckets' names: `todos|0`, `by_user`.
    pub name: String,
    /// SHA-256 in hexadecimal of its canonical plan, options and the evaluator's version. Equal
    /// hashes mean equal contents of its buckets, given equal tables.
    pub hash: String,
}

/// An index from values in a request to values in rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// As [`Definition::hash`].
    pub hash: String,
    /// What it reads: index into [`SyncConfig::tables`].
    pub table: usize,
}

impl SyncConfig {
    /// Compiles a YAML file. All errors at once.
    ///
    /// # Errors
    /// The errors, and the warnings among them, in the order of the file.
    pub fn compile(yaml: &str) -> Result<Self, Vec<Diagnostic>> {
        let (plan, warnings) = compile::compile(yaml)?;
        let definitions = plan.definitions.iter().map(|definition| Definition {
            name: definition.name.clone(),
            hash: plan.definition_hash(definition),
        });
        let lookups = plan
            .lookups
            .iter()
            .map(|lookup| Lookup { hash: plan.lookup_hash(lookup), table: lookup.rows.table });
        let (definitions, lookups) = (definitions.collect(), lookups.collect());
        Ok(Self { plan, warnings, definitions, lookups })
    }

    /// Warnings of the compilation.
    #[must_use]
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// Families of buckets; the index is what rows and requests are told.
    #[must_use]
    pub fn definitions(&self) -> &[Definition] {
        &self.definitions
    }

    /// Parameter lookups; the index is what rows and requests are told.
    #[must_use]
    pub fn lookups(&self) -> &[Lookup] {
        &self.lookups
    }

    /// The tables it reads, each name or pattern once; the index names them. One table may be more
    /// than one of them.
    #[must_use]
    pub fn tables(&self) -> &[TablePattern] {
        &self.plan.tables
    }

    /// Compares with the live schema: unknown tables and columns are errors, with the line and
    /// column of the query that names them and a hint ("did you mean", the tables there are).
    /// Comparisons that the columns' types make impossible, and CTEs that hide tables, are warnings,
    /// and so is all that tables lack which are found by a pattern: what is not there is NULL, and left
    /// out of what is synced.
    #[must_use]
    pub fn check(&self, tables: &[TableSchema]) -> Vec<Diagnostic> {
        self.plan.check(tables)
    }

    /// The evaluator of one table's rows; `None` when the config does not read the table.
    ///
    /// # Errors
    /// What [`SyncConfig::check`] finds for this table.
    pub fn bind(&self, table: &TableSchema) -> Result<Option<TableEvaluator>, Vec<Diagnostic>> {
        if !self.plan.tables.iter().any(|pattern| table.is(pattern)) {
            return Ok(None);
        }
        let findings = self.plan.check_table(table);
        if findings.iter().any(|finding| finding.severity == Severity::Error) {
            return Err(findings);
        }
        Ok(bind(&self.plan, table))
    }

    /// Which buckets there are, how requests find them, and what changes of rows cost.
    #[must_use]
    pub fn explain(&self) -> Explanation {
        streams::explain_plan(&self.plan)
    }

    /// Begins the evaluation of a request.
    #[must_use]
    pub fn request(&self, request: &Request<'_>) -> RequestEvaluation<'_> {
        begin(&self.plan, request)
    }
}
