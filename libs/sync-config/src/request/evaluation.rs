//! Evaluation of a request, in rounds of lookups.

use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;
use tidewater_protocol::{Priority, StreamDescription, StreamError, Subscription, SubscriptionRef};

use super::bindings::{ValueId, ValuePool};
use super::search::{Progress, Search};
use super::subscriber::Subscriber;
use super::{Granted, GrantedBucket, Question, Request};
use crate::plan::{StreamPlan, SyncPlan};
use crate::value::{EvaluationError, ValueOptions};

/// Evaluation of a request. It returns questions until it is done.
///
/// ```
/// # use tidewater_sync_config::{Request, SyncConfig};
/// # let yaml = "config: {edition: 3}\nstreams: {a: {auto_subscribe: true, query: SELECT * FROM a}}";
/// # let config = SyncConfig::compile(yaml).unwrap();
/// # let claims = serde_json::Map::new();
/// # let request = Request { user_id: "u", claims: &claims, parameters: None,
/// #     include_defaults: true, subscriptions: &[] };
/// # fn read(questions: &[tidewater_sync_config::Question]) -> Vec<Vec<String>> {
/// #     vec![vec![]; questions.len()]
/// # }
/// let mut evaluation = config.request(&request);
/// while !evaluation.questions().is_empty() {
///     let outputs = read(evaluation.questions()); // one list for each question
///     evaluation.answer(&outputs);
/// }
/// let granted = evaluation.finish();
/// # assert_eq!(granted.buckets.len(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct RequestEvaluation<'a> {
    plan: &'a SyncPlan,
    tasks: Vec<VariantTask<'a>>,
    streams: Vec<StreamDescription>,
    questions: Vec<Question>,
    answers: HashMap<Question, Vec<Vec<ValueId>>>,
    values: ValuePool,
}

/// Variant of a stream for one subscription.
#[derive(Clone, Debug)]
struct VariantTask<'a> {
    definition: usize,
    priority: Priority,
    /// Index into `streams` of the result.
    stream: usize,
    reason: Subscription,
    search: Search<'a>,
}

/// Starts the evaluation of a request.
pub(crate) fn begin<'a>(plan: &'a SyncPlan, request: &Request<'_>) -> RequestEvaluation<'a> {
    let mut evaluation = RequestEvaluation {
        plan,
        tasks: Vec::new(),
        streams: Vec::new(),
        questions: Vec::new(),
        answers: HashMap::new(),
        values: ValuePool::default(),
    };
    for stream in &plan.streams {
        evaluation.subscribe(stream, request);
    }
    evaluation.advance();
    evaluation
}

impl<'a> RequestEvaluation<'a> {
    /// Returns the keys to look up next, each once. Empty if the evaluation is done.
    #[must_use]
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Supplies the outputs of all answers to each question, in the order of the questions.
    ///
    /// # Panics
    /// Panics if `outputs` does not have one list for each question.
    pub fn answer(&mut self, outputs: &[Vec<String>]) {
        assert_eq!(outputs.len(), self.questions.len(), "one list of outputs for each question");
        // Answers are kept for the whole evaluation: a later step may ask the same question.
        for (question, outputs) in std::mem::take(&mut self.questions).into_iter().zip(outputs) {
            let columns = self.plan.lookups[question.lookup].outputs.len();
            let rows = outputs.iter().filter_map(|output| split(output, columns, &mut self.values));
            let rows = rows.collect();
            self.answers.insert(question, rows);
        }
        self.advance();
    }

    /// Runs all steps that have their answers, and collects the questions of the next ones.
    fn advance(&mut self) {
        let mut asked = HashSet::new();
        let mut questions = Vec::new();

        let mut kept = Vec::with_capacity(self.tasks.len());
        for mut task in std::mem::take(&mut self.tasks) {
            // Two variants may ask the same question. The answer serves both.
            let progress = task.search.advance(&self.answers, &self.values, &mut |question| {
                if asked.insert(question.clone()) {
                    questions.push(question);
                }
            });
            match progress {
                Ok(Progress::Waiting | Progress::Found) => kept.push(task),
                Ok(Progress::NotFound) => {}
                Err(error) => push_error(&mut self.streams[task.stream], task.reason, error),
            }
        }

        self.tasks = kept;
        self.questions = questions;
    }

