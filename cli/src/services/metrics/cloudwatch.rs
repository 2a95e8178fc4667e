//! Metrics in the log, from which CloudWatch reads them.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use tidewater_cloudwatch::EmfRecorder;

use crate::process::clock::unix_time;

/// Interval of the lines: the resolution of CloudWatch's metrics.
const INTERVAL: Duration = Duration::from_secs(60);

/// Writes what was recorded to stdout, each minute and when it is dropped at the end of the process.
pub(super) struct MetricsLog {
    recorder: EmfRecorder,
    name: String,
}

impl MetricsLog {
    /// Begins to write lines. `name` is their dimension.
    pub(super) fn start(recorder: EmfRecorder, name: String) -> Self {
        let periodic = Self { recorder: recorder.clone(), name: name.clone() };
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(INTERVAL);
            loop {
                interval.tick().await;
                periodic.write();
            }
        });
        Self { recorder, name }
    }

    fn write(&self) {
        let now_ms = unix_time().map(|now| now.as_millis()).unwrap_or_default();
        let now_ms = u64::try_from(now_ms).unwrap_or(u64::MAX);
        if let Some(line) = self.recorder.take_line(&self.name, now_ms) {
            // If nobody reads stdout, nobody misses the line.
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        }
    }
}

impl Drop for MetricsLog {
    fn drop(&mut self) {
        self.write();
    }
}

/// A recorder that records everything twice.
pub(super) struct Both<A, B>(pub(super) A, pub(super) B);

impl<A: Recorder, B: Recorder> Recorder for Both<A, B> {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.describe_counter(name.clone(), unit, text.clone());
        self.1.describe_counter(name, unit, text);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.describe_gauge(name.clone(), unit, text.clone());
        self.1.describe_gauge(name, unit, text);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.describe_histogram(name.clone(), unit, text.clone());
        self.1.describe_histogram(name, unit, text);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let [first, second] =
            [self.0.register_counter(key, metadata), self.1.register_counter(key, metadata)];
        Counter::from_arc(Arc::new(Pair(first, second)))
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        let [first, second] =
            [self.0.register_gauge(key, metadata), self.1.register_gauge(key, metadata)];
        Gauge::from_arc(Arc::new(Pair(first, second)))
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let [first, second] =
            [self.0.register_histogram(key, metadata), self.1.register_histogram(key, metadata)];
        Histogram::from_arc(Arc::new(Pair(first, second)))
    }
}

/// The two forms of one metric.
struct Pair<T>(T, T);

impl CounterFn for Pair<Counter> {
    fn increment(&self, value: u64) {
        self.0.increment(value);
        self.1.increment(value);
    }

    fn absolute(&self, value: u64) {
        self.0.absolute(value);
        self.1.absolute(value);
    }
}

impl GaugeFn for Pair<Gauge> {
    fn increment(&self, value: f64) {
        self.0.increment(value);
        self.1.increment(value);
    }

    fn decrement(&self, value: f64) {
        self.0.decrement(value);
        self.1.decrement(value);
    }

    fn set(&self, value: f64) {
        self.0.set(value);
        self.1.set(value);
    }
}

impl HistogramFn for Pair<Histogram> {
    fn record(&self, value: f64) {
        self.0.record(value);
        self.1.record(value);
    }
}

#[cfg(test)]
mod tests {
    use metrics::{counter, gauge, histogram, with_local_recorder};

    use super::*;

    #[test]
    fn both_recorders_get_every_value() {
        let first = EmfRecorder::default();
        let second = EmfRecorder::default();
        with_local_recorder(&Both(first.clone(), second.clone()), || {
            counter!("calls").increment(3);
            gauge!("open").set(5.0);
            gauge!("open").decrement(1.0);
            histogram!("seconds").record(0.5);
        });

        let line = first.take_line("f", 1).unwrap();
        assert!(line.contains("\"calls\":3"), "{line}");
        assert!(line.contains("\"open\":4.0"), "{line}");
        assert!(line.contains("\"seconds\":[0.5]"), "{line}");
        assert_eq!(second.take_line("f", 1), Some(line));
    }
}
