//! Evaluation of a request, in rounds of lookups.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::value::RawValue;
use tidewater_protocol::{Priority, StreamDescription, StreamError, Subscription, SubscriptionRef};

use super::bindings::{ValueId, ValuePool};
use super::limits::{Budget, Limit, LimitExceeded, RequestLimits};
use super::search::{Known, Progress, Search};
use super::subscriber::Subscriber;
use super::{Granted, GrantedBucket, Question, Request};
use crate::plan::{StreamPlan, SyncPlan, Variant};
use crate::value::{EvaluationError, ValueOptions};

/// Request whose own values are evaluated. It keeps what the queries read of the request, so that
/// the request itself can be dropped.
#[derive(Clone, Debug)]
pub struct PreparedRequest {
    plan: Arc<SyncPlan>,
    limits: RequestLimits,
    tasks: Vec<VariantTask>,
    streams: Vec<SubscribedStream>,
    values: ValuePool,
}

/// Evaluation of a request. It returns questions until it is done.
///
/// ```
/// # use tidewater_sync_config::{Request, RequestLimits, SyncConfig};
/// # let yaml = "config: {edition: 3}\nstreams: {a: {auto_subscribe: true, query: SELECT * FROM a}}";
/// # let config = SyncConfig::compile(yaml).unwrap();
/// # let claims = serde_json::Map::new();
/// # let request = Request { user_id: "u", claims: &claims, parameters: None,
/// #     include_defaults: true, subscriptions: &[] };
/// # fn read(questions: &[tidewater_sync_config::Question]) -> Vec<Vec<String>> {
/// #     vec![vec![]; questions.len()]
/// # }
/// let prepared = config.prepare(&request, &RequestLimits::default())?;
/// let mut evaluation = prepared.evaluation();
/// while !evaluation.questions().is_empty() {
///     let outputs = read(evaluation.questions()); // one list for each question
///     evaluation.answer(&outputs);
/// }
/// let granted = evaluation.finish()?;
/// # assert_eq!(granted.buckets.len(), 1);
/// # Ok::<_, tidewater_sync_config::LimitExceeded>(())
/// ```
#[derive(Clone, Debug)]
pub struct RequestEvaluation {
    prepared: PreparedRequest,
    budget: Budget,
    questions: Vec<Question>,
    /// Number of questions so far, and the streams that asked the present ones.
    asked: usize,
    asking: Vec<usize>,
    answers: HashMap<Question, Vec<Vec<ValueId>>>,
    /// Distinct outputs so far: lookup and output.
    outputs: HashSet<(usize, String)>,
    outputs_by_stream: HashMap<usize, usize>,
    exceeded: Option<LimitExceeded>,
}

/// Stream that the request is subscribed to.
#[derive(Clone, Debug)]
struct SubscribedStream {
    /// Index into [`SyncPlan::streams`].
    index: usize,
    errors: Vec<StreamError>,
}

/// Variant of a stream for one subscription.
#[derive(Clone, Debug)]
struct VariantTask {
    /// Index into [`PreparedRequest::streams`].
    stream: usize,
    /// Index into [`StreamPlan::variants`].
    variant: usize,
    /// Priority that overrides the stream's.
    priority: Option<Priority>,
    reason: Subscription,
    search: Search,
}

/// Evaluates the values of a request.
pub(crate) fn prepare(
    plan: &Arc<SyncPlan>,
    request: &Request<'_>,
    limits: &RequestLimits,
) -> Result<PreparedRequest, LimitExceeded> {
    let mut subscriptions: HashMap<&str, Vec<usize>> = HashMap::new();
    for (number, subscription) in request.subscriptions.iter().enumerate() {
        subscriptions.entry(&subscription.stream).or_default().push(number);
    }
    if request.subscriptions.len() > limits.subscriptions_max {
        let count = |name: &str| subscriptions.get(name).map_or(0, Vec::len);
        let counts = plan.streams.iter().map(|stream| (stream.name.clone(), count(&stream.name)));
        let exceeded = LimitExceeded::new(Limit::Subscriptions, limits.subscriptions_max as u64);
        return Err(exceeded.with_counts(counts.collect()));
    }

    let budget = Budget::new(limits.steps_max);
    let mut prepared = PreparedRequest {
        plan: Arc::clone(plan),
        limits: *limits,
        tasks: Vec::new(),
        streams: Vec::new(),
        values: ValuePool::default(),
    };
    for (index, stream) in plan.streams.iter().enumerate() {
        let explicit = subscriptions.get(stream.name.as_str()).map_or(&[][..], Vec::as_slice);
        prepared.subscribe(index, stream, explicit, request, &budget)?;
    }
    prepared.tasks.shrink_to_fit();
    prepared.streams.shrink_to_fit();
    prepared.values.shrink();
    Ok(prepared)
}

