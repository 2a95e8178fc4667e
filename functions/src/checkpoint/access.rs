//! Access: the buckets that a client may read at a checkpoint.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};
use tidewater_protocol::{Priority, StreamDescription, StreamSubscription, Subscription};
use tidewater_storage::{BucketHead, BucketKey, BucketStore, Catalog, LookupStore};
use tidewater_sync_config::{Granted, Question, Request, STAGES_MAX};

use super::error::CheckpointError;
use super::view::CheckpointView;
use crate::settings::Quotas;

/// Number of streams or tables that a message about a quota names: enough to find the cause.
const NAMES_IN_MESSAGE_MAX: usize = 10;

/// A client: its user and its request. Only the claims are verified.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) user_id: String,
    pub(crate) claims: Map<String, Value>,
    pub(crate) parameters: Option<Map<String, Value>>,
    pub(crate) include_defaults: bool,
    pub(crate) subscriptions: Vec<StreamSubscription>,
}

/// The buckets and streams of a client at a checkpoint.
pub(crate) struct Access {
    pub(crate) buckets: Vec<ReadableBucket>,
    pub(crate) streams: Vec<StreamDescription>,
}

/// A bucket that a client may read, as it is at a checkpoint.
pub(crate) struct ReadableBucket {
    /// The bucket's name on the wire.
    pub(crate) name: String,
    pub(crate) key: BucketKey,
    pub(crate) priority: Priority,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) head: BucketHead,
    pub(crate) catalog: Arc<Catalog>,
}

/// Returns the buckets that `client` may read at the view's checkpoint, with their heads there.
pub(crate) async fn access<S: BucketStore + LookupStore>(
    storage: &S,
    view: &CheckpointView,
    client: &Client,
    quotas: &Quotas,
) -> Result<Access, CheckpointError> {
    let granted = granted(storage, view, client, quotas).await?;
    if granted.buckets.len() > quotas.buckets_max {
        return Err(CheckpointError::OverQuota(too_many_buckets(&granted, client, quotas)));
    }

    let mut keys = Vec::with_capacity(granted.buckets.len());
    let mut names = Vec::with_capacity(granted.buckets.len());
    for bucket in &granted.buckets {
        let (key, name) = view.generation.bucket(bucket.definition, &bucket.params);
        keys.push(key);
        names.push(name);
    }
    let states = view.buckets(storage, &keys).await?;

    let mut buckets = Vec::with_capacity(granted.buckets.len());
    let stored = keys.into_iter().zip(names).zip(states);
    for (bucket, ((key, name), state)) in granted.buckets.into_iter().zip(stored) {
        buckets.push(ReadableBucket {
            name,
            key,
            priority: bucket.priority,
            subscriptions: bucket.subscriptions,
            head: state.head,
            catalog: state.catalog,
        });
    }
    Ok(Access { buckets, streams: granted.streams })
}

/// Evaluates the request: at each stage, the evaluation returns questions and takes their outputs.
async fn granted<S: LookupStore>(
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
    let mut rows = LookupRows::default();

    for _ in 0..=STAGES_MAX {
        if evaluation.questions().is_empty() {
            return Ok(evaluation.finish());
        }
        let questions = evaluation.questions().to_vec();
        let outputs = view.outputs(storage, &questions).await?;

        // The quota is checked at each stage: a lookup can yield the questions of the next one, and
        // a request must not multiply reads before it is refused.
        rows.add(&questions, &outputs);
        if rows.distinct.len() > quotas.lookup_rows_max {
            return Err(CheckpointError::OverQuota(rows.too_many(view, quotas)));
        }
        let outputs: Vec<_> = outputs.iter().map(|outputs| outputs.to_vec()).collect();
        evaluation.answer(&outputs);
    }
    // The compiler refuses configs with more stages.
    Err(CheckpointError::Internal("the lookups of a request do not end"))
}

/// The distinct rows that the lookups of one client have yielded.
#[derive(Default)]
struct LookupRows {
    /// Lookup and output.
    distinct: HashSet<(usize, String)>,
}

impl LookupRows {
    fn add(&mut self, questions: &[Question], outputs: &[Arc<[String]>]) {
        for (question, outputs) in questions.iter().zip(outputs) {
            let rows = outputs.iter().map(|output| (question.lookup, output.clone()));
            self.distinct.extend(rows);
        }
    }

    fn too_many(&self, view: &CheckpointView, quotas: &Quotas) -> String {
        let config = &view.generation.config;
        let mut rows_by_table: BTreeMap<String, usize> = BTreeMap::new();
        for (lookup, _) in &self.distinct {
            let lookup = config.lookups().get(*lookup);
            let table = lookup.and_then(|lookup| config.tables().get(lookup.table));
            let name =
                table.map_or_else(String::new, |table| format!("{}.{}", table.schema, table.name));
            *rows_by_table.entry(name).or_default() += 1;
        }

        format!(
            "The parameter lookups of this client yield {} rows; the limit is {}. By table: {}",
            self.distinct.len(),
            quotas.lookup_rows_max,
            largest(rows_by_table),
        )
    }
}

fn too_many_buckets(granted: &Granted, client: &Client, quotas: &Quotas) -> String {
    let mut buckets_by_stream: BTreeMap<String, usize> = BTreeMap::new();
    for bucket in &granted.buckets {
        // A bucket that two subscriptions of one stream grant is one bucket of the stream.
        let subscriptions = bucket.subscriptions.iter();
        let streams: BTreeSet<&str> =
            subscriptions.filter_map(|granted_by| stream(granted_by, granted, client)).collect();
        for stream in streams {
            *buckets_by_stream.entry(stream.to_owned()).or_default() += 1;
        }
    }

    format!(
        "This client would read {} buckets; the limit is {}. By stream: {}",
        granted.buckets.len(),
        quotas.buckets_max,
        largest(buckets_by_stream),
    )
}

/// Returns the name of the stream that a bucket is granted by.
fn stream<'a>(
    granted_by: &Subscription,
    granted: &'a Granted,
    client: &'a Client,
) -> Option<&'a str> {
    match granted_by {
        Subscription::Default(index) => granted.streams.get(*index).map(|one| one.name.as_str()),
        Subscription::Sub(index) => client.subscriptions.get(*index).map(|one| one.stream.as_str()),
    }
}

/// Returns `name (count)` for the largest counts.
fn largest(counts: BTreeMap<String, usize>) -> String {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let named: Vec<_> = counts
        .iter()
        .take(NAMES_IN_MESSAGE_MAX)
        .map(|(name, count)| format!("{name} ({count})"))
        .collect();
    named.join(", ")
}
