//! Metrics as CloudWatch embedded metric format (EMF): one line of JSON for each invocation or minute.
//!
//! CloudWatch reads such lines from the log of a function or container.
//! Format: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.
//!
//! Each metric is a member of the line, summed over its labels. The values by label are in the same line,
//! under `by_label`. Logs Insights and metric filters can read both there. Those of [`PUBLISHED`] become
//! CloudWatch metrics, with the name of the function or process as their dimension. The others do not, and
//! labels are no dimensions, because CloudWatch charges for each combination of a name and dimensions.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use serde_json::{Map, Value, json};

/// The CloudWatch namespace of all metrics.
pub const NAMESPACE: &str = "Tidewater";

/// The metrics that become CloudWatch metrics: those of the alarms and the dashboard of the deployment's
/// template. Each costs as much in a month as half a million writes to DynamoDB.
pub const PUBLISHED: [&str; 20] = [
    "tidewater_api_request_duration_seconds",
    "tidewater_api_requests_total",
    "tidewater_api_sent_bytes_total",
    "tidewater_api_streams_cut_total",
    "tidewater_api_tokens_refused_total",
    "tidewater_aws_read_units_total",
    "tidewater_aws_throttles_total",
    "tidewater_aws_write_units_total",
    "tidewater_builder_bases_published_total",
    "tidewater_builder_buckets_due",
    "tidewater_builder_buckets_failed_total",
    "tidewater_builder_passes_failed_total",
    "tidewater_ingest_commits_total",
    "tidewater_ingest_reconnects_total",
    "tidewater_ingest_replication_lag_seconds",
    "tidewater_ingest_rows_unsynced",
    "tidewater_ingest_storage_retries_total",
    "tidewater_ingest_transactions_total",
    "tidewater_ingest_wal_left_bytes",
    "tidewater_ingest_wal_retained_bytes",
];

/// The dimension that names the function or process.
const FUNCTION: &str = "function";

/// The largest number of metrics in one directive of a line. The format sets it.
const METRICS_PER_DIRECTIVE_MAX: usize = 100;
const _: () = assert!(PUBLISHED.len() <= METRICS_PER_DIRECTIVE_MAX);

/// The largest number of values of one metric in a line. The format sets it.
const VALUES_MAX: usize = 100;

/// A recorder that keeps metrics until they are taken as a line.
#[derive(Clone, Default)]
pub struct EmfRecorder {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    units: HashMap<KeyName, Unit>,
    counters: HashMap<Key, Arc<AtomicU64>>,
    /// Bits of an `f64`.
    gauges: HashMap<Key, Arc<AtomicU64>>,
    histograms: HashMap<Key, Arc<Sample>>,
}

/// A sample of a histogram's values.
#[derive(Default)]
struct Sample {
    values: Mutex<Values>,
}

#[derive(Default)]
struct Values {
    /// Number of values that were recorded.
    recorded: u64,
    /// All of them, or [`VALUES_MAX`] of them, each as likely as any other (reservoir sampling).
    kept: Vec<f64>,
    seed: u64,
}

impl HistogramFn for Sample {
    fn record(&self, value: f64) {
        let mut values = lock(&self.values);
        values.recorded += 1;
        if values.kept.len() < VALUES_MAX {
            values.kept.push(value);
            return;
        }
        // The n-th value replaces a kept one with the probability `VALUES_MAX / n`.
        let place = values.next_random() % values.recorded;
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        if let Some(kept) = values.kept.get_mut(place) {
            *kept = value;
        }
    }
}

impl Values {
    /// Returns the next number of SplitMix64, which is good enough for a sample.
    fn next_random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.seed;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }
}

/// The values of one metric in one line.
#[derive(Default)]
struct Series {
    total: Option<Value>,
    by_label: Map<String, Value>,
}

impl EmfRecorder {
    /// Takes everything that was recorded since the last call, as one line without a line feed.
    /// `timestamp_ms` is in milliseconds since 1970. Returns `None` if nothing was recorded.
    ///
    /// Counters start again at zero: CloudWatch adds up the lines. Gauges keep their values.
    #[must_use]
    pub fn take_line(&self, function: &str, timestamp_ms: u64) -> Option<String> {
        let state = lock(&self.state);
        let series = state.take_series();
        if series.is_empty() {
            return None;
        }

        // One directive has room for all of them.
        let metrics: Vec<Value> = series
            .keys()
            .filter(|name| PUBLISHED.contains(&name.as_str()))
            .map(|name| state.definition(name))
            .collect();
        let directives = if metrics.is_empty() {
            json!([])
        } else {
            json!([{ "Namespace": NAMESPACE, "Dimensions": [[FUNCTION]], "Metrics": metrics }])
        };

        let mut line = Map::new();
        let aws = json!({ "Timestamp": timestamp_ms, "CloudWatchMetrics": directives });
        line.insert("_aws".to_owned(), aws);
        line.insert(FUNCTION.to_owned(), function.into());
        let mut by_label = Map::new();
        for (name, series) in series {
            if !series.by_label.is_empty() {
                by_label.insert(name.clone(), series.by_label.into());
            }
            line.insert(name, series.total.unwrap_or_default());
        }
        if !by_label.is_empty() {
            line.insert("by_label".to_owned(), by_label.into());
        }
        Some(Value::Object(line).to_string())
    }
}

