use metrics::{
    counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
    with_local_recorder,
};

use super::*;

/// The units that CloudWatch accepts (`MetricDatum`).
const UNITS: [&str; 27] = [
    "Seconds",
    "Microseconds",
    "Milliseconds",
    "Bytes",
    "Kilobytes",
    "Megabytes",
    "Gigabytes",
    "Terabytes",
    "Bits",
    "Kilobits",
    "Megabits",
    "Gigabits",
    "Terabits",
    "Percent",
    "Count",
    "Bytes/Second",
    "Kilobytes/Second",
    "Megabytes/Second",
    "Gigabytes/Second",
    "Terabytes/Second",
    "Bits/Second",
    "Kilobits/Second",
    "Megabits/Second",
    "Gigabits/Second",
    "Terabits/Second",
    "Count/Second",
    "None",
];

/// Records by `record`, and returns the line, which is checked against the specification.
fn line_of(recorder: &EmfRecorder, record: impl FnOnce()) -> Value {
    with_local_recorder(recorder, record);
    let line = recorder.take_line("sync-api", 1_800_000_000_000).unwrap();
    assert!(!line.contains('\n'), "one line");
    let line: Value = serde_json::from_str(&line).unwrap();
    check_specification(&line);
    line
}

/// The rules of the embedded metric format that a consumer relies on.
fn check_specification(line: &Value) {
    let aws = line["_aws"].as_object().unwrap();
    assert!(aws["Timestamp"].is_u64(), "milliseconds since 1970");
    let directives = aws["CloudWatchMetrics"].as_array().unwrap();
    for directive in directives {
        let namespace = directive["Namespace"].as_str().unwrap();
        assert!((1..=1024).contains(&namespace.len()));

        let sets = directive["Dimensions"].as_array().unwrap();
        assert!(!sets.is_empty());
        for set in sets {
            let set = set.as_array().unwrap();
            assert!(set.len() <= 30);
            for dimension in set {
                let value = line[dimension.as_str().unwrap()].as_str().unwrap();
                assert!((1..=1024).contains(&value.len()), "a dimension's target is a string");
            }
        }

        let metrics = directive["Metrics"].as_array().unwrap();
        assert!((1..=100).contains(&metrics.len()));
        for metric in metrics {
            let name = metric["Name"].as_str().unwrap();
            assert!((1..=1024).contains(&name.len()));
            if let Some(unit) = metric.get("Unit") {
                assert!(UNITS.contains(&unit.as_str().unwrap()), "{unit}");
            }
            let target = &line[name];
            if let Some(values) = target.as_array() {
                assert!((1..=100).contains(&values.len()));
                assert!(values.iter().all(Value::is_number));
            } else {
                assert!(target.is_number(), "{name}: {target}");
            }
        }
    }
}

fn metric<'a>(line: &'a Value, name: &str) -> Option<&'a Value> {
    let metrics = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap();
    metrics.iter().find(|metric| metric["Name"] == name)
}

#[test]
fn a_line_has_namespace_dimension_units_and_values() {
    let recorder = EmfRecorder::default();
    let line = line_of(&recorder, || {
        describe_counter!("tidewater_api_sent_bytes_total", Unit::Bytes, "sent");
        describe_gauge!("tidewater_builder_buckets_due", Unit::Count, "due");
        describe_histogram!("tidewater_api_request_duration_seconds", Unit::Seconds, "duration");
        counter!("tidewater_api_sent_bytes_total").increment(10);
        counter!("tidewater_api_sent_bytes_total").increment(5);
        gauge!("tidewater_builder_buckets_due").set(2.0);
        histogram!("tidewater_api_request_duration_seconds").record(0.25);
        histogram!("tidewater_api_request_duration_seconds").record(1.5);
    });
    let directive = &line["_aws"]["CloudWatchMetrics"][0];
    assert_eq!(directive["Namespace"], "Tidewater");
    assert_eq!(directive["Dimensions"], json!([["function"]]));
    assert_eq!(line["function"], "sync-api");
    assert_eq!(line["_aws"]["Timestamp"], 1_800_000_000_000_u64);

    assert_eq!(metric(&line, "tidewater_api_sent_bytes_total").unwrap()["Unit"], "Bytes");
    assert_eq!(line["tidewater_api_sent_bytes_total"], 15);
    assert_eq!(metric(&line, "tidewater_builder_buckets_due").unwrap()["Unit"], "Count");
    assert_eq!(line["tidewater_builder_buckets_due"], 2.0);
    assert_eq!(metric(&line, "tidewater_api_request_duration_seconds").unwrap()["Unit"], "Seconds");
    assert_eq!(line["tidewater_api_request_duration_seconds"], json!([0.25, 1.5]));
}

