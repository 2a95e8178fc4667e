use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use super::*;

const PAGE: &str = include_str!("../../../../docs/metrics.md");
const OPERATIONS: &str = include_str!("../../../../docs/operations.md");
const ALERTS: &str = include_str!("../../../../infra/monitoring/alerts.yaml");
const DASHBOARD: &str = include_str!("../../../../infra/monitoring/grafana-dashboard.json");
/// Alarms and dashboard of CloudWatch.
const CLOUDWATCH: &str = include_str!("../../../../infra/template/60-monitoring.yaml");

/// Type and unit of each metric, by name.
type Described = BTreeMap<String, (String, String)>;

/// A recorder that only notes what is described.
#[derive(Clone, Default)]
struct Descriptions(Arc<Mutex<Described>>);

impl Descriptions {
    fn note(&self, kind: &str, name: &KeyName, unit: Option<Unit>) {
        let unit = match unit {
            None | Some(Unit::Count) => "count",
            Some(unit) => unit.as_str(),
        };
        let entry = (kind.to_owned(), unit.to_owned());
        let former = self.0.lock().unwrap().insert(name.as_str().to_owned(), entry);
        assert_eq!(former, None, "{} is described twice", name.as_str());
    }
}

impl Recorder for Descriptions {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.note("counter", &name, unit);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.note("gauge", &name, unit);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.note("histogram", &name, unit);
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Reads the table rows of the page: `| name | type | unit | ... |`.
fn documented() -> Described {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `tidewater_"));
    let mut documented = Described::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let entry = (cells[2].to_owned(), cells[3].to_owned());
        let former = documented.insert(cells[1].to_owned(), entry);
        assert_eq!(former, None, "{} is documented twice", cells[1]);
    }
    documented
}

// Without the feature `aws`, the page has metrics that the program does not.
#[cfg(feature = "aws")]
#[test]
fn the_page_documents_exactly_the_metrics_that_the_crates_describe() {
    let descriptions = Descriptions::default();
    metrics::with_local_recorder(&descriptions, describe_all);
    let described = descriptions.0.lock().unwrap().clone();
    let documented = documented();

    for (name, entry) in &described {
        assert_eq!(documented.get(name), Some(entry), "{name} in docs/metrics.md");
    }
    for name in documented.keys() {
        assert!(described.contains_key(name), "docs/metrics.md has {name}, no crate describes it");
    }
    assert!(!described.is_empty());
}

/// Returns the names of metrics in a text. Prometheus makes three series of a histogram.
fn metric_names(text: &str) -> Vec<&str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("tidewater_"))
        .map(|word| {
            let series = ["_bucket", "_sum", "_count"];
            series.iter().find_map(|suffix| word.strip_suffix(suffix)).unwrap_or(word)
        })
        .collect()
}

#[test]
fn dashboard_and_alerts_use_documented_metrics_only() {
    let documented = documented();
    for (file, text) in [
        ("alerts.yaml", ALERTS),
        ("grafana-dashboard.json", DASHBOARD),
        ("60-monitoring.yaml", CLOUDWATCH),
    ] {
        let names = metric_names(text);
        assert!(names.len() > 10, "{file}: {names:?}");
        for name in names {
            assert!(
                documented.contains_key(name),
                "{file} uses {name}, which docs/metrics.md lacks"
            );
        }
    }
}

#[test]
fn each_alert_is_explained_in_the_operations_page() {
    let alerts: Vec<_> =
        ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let alarms: Vec<_> = cloudwatch_alarms();
    assert!(alerts.len() > 10 && alarms.len() > 10, "{alerts:?} {alarms:?}");
    for alert in alerts.into_iter().chain(alarms) {
        assert!(OPERATIONS.contains(&format!("| `{alert}` |")), "docs/operations.md lacks {alert}");
    }
}

/// Returns the logical names of CloudWatch's alarms.
fn cloudwatch_alarms() -> Vec<&'static str> {
    let lines = CLOUDWATCH.lines().zip(CLOUDWATCH.lines().skip(1));
    lines
        .filter(|(_, kind)| kind.trim() == "Type: AWS::CloudWatch::Alarm")
        .map(|(name, _)| name.trim().trim_end_matches(':'))
        .collect()
}

/// Each metric of CloudWatch costs money, so the two lists are equal.
#[cfg(feature = "aws")]
#[test]
fn cloudwatch_gets_exactly_the_metrics_of_its_alarms_and_dashboard() {
    let used: std::collections::BTreeSet<_> = metric_names(CLOUDWATCH).into_iter().collect();
    let published = std::collections::BTreeSet::from(tidewater_cloudwatch::PUBLISHED);
    assert_eq!(used, published);
}

#[test]
fn the_page_names_the_default_port_of_each_command() {
    for (command, port) in [
        ("dev", DEV_PORT),
        ("ingest", INGEST_PORT),
        ("serve", SERVE_PORT),
        ("compact", COMPACT_PORT),
    ] {
        let row = format!("| `tidewater {command}` | {port} |");
        assert!(PAGE.contains(&row), "docs/metrics.md lacks: {row}");
    }
}

#[test]
fn the_address_is_a_port_an_address_or_off() {
    assert_eq!("off".parse(), Ok(MetricsListen::Off));

    for (text, address) in [
        ("9461", "127.0.0.1:9461"),
        ("0", "127.0.0.1:0"),
        ("0.0.0.0:80", "0.0.0.0:80"),
        ("[::1]:80", "[::1]:80"),
    ] {
        assert_eq!(text.parse(), Ok(MetricsListen::At(address.to_owned())));
    }

    for bad in ["", "on", ":9461", "127.0.0.1", "127.0.0.1:", "70000", "-1"] {
        assert!(bad.parse::<MetricsListen>().is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_port_that_is_in_use_is_an_error_only_if_it_was_asked_for() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();

    let by_default = MetricsArgs::default();
    let _running = by_default.start(port).await.unwrap();

    let metrics_listen = Some(port.to_string().parse().unwrap());
    let asked_for = MetricsArgs { metrics_listen, ..MetricsArgs::default() };
    let Err(Failure::Failed(error)) = asked_for.start(DEV_PORT).await else {
        panic!("the port is in use")
    };
    assert!(error.to_string().contains("cannot serve metrics on"), "{error}");
}
