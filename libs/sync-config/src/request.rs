//! Requests to buckets, in stages: what tables must be asked, then what the answers grant.

use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};
use tidewater_protocol::{
    Priority, StreamDescription, StreamError, StreamSubscription, Subscription, SubscriptionRef,
};

use crate::engine::Engine;
use crate::evaluate::parameters;
use crate::expression::{EvaluationError, Leaves, array_items};
use crate::functions;
use crate::grant::{Choices, Constraint};
use crate::json;
use crate::plan::{
    Instantiation, LookupUse, Member, ParameterSource, Plan, RequestKey, RequestLeaf,
    RequestSource, StreamPlan,
};
use crate::value::Value;

/// Most questions that one use of a lookup may ask for one subscription.
const QUESTIONS_MAX: usize = 10_000;

/// What is known of a request.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// `sub` as text.
    pub user_id: &'a str,
    /// All verified claims.
    pub claims: &'a Map<String, Json>,
    /// Connection parameters, not authenticated.
    pub parameters: Option<&'a Map<String, Json>>,
    /// Whether streams that subscribe by themselves are wanted.
    pub include_defaults: bool,
    /// Explicit subscriptions; answers name them by index.
    pub subscriptions: &'a [StreamSubscription],
}

/// A request under evaluation: it asks for lookups until it is done.
///
/// ```
/// # use tidewater_sync_config::{Request, SyncConfig};
/// # let yaml = "config: {edition: 3}\nstreams: {a: {auto_subscribe: true, query: SELECT * FROM a}}";
/// # let config = SyncConfig::compile(yaml).unwrap();
/// # let claims = serde_json::Map::new();
/// # let request = Request { user_id: "u", claims: &claims, parameters: None,
/// #     include_defaults: true, subscriptions: &[] };
/// # let read = |questions: &[_]| vec![vec![]; questions.len()];
/// let mut evaluation = config.request(&request);
/// while !evaluation.questions().is_empty() {
///     let answers = read(evaluation.questions()); // one list of outputs for each question
///     evaluation.answer(&answers);
/// }
/// let granted = evaluation.finish();
/// # assert_eq!(granted.buckets.len(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct RequestEvaluation<'a> {
    plan: &'a Plan,
    tasks: Vec<Task>,
    streams: Vec<StreamDescription>,
    questions: Vec<Question>,
    answers: HashMap<Question, Vec<Vec<String>>>,
}

/// A question to a lookup.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// Index into [`SyncConfig::lookups`](crate::SyncConfig::lookups).
    pub lookup: usize,
    /// The values: a canonical JSON array.
    pub key: String,
}

/// What a request may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Each bucket once.
    pub buckets: Vec<GrantedBucket>,
    /// The streams that the connection is subscribed to.
    pub streams: Vec<StreamDescription>,
}

/// A bucket that a request may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantedBucket {
    /// Index into [`SyncConfig::definitions`](crate::SyncConfig::definitions).
    pub definition: usize,
    /// As [`BucketRow::params`](crate::BucketRow::params).
    pub params: String,
    /// The most urgent of its reasons.
    pub priority: Priority,
    /// Why.
    pub subscriptions: Vec<Subscription>,
}

/// One variant of a stream for one subscription: all that is left is to look up.
#[derive(Clone, Debug)]
struct Task {
    definition: usize,
    priority: Priority,
    /// Index into the answer's streams.
    stream: usize,
    reason: Subscription,
    uses: Vec<Vec<Question>>,
    /// By parameter of the bucket: what its value must be among.
    parameters: Vec<Vec<Constraint>>,
}

/// Begins the evaluation of a request.
pub(crate) fn begin<'a>(plan: &'a Plan, request: &Request<'_>) -> RequestEvaluation<'a> {
    let mut evaluation = RequestEvaluation {
        plan,
        tasks: Vec::new(),
        streams: Vec::new(),
        questions: Vec::new(),
        answers: HashMap::new(),
    };
    for stream in &plan.streams {
        evaluation.subscribe(stream, request);
    }
    let mut seen = HashSet::new();
    for question in evaluation.tasks.iter().flat_map(|task| task.uses.iter().flatten()) {
        if seen.insert(question) {
            evaluation.questions.push(question.clone());
        }
    }
    evaluation
}