impl PreparedRequest {
    /// Starts an evaluation.
    #[must_use]
    pub fn evaluation(&self) -> RequestEvaluation {
        let mut evaluation = RequestEvaluation {
            budget: Budget::new(self.limits.steps_max),
            prepared: self.clone(),
            questions: Vec::new(),
            asked: 0,
            asking: Vec::new(),
            answers: HashMap::new(),
            outputs: HashSet::new(),
            outputs_by_stream: HashMap::new(),
            exceeded: None,
        };
        evaluation.advance();
        evaluation
    }

    /// Returns the number of values and searches that it keeps, to which the time of an evaluation is
    /// proportional.
    #[must_use]
    pub fn size(&self) -> usize {
        self.tasks.len() + self.values.len()
    }

    /// Returns about how many bytes it keeps in memory.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        let searches = self.tasks.iter().map(|task| task.search.kept_bytes());
        searches.sum::<usize>() + size_of_val(&*self.tasks) + self.values.kept_bytes()
    }

    fn subscribe(
        &mut self,
        index: usize,
        stream: &StreamPlan,
        explicit: &[usize],
        request: &Request<'_>,
        budget: &Budget,
    ) -> Result<(), LimitExceeded> {
        let subscriptions =
            explicit.iter().map(|number| (*number, &request.subscriptions[*number]));
        let has_bare =
            subscriptions.clone().any(|(_, subscription)| subscription.parameters.is_none());
        let by_default = stream.auto_subscribe && request.include_defaults && !has_bare;
        if !by_default && explicit.is_empty() {
            return Ok(());
        }

        let place = self.streams.len();
        let SyncPlan { edition, values: ValueOptions { engine, .. }, .. } = *self.plan;
        self.streams.push(SubscribedStream { index, errors: Vec::new() });

        if by_default {
            let reason = Subscription::Default(place);
            let subscriber = Subscriber {
                edition,
                engine,
                request,
                budget,
                parameters: None,
                reason,
                priority: None,
            };
            self.evaluate(stream, place, &subscriber)?;
        }

        for (number, subscription) in subscriptions {
            let reason = Subscription::Sub(number);
            let priority = match subscription.override_priority.map(Priority::try_from) {
                None => None,
                Some(Ok(priority)) => Some(priority),
                Some(Err(invalid)) => {
                    let message = invalid.to_string();
                    let errors = &mut self.streams[place].errors;
                    errors.push(StreamError { subscription: reference(reason), message });
                    continue;
                }
            };
            let parameters = subscription.parameters.as_ref();
            let subscriber =
                Subscriber { edition, engine, request, budget, parameters, reason, priority };
            self.evaluate(stream, place, &subscriber)?;
        }
        Ok(())
    }

    fn evaluate(
        &mut self,
        stream: &StreamPlan,
        place: usize,
        subscriber: &Subscriber<'_>,
    ) -> Result<(), LimitExceeded> {
        let Subscriber { reason, priority, .. } = *subscriber;
        let plan = Arc::clone(&self.plan);

        for (index, variant) in stream.variants.iter().enumerate() {
            let search = subscriber.instantiate(&plan, &variant.instantiation, &mut self.values);

            match search {
                Ok(None) => {}
                Ok(Some(search)) => {
                    self.tasks.push(VariantTask {
                        stream: place,
                        variant: index,
                        priority,
                        reason,
                        search,
                    });
                }
                Err(error) => match self.limit_of(error) {
                    Some(exceeded) => {
                        let instantiation = &variant.instantiation;
                        return Err(exceeded.caused_by(&plan, stream, reason, instantiation));
                    }
                    None => push_error(&mut self.streams[place], reason, error),
                },
            }
        }
        Ok(())
    }

    /// Returns the limit of the whole request that an error reports, if it is not of one
    /// subscription.
    fn limit_of(&self, error: EvaluationError) -> Option<LimitExceeded> {
        match error {
            EvaluationError::OverBudget => {
                Some(LimitExceeded::new(Limit::Steps, self.limits.steps_max))
            }
            EvaluationError::TooManyQuestions => {
                Some(LimitExceeded::new(Limit::Questions, self.limits.questions_max as u64))
            }
            EvaluationError::NotJson
            | EvaluationError::NotAnArray
            | EvaluationError::BadPath
            | EvaluationError::BadText
            | EvaluationError::TooDeep
            | EvaluationError::NotUuid
            | EvaluationError::NotGeometry
            | EvaluationError::IntegerOverflow
            | EvaluationError::TooLong
            | EvaluationError::TooManySteps
            | EvaluationError::TooMany
            | EvaluationError::TooManyCombinations
            | EvaluationError::TooManyBytes
            | EvaluationError::NullId
            | EvaluationError::BlobId => None,
        }
    }

    fn stream(&self, place: usize) -> &StreamPlan {
        &self.plan.streams[self.streams[place].index]
    }

    fn variant(&self, task: &VariantTask) -> &Variant {
        &self.stream(task.stream).variants[task.variant]
    }

    /// Adds the task that reached a limit to the error.
    fn caused_by(&self, exceeded: LimitExceeded, task: &VariantTask) -> LimitExceeded {
        let instantiation = &self.variant(task).instantiation;
        exceeded.caused_by(&self.plan, self.stream(task.stream), task.reason, instantiation)
    }

    /// Returns counts by the names of their streams.
    fn by_name(&self, counts: &HashMap<usize, usize>) -> Vec<(String, usize)> {
        counts.iter().map(|(place, count)| (self.stream(*place).name.clone(), *count)).collect()
    }
}

