//! Access: the buckets that a client may read at a checkpoint.

use std::sync::Arc;

use tidewater_protocol::{Priority, StreamDescription, Subscription};
use tidewater_storage::{BucketHead, BucketKey, BucketStore, Catalog, ChangeName, LookupStore};
use tidewater_sync_config::{Granted, RequestLimits, STAGES_MAX};

use super::client::Client;
use super::compute::compute;
use super::error::CheckpointError;
use super::view::CheckpointView;

/// Number of values and outputs from which an evaluation runs besides the threads that serve
/// connections.
const LARGE_SIZE: usize = 2_000;

/// The buckets and streams of a client at a checkpoint.
pub(crate) struct Access {
    pub(crate) buckets: Vec<ReadableBucket>,
    pub(crate) streams: Vec<StreamDescription>,
    /// The lookups that decided which buckets there are.
    pub(crate) lookups: Vec<ChangeName>,
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
    client: &mut Client,
    limits: RequestLimits,
) -> Result<Access, CheckpointError> {
    let mut lookups = Vec::new();
    let granted = granted(storage, view, client, limits, &mut lookups).await?;

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
    Ok(Access { buckets, streams: granted.streams, lookups })
}

/// Evaluates the request: at each stage, the evaluation returns questions and takes their outputs.
/// It stops by itself where it reaches a limit. Adds the lookups that it asks to `lookups`.
async fn granted<S: LookupStore>(
    storage: &S,
    view: &CheckpointView,
    client: &mut Client,
    limits: RequestLimits,
    lookups: &mut Vec<ChangeName>,
) -> Result<Granted, CheckpointError> {
    let prepared = client.prepared(view, limits).await?;
    let is_long = prepared.size() > LARGE_SIZE;
    let mut evaluation = compute(is_long, move || prepared.evaluation()).await?;
    let mut outputs_so_far = 0;

    for _ in 0..=STAGES_MAX {
        let is_long = is_long || outputs_so_far > LARGE_SIZE;
        if evaluation.questions().is_empty() {
            let granted = compute(is_long, move || evaluation.finish()).await?;
            return granted.map_err(|limit| CheckpointError::OverQuota(limit.to_string()));
        }

        let questions = evaluation.questions().to_vec();
        lookups.extend(questions.iter().map(|question| view.lookup_name(question)));
        let outputs = view.outputs(storage, &questions).await?;
        outputs_so_far += outputs.iter().map(|outputs| outputs.len()).sum::<usize>();
        let answered = compute(is_long || outputs_so_far > LARGE_SIZE, move || {
            evaluation.answer(&outputs);
            evaluation
        });
        evaluation = answered.await?;
    }
    // The compiler refuses configs with more stages.
    Err(CheckpointError::Internal("the lookups of a request do not end"))
}
