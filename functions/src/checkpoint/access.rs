//! Which buckets a client may read, and how far each has got.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};
use tidewater_protocol::{Priority, StreamDescription, StreamSubscription, Subscription};
use tidewater_storage::{BucketHead, BucketKey, Catalog, Storage};
use tidewater_sync_config::{Granted, Question, Request, STAGES_MAX};

use super::error::CheckpointError;
use super::view::{BucketContent, CheckpointView};
use crate::settings::Quotas;

/// Streams and tables that a message about a limit names.
const NAMED_MAX: usize = 10;

/// Who reads, and what it asked for. Only the claims were verified.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) user_id: String,
    pub(crate) claims: Map<String, Value>,
    pub(crate) parameters: Option<Map<String, Value>>,
    pub(crate) include_defaults: bool,
    pub(crate) subscriptions: Vec<StreamSubscription>,
}

/// What a client may read at a checkpoint.
pub(crate) struct Access {
    pub(crate) buckets: Vec<ReadableBucket>,
    pub(crate) streams: Vec<StreamDescription>,
}

/// A bucket at a checkpoint.
pub(crate) struct ReadableBucket {
    /// Its name on the wire.
    pub(crate) name: String,
    pub(crate) key: BucketKey,
    pub(crate) priority: Priority,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) head: BucketHead,
    pub(crate) catalog: Arc<Catalog>,
}

/// The buckets that `client` may read at the view's checkpoint, with their heads there.
pub(crate) async fn access<S: Storage>(
    storage: &S,
    view: &CheckpointView,
    client: &Client,
    quotas: &Quotas,
) -> Result<Access, CheckpointError> {
    let granted = granted(storage, view, client, quotas).await?;
    if granted.buckets.len() > quotas.buckets_max {
        return Err(CheckpointError::OverQuota(too_many_buckets(&granted, client, quotas)));
    }
    let generation = &view.generation;
    let (keys, names): (Vec<_>, Vec<_>) =
        granted.buckets.iter().map(|b| generation.bucket(b.definition, &b.params)).unzip();
    let contents = view.contents(storage, &keys).await?;
    let parts = granted.buckets.into_iter().zip(keys).zip(names).zip(contents);
    let buckets =
        parts.map(|(((bucket, key), name), BucketContent { head, catalog })| ReadableBucket {
            name,
            key,
            priority: bucket.priority,
            subscriptions: bucket.subscriptions,
            head,
            catalog,
        });
    Ok(Access { buckets: buckets.collect(), streams: granted.streams })
}

async fn granted<S: Storage>(
    storage: &S,
    view: &CheckpointView,
    client: &Client,
    quotas: &Quotas,
) -> Result<Granted, CheckpointError> {
    let request = Request {
        user_id: &client.user_id,
        claims: &client.claims,
        parameters: client.parameters.as_ref(),
        include_defaults: client.include_defaults,
        subscriptions: &client.subscriptions,
    };
    let mut evaluation = view.generation.config.request(&request);
    let mut rows = DistinctRows::default();
    for _ in 0..=STAGES_MAX {
        if evaluation.questions().is_empty() {
            return Ok(evaluation.finish());
        }
        let questions = evaluation.questions().to_vec();
        let answers = view.answers(storage, &questions).await?;
        rows.count(&questions, &answers);
        if rows.distinct.len() > quotas.lookup_rows_max {
            return Err(CheckpointError::OverQuota(rows.too_many(view, quotas)));
        }
        let answers: Vec<_> = answers.iter().map(|outputs| outputs.to_vec()).collect();
        evaluation.answer(&answers);
    }
    Err(CheckpointError::Internal("the lookups of a request do not end"))
}

/// The rows that the lookups of one client have yielded, each once.
#[derive(Default)]
struct DistinctRows {
    distinct: HashSet<(usize, String)>,
}

impl DistinctRows {
    fn count(&mut self, questions: &[Question], answers: &[Arc<[String]>]) {
        for (question, outputs) in questions.iter().zip(answers) {
            let rows = outputs.iter().map(|output| (question.lookup, output.clone()));
            self.distinct.extend(rows);
        }
    }

    fn too_many(&self, view: &CheckpointView, quotas: &Quotas) -> String {
        let config = &view.generation.config;
        let mut by_table: BTreeMap<String, usize> = BTreeMap::new();
        for (lookup, _) in &self.distinct {
            let table = config.lookups().get(*lookup).and_then(|l| config.tables().get(l.table));
            let name = table.map_or_else(String::new, |t| format!("{}.{}", t.schema, t.name));
            *by_table.entry(name).or_default() += 1;
        }
        format!(
            "The parameter lookups of this client yield {} rows; the limit is {}. By table: {}",
            self.distinct.len(),
            quotas.lookup_rows_max,
            largest(by_table),
        )
    }
}

fn too_many_buckets(granted: &Granted, client: &Client, quotas: &Quotas) -> String {
    let mut by_stream: BTreeMap<String, usize> = BTreeMap::new();
    for bucket in &granted.buckets {
        let streams: BTreeSet<&str> =
            bucket.subscriptions.iter().filter_map(|why| stream(why, granted, client)).collect();
        for stream in streams {
            *by_stream.entry(stream.to_owned()).or_default() += 1;
        }
    }
    format!(
        "This client would read {} buckets; the limit is {}. By stream: {}",
        granted.buckets.len(),
        quotas.buckets_max,
        largest(by_stream),
    )
}

fn stream<'a>(why: &Subscription, granted: &'a Granted, client: &'a Client) -> Option<&'a str> {
    match why {
        Subscription::Default(index) => granted.streams.get(*index).map(|one| one.name.as_str()),
        Subscription::Sub(index) => client.subscriptions.get(*index).map(|one| one.stream.as_str()),
    }
}

/// `name (count)` for the largest counts.
fn largest(counts: BTreeMap<String, usize>) -> String {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let named: Vec<_> =
        counts.iter().take(NAMED_MAX).map(|(name, count)| format!("{name} ({count})")).collect();
    named.join(", ")
}
