//! The result of a comparison as text and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};
use tidewater_ingest_worker::{
    ChangedColumn, Difference, DifferenceKind, DifferencePlace, VerifyReport,
};

use crate::terminal::format::counted;

/// Characters of a value that the text shows. The JSON has all.
const SHOWN_CHARS_MAX: usize = 120;

/// Returns the result for people.
pub(super) fn text(report: &VerifyReport, limit: usize) -> String {
    let mut out = String::new();
    for one in &report.damaged {
        push_line(&mut out, &format!("damaged  {}: {}", one.bucket, one.problem));
    }
    for difference in report.differences.iter().take(limit) {
        push_difference(&mut out, kind_name(difference.kind()), difference);
    }
    let listed = report.differences.len().min(limit);
    for difference in report.undecided.iter().take(limit - listed) {
        push_difference(&mut out, "undecided", difference);
    }

    for one in &report.repaired {
        let how = if one.replaced_rows { "all rows" } else { "by difference" };
        push_line(&mut out, &format!("copied again  {} ({how})", one.name));
    }
    let tables: u64 = report.tables.iter().map(|table| table.rows).sum();
    let verdict = match report.is_equal() {
        true => "equal".to_owned(),
        false => format!("not equal: {}", problems(report)),
    };
    push_line(&mut out, &verdict);
    push_line(
        &mut out,
        &format!(
            "compared at {}: {tables} source rows in {}, {} rows in {} buckets, {} lookup answers",
            report.position,
            counted(report.tables.len(), "table"),
            report.rows,
            report.buckets,
            report.answers,
        ),
    );
    let unsynced: u64 = report.tables.iter().map(|table| table.unsynced).sum();
    if unsynced > 0 {
        let line = format!("{unsynced} source rows are not synced, as their log lines say");
        push_line(&mut out, &line);
    }
    out
}

/// Returns what is not equal.
fn problems(report: &VerifyReport) -> String {
    let undecided = report.undecided.len();
    let mut problems = Vec::new();

    if !report.differences.is_empty() {
        problems.push(counted(report.differences.len(), "difference"));
    }
    if report.unlisted > 0 {
        problems.push(format!("{} more that were seen once", report.unlisted));
    }
    if undecided > 0 {
        problems
            .push(format!("{undecided} undecided (changed too often, or a transaction is open)"));
    }
    if !report.damaged.is_empty() {
        problems.push(counted(report.damaged.len(), "damaged bucket"));
    }
    problems.join(", ")
}

fn push_line(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

fn push_difference(out: &mut String, kind: &str, difference: &Difference) {
    let place = match &difference.place {
        DifferencePlace::Row { bucket, object_type, object_id } => {
            format!("{bucket} {object_type} {object_id:?}")
        }
        DifferencePlace::Answer { lookup } => format!("lookup {lookup}"),
    };
    let mut line = format!("{kind:<9}{place}");
    if let Some(table) = &difference.table {
        // A String takes every write.
        let _ = write!(line, " of {table}");
    }
    if let Some(key) = &difference.key {
        let _ = write!(line, " with key {key:?}");
    }
    push_line(out, &line);

    let columns = difference.changed_columns();
    for ChangedColumn { name, store, source } in &columns {
        let store = shown(store.as_ref());
        let source = shown(source.as_ref());
        push_line(out, &format!("    {name}: store {store}, source {source}"));
    }
    if columns.is_empty() {
        for (side, data) in [("store", &difference.store), ("source", &difference.source)] {
            let data = data.as_deref().map_or_else(|| "nothing".to_owned(), shortened);
            push_line(out, &format!("    {side}: {data}"));
        }
    }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| shortened(&value.to_string()))
}

fn shortened(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() { shown + "..." } else { shown }
}

/// Returns the result for programs.
pub(super) fn json(report: &VerifyReport, limit: usize) -> Value {
    let tables = report
        .tables
        .iter()
        .map(|table| json!({"table": table.name, "rows": table.rows, "unsynced": table.unsynced}));
    let damaged =
        report.damaged.iter().map(|one| json!({"bucket": one.bucket, "problem": one.problem}));
    let repaired =
        report.repaired.iter().map(|one| json!({"table": one.name, "all_rows": one.replaced_rows}));
    let list = |differences: &[Difference]| -> Value {
        differences.iter().take(limit).map(difference_json).collect()
    };

    json!({
        "result": if report.is_equal() { "equal" } else { "different" },
        "lsn": report.position.to_string(),
        "checkpoint": report.checkpoint.to_string(),
        "tables": tables.collect::<Value>(),
        "buckets": report.buckets,
        "rows": report.rows,
        "answers": report.answers,
        "difference_count": report.differences.len(),
        "differences": list(&report.differences),
        "undecided": list(&report.undecided),
        "unlisted_count": report.unlisted,
        "damaged_buckets": damaged.collect::<Value>(),
        "repaired": repaired.collect::<Value>(),
    })
}

