//! The buckets and rows of a request, as text and as JSON.

use anyhow::Context;
use serde::Serialize;
use serde_json::value::RawValue;
use tidewater_sync_config::{GrantedBucket, SyncConfig};

use super::gather::{Gathered, Rows};
use crate::terminal::format::counted;

/// The whole output, in the form of the JSON document.
#[derive(Serialize)]
struct Document<'a> {
    buckets: Vec<BucketEntry<'a>>,
    streams: Vec<StreamEntry<'a>>,
    left_out: Vec<LeftOutEntry<'a>>,
}

#[derive(Serialize)]
struct BucketEntry<'a> {
    bucket: String,
    definition: &'a str,
    parameters: &'a RawValue,
    priority: u8,
    row_count: usize,
    rows: Vec<RowEntry<'a>>,
}

/// A row. `data` is the evaluator's own text, so that numbers keep all of their digits.
#[derive(Serialize)]
struct RowEntry<'a> {
    #[serde(rename = "type")]
    object_type: &'a str,
    id: &'a str,
    data: &'a RawValue,
}

#[derive(Serialize)]
struct StreamEntry<'a> {
    name: &'a str,
    is_default: bool,
    errors: Vec<&'a str>,
}

#[derive(Serialize)]
struct LeftOutEntry<'a> {
    message: &'a str,
    row_count: u64,
}

/// Formats the result as one line of JSON.
pub(crate) fn json(
    config: &SyncConfig,
    gathered: &Gathered,
    limit: usize,
) -> anyhow::Result<String> {
    let document = Document::new(config, gathered, limit)?;
    Ok(serde_json::to_string(&document)? + "\n")
}

/// Formats the result as text. Problems come last, so that they are on screen at the end.
pub(crate) fn text(
    config: &SyncConfig,
    gathered: &Gathered,
    limit: usize,
) -> anyhow::Result<String> {
    let document = Document::new(config, gathered, limit)?;
    let mut out = String::new();

    for bucket in &document.buckets {
        let rows = counted(bucket.row_count, "row");
        out += &format!("{}: priority {}, {rows}\n", bucket.bucket, bucket.priority);
        for row in &bucket.rows {
            out += &format!("  {}\n", serde_json::to_string(row)?);
        }
        let more = bucket.row_count - bucket.rows.len();
        if more > 0 {
            out += &format!("  ... and {more} more (--limit)\n");
        }
    }

    let row_count = document.buckets.iter().map(|bucket| bucket.row_count).sum();
    let buckets = counted(document.buckets.len(), "bucket");
    out += &format!("{buckets}, {}\n", counted(row_count, "row"));

    for stream in &document.streams {
        for error in &stream.errors {
            out += &format!("stream {} failed: {error}\n", stream.name);
        }
    }
    for LeftOutEntry { message, row_count } in &document.left_out {
        out += &format!("left out, of all users' rows: {row_count} ({message})\n");
    }
    Ok(out)
}

impl<'a> Document<'a> {
    fn new(config: &'a SyncConfig, gathered: &'a Gathered, limit: usize) -> anyhow::Result<Self> {
        let granted = &gathered.granted;
        let mut buckets = granted
            .buckets
            .iter()
            .zip(&gathered.rows)
            .map(|(bucket, rows)| BucketEntry::new(config, bucket, rows, limit))
            .collect::<anyhow::Result<Vec<_>>>()?;
        // This is the order in which a client receives them.
        buckets.sort_by(|a, b| (a.priority, &a.bucket).cmp(&(b.priority, &b.bucket)));

        let streams = granted.streams.iter().map(|stream| StreamEntry {
            name: &stream.name,
            is_default: stream.is_default,
            errors: stream.errors.iter().map(|error| error.message.as_str()).collect(),
        });
        let left_out = gathered
            .left_out
            .iter()
            .map(|(message, &row_count)| LeftOutEntry { message, row_count })
            .collect();
        Ok(Self { buckets, streams: streams.collect(), left_out })
    }
}

impl<'a> BucketEntry<'a> {
    fn new(
        config: &'a SyncConfig,
        bucket: &'a GrantedBucket,
        rows: &'a Rows,
        limit: usize,
    ) -> anyhow::Result<Self> {
        let definition = &config.definitions()[bucket.definition].name;
        let shown = rows
            .iter()
            .take(limit)
            .map(|((object_type, id), data)| Ok(RowEntry { object_type, id, data: raw(data)? }));

        Ok(Self {
            bucket: format!("{definition}{}", bucket.params),
            definition,
            parameters: raw(&bucket.params)?,
            priority: bucket.priority.get(),
            row_count: rows.len(),
            rows: shown.collect::<anyhow::Result<_>>()?,
        })
    }
}

fn raw(text: &str) -> anyhow::Result<&RawValue> {
    serde_json::from_str(text).context("the evaluator wrote malformed JSON")
}
