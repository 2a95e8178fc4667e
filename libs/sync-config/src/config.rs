//! The compiled config, and the questions it answers.

use std::sync::Arc;

use crate::compile;
use crate::explain::{Explanation, streams};
use crate::file::diagnostic::{Diagnostic, Severity};
use crate::plan::SyncPlan;
use crate::request::Request;
use crate::request::evaluation::{PreparedRequest, prepare};
use crate::request::limits::{LimitExceeded, RequestLimits};
use crate::row::bind::bind;
use crate::row::columns::{OutputTable, add_output};
use crate::row::evaluate::TableEvaluator;
use crate::row::trace::{QueryTrace, trace};
use crate::schema::{TablePattern, TableSchema};

/// Compiled sync config.
#[derive(Clone, Debug)]
pub struct SyncConfig {
    plan: Arc<SyncPlan>,
    warnings: Vec<Diagnostic>,
    definitions: Vec<Definition>,
    lookups: Vec<Lookup>,
}

/// Family of buckets: a variant of a stream, or a bucket definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Readable part of the bucket names: `todos|0`, `by_user`.
    pub name: String,
    /// SHA-256 in hexadecimal of the canonical plan, the options and the evaluator version. Equal
    /// hashes mean equal contents of the buckets, given equal tables.
    pub hash: String,
}

/// Index from values in a request to values in rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Hash of the lookup, with the meaning of [`Definition::hash`].
    pub hash: String,
    /// Table or wildcard that the lookup reads: index into [`SyncConfig::tables`].
    pub table: usize,
}

impl SyncConfig {
    /// Compiles a YAML file.
    ///
    /// # Errors
    /// Returns all errors and warnings, in the order of the file.
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
        let definitions = definitions.collect();
        let lookups = lookups.collect();
        Ok(Self { plan: Arc::new(plan), warnings, definitions, lookups })
    }

    /// Returns the warnings of the compilation.
    #[must_use]
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// Returns the families of buckets. Row outputs and granted buckets refer to them by index.
    #[must_use]
    pub fn definitions(&self) -> &[Definition] {
        &self.definitions
    }

    /// Returns the parameter lookups. Row outputs and questions refer to them by index.
    #[must_use]
    pub fn lookups(&self) -> &[Lookup] {
        &self.lookups
    }

    /// Returns the tables and wildcards that the config reads, each once. A table may match several
    /// of them.
    #[must_use]
    pub fn tables(&self) -> &[TablePattern] {
        &self.plan.tables
    }

    /// Compares the config with the live schema.
    ///
    /// Unknown tables and columns are errors, with the position in the query and a hint ("did you
    /// mean", the existing tables). Comparisons that are never true for the columns' types and CTEs
    /// that hide tables are warnings. What a wildcard's tables lack is a warning, too: a missing
    /// column is NULL and is not synced.
    #[must_use]
    pub fn check(&self, tables: &[TableSchema]) -> Vec<Diagnostic> {
        self.plan.check(tables)
    }

    /// Returns the evaluator for the rows of a table, or `None` if the config does not read the
    /// table.
    ///
    /// # Errors
    /// Returns the findings of [`SyncConfig::check`] for this table if one is an error.
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

    /// Returns the tables that devices get from these tables, in the order of `tables`.
    ///
    /// # Errors
    /// Those of [`SyncConfig::bind`].
    pub fn output_tables(
        &self,
        tables: &[TableSchema],
    ) -> Result<Vec<OutputTable>, Vec<Diagnostic>> {
        let mut output = Vec::new();
        for table in tables {
            if let Some(evaluator) = self.bind(table)? {
                add_output(&evaluator, &mut output);
            }
        }
        Ok(output)
    }

    /// Says for a row of a table, given as in [`TableEvaluator::evaluate`], which conditions of each query
    /// hold and which buckets it is in. There is no query if the config does not read the table.
    ///
    /// # Errors
    /// Those of [`SyncConfig::bind`].
    pub fn trace_row(
        &self,
        table: &TableSchema,
        row: &[Option<&str>],
    ) -> Result<Vec<QueryTrace>, Vec<Diagnostic>> {
        let Some(evaluator) = self.bind(table)? else { return Ok(Vec::new()) };
        let columns: Vec<_> = table.columns.iter().map(|column| column.name.as_str()).collect();
        Ok(trace(&self.plan, &evaluator, &columns, row))
    }

    /// Describes the buckets, how requests find them, and what a changed row affects.
    #[must_use]
    pub fn explain(&self) -> Explanation {
        streams::explain_plan(&self.plan)
    }

    /// Evaluates the values of a request. The result finds its buckets, at any checkpoint.
    ///
    /// # Errors
    /// The request exceeds one of the limits.
    pub fn prepare(
        &self,
        request: &Request<'_>,
        limits: &RequestLimits,
    ) -> Result<PreparedRequest, LimitExceeded> {
        prepare(&self.plan, request, limits)
    }
}
