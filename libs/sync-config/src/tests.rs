//! Tests of the language: which configs it accepts and rejects, and how it evaluates rows and
//! requests.

mod absence;
mod custom_types;
mod documentation;
mod explanations;
mod expressions;
mod hashes;
mod hostile;
mod membership;
mod positions;
mod printed_values;
mod public_forms;
mod queries;
mod random;
mod reference;
mod refusals;
mod refused_joins;
mod refused_queries;
mod requests;
mod schemas;
mod sqlite;
mod sqlite_engine;
mod stages;
mod traces;
mod values;
mod wildcards;

use serde_json::{Map, Value as Json};
use tidewater_protocol::StreamSubscription;

use crate::{
    Column, Diagnostic, PgTypes, Request, RequestLimits, RowOutput, Severity, SyncConfig,
    TableSchema,
};

/// Returns a config of edition 3 with one stream `s` that has one query.
fn stream(query: &str) -> String {
    let query = query.replace('\n', "\n      ");
    format!("config:\n  edition: 3\nstreams:\n  s:\n    query: |\n      {query}\n")
}

/// Returns a config of edition 3 with one auto-subscribed stream `s`.
fn auto_subscribed(query: &str) -> String {
    format!("{}    auto_subscribe: true\n", stream(query))
}

/// Prints queries as items of a YAML list.
fn block_scalars(queries: &[&str]) -> String {
    queries.iter().map(|query| format!("      - |\n        {query}\n")).collect()
}

/// Returns a config of edition 2 with one bucket definition `b`.
fn definition(parameters: &[&str], data: &[&str]) -> String {
    let parameters = if parameters.is_empty() {
        String::new()
    } else {
        format!("    parameters:\n{}", block_scalars(parameters))
    };
    let data = block_scalars(data);
    format!("config:\n  edition: 2\nbucket_definitions:\n  b:\n{parameters}    data:\n{data}")
}

fn compile(yaml: &str) -> SyncConfig {
    SyncConfig::compile(yaml).unwrap_or_else(|findings| panic!("{}", format_findings(&findings)))
}

/// Prints each finding as `line:column message`, with its hint on a line of its own.
fn format_findings(findings: &[Diagnostic]) -> String {
    findings
        .iter()
        .map(|finding| {
            let severity = match finding.severity {
                Severity::Error => "",
                Severity::Warning => "warning: ",
            };
            let hint = finding.hint.as_ref().map(|hint| format!("\n  {hint}")).unwrap_or_default();
            format!("{}:{} {severity}{}{hint}\n", finding.line, finding.column, finding.message)
        })
        .collect()
}

/// Returns the findings of a config that does not compile, or `accepted`.
fn refused(yaml: &str) -> String {
    match SyncConfig::compile(yaml) {
        Ok(_) => "accepted\n".to_owned(),
        Err(findings) => format_findings(&findings),
    }
}

/// Parses a table specification such as `todos(id text, n int4)`.
fn table(spec: &str) -> TableSchema {
    let (name, columns) = spec.strip_suffix(')').unwrap().split_once('(').unwrap();
    let (schema, name) = name.split_once('.').unwrap_or(("public", name));
    let columns = columns
        .split(", ")
        .map(|column| {
            let (name, type_name) = column.rsplit_once(' ').unwrap();
            Column { name: name.trim_matches('"').to_owned(), type_oid: oid(type_name) }
        })
        .collect();
    let types = PgTypes::default();
    TableSchema { schema: schema.to_owned(), name: name.to_owned(), columns, types }
}

fn oid(type_name: &str) -> u32 {
    match type_name {
        "bool" => 16,
        "bytea" => 17,
        "int8" => 20,
        "int4" => 23,
        "text" => 25,
        "json" => 114,
        "float8" => 701,
        "timestamptz" => 1184,
        "numeric" => 1700,
        "uuid" => 2950,
        "jsonb" => 3802,
        other => panic!("no such type: {other}"),
    }
}

/// Evaluates one row and returns a line for each bucket, lookup answer and error. In `values` the
/// columns are separated by `|`, and `~` is NULL.
fn row(yaml: &str, spec: &str, values: &str) -> String {
    rows(&compile(yaml), &table(spec), &[values])
}

