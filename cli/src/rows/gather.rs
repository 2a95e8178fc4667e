//! Reads the tables and keeps what a request gets.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::anyhow;
use tidewater_ingest_worker::{Reading, RunError};
use tidewater_sync_config::{
    Granted, Question, Request, RowOutput, STAGES_MAX, SyncConfig, TableEvaluator,
};

use crate::failure::Failure;
use crate::worker::{self, ConfigFile};

/// What a request gets.
pub(crate) struct Gathered {
    pub(crate) granted: Granted,
    /// The rows of each granted bucket, in its order.
    pub(crate) rows: Vec<Rows>,
    /// Why queries could not be evaluated, and for how many rows.
    pub(crate) left_out: BTreeMap<String, u64>,
}

/// The data of rows, by table on the device and id.
pub(crate) type Rows = BTreeMap<(String, String), String>;

/// A table that the config reads.
struct Source {
    /// By which it is read.
    index: usize,
    evaluator: TableEvaluator,
}

/// Evaluates a request on a database as it is now.
pub(crate) async fn gather(
    file: &ConfigFile,
    database_url: &str,
    request: &Request<'_>,
) -> Result<Gathered, Failure> {
    let reading = Reading::begin(database_url).await.map_err(unreadable)?;
    file.check(&reading.check_config(file.config()))?;
    let sources = sources(file.config(), &reading)?;
    let indexes: Vec<usize> = sources.iter().map(|source| source.index).collect();
    reading.check(&indexes).await.map_err(unreadable)?;
    let mut left_out = LeftOut::default();
    let mut answers = Answers::default();
    for source in sources.iter().filter(|source| source.evaluator.has_lookups()) {
        let mut on_row = |row: &RowOutput| {
            answers.add(row);
            left_out.add(row);
        };
        source.read(&reading, &mut on_row).await.map_err(unreadable)?;
    }
    let granted = answers.grant(file.config(), request)?;
    let mut contents = Contents::new(file.config(), &granted);
    for source in &sources {
        let mut on_row = |row: &RowOutput| {
            contents.add(row);
            // Of the others they are counted.
            if !source.evaluator.has_lookups() {
                left_out.add(row);
            }
        };
        source.read(&reading, &mut on_row).await.map_err(unreadable)?;
    }
    let rows = contents.into_rows(&granted);
    Ok(Gathered { granted, rows, left_out: left_out.0 })
}

fn unreadable(error: RunError) -> Failure {
    worker::sort(error, "cannot read the database")
}

/// All tables that the config reads; it fits the database.
fn sources(config: &SyncConfig, reading: &Reading) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for index in reading.tables_of(config) {
        let bound = config.bind(&reading.schemas()[index]).map_err(|findings| {
            let messages: Vec<_> = findings.into_iter().map(|one| one.message).collect();
            Failure::Wrong(anyhow!("the sync config cannot be used: {}", messages.join("; ")))
        })?;
        sources.extend(bound.map(|evaluator| Source { index, evaluator }));
    }
    Ok(sources)
}

impl Source {
    /// Evaluates all rows of the table.
    async fn read(
        &self,
        reading: &Reading,
        on_row: &mut (dyn FnMut(&RowOutput) + Send),
    ) -> Result<(), RunError> {
        let mut output = RowOutput::default();
        let mut evaluate = |row: &[Option<&str>]| {
            self.evaluator.evaluate(row, &mut output);
            on_row(&output);
        };
        reading.rows(self.index, &mut evaluate).await
    }
}

/// What rows answer to lookups.
#[derive(Default)]
struct Answers(HashMap<Question, BTreeSet<String>>);

impl Answers {
    fn add(&mut self, row: &RowOutput) {
        for answer in row.lookups() {
            let question = Question { lookup: answer.lookup, key: answer.key.to_owned() };
            self.0.entry(question).or_default().insert(answer.output.to_owned());
        }
    }

    fn grant(&self, config: &SyncConfig, request: &Request<'_>) -> anyhow::Result<Granted> {
        let mut evaluation = config.request(request);
        for _ in 0..=STAGES_MAX {
            if evaluation.questions().is_empty() {
                return Ok(evaluation.finish());
            }
            let outputs = |question| self.0.get(question).into_iter().flatten().cloned().collect();
            let answers: Vec<_> = evaluation.questions().iter().map(outputs).collect();
            evaluation.answer(&answers);
        }
        Err(anyhow!("the lookups of the request do not end"))
    }
}

/// The rows of granted buckets: by definition, then by parameters.
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

/// Counts of rows that queries could not be evaluated for, by what is said of them.
#[derive(Default)]
struct LeftOut(BTreeMap<String, u64>);

impl LeftOut {
    fn add(&mut self, row: &RowOutput) {
        for message in row.errors() {
            *self.0.entry(message.clone()).or_default() += 1;
        }
    }
}
