//! Compiles the sync config and answers two questions: which buckets contain a row, and which
//! buckets a request may read. This crate does no I/O.
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
pub use request::evaluation::RequestEvaluation;
pub use request::{Granted, GrantedBucket, Question, Request};
pub use row::evaluate::TableEvaluator;
pub use row::output::{BucketRow, LookupRow, RowOutput};
pub use schema::{Column, TablePattern, TableSchema};

#[cfg(test)]
mod tests;
