//! Limits on the evaluation of one request, and the error that names what exceeds one.

use std::cell::Cell;
use std::fmt::{self, Display, Formatter};

use tidewater_protocol::Subscription;

use crate::explain::names::{RequestSyntax, request_text};
use crate::plan::{Instantiation, RequestExpression, Step, StreamPlan, SyncPlan};
use crate::value::EvaluationError;

/// Bytes of text that count as one step: making a row or reading a value takes about as long.
const BYTES_OF_STEP: usize = 64;

/// Number of streams and parameters that a message names: enough to find the cause.
const NAMES_IN_MESSAGE_MAX: usize = 10;

/// Limits on the evaluation of one request. They apply to the whole request, over all of its
/// subscriptions, and stop the evaluation where it reaches one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Number of distinct buckets.
    pub buckets_max: usize,
    /// Number of explicit subscriptions.
    pub subscriptions_max: usize,
    /// Number of distinct lookup questions.
    pub questions_max: usize,
    /// Number of distinct outputs that the questions yield.
    pub outputs_max: usize,
    /// Number of steps. A step is a row of bindings, a value of an expression or 64 bytes of text.
    /// It takes less than a microsecond.
    pub steps_max: u64,
}

impl RequestLimits {
    /// No limits, for tools that evaluate their own user's request.
    pub const UNLIMITED: Self = Self {
        buckets_max: usize::MAX,
        subscriptions_max: usize::MAX,
        questions_max: usize::MAX,
        outputs_max: usize::MAX,
        steps_max: u64::MAX,
    };

    /// Returns the limits of a request that may have `buckets_max` buckets.
    ///
    /// Each bucket may have a subscription and a lookup output of its own. Questions are twice as
    /// many, because streams may ask several lookups about one value. A bucket takes some ten steps
    /// in each query that finds it, so 500 for each leave room for large configs. A limit on buckets
    /// that is lower than the default lowers no other limit.
    #[must_use]
    pub const fn for_buckets(buckets_max: usize) -> Self {
        let scale = if buckets_max < 1_000 { 1_000 } else { buckets_max };
        Self {
            buckets_max,
            subscriptions_max: scale,
            questions_max: scale.saturating_mul(2),
            outputs_max: scale,
            steps_max: (scale as u64).saturating_mul(500),
        }
    }
}

impl Default for RequestLimits {
    /// Returns the limits for 1,000 buckets, PowerSync's default.
    fn default() -> Self {
        Self::for_buckets(1_000)
    }
}

/// A limit that a request exceeds. Its text names streams and parameters of the sync config, and no
/// value of a request or row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitExceeded {
    limit: Limit,
    max: u64,
    /// The yield of the streams so far, by name.
    by_stream: Vec<(String, usize)>,
    cause: Option<Cause>,
}

/// A limit of [`RequestLimits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Buckets,
    Subscriptions,
    Questions,
    Outputs,
    Steps,
}

/// The subscription whose evaluation reached a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cause {
    stream: String,
    subscription: Option<usize>,
    /// Values of the request that decide how many buckets there are, as the config names them.
    parameters: Vec<String>,
}

impl LimitExceeded {
    pub(super) fn new(limit: Limit, max: u64) -> Self {
        Self { limit, max, by_stream: Vec::new(), cause: None }
    }

    /// Adds what each stream has yielded, the largest first.
    pub(super) fn with_counts(mut self, mut by_stream: Vec<(String, usize)>) -> Self {
        by_stream.retain(|(_, count)| *count > 0);
        by_stream.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        by_stream.truncate(NAMES_IN_MESSAGE_MAX);
        self.by_stream = by_stream;
        self
    }

    /// Adds the subscription whose evaluation reached the limit.
    pub(super) fn caused_by(
        mut self,
        plan: &SyncPlan,
        stream: &StreamPlan,
        reason: Subscription,
        instantiation: &Instantiation,
    ) -> Self {
        let subscription = match reason {
            Subscription::Default(_) => None,
            Subscription::Sub(index) => Some(index),
        };
        let parameters = parameters(plan, stream, instantiation);
        self.cause = Some(Cause { stream: stream.name.clone(), subscription, parameters });
        self
    }
}

impl Display for LimitExceeded {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let max = self.max;
        match self.limit {
            Limit::Buckets => write!(f, "This client would read more than {max} buckets")?,
            Limit::Subscriptions => write!(f, "This client has more than {max} subscriptions")?,
            Limit::Questions => write!(f, "This client needs more than {max} parameter lookups")?,
            Limit::Outputs => {
                write!(f, "The parameter lookups of this client yield more than {max} rows")?;
            }
            Limit::Steps => write!(f, "This request takes more than {max} steps to evaluate")?,
        }

        if !self.by_stream.is_empty() {
            let named = self.by_stream.iter().map(|(name, count)| format!("{name} ({count})"));
            write!(f, ". By stream: {}", named.collect::<Vec<_>>().join(", "))?;
        }
        if let Some(cause) = &self.cause {
            write!(f, ". The limit was reached in stream '{}'", cause.stream)?;
            if let Some(subscription) = cause.subscription {
                write!(f, ", streams.subscriptions[{subscription}]")?;
            }
            if !cause.parameters.is_empty() {
                write!(f, ", by {}", cause.parameters.join(", "))?;
            }
        }

        let fix = match self.limit {
            Limit::Buckets => "Subscribe to less, or put rows that belong together in one bucket",
            Limit::Subscriptions => "Unsubscribe from what the app does not show",
            Limit::Questions | Limit::Steps => "Send fewer or shorter values",
            Limit::Outputs => "Let a query select fewer rows, or distinct values only",
        };
        write!(f, ". {fix}")
    }
}

impl std::error::Error for LimitExceeded {}

/// Returns the values of the request by which a query finds its buckets: arrays if there are any,
/// because only they yield more than one.
fn parameters(plan: &SyncPlan, stream: &StreamPlan, instantiation: &Instantiation) -> Vec<String> {
    let is_definition = plan.definitions.iter().any(|definition| definition.name == stream.name);
    let syntax =
        if is_definition { RequestSyntax::BucketDefinition } else { RequestSyntax::Stream };
    let text = |value: &RequestExpression| request_text(value, "", syntax).into_text();

    let mut arrays = Vec::new();
    let mut values = Vec::new();
    for step in &instantiation.steps {
        match step {
            Step::Elements { array, .. } => arrays.push(text(array)),
            Step::Value(value) => values.push(text(value)),
            Step::Lookup { .. } | Step::Equal(..) => {}
        }
    }

    let mut named = if arrays.is_empty() { values } else { arrays };
    named.dedup();
    named.truncate(NAMES_IN_MESSAGE_MAX);
    named
}

/// The steps that an evaluation may still take.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    steps_left: Cell<u64>,
}

impl Budget {
    pub(super) fn new(steps_max: u64) -> Self {
        Self { steps_left: Cell::new(steps_max) }
    }

    /// Takes steps.
    pub(super) fn spend(&self, steps: usize) -> Result<(), EvaluationError> {
        let left = self.steps_left.get().checked_sub(steps as u64);
        self.steps_left.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or(EvaluationError::OverBudget)
    }

    /// Takes the steps of a text of `bytes` bytes.
    pub(super) fn spend_text(&self, bytes: usize) -> Result<(), EvaluationError> {
        self.spend(1 + bytes / BYTES_OF_STEP)
    }
}
