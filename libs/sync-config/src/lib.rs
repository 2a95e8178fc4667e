//! Compiles the sync config and answers two questions: which buckets contain a row, and which
//! buckets a request may read. This crate does no I/O.
//!
//! # Core types
//!
//! - [`SyncConfig`] is a compiled file. [`SyncConfig::check`] compares it with the tables of a
//!   database, and [`SyncConfig::explain`] describes it.
//! - [`TableEvaluator`] is the config bound to one table. It writes the buckets of a row, and the
//!   row's answers to lookups, into a [`RowOutput`].
//! - [`RequestEvaluation`] finds the buckets of a [`Request`] in rounds. Each round returns
//!   [`Question`]s, which the caller answers from the stored lookups. The result is [`Granted`].
//! - [`Diagnostic`] is a finding about a file, with its place and a hint.
//!
//! # Errors
//!
//! [`SyncConfig::compile`], [`SyncConfig::check`] and [`SyncConfig::bind`] return all findings at
//! once. They are mistakes in the file, or a file that does not fit the database: a retry does not
//! help. An error in the values of a row or a request affects one query or subscription. It is
//! reported in the output, and the rest of the output is complete. No input panics, and all work is
//! bounded.
//!
//! # Example
//!
//! ```
//! use tidewater_sync_config::{
//!     Column, PgTypes, Request, RequestLimits, RowOutput, SyncConfig, TableSchema,
//! };
//!
//! let config = SyncConfig::compile(
//!     "config: {edition: 3}
//! streams:
//!   todos:
//!     auto_subscribe: true
//!     query: SELECT * FROM todos WHERE owner = auth.user_id()",
//! )
//! .expect("the config is valid");
//!
//! let text = 25; // The oid of `text` in pg_type.
//! let table = TableSchema {
//!     schema: "public".to_owned(),
//!     name: "todos".to_owned(),
//!     columns: ["id", "owner"].map(|name| Column { name: name.to_owned(), type_oid: text }).into(),
//!     types: PgTypes::default(),
//! };
//! let bound = config.bind(&table).expect("the table has all columns");
//! let evaluator = bound.expect("the config reads the table");
//!
//! // Which buckets contain a row?
//! let mut output = RowOutput::default();
//! evaluator.evaluate(&[Some("t1"), Some("u1")], &mut output);
//! let bucket = output.buckets().next().expect("the row is in a bucket");
//! assert_eq!((bucket.params, bucket.object_id), (r#"["u1"]"#, "t1"));
//!
//! // Which buckets may a request read?
//! let claims = serde_json::Map::new();
//! let request = Request {
//!     user_id: "u1",
//!     claims: &claims,
//!     parameters: None,
//!     include_defaults: true,
//!     subscriptions: &[],
//! };
//! let prepared = config.prepare(&request, &RequestLimits::default()).unwrap();
//! let granted = prepared.evaluation().finish().unwrap();
//! assert_eq!(granted.buckets[0].params, bucket.params);
//! ```
#![warn(missing_docs)]

mod check;
mod compile;
mod config;
mod edition;
mod explain;
mod expression;
mod file;
mod functions;
mod pg;
mod plan;
mod request;
mod row;
mod schema;
mod sql;
mod value;

pub use config::{Definition, Lookup, SyncConfig};
pub use explain::{
    AccessPathExplanation, Explanation, FamilyExplanation, KeyExplanation, NotExistsExplanation,
    RowsExplanation, StepExplanation, StreamExplanation, TableExplanation,
};
pub use file::diagnostic::{Diagnostic, Severity};
pub use pg::catalog::{Attribute, PgType, PgTypes};
pub use plan::hash::EVALUATOR_VERSION;
pub use plan::stages::STAGES_MAX;
pub use request::evaluation::{PreparedRequest, RequestEvaluation};
pub use request::limits::{LimitExceeded, RequestLimits};
pub use request::{Granted, GrantedBucket, Question, Request};
pub use row::columns::{ColumnType, OutputColumn, OutputTable};
pub use row::evaluate::TableEvaluator;
pub use row::output::{BucketRow, LookupRow, RowOutput};
pub use row::trace::{ConditionTrace, KeyTrace, Outcome, QueryTrace};
pub use row::union::{EvaluatorPart, UnionEvaluator};
pub use schema::{Column, TablePattern, TableSchema};

#[cfg(test)]
mod tests;
