//! The compiled sync config alone, on one core: from rows as text to encoded operations, and from
//! requests to buckets.

use std::collections::HashMap;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Map, Value, json};
use tidewater_protocol::{Body, Epoch, OpId, Operation, RowKey};
use tidewater_storage::SegmentWriter;
use tidewater_sync_config::{
    Column, PgTypes, Request, RequestLimits, RowOutput, SyncConfig, TableEvaluator, TableSchema,
};
use tokio::time::Instant;

use crate::options::BenchOptions;
use crate::table::{ResultLine, rate};
use crate::usage;

/// Number of evaluated requests: one alone is too short for the clock of CPU time.
const REQUESTS: u32 = 500;

/// Number of buckets of each request.
const BUCKETS: usize = 1_000;

/// Names and type OIDs of the columns: `uuid`, `timestamptz`, `boolean`, `text`, `uuid`, `uuid`.
const COLUMNS: [(&str, u32); 6] = [
    ("id", 2950),
    ("created_at", 1184),
    ("completed", 16),
    ("description", 25),
    ("list_id", 2950),
    ("owner_id", 2950),
];

/// Queries over the to-dos.
struct Queries {
    name: &'static str,
    target: &'static str,
    sql: &'static [&'static str],
    /// The queries read the column `description` as JSON.
    has_json: bool,
}

const ROW_QUERIES: [Queries; 3] = [
    Queries {
        name: "`SELECT *`, one bucket",
        target: ">= 400000 rows/CPU s",
        sql: &["SELECT * FROM todos"],
        has_json: false,
    },
    Queries {
        name: "`SELECT *` by owner",
        target: ">= 250000 rows/CPU s",
        sql: &["SELECT * FROM todos WHERE owner_id = auth.user_id()"],
        has_json: false,
    },
    Queries {
        name: "three queries with JSON",
        target: "",
        sql: &[
            "SELECT id, json_extract(description, '$.title') AS title FROM todos \
             WHERE owner_id = auth.user_id()",
            "SELECT id, description ->> 'title' AS t, description -> 'tags' AS tags FROM todos AS b \
             WHERE list_id = auth.parameter('list')",
            "SELECT id, json_array_length(description -> 'tags') AS n FROM todos AS c \
             WHERE auth.user_id() IN description -> 'tags'",
        ],
        has_json: true,
    },
];

pub(crate) fn measure(options: &BenchOptions) -> Result<()> {
    for queries in &ROW_QUERIES {
        measure_rows(queries, options.rows)?;
    }
    measure_request(
        &format!("evaluation of a request for {BUCKETS} buckets, by an array"),
        "SELECT * FROM todos WHERE list_id IN auth.parameter('lists')",
    )?;
    measure_request(
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

/// Returns a row like those of the other measurements, as PostgreSQL prints it.
fn row(n: u64, has_json: bool) -> [String; 6] {
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

fn uuid(n: u64) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

fn evaluator(queries: &[&str]) -> Result<TableEvaluator> {
    let columns = COLUMNS.iter();
    let table = TableSchema {
        schema: "public".into(),
        name: "todos".into(),
        columns: columns
            .map(|(name, type_oid)| Column { name: (*name).to_owned(), type_oid: *type_oid })
            .collect(),
        types: PgTypes::default(),
    };
    compile(queries)?
        .bind(&table)
        .map_err(|findings| anyhow!("{findings:?}"))?
        .context("the config does not read the table")
}

fn measure_rows(queries: &Queries, count: u64) -> Result<()> {
    let evaluator = evaluator(queries.sql)?;
    let rows: Vec<_> = (0..count).map(|n| row(n, queries.has_json)).collect();
    let rows: Vec<Vec<Option<&str>>> =
        rows.iter().map(|row| row.iter().map(|text| Some(text.as_str())).collect()).collect();

    let mut out = RowOutput::default();
    let mut segments = HashMap::new();
    let mut operations = 0_u64;
    let mut bytes = 0;
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

        // Memory stays small: the segments are only encoded, and not stored.
        if operations.is_multiple_of(10_000) {
            bytes += segments.drain().map(|(_, segment)| segment.len()).sum::<usize>();
        }
    }

    let wall = start.elapsed().as_secs_f64();
    let cpu = usage::own_cpu_seconds()? - before;
    ensure!(operations > 0 && bytes > 0, "nothing was evaluated");

    ResultLine {
        measurement: format!("evaluation of rows, {}", queries.name),
        result: format!("{} rows/CPU s; {wall:.2} s, {operations} operations", rate(count, cpu)),
        target: queries.target,
        cpu: format!("{cpu:.2}"),
        ..ResultLine::default()
    }
    .print()
}

fn measure_request(measurement: &str, query: &str) -> Result<()> {
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
        let prepared = config.prepare(&request, &RequestLimits::default())?;
        let mut evaluation = prepared.evaluation();
        while !evaluation.questions().is_empty() {
            let answers = vec![answer.clone(); evaluation.questions().len()];
            evaluation.answer(&answers);
        }
        let granted = evaluation.finish()?;
        ensure!(granted.buckets.len() == BUCKETS, "{} buckets", granted.buckets.len());
    }

    let cpu = usage::own_cpu_seconds()? - before;
    let milliseconds = cpu * 1_000.0 / f64::from(REQUESTS);
    ResultLine {
        measurement: measurement.to_owned(),
        result: format!("{milliseconds:.2} ms of CPU"),
        target: "<= 2 ms",
        cpu: format!("{cpu:.2}"),
        ..ResultLine::default()
    }
    .print()
}