fn rows(config: &SyncConfig, table: &TableSchema, rows: &[&str]) -> String {
    let evaluator =
        config.bind(table).unwrap_or_else(|findings| panic!("{}", format_findings(&findings)));
    let evaluator = evaluator.expect("the config reads the table");
    let mut out = RowOutput::default();

    let mut text = String::new();
    for values in rows {
        let values: Vec<Option<&str>> =
            values.split('|').map(|value| (value != "~").then_some(value)).collect();
        evaluator.evaluate(&values, &mut out);

        for bucket in out.buckets() {
            let name = &config.definitions()[bucket.definition].name;
            let object = format!("{}/{}", bucket.object_type, bucket.object_id);
            text += &format!("{name}{} {object} {}\n", bucket.params, bucket.data);
        }

        for lookup in out.lookups() {
            text += &format!("lookup {} {} -> {}\n", lookup.lookup, lookup.key, lookup.output);
        }

        for error in out.errors() {
            text += &format!("error {error}\n");
        }
    }

    text
}

/// Request parsed from JSON: `{"sub", "claims", "parameters", "defaults", "subscriptions"}`, all
/// optional.
struct TestRequest {
    user_id: String,
    claims: Map<String, Json>,
    parameters: Option<Map<String, Json>>,
    include_defaults: bool,
    subscriptions: Vec<StreamSubscription>,
}

impl TestRequest {
    fn new(json: &str) -> Self {
        let json: Json = serde_json::from_str(json).unwrap();
        let subscriptions = json.get("subscriptions").cloned().unwrap_or(Json::Array(Vec::new()));

        Self {
            user_id: json.get("sub").and_then(Json::as_str).unwrap_or("u1").to_owned(),
            claims: json.get("claims").and_then(Json::as_object).cloned().unwrap_or_default(),
            parameters: json.get("parameters").and_then(Json::as_object).cloned(),
            include_defaults: json.get("defaults").and_then(Json::as_bool).unwrap_or(true),
            subscriptions: serde_json::from_value(subscriptions).unwrap(),
        }
    }

    fn borrow(&self) -> Request<'_> {
        Request {
            user_id: &self.user_id,
            claims: &self.claims,
            parameters: self.parameters.as_ref(),
            include_defaults: self.include_defaults,
            subscriptions: &self.subscriptions,
        }
    }
}

/// Evaluates a request and returns a line for each question, granted bucket and stream.
/// `answers` maps `<lookup> <key>` to the outputs of that lookup.
fn granted(yaml: &str, request: &str, answers: &[(&str, &[&str])]) -> String {
    let config = compile(yaml);
    let request = TestRequest::new(request);
    let mut evaluation =
        config.prepare(&request.borrow(), &RequestLimits::UNLIMITED).unwrap().evaluation();

    let mut text = String::new();
    while !evaluation.questions().is_empty() {
        let mut found: Vec<Vec<String>> = Vec::new();
        for question in evaluation.questions() {
            let question = format!("{} {}", question.lookup, question.key);
            text += &format!("question {question}\n");
            let answer = answers.iter().find(|(asked, _)| *asked == question);
            let outputs = answer.map_or(&[][..], |(_, outputs)| outputs);
            found.push(outputs.iter().map(|output| (*output).to_owned()).collect());
        }
        evaluation.answer(&found);
    }

    let granted = evaluation.finish().unwrap();
    for bucket in &granted.buckets {
        let name = &config.definitions()[bucket.definition].name;
        let why = serde_json::to_string(&bucket.subscriptions).unwrap();
        text += &format!("{name}{} priority {} {why}\n", bucket.params, bucket.priority.get());
    }

    for stream in &granted.streams {
        let default = if stream.is_default { " default" } else { "" };
        let errors = if stream.errors.is_empty() {
            String::new()
        } else {
            format!(" {}", serde_json::to_string(&stream.errors).unwrap())
        };
        text += &format!("stream {}{default}{errors}\n", stream.name);
    }

    text
}