    /// Returns the buckets that the request may read. Buckets that depend on open questions are not
    /// among them.
    #[must_use]
    pub fn finish(mut self) -> Granted {
        let mut buckets: Vec<GrantedBucket> = Vec::new();
        let mut index_of: HashMap<(usize, String), usize> = HashMap::new();
        let tasks = std::mem::take(&mut self.tasks);

        for mut task in tasks.into_iter().filter(|task| task.search.is_done()) {
            let rows = match task.search.bindings.all(task.search.parameters) {
                Ok(rows) => rows,
                Err(error) => {
                    push_error(&mut self.streams[task.stream], task.reason, error);
                    continue;
                }
            };
            for row in rows {
                let key = (task.definition, self.values.array(row.into_iter()));
                if let Some(index) = index_of.get(&key) {
                    let bucket = &mut buckets[*index];
                    bucket.priority = bucket.priority.min(task.priority);
                    if !bucket.subscriptions.contains(&task.reason) {
                        bucket.subscriptions.push(task.reason);
                    }
                    continue;
                }
                buckets.push(GrantedBucket {
                    definition: task.definition,
                    params: key.1.clone(),
                    priority: task.priority,
                    subscriptions: vec![task.reason],
                });
                index_of.insert(key, buckets.len() - 1);
            }
        }

        Granted { buckets, streams: self.streams }
    }

    fn subscribe(&mut self, stream: &'a StreamPlan, request: &Request<'_>) {
        let subscriptions = request.subscriptions.iter().enumerate();
        let explicit: Vec<_> =
            subscriptions.filter(|(_, subscription)| subscription.stream == stream.name).collect();

        let has_bare = explicit.iter().any(|(_, subscription)| subscription.parameters.is_none());
        let by_default = stream.auto_subscribe && request.include_defaults && !has_bare;
        if !by_default && explicit.is_empty() {
            return;
        }

        let index = self.streams.len();
        let SyncPlan { edition, values: ValueOptions { engine, .. }, .. } = *self.plan;
        self.streams.push(StreamDescription {
            name: stream.name.clone(),
            is_default: stream.auto_subscribe,
            errors: Vec::new(),
        });

        if by_default {
            let reason = Subscription::Default(index);
            self.evaluate(
                stream,
                index,
                &Subscriber { edition, engine, request, parameters: None, reason, priority: None },
            );
        }

        for (number, subscription) in explicit {
            let reason = Subscription::Sub(number);
            let priority = match subscription.override_priority.map(Priority::try_from) {
                None => None,
                Some(Ok(priority)) => Some(priority),
                Some(Err(invalid)) => {
                    let message = invalid.to_string();
                    let errors = &mut self.streams[index].errors;
                    errors.push(StreamError { subscription: reference(reason), message });
                    continue;
                }
            };
            let parameters = subscription.parameters.as_ref();
            let subscriber = Subscriber { edition, engine, request, parameters, reason, priority };
            self.evaluate(stream, index, &subscriber);
        }
    }

    fn evaluate(&mut self, stream: &'a StreamPlan, index: usize, subscriber: &Subscriber<'_>) {
        let Subscriber { reason, priority, .. } = *subscriber;

        for variant in &stream.variants {
            let search =
                subscriber.instantiate(self.plan, &variant.instantiation, &mut self.values);

            match search {
                Ok(None) => {}
                Ok(Some(search)) => self.tasks.push(VariantTask {
                    definition: variant.definition,
                    priority: priority.or(variant.priority).unwrap_or(stream.priority),
                    stream: index,
                    reason,
                    search,
                }),
                Err(error) => push_error(&mut self.streams[index], reason, error),
            }
        }
    }
}

/// Returns the elements of an output, or `None` if this crate did not write it.
fn split(output: &str, columns: usize, values: &mut ValuePool) -> Option<Vec<ValueId>> {
    let elements: Vec<&RawValue> = serde_json::from_str(output).ok()?;
    let row: Vec<ValueId> = elements.iter().map(|element| values.id(element.get())).collect();
    (row.len() == columns).then_some(row)
}

fn reference(reason: Subscription) -> SubscriptionRef {
    match reason {
        Subscription::Default(_) => SubscriptionRef::DEFAULT,
        Subscription::Sub(index) => SubscriptionRef::Explicit(index),
    }
}

fn push_error(stream: &mut StreamDescription, reason: Subscription, error: EvaluationError) {
    let message = format!("cannot evaluate the subscription: {}", error.message());
    let error = StreamError { subscription: reference(reason), message };
    if !stream.errors.contains(&error) {
        stream.errors.push(error);
    }
}