impl State {
    /// Returns a metric's definition in a directive.
    fn definition(&self, name: &str) -> Value {
        match self.units.get(name) {
            Some(unit) => json!({ "Name": name, "Unit": cloudwatch_unit(*unit) }),
            None => json!({ "Name": name }),
        }
    }

    /// Takes the values of all metrics that have any, by name.
    fn take_series(&self) -> BTreeMap<String, Series> {
        let mut all: BTreeMap<String, Series> = BTreeMap::new();

        for (key, counter) in &self.counters {
            let count = counter.swap(0, Ordering::AcqRel);
            if count > 0 {
                let series = all.entry(key.name().to_owned()).or_default();
                let before = series.total.as_ref().and_then(Value::as_u64).unwrap_or(0);
                series.total = Some((before + count).into());
                series.note(key, count.into());
            }
        }

        for (key, gauge) in &self.gauges {
            let value = f64::from_bits(gauge.load(Ordering::Acquire));
            let series = all.entry(key.name().to_owned()).or_default();
            let before = series.total.as_ref().and_then(Value::as_f64).unwrap_or(0.0);
            series.total = Some((before + value).into());
            series.note(key, value.into());
        }

        for (key, sample) in &self.histograms {
            let values = std::mem::take(&mut *lock(&sample.values));
            if values.recorded == 0 {
                continue;
            }
            let series = all.entry(key.name().to_owned()).or_default();
            let before = series.total.take();
            let mut kept = values.kept;
            series.note(key, values.recorded.into());
            if let Some(Value::Array(before)) = before {
                kept.extend(before.iter().filter_map(Value::as_f64));
            }
            series.total = Some(thinned(kept).into());
        }
        all
    }
}

impl Series {
    /// Notes the value of one combination of labels: of a histogram, the number of its values.
    fn note(&mut self, key: &Key, value: Value) {
        let mut labels = String::new();
        for label in key.labels() {
            let separator = if labels.is_empty() { "" } else { "," };
            // Writing to a string does not fail.
            let _ = write!(labels, "{separator}{}={}", label.key(), label.value());
        }
        if !labels.is_empty() {
            self.by_label.insert(labels, value);
        }
    }
}

/// Returns at most [`VALUES_MAX`] of the values. The smallest, the largest and those at equal ranks
/// between them remain, so that percentiles change little.
fn thinned(mut values: Vec<f64>) -> Vec<f64> {
    if values.len() <= VALUES_MAX {
        return values;
    }
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    (0..VALUES_MAX).map(|rank| values[rank * last / (VALUES_MAX - 1)]).collect()
}

/// Returns CloudWatch's name of a unit.
fn cloudwatch_unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "Count",
        Unit::Percent => "Percent",
        Unit::Seconds => "Seconds",
        Unit::Milliseconds => "Milliseconds",
        Unit::Microseconds => "Microseconds",
        // CloudWatch knows neither nanoseconds nor powers of 1,024.
        Unit::Nanoseconds
        | Unit::Tebibytes
        | Unit::Gibibytes
        | Unit::Mebibytes
        | Unit::Kibibytes => "None",
        Unit::Bytes => "Bytes",
        Unit::TerabitsPerSecond => "Terabits/Second",
        Unit::GigabitsPerSecond => "Gigabits/Second",
        Unit::MegabitsPerSecond => "Megabits/Second",
        Unit::KilobitsPerSecond => "Kilobits/Second",
        Unit::BitsPerSecond => "Bits/Second",
        Unit::CountPerSecond => "Count/Second",
    }
}

impl Recorder for EmfRecorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(name, unit);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(name, unit);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(name, unit);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::clone(lock(&self.state).counters.entry(key.clone()).or_default()))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::clone(lock(&self.state).gauges.entry(key.clone()).or_default()))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::clone(
            lock(&self.state).histograms.entry(key.clone()).or_default(),
        ))
    }
}

impl EmfRecorder {
    fn describe(&self, name: KeyName, unit: Option<Unit>) {
        if let Some(unit) = unit {
            lock(&self.state).units.insert(name, unit);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Metrics of a caller that panicked are as good as any.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