impl RequestEvaluation<'_> {
    /// What must be looked up next, each question once; none when it is done.
    #[must_use]
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Gives the outputs found for each question, in the same order.
    ///
    /// # Panics
    /// When there is not one list of outputs for each question.
    pub fn answer(&mut self, answers: &[Vec<String>]) {
        assert_eq!(answers.len(), self.questions.len(), "one list of outputs for each question");
        for (question, outputs) in self.questions.drain(..).zip(answers) {
            let columns = self.plan.lookups[question.lookup].outputs.len();
            let mut seen = HashSet::new();
            let rows = outputs.iter().filter(|output| seen.insert(output.as_str()));
            let rows = rows.filter_map(|output| split(output, columns)).collect();
            self.answers.insert(question, rows);
        }
    }

    /// The buckets that the request may read.
    #[must_use]
    pub fn finish(mut self) -> Granted {
        let mut buckets: Vec<GrantedBucket> = Vec::new();
        let mut index_of: HashMap<(usize, String), usize> = HashMap::new();
        for task in std::mem::take(&mut self.tasks) {
            let Ok(params) = self.resolve(&task) else {
                push_error(&mut self.streams[task.stream], task.reason, EvaluationError::TooMany);
                continue;
            };
            for params in params {
                let key = (task.definition, params);
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

    fn resolve(&self, task: &Task) -> Result<Vec<String>, EvaluationError> {
        let mut rows = Vec::with_capacity(task.uses.len());
        for questions in &task.uses {
            let mut seen = HashSet::new();
            let answers = questions.iter().filter_map(|question| self.answers.get(question));
            let found: Vec<&Vec<String>> =
                answers.flatten().filter(|row| seen.insert(*row)).collect();
            if found.is_empty() {
                return Ok(Vec::new());
            }
            rows.push(found);
        }
        Choices { rows: &rows, parameters: &task.parameters }.arrays()
    }

    fn subscribe(&mut self, stream: &StreamPlan, request: &Request<'_>) {
        let explicit = || {
            let all = request.subscriptions.iter().enumerate();
            all.filter(|(_, subscription)| subscription.stream == stream.name)
        };
        let has_bare = explicit().any(|(_, subscription)| subscription.parameters.is_none());
        let by_default = stream.auto_subscribe && request.include_defaults && !has_bare;
        if !by_default && explicit().next().is_none() {
            return;
        }
        let index = self.streams.len();
        let engine = self.plan.values.engine;
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
                &Subscriber { engine, request, parameters: None, reason, priority: None },
            );
        }
        for (number, subscription) in explicit() {
            let reason = Subscription::Sub(number);
            let priority = match subscription.override_priority.map(Priority::try_from) {
                None => None,
                Some(Ok(priority)) => Some(priority),
                Some(Err(message)) => {
                    let errors = &mut self.streams[index].errors;
                    errors.push(StreamError { subscription: reference(reason), message });
                    continue;
                }
            };
            let parameters = subscription.parameters.as_ref();
            let subscriber = Subscriber { engine, request, parameters, reason, priority };
            self.evaluate(stream, index, &subscriber);
        }
    }

    fn evaluate(&mut self, stream: &StreamPlan, index: usize, subscriber: &Subscriber<'_>) {
        let Subscriber { reason, priority, .. } = *subscriber;
        for variant in &stream.variants {
            match subscriber.instantiate(&variant.instantiation) {
                Ok(None) => {}
                Ok(Some((uses, parameters))) => self.tasks.push(Task {
                    definition: variant.definition,
                    priority: priority.or(variant.priority).unwrap_or(stream.priority),
                    stream: index,
                    reason,
                    uses,
                    parameters,
                }),
                Err(error) => push_error(&mut self.streams[index], reason, error),
            }
        }
    }
}

/// The elements of an output as JSON text. What was not written by this crate is no answer.
fn split(output: &str, columns: usize) -> Option<Vec<String>> {
    let elements: Vec<&RawValue> = serde_json::from_str(output).ok()?;
    let row: Vec<String> = elements.iter().map(|element| element.get().to_owned()).collect();
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

/// One subscription to one stream: what expressions see, and what becomes of its buckets.
struct Subscriber<'r> {
    engine: Engine,
    request: &'r Request<'r>,
    /// Of an explicit subscription.
    parameters: Option<&'r Map<String, Json>>,
    reason: Subscription,
    /// Instead of the stream's.
    priority: Option<Priority>,
}

type Evaluated = (Vec<Vec<Question>>, Vec<Vec<Constraint>>);

