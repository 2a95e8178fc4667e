//! Reads the tables and collects the rows that a request gets.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::anyhow;
use tidewater_ingest_worker::{Database, Reading, ReadingError};
use tidewater_sync_config::{
    Granted, Question, Request, RequestLimits, RowOutput, STAGES_MAX, SyncConfig, TableEvaluator,
};

use crate::services::config_file::ConfigFile;
use crate::services::ingest_worker::reading_failure;
use crate::terminal::failure::Failure;

/// The buckets and rows that a request gets.
pub(crate) struct Gathered {
    /// Buckets and streams of the request.
    pub(crate) granted: Granted,
    /// Rows of each granted bucket, in the order of the buckets.
    pub(crate) rows: Vec<Rows>,
    /// Number of rows for which a query could not be evaluated, by message.
    pub(crate) left_out: BTreeMap<String, u64>,
}

/// The data of rows, by their table on the device and their id.
pub(crate) type Rows = BTreeMap<(String, String), String>;

/// A table that the config reads, with its evaluator.
struct EvaluatedTable {
    /// Index by which the database snapshot reads it.
    index: usize,
    evaluator: TableEvaluator,
}

/// Evaluates a request on the present content of a database.
pub(crate) async fn gather(
    file: &ConfigFile,
    database: &Database,
    request: &Request<'_>,
) -> Result<Gathered, Failure> {
    let reading = Reading::begin(database).await.map_err(unreadable)?;
    file.check(&reading.check_config(file.config()))?;
    let tables = evaluated_tables(file.config(), &reading)?;
    let indexes: Vec<usize> = tables.iter().map(|table| table.index).collect();
    reading.check(&indexes).await.map_err(unreadable)?;

    // First pass: the answers to lookups decide which buckets are granted.
    let mut left_out = LeftOut::default();
    let mut answers = Answers::default();
    for table in tables.iter().filter(|table| table.evaluator.has_lookups()) {
        table
            .read(&reading, &mut |row| {
                answers.add(row);
                left_out.add(row);
            })
            .await
            .map_err(unreadable)?;
    }
    let granted = answers.grant(file.config(), request)?;

    // Second pass: the rows of these buckets.
    let mut contents = Contents::new(file.config(), &granted);
    for table in &tables {
        table
            .read(&reading, &mut |row| {
                contents.add(row);
                // The first pass has counted the errors of tables with lookups.
                if !table.evaluator.has_lookups() {
                    left_out.add(row);
                }
            })
            .await
            .map_err(unreadable)?;
    }

    let rows = contents.into_rows(&granted);
    Ok(Gathered { granted, rows, left_out: left_out.0 })
}

fn unreadable(error: ReadingError) -> Failure {
    reading_failure(error, "cannot read the database")
}

/// Returns the tables that the config reads. The config fits the database.
fn evaluated_tables(
    config: &SyncConfig,
    reading: &Reading,
) -> Result<Vec<EvaluatedTable>, Failure> {
    let mut tables = Vec::new();
    for index in reading.tables_of(config) {
        let bound = config.bind(&reading.schemas()[index]).map_err(|findings| {
            let messages: Vec<_> = findings.into_iter().map(|one| one.message).collect();
            Failure::Usage(anyhow!("the sync config cannot be used: {}", messages.join("; ")))
        })?;
        tables.extend(bound.map(|evaluator| EvaluatedTable { index, evaluator }));
    }
    Ok(tables)
}

impl EvaluatedTable {
    /// Evaluates all rows of the table, and passes each output to `on_row`.
    async fn read(
        &self,
        reading: &Reading,
        on_row: &mut (dyn FnMut(&RowOutput) + Send),
    ) -> Result<(), ReadingError> {
        let mut output = RowOutput::default();
        reading
            .rows(self.index, &mut |row| {
                self.evaluator.evaluate(row, &mut output);
                on_row(&output);
            })
            .await
    }
}

/// The answers of all rows to lookups.
#[derive(Default)]
struct Answers(HashMap<Question, BTreeSet<String>>);

impl Answers {
    fn add(&mut self, row: &RowOutput) {
        for answer in row.lookups() {
            let question = Question { lookup: answer.lookup, key: answer.key.to_owned() };
            self.0.entry(question).or_default().insert(answer.output.to_owned());
        }
    }

    /// Evaluates the request, stage after stage of its lookups.
    fn grant(&self, config: &SyncConfig, request: &Request<'_>) -> anyhow::Result<Granted> {
        let prepared = config.prepare(request, &RequestLimits::UNLIMITED)?;
        let mut evaluation = prepared.evaluation();
        for _ in 0..=STAGES_MAX {
            if evaluation.questions().is_empty() {
                return Ok(evaluation.finish()?);
            }
            let answers: Vec<_> = evaluation
                .questions()
                .iter()
                .map(|question| {
                    self.0.get(question).into_iter().flatten().cloned().collect::<Vec<_>>()
                })
                .collect();
            evaluation.answer(&answers);
        }
        Err(anyhow!("the lookups of the request do not end"))
    }
}

/// The rows of granted buckets, by definition and parameters.
struct Contents(Vec<HashMap<String, Rows>>);

impl Contents {
    fn new(config: &SyncConfig, granted: &Granted) -> Self {
        let mut buckets = vec![HashMap::new(); config.definitions().len()];
        for bucket in &granted.buckets {
            buckets[bucket.definition].insert(bucket.params.clone(), Rows::new());
        }
        Self(buckets)
    }

    fn add(&mut self, row: &RowOutput) {
        for one in row.buckets() {
            if let Some(rows) = self.0[one.definition].get_mut(one.params) {
                let key = (one.object_type.to_owned(), one.object_id.to_owned());
                rows.insert(key, one.data.to_owned());
            }
        }
    }

    fn into_rows(mut self, granted: &Granted) -> Vec<Rows> {
        let buckets = granted.buckets.iter();
        buckets.map(|one| self.0[one.definition].remove(&one.params).unwrap_or_default()).collect()
    }
}

/// The number of rows for which a query could not be evaluated, by message.
#[derive(Default)]
struct LeftOut(BTreeMap<String, u64>);

impl LeftOut {
    fn add(&mut self, row: &RowOutput) {
        for message in row.errors() {
            *self.0.entry(message.clone()).or_default() += 1;
        }
    }
}
