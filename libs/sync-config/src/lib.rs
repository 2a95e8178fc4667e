//! Compiles the sync config and answers two questions: which buckets hold this row, and which
//! buckets may this request read. No I/O.
#![warn(missing_docs)]

mod bind;
mod compile;
mod config;
mod converter;
mod diagnostic;
mod engine;
mod evaluate;
mod explain;
mod expression;
mod expression_text;
mod file;
mod functions;

mod hash;
mod json;
mod number;
mod options;
mod pg_array;
mod pg_catalog;
mod pg_composite;
mod pg_field;
mod pg_range;
mod pg_text;
mod pg_type;
mod plan;
mod request;
mod row_output;
mod schema;
mod source_map;
mod sql;
mod syntax;
mod timestamp;
mod value;
mod ways;
mod yaml;

pub use config::{Definition, Lookup, SyncConfig, TableName};
pub use diagnostic::{Diagnostic, Severity};
pub use evaluate::TableEvaluator;
pub use explain::{
    Explanation, FamilyExplanation, KeyExplanation, RowsExplanation, StepExplanation,
    StreamExplanation, TableExplanation, WayExplanation,
};
pub use pg_catalog::{Attribute, PgType, PgTypes};
pub use request::{Granted, GrantedBucket, Question, Request, RequestEvaluation};
pub use row_output::{BucketRow, LookupRow, RowOutput};
pub use schema::{Column, TableSchema};

/// Raised whenever the same config would give other output; part of every definition's hash.
pub const EVALUATOR_VERSION: u32 = 3;

#[cfg(test)]
mod tests;