#[test]
fn labels_are_summed_up_and_kept_beside() {
    let recorder = EmfRecorder::default();
    let line = line_of(&recorder, || {
        counter!("calls", "kind" => "read", "result" => "ok").increment(3);
        counter!("calls", "kind" => "write", "result" => "failed").increment(1);
        histogram!("seconds", "kind" => "read").record(1.0);
        histogram!("seconds", "kind" => "write").record(2.0);
    });
    assert_eq!(line["calls"], 4);

    let by_label = json!({ "kind=read,result=ok": 3, "kind=write,result=failed": 1 });
    assert_eq!(line["by_label"]["calls"], by_label);

    let mut seconds: Vec<_> =
        line["seconds"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
    seconds.sort_by(f64::total_cmp);
    assert_eq!(seconds, [1.0, 2.0]);
    assert_eq!(line["by_label"]["seconds"], json!({ "kind=read": 1, "kind=write": 1 }));
}

#[test]
fn each_line_has_what_was_recorded_since_the_one_before() {
    let recorder = EmfRecorder::default();
    assert_eq!(recorder.take_line("f", 1), None, "nothing was recorded");
    let line = line_of(&recorder, || counter!("calls").increment(3));
    assert_eq!(line["calls"], 3);
    assert_eq!(recorder.take_line("f", 1), None);
    let line = line_of(&recorder, || counter!("calls").increment(2));
    assert_eq!(line["calls"], 2);
}

#[test]
fn a_thousand_values_become_a_sample_of_a_hundred() {
    let recorder = EmfRecorder::default();
    let line = line_of(&recorder, || {
        for kind in ["read", "write"] {
            let histogram = histogram!("seconds", "kind" => kind);
            (0..1_000).for_each(|value| histogram.record(f64::from(value)));
        }
    });
    let values: Vec<_> =
        line["seconds"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
    assert_eq!(values.len(), 100);

    let mean = values.iter().sum::<f64>() / 100.0;
    assert!((400.0..600.0).contains(&mean), "{mean}");
    assert_eq!(line["by_label"]["seconds"]["kind=read"], 1_000, "the true number is not lost");
}

#[test]
fn only_published_metrics_become_metrics_of_cloudwatch() {
    let recorder = EmfRecorder::default();
    let line = line_of(&recorder, || {
        counter!("tidewater_api_requests_total").increment(1);
        counter!("calls").increment(7);
    });
    assert!(metric(&line, "tidewater_api_requests_total").is_some());
    assert!(metric(&line, "calls").is_none());
    assert_eq!(line["calls"], 7, "the log has it");

    let line = line_of(&recorder, || counter!("calls").increment(1));
    assert_eq!(line["_aws"]["CloudWatchMetrics"], json!([]));
}

#[test]
fn every_unit_is_one_that_cloudwatch_accepts() {
    for unit in [
        Unit::Count,
        Unit::Percent,
        Unit::Seconds,
        Unit::Milliseconds,
        Unit::Microseconds,
        Unit::Nanoseconds,
        Unit::Tebibytes,
        Unit::Gibibytes,
        Unit::Mebibytes,
        Unit::Kibibytes,
        Unit::Bytes,
        Unit::TerabitsPerSecond,
        Unit::GigabitsPerSecond,
        Unit::MegabitsPerSecond,
        Unit::KilobitsPerSecond,
        Unit::BitsPerSecond,
        Unit::CountPerSecond,
    ] {
        assert!(UNITS.contains(&cloudwatch_unit(unit)), "{unit:?}");
    }
}