impl RequestEvaluation {
    /// Returns the keys to look up next, each once. Empty if the evaluation is done, or has reached
    /// a limit.
    #[must_use]
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Supplies the outputs of all answers to each question, in the order of the questions.
    ///
    /// # Panics
    /// Panics if `outputs` does not have one list for each question.
    pub fn answer<O: AsRef<[String]>>(&mut self, outputs: &[O]) {
        assert_eq!(outputs.len(), self.questions.len(), "one list of outputs for each question");
        let asking = std::mem::take(&mut self.asking);
        let questions = std::mem::take(&mut self.questions);

        // Answers are kept for the whole evaluation: a later step may ask the same question.
        for ((question, outputs), stream) in questions.into_iter().zip(outputs).zip(asking) {
            let columns = self.prepared.plan.lookups[question.lookup].outputs.len();
            let mut rows = Vec::new();
            for output in outputs.as_ref() {
                if self.outputs.insert((question.lookup, output.clone())) {
                    *self.outputs_by_stream.entry(stream).or_default() += 1;
                }
                if self.outputs.len() > self.prepared.limits.outputs_max {
                    self.exceeded = Some(self.too_many_outputs());
                    return;
                }
                rows.extend(split(output, columns, &mut self.prepared.values));
            }
            self.answers.insert(question, rows);
        }
        self.advance();
    }

    fn too_many_outputs(&self) -> LimitExceeded {
        let max = self.prepared.limits.outputs_max as u64;
        let counts = self.prepared.by_name(&self.outputs_by_stream);
        LimitExceeded::new(Limit::Outputs, max).with_counts(counts)
    }

    /// Runs all steps that have their answers, and collects the questions of the next ones.
    fn advance(&mut self) {
        let mut seen: HashSet<Question> = HashSet::new();
        let questions_left = self.prepared.limits.questions_max.saturating_sub(self.asked);

        let tasks = std::mem::take(&mut self.prepared.tasks);
        let mut kept = Vec::with_capacity(tasks.len());
        for mut task in tasks {
            let known = Known {
                answers: &self.answers,
                values: &self.prepared.values,
                budget: &self.budget,
            };
            let plan = &self.prepared.plan;
            let stream = &plan.streams[self.prepared.streams[task.stream].index];
            let instantiation = &stream.variants[task.variant].instantiation;

            // Two variants may ask the same question. The answer serves both.
            let progress = task.search.advance(instantiation, &known, &mut |question| {
                if seen.len() >= questions_left && !seen.contains(&question) {
                    return Err(EvaluationError::TooManyQuestions);
                }
                if seen.insert(question.clone()) {
                    self.questions.push(question);
                    self.asking.push(task.stream);
                }
                Ok(())
            });
            match progress {
                Ok(Progress::Waiting | Progress::Found) => kept.push(task),
                Ok(Progress::NotFound) => {}
                Err(error) => match self.prepared.limit_of(error) {
                    Some(exceeded) => {
                        self.exceeded = Some(self.prepared.caused_by(exceeded, &task));
                        self.questions.clear();
                        return;
                    }
                    None => {
                        push_error(&mut self.prepared.streams[task.stream], task.reason, error);
                    }
                },
            }
        }

        self.asked += self.questions.len();
        self.prepared.tasks = kept;
    }

