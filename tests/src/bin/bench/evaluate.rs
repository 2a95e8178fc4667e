//! The sync config alone, on one core: rows in text form to encoded operations, and requests to buckets.

use std::collections::HashMap;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Map, Value, json};
use tidewater_protocol::{Body, Epoch, OpId, Operation, RowKey};
use tidewater_storage::SegmentWriter;
use tidewater_sync_config::{Column, PgTypes, Request, RowOutput, SyncConfig, TableSchema};
use tokio::time::Instant;

use crate::options::Options;
use crate::table::{Line, rate};
use crate::usage;

/// Requests are so quick that many are timed at once.
const REQUESTS: u32 = 500;
const BUCKETS: usize = 1_000;
/// `uuid`, `timestamptz`, `boolean`, `text`, `uuid`, `uuid`.
const COLUMNS: [(&str, u32); 6] = [
    ("id", 2950),
    ("created_at", 1184),
    ("completed", 16),
    ("description", 25),
    ("list_id", 2950),
    ("owner_id", 2950),
];

/// Queries over the to-dos, with what they must reach.
const ROWS: [(&str, &str, &[&str]); 3] = [
    ("`SELECT *`, one bucket", ">= 400000 rows/CPU s", &["SELECT * FROM todos"]),
    (
        "`SELECT *` by owner",
        ">= 250000 rows/CPU s",
        &["SELECT * FROM todos WHERE owner_id = auth.user_id()"],
    ),
    (
        "three queries with JSON",
        "",
        &[
            "SELECT id, json_extract(description, '$.title') AS title FROM todos \
             WHERE owner_id = auth.user_id()",
            "SELECT id, description ->> 'title' AS t, description -> 'tags' AS tags FROM todos AS b \
             WHERE list_id = auth.parameter('list')",
            "SELECT id, json_array_length(description -> 'tags') AS n FROM todos AS c \
             WHERE auth.user_id() IN description -> 'tags'",
        ],
    ),
];

pub(crate) fn measure(options: &Options) -> Result<()> {
    for (what, bar, queries) in ROWS {
        let has_json = queries.len() > 1;
        rows(&format!("evaluation of rows, {what}"), bar, queries, (options.rows, has_json))?;
    }
    request(
        &format!("evaluation of a request for {BUCKETS} buckets, by an array"),
        "SELECT * FROM todos WHERE list_id IN auth.parameter('lists')",
    )?;
    request(
        &format!("evaluation of a request for {BUCKETS} buckets, by a lookup"),
        "SELECT * FROM todos WHERE list_id IN (SELECT id FROM lists WHERE owner = auth.user_id())",
    )
}

fn compile(queries: &[&str]) -> Result<SyncConfig> {
    let config = json!({
        "config": {"edition": 3},
        "streams": {"s": {"auto_subscribe": true, "queries": queries}},
    });
    SyncConfig::compile(&config.to_string()).map_err(|findings| anyhow!("{findings:?}"))
}

/// The row of the other measurements, as PostgreSQL prints it.
fn row(n: u64, has_json: bool) -> [String; 6] {
    let uuid = |n: u64| format!("00000000-0000-4000-8000-{n:012}");
    let text = format!("Buy milk, bread and more: {:032x}", u128::from(n) << 64);
    let description = if has_json {
        format!(r#"{{"title": "{text}", "tags": ["a{}", "b{}"]}}"#, n % 10, n % 7)
    } else {
        text
    };
    let completed = if n.is_multiple_of(3) { "t" } else { "f" };
    [
        uuid(n),
        format!("2026-11-27 12:{:02}:{:02}.{:06}+00", n % 60, n % 59, n % 1_000_000),
        completed.to_owned(),
        description,
        uuid(n % 5_000),
        uuid(n % 1_000),
    ]
}

fn rows(
    what: &str,
    bar: &'static str,
    queries: &[&str],
    (count, has_json): (u64, bool),
) -> Result<()> {
    let column =
        |(name, type_oid): &(&str, u32)| Column { name: (*name).to_owned(), type_oid: *type_oid };
    let table = TableSchema {
        schema: "public".into(),
        name: "todos".into(),
        columns: COLUMNS.iter().map(column).collect(),
        types: PgTypes::default(),
    };
    let evaluator = compile(queries)?
        .bind(&table)
        .map_err(|findings| anyhow!("{findings:?}"))?
        .context("the table is read")?;
    let rows: Vec<_> = (0..count).map(|n| row(n, has_json)).collect();
    let rows: Vec<Vec<Option<&str>>> =
        rows.iter().map(|row| row.iter().map(|text| Some(text.as_str())).collect()).collect();
    let mut out = RowOutput::default();
    let (mut segments, mut operations, mut bytes) = (HashMap::new(), 0_u64, 0);
    let before = usage::own_cpu_seconds()?;
    let start = Instant::now();
    for row in &rows {
        evaluator.evaluate(row, &mut out);
        ensure!(out.errors().is_empty(), "{:?}", out.errors());
        for bucket in out.buckets() {
            operations += 1;
            let key = RowKey::new(bucket.object_type, bucket.object_id, "0");
            let body = Body::Put { row: key, data: bucket.data.into() };
            let checksum = body.checksum().context("a PUT has one")?;
            let op_id = OpId::new(Epoch::ZERO.next()?, operations);
            let segment: &mut SegmentWriter = match segments.get_mut(bucket.params) {
                Some(segment) => segment,
                None => segments.entry(bucket.params.to_owned()).or_default(),
            };
            segment.push(&Operation { op_id, checksum, body });
        }
        // What is written is given away: only the writing is measured.
        if operations.is_multiple_of(10_000) {
            bytes += segments.drain().map(|(_, segment)| segment.len()).sum::<usize>();
        }
    }
    let wall = start.elapsed().as_secs_f64();
    let cpu = usage::own_cpu_seconds()? - before;
    ensure!(operations > 0 && bytes > 0, "nothing was evaluated");
    Line {
        what: what.to_owned(),
        figure: format!("{} rows/CPU s; {wall:.2} s, {operations} operations", rate(count, cpu)),
        bar,
        cpu: format!("{cpu:.2}"),
        ..Line::default()
    }
    .print()
}

fn request(what: &str, query: &str) -> Result<()> {
    let config = compile(&[query])?;
    let lists: Vec<String> = (0..BUCKETS).map(|n| format!("list-{n}")).collect();
    let answer: Vec<String> = lists.iter().map(|list| json!([list]).to_string()).collect();
    let claims: Map<String, Value> = Map::from_iter([("lists".to_owned(), json!(lists))]);
    let request = Request {
        user_id: "u1",
        claims: &claims,
        parameters: None,
        include_defaults: true,
        subscriptions: &[],
    };
    let before = usage::own_cpu_seconds()?;
    for _ in 0..REQUESTS {
        let mut evaluation = config.request(&request);
        while !evaluation.questions().is_empty() {
            let answers = vec![answer.clone(); evaluation.questions().len()];
            evaluation.answer(&answers);
        }
        let granted = evaluation.finish();
        ensure!(granted.buckets.len() == BUCKETS, "{} buckets", granted.buckets.len());
    }
    let cpu = usage::own_cpu_seconds()? - before;
    let each = cpu * 1_000.0 / f64::from(REQUESTS);
    Line {
        what: what.to_owned(),
        figure: format!("{each:.2} ms of CPU"),
        bar: "<= 2 ms",
        cpu: format!("{cpu:.2}"),
        ..Line::default()
    }
    .print()
}
