//! Requests to buckets, in stages: what tables must be asked, then what the answers grant.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};
use tidewater_protocol::{
    Priority, StreamDescription, StreamError, StreamSubscription, Subscription, SubscriptionRef,
};

use crate::engine::Engine;
use crate::expression::{EvaluationError, Leaves, array_items};
use crate::functions;
use crate::json;
use crate::plan::{
    Instantiation, Member, Plan, RequestExpression, RequestLeaf, RequestSource, Step, StreamPlan,
};
use crate::value::Value;
use crate::ways::{EXTENDED_MAX, Table, ValueId, Values, Ways, slots_used};

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
    tasks: Vec<Task<'a>>,
    streams: Vec<StreamDescription>,
    questions: Vec<Question>,
    answers: HashMap<Question, Vec<Vec<ValueId>>>,
    values: Values,
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
struct Task<'a> {
    definition: usize,
    priority: Priority,
    /// Index into the answer's streams.
    stream: usize,
    reason: Subscription,
    /// Steps that wait for values or answers.
    pending: Vec<Pending<'a>>,
    ways: Ways,
    parameters: &'a [usize],
}

#[derive(Clone, Copy, Debug)]
struct Pending<'a> {
    step: &'a Step,
    /// The first of the slots that it gives values to.
    first_slot: usize,
}

/// Begins the evaluation of a request.
pub(crate) fn begin<'a>(plan: &'a Plan, request: &Request<'_>) -> RequestEvaluation<'a> {
    let mut evaluation = RequestEvaluation {
        plan,
        tasks: Vec::new(),
        streams: Vec::new(),
        questions: Vec::new(),
        answers: HashMap::new(),
        values: Values::default(),
    };
    for stream in &plan.streams {
        evaluation.subscribe(stream, request);
    }
    evaluation.advance();
    evaluation
}