fn difference_json(difference: &Difference) -> Value {
    let columns = difference.changed_columns();
    let columns = columns
        .iter()
        .map(|column| json!({"name": column.name, "store": column.store, "source": column.source}));
    let mut object = json!({
        "kind": kind_name(difference.kind()),
        "table": difference.table,
        "key": difference.key,
        "store": data_json(difference.store.as_deref()),
        "source": data_json(difference.source.as_deref()),
        "columns": columns.collect::<Value>(),
    });

    match &difference.place {
        DifferencePlace::Row { bucket, object_type, object_id } => {
            object["bucket"] = json!(bucket);
            object["type"] = json!(object_type);
            object["id"] = json!(object_id);
        }
        DifferencePlace::Answer { lookup } => object["lookup"] = json!(lookup),
    }
    object
}

/// Returns stored JSON as a value, or as a text if it is none.
fn data_json(data: Option<&str>) -> Value {
    data.map_or(Value::Null, |data| serde_json::from_str(data).unwrap_or_else(|_| json!(data)))
}

fn kind_name(kind: DifferenceKind) -> &'static str {
    match kind {
        DifferenceKind::Missing => "missing",
        DifferenceKind::Extra => "extra",
        DifferenceKind::Changed => "changed",
    }
}

#[cfg(test)]
mod tests {
    use tidewater_ingest_worker::DamagedBucket;

    use super::*;

    fn difference(store: Option<&str>, source: Option<&str>) -> Difference {
        Difference {
            place: DifferencePlace::Row {
                bucket: "todos|0.aaaaaa[]".into(),
                object_type: "todos".into(),
                object_id: "t1".into(),
            },
            table: Some("public.todos".into()),
            key: Some("t1".into()),
            store: store.map(str::to_owned),
            source: source.map(str::to_owned),
        }
    }

    fn report() -> VerifyReport {
        VerifyReport {
            differences: vec![
                difference(Some(r#"{"id":"t1","n":1}"#), Some(r#"{"id":"t1","n":2}"#)),
                difference(None, Some(r#"{"id":"t1"}"#)),
            ],
            damaged: vec![DamagedBucket { bucket: "b".into(), problem: "broken".into() }],
            ..VerifyReport::default()
        }
    }

    #[test]
    fn the_text_names_place_row_and_columns() {
        let text = text(&report(), 10);
        let place = "todos|0.aaaaaa[] todos \"t1\" of public.todos with key \"t1\"\n";
        assert!(text.starts_with("damaged  b: broken\n"), "{text}");
        let changed = format!("changed  {place}    n: store 1, source 2\n");
        assert!(text.contains(&changed), "{text}");
        let missing =
            format!("missing  {place}    store: nothing\n    source: {{\"id\":\"t1\"}}\n");
        assert!(text.contains(&missing), "{text}");
        assert!(text.contains("not equal: 2 differences, 1 damaged bucket\n"), "{text}");
    }

    #[test]
    fn the_limit_bounds_what_is_printed_and_not_what_is_counted() {
        let first_only = text(&report(), 1);
        assert!(!first_only.contains("missing") && first_only.contains("2 differences"));
        let json = json(&report(), 1);
        assert_eq!(json["differences"].as_array().map(Vec::len), Some(1));
        assert_eq!((&json["difference_count"], &json["result"]), (&json!(2), &json!("different")));
        assert_eq!(
            json["differences"][0]["columns"],
            json!([{"name": "n", "store": 1, "source": 2}])
        );
    }

    #[test]
    fn an_empty_report_is_equal() {
        let report = VerifyReport::default();
        assert!(text(&report, 9).starts_with("equal\ncompared at 0/0: "), "{}", text(&report, 9));
        assert_eq!(json(&report, 9)["result"], json!("equal"));
    }

    #[test]
    fn long_values_are_cut_in_the_text() {
        assert_eq!(shortened(&"ö".repeat(121)), "ö".repeat(120) + "...");
        assert_eq!(shortened(&"ö".repeat(120)), "ö".repeat(120));
    }
}
