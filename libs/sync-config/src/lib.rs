//! Compiles the sync config and answers two questions: which buckets hold this row, and which
//! buckets may this request read. No I/O.
#![warn(missing_docs)]

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

pub use config::{Definition, Lookup, SyncConfig, TablePattern};
pub use explain::{
    AbsentExplanation, Explanation, FamilyExplanation, KeyExplanation, RowsExplanation,
    StepExplanation, StreamExplanation, TableExplanation, WayExplanation,
};
pub use file::diagnostic::{Diagnostic, Severity};
pub use pg::catalog::{Attribute, PgType, PgTypes};
pub use plan::stages::STAGES_MAX;
pub use request::{Granted, GrantedBucket, Question, Request, RequestEvaluation};
pub use row::evaluate::TableEvaluator;
pub use row::output::{BucketRow, LookupRow, RowOutput};
pub use schema::{Column, TableSchema};

/// Raised whenever the same config would give other output; part of every definition's hash.
pub const EVALUATOR_VERSION: u32 = 3;

#[cfg(test)]
mod tests;