impl<'a> RequestEvaluation<'a> {
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
        for (question, outputs) in std::mem::take(&mut self.questions).into_iter().zip(answers) {
            let columns = self.plan.lookups[question.lookup].outputs.len();
            let rows = outputs.iter().filter_map(|output| split(output, columns, &mut self.values));
            let rows = rows.collect();
            self.answers.insert(question, rows);
        }
        self.advance();
    }

    /// Does all steps that can be done, and asks what the next ones need.
    fn advance(&mut self) {
        let mut asked = HashSet::new();
        let mut questions = Vec::new();
        let mut ask = |question: Question| {
            if asked.insert(question.clone()) {
                questions.push(question);
            }
        };
        let mut kept = Vec::with_capacity(self.tasks.len());
        for mut task in std::mem::take(&mut self.tasks) {
            match task.advance(&self.answers, &self.values, &mut ask) {
                Ok(true) => kept.push(task),
                Ok(false) => {}
                Err(error) => push_error(&mut self.streams[task.stream], task.reason, error),
            }
        }
        self.tasks = kept;
        self.questions = questions;
    }

    /// The buckets that the request may read.
    #[must_use]
    pub fn finish(mut self) -> Granted {
        let mut buckets: Vec<GrantedBucket> = Vec::new();
        let mut index_of: HashMap<(usize, String), usize> = HashMap::new();
        for mut task in std::mem::take(&mut self.tasks) {
            let ways = match task.ways.all(task.parameters) {
                Ok(ways) => ways,
                Err(error) => {
                    push_error(&mut self.streams[task.stream], task.reason, error);
                    continue;
                }
            };
            for way in ways {
                let key = (task.definition, self.values.array(way.into_iter()));
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

    fn evaluate(&mut self, stream: &'a StreamPlan, index: usize, subscriber: &Subscriber<'_>) {
        let Subscriber { reason, priority, .. } = *subscriber;
        for variant in &stream.variants {
            let instantiation = &variant.instantiation;
            match subscriber.instantiate(self.plan, instantiation, &mut self.values) {
                Ok(None) => {}
                Ok(Some((pending, ways))) => self.tasks.push(Task {
                    definition: variant.definition,
                    priority: priority.or(variant.priority).unwrap_or(stream.priority),
                    stream: index,
                    reason,
                    pending,
                    ways,
                    parameters: &instantiation.parameters,
                }),
                Err(error) => push_error(&mut self.streams[index], reason, error),
            }
        }
    }
}

impl Task<'_> {
    /// `false` when there is no way, and so no bucket.
    fn advance(
        &mut self,
        answers: &HashMap<Question, Vec<Vec<ValueId>>>,
        values: &Values,
        ask: &mut impl FnMut(Question),
    ) -> Result<bool, EvaluationError> {
        let mut place = 0;
        while let Some(Pending { step, first_slot }) = self.pending.get(place).copied() {
            let used = slots_used(step);
            if !self.ways.have(&used) {
                place += 1;
                continue;
            }
            let mut table = self.ways.take(&used)?;
            let mut is_done = true;
            match step {
                Step::Equal(left, right) => {
                    if let (Some(left), Some(right)) = (table.place(*left), table.place(*right)) {
                        table.ways.retain(|way| way[left] == way[right]);
                    }
                }
                Step::Lookup { lookup, key } => {
                    let questions = questions(*lookup, key, &table, values);
                    let is_unknown = |question: &&Question| !answers.contains_key(*question);
                    if questions.iter().any(|question| is_unknown(&question)) {
                        let unknown = questions.into_iter().filter(|one| is_unknown(&one));
                        unknown.for_each(&mut *ask);
                        is_done = false;
                    } else {
                        extend(&mut table, first_slot, &questions, answers)?;
                    }
                }
                Step::Value(_) | Step::Elements { .. } => {}
            }
            if is_done {
                self.pending.remove(place);
                // What it found may be what a former one waits for.
                place = 0;
            } else {
                place += 1;
            }
            let needed = needed(&self.pending, self.parameters);
            if !self.ways.put(table, &needed)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The question of each way.
fn questions(lookup: usize, key: &[usize], table: &Table, values: &Values) -> Vec<Question> {
    let places: Vec<usize> = key.iter().filter_map(|slot| table.place(*slot)).collect();
    let question = |way: &Vec<ValueId>| {
        let key = values.array(places.iter().map(|place| way[*place]));
        Question { lookup, key }
    };
    table.ways.iter().map(question).collect()
}

/// Each way with each answer to its question.
fn extend(
    table: &mut Table,
    first_slot: usize,
    questions: &[Question],
    answers: &HashMap<Question, Vec<Vec<ValueId>>>,
) -> Result<(), EvaluationError> {
    let mut ways = Vec::with_capacity(table.ways.len());
    let mut columns = 0;
    for (way, question) in table.ways.iter().zip(questions) {
        for row in answers.get(question).into_iter().flatten() {
            columns = row.len();
            ways.push(way.iter().chain(row).copied().collect());
            if ways.len() > EXTENDED_MAX {
                return Err(EvaluationError::TooMany);
            }
        }
    }
    table.slots.extend(first_slot..first_slot + columns);
    table.ways = ways;
    Ok(())
}

fn needed(pending: &[Pending<'_>], parameters: &[usize]) -> BTreeSet<usize> {
    let used = pending.iter().flat_map(|pending| slots_used(pending.step));
    used.chain(parameters.iter().copied()).collect()
}

/// The elements of an output. What was not written by this crate is no answer.
fn split(output: &str, columns: usize, values: &mut Values) -> Option<Vec<ValueId>> {
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

type Evaluated<'a> = (Vec<Pending<'a>>, Ways);

impl Subscriber<'_> {
    /// Does the steps that need nothing but the request. `None` when there is no bucket.
    fn instantiate<'a>(
        &self,
        plan: &Plan,
        instantiation: &'a Instantiation,
        values: &mut Values,
    ) -> Result<Option<Evaluated<'a>>, EvaluationError> {
        for filter in &instantiation.filters {
            if !filter.is_true(self)? {
                return Ok(None);
            }
        }
        let mut pending = Vec::new();
        let mut tables = Vec::new();
        let mut slot = 0;
        for step in &instantiation.steps {
            let first_slot = slot;
            let ways = match step {
                Step::Value(expression) => {
                    slot += 1;
                    row(std::slice::from_ref(expression), self, values)?.into_iter().collect()
                }
                Step::Elements { array, filters, outputs } => {
                    slot += outputs.len();
                    self.elements(array, filters, outputs, values)?
                }
                Step::Lookup { lookup, .. } => {
                    slot += plan.lookups[*lookup].outputs.len();
                    pending.push(Pending { step, first_slot });
                    continue;
                }
                Step::Equal(..) => {
                    pending.push(Pending { step, first_slot });
                    continue;
                }
            };
            tables.push(Table { slots: (first_slot..slot).collect(), ways });
        }
        let needed = needed(&pending, &instantiation.parameters);
        let mut ways = Ways::default();
        for table in tables {
            if !ways.put(table, &needed)? {
                return Ok(None);
            }
        }
        Ok(Some((pending, ways)))
    }

    fn elements(
        &self,
        array: &RequestExpression,
        filters: &[RequestExpression],
        outputs: &[RequestExpression],
        values: &mut Values,
    ) -> Result<Vec<Vec<ValueId>>, EvaluationError> {
        let items = array_items(&array.evaluate(self)?)?;
        let mut ways = Vec::with_capacity(items.len());
        'items: for item in &items {
            let leaves = AtElement { subscriber: self, item };
            for filter in filters {
                if !filter.is_true(&leaves)? {
                    continue 'items;
                }
            }
            ways.extend(row(outputs, &leaves, values)?);
        }
        Ok(ways)
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

/// A request with an element of one of its arrays.
struct AtElement<'e> {
    subscriber: &'e Subscriber<'e>,
    item: &'e Json,
}

impl<'e> Leaves<'e, RequestLeaf> for AtElement<'e> {
    fn value(&self, leaf: &RequestLeaf) -> Result<Value<'e>, EvaluationError> {
        match leaf {
            RequestLeaf::Element => Ok(json::to_value(self.item)),
            RequestLeaf::Given { .. } => self.subscriber.value(leaf),
        }
    }

    fn engine(&self) -> Engine {
        self.subscriber.engine
    }
}