    /// Returns the buckets that the request may read. Buckets that depend on open questions are not
    /// among them.
    ///
    /// # Errors
    /// The request exceeds one of its limits.
    pub fn finish(mut self) -> Result<Granted, LimitExceeded> {
        if let Some(exceeded) = self.exceeded.take() {
            return Err(exceeded);
        }
        let tasks = std::mem::take(&mut self.prepared.tasks);
        let mut buckets = GrantedBuckets::default();

        for mut task in tasks.into_iter().filter(|task| task.search.is_done()) {
            match self.grant(&mut task, &mut buckets) {
                Ok(()) => {}
                Err(Refusal::Request(exceeded)) => {
                    let counts = self.prepared.by_name(&buckets.by_stream);
                    let exceeded = exceeded.with_counts(counts);
                    return Err(self.prepared.caused_by(exceeded, &task));
                }
                Err(Refusal::Subscription(error)) => {
                    push_error(&mut self.prepared.streams[task.stream], task.reason, error);
                }
            }
        }

        let Self { prepared: PreparedRequest { plan, streams, .. }, .. } = self;
        let streams = streams.into_iter().map(|subscribed| {
            let stream = &plan.streams[subscribed.index];
            StreamDescription {
                name: stream.name.clone(),
                is_default: stream.auto_subscribe,
                errors: subscribed.errors,
            }
        });
        Ok(Granted { buckets: buckets.granted, streams: streams.collect() })
    }

    /// Adds the buckets of a task whose search is done.
    fn grant(&self, task: &mut VariantTask, buckets: &mut GrantedBuckets) -> Result<(), Refusal> {
        let stream = self.prepared.stream(task.stream);
        let variant = &stream.variants[task.variant];
        let refusal = |error| match self.prepared.limit_of(error) {
            Some(exceeded) => Refusal::Request(exceeded),
            None => Refusal::Subscription(error),
        };

        let parameters = &variant.instantiation.parameters;
        let rows = task.search.bindings.all(parameters, &self.budget).map_err(refusal)?;
        let priority = task.priority.or(variant.priority).unwrap_or(stream.priority);
        for row in rows.rows() {
            let params = self.prepared.values.array(row.iter().copied());
            self.budget.spend_text(params.len()).map_err(refusal)?;
            buckets.add(task, (variant.definition, params), priority);

            let max = self.prepared.limits.buckets_max;
            if buckets.granted.len() > max {
                return Err(Refusal::Request(LimitExceeded::new(Limit::Buckets, max as u64)));
            }
        }
        Ok(())
    }
}

/// Buckets that are granted so far, each once.
#[derive(Default)]
struct GrantedBuckets {
    granted: Vec<GrantedBucket>,
    /// Places in `granted`, by definition and parameters.
    places: HashMap<(usize, String), usize>,
    by_stream: HashMap<usize, usize>,
}

impl GrantedBuckets {
    fn add(&mut self, task: &VariantTask, key: (usize, String), priority: Priority) {
        if let Some(place) = self.places.get(&key) {
            let bucket = &mut self.granted[*place];
            bucket.priority = bucket.priority.min(priority);
            // The tasks of a subscription follow each other, so only the last one can be equal.
            if bucket.subscriptions.last() != Some(&task.reason) {
                bucket.subscriptions.push(task.reason);
            }
            return;
        }

        self.granted.push(GrantedBucket {
            definition: key.0,
            params: key.1.clone(),
            priority,
            subscriptions: vec![task.reason],
        });
        self.places.insert(key, self.granted.len() - 1);
        *self.by_stream.entry(task.stream).or_default() += 1;
    }
}

/// Reason why the buckets of a task are not granted.
enum Refusal {
    /// The whole request is refused.
    Request(LimitExceeded),
    /// The subscription has no buckets.
    Subscription(EvaluationError),
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

fn push_error(stream: &mut SubscribedStream, reason: Subscription, error: EvaluationError) {
    let message = format!("cannot evaluate the subscription: {}", error.message());
    let error = StreamError { subscription: reference(reason), message };
    // The errors of a subscription follow each other within a round, so the search for an equal one
    // ends at the first error of another subscription.
    let own = stream.errors.iter().rev().take_while(|one| one.subscription == error.subscription);
    if !own.clone().any(|one| *one == error) {
        stream.errors.push(error);
    }
}