impl Subscriber<'_> {
    /// `None` when a filter does not hold.
    fn instantiate(
        &self,
        instantiation: &Instantiation,
    ) -> Result<Option<Evaluated>, EvaluationError> {
        for filter in &instantiation.filters {
            if !filter.is_true(self)? {
                return Ok(None);
            }
        }
        let uses = instantiation
            .uses
            .iter()
            .map(|lookup| self.questions(lookup))
            .collect::<Result<_, _>>()?;
        let mut parameters = Vec::with_capacity(instantiation.parameters.len());
        for parameter in &instantiation.parameters {
            let mut constraints = Vec::with_capacity(parameter.all_of.len());
            for source in &parameter.all_of {
                constraints.push(match source {
                    ParameterSource::Request(key) => Constraint::Among(self.choices(key)?),
                    ParameterSource::Output { lookup_use, column } => {
                        Constraint::Output { lookup_use: *lookup_use, column: *column }
                    }
                });
            }
            parameters.push(constraints);
        }
        Ok(Some((uses, parameters)))
    }

    fn questions(&self, lookup_use: &LookupUse) -> Result<Vec<Question>, EvaluationError> {
        let mut keys = vec!["[".to_owned()];
        for (index, key) in lookup_use.key.iter().enumerate() {
            let choices = self.choices(key)?;
            if keys.len().saturating_mul(choices.len()) > QUESTIONS_MAX {
                return Err(EvaluationError::TooMany);
            }
            let separator = if index > 0 { "," } else { "" };
            keys = keys
                .iter()
                .flat_map(|key| {
                    choices.iter().map(move |choice| format!("{key}{separator}{choice}"))
                })
                .collect();
        }
        let question = |key| Question { lookup: lookup_use.lookup, key: format!("{key}]") };
        Ok(keys.into_iter().map(question).collect())
    }

    fn choices(&self, key: &RequestKey) -> Result<Vec<String>, EvaluationError> {
        match key {
            RequestKey::Value(expression) => {
                Ok(parameters([expression.evaluate(self)?].into_iter()))
            }
            RequestKey::Each(expression) => {
                let items = array_items(&expression.evaluate(self)?)?;
                Ok(parameters(items.iter().map(json::to_value)))
            }
        }
    }

    fn member(&self, source: RequestSource, names: &[String]) -> Option<&Json> {
        let map = match source {
            RequestSource::UserId => return None,
            RequestSource::Claims => self.request.claims,
            RequestSource::TokenParameters => self.request.claims.get("parameters")?.as_object()?,
            RequestSource::ConnectionParameters => self.request.parameters?,
            RequestSource::SubscriptionParameters => self.parameters?,
        };
        let (first, rest) = names.split_first()?;
        functions::walk(map.get(first)?, rest)
    }

    /// The whole as JSON text.
    fn text(&self, source: RequestSource) -> String {
        let empty = Map::new();
        let map = match source {
            RequestSource::UserId => return self.request.user_id.to_owned(),
            RequestSource::Claims => self.request.claims.clone(),
            RequestSource::TokenParameters => {
                let parameters = self.request.claims.get("parameters").and_then(Json::as_object);
                let mut map = parameters.unwrap_or(&empty).clone();
                map.insert("user_id".to_owned(), Json::String(self.request.user_id.to_owned()));
                map
            }
            RequestSource::ConnectionParameters => {
                self.request.parameters.unwrap_or(&empty).clone()
            }
            RequestSource::SubscriptionParameters => self.parameters.unwrap_or(&empty).clone(),
        };
        json::to_text(&Json::Object(map))
    }
}

impl<'v> Leaves<'v, RequestLeaf> for Subscriber<'_> {
    fn engine(&self) -> Engine {
        self.engine
    }

    fn value(&self, leaf: &RequestLeaf) -> Result<Value<'v>, EvaluationError> {
        let Some(Member { names, as_value }) = &leaf.member else {
            return Ok(Value::text(self.text(leaf.source)));
        };
        if names.is_empty() {
            return Ok(Value::text(self.text(leaf.source)));
        }
        if leaf.source == RequestSource::TokenParameters && names.as_slice() == ["user_id"] {
            return Ok(Value::text(self.request.user_id.to_owned()));
        }
        let member = self.member(leaf.source, names);
        Ok(member.map_or(Value::Null, |member| functions::output(member, *as_value)))
    }
}