impl<'v> Leaves<'v, RequestLeaf> for Subscriber<'_> {
    fn value(&self, leaf: &RequestLeaf) -> Result<Value<'v>, EvaluationError> {
        let RequestLeaf::Given { source, member } = leaf else { return Ok(Value::Null) };
        let (names, as_value) = match member {
            Some(Member { names, as_value }) if !names.is_empty() => (names, *as_value),
            Some(_) | None => return Ok(Value::text(self.text(*source))),
        };
        if *source == RequestSource::TokenParameters && names.as_slice() == ["user_id"] {
            return Ok(Value::text(self.request.user_id.to_owned()));
        }
        let member = self.member(*source, names);
        Ok(member.map_or(Value::Null, |member| functions::output(member, as_value)))
    }

    fn engine(&self) -> Engine {
        self.engine
    }
}

/// Some values of a request; `None` when one of them is NULL or a blob, which equal nothing.
fn row<'v, S: Leaves<'v, RequestLeaf>>(
    expressions: &'v [RequestExpression],
    leaves: &S,
    values: &mut Values,
) -> Result<Option<Vec<ValueId>>, EvaluationError> {
    let mut row = Vec::with_capacity(expressions.len());
    let mut text = String::new();
    for expression in expressions {
        text.clear();
        if !json::push_parameter(&expression.evaluate(leaves)?, &mut text) {
            return Ok(None);
        }
        row.push(values.id(&text));
    }
    Ok(Some(row))
}
