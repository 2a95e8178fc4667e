//! The plan of a deployment as text.

use std::time::Duration;

use tidewater_ingest_worker::{
    DefinitionFate, PlanReport, PlannedDefinition, PlannedTable, TableReason,
};

use crate::terminal::bytes;
use crate::terminal::duration;
use crate::terminal::format::{counted, grouped};
use crate::terminal::labelled::{push, push_line};

/// Width of a name in a list.
const NAME_WIDTH: usize = 30;

/// Returns the text. `seconds` is the time of the copy, where it is known.
pub(super) fn render(report: &PlanReport, seconds: Option<u64>) -> String {
    let mut out = String::new();
    push(&mut out, "result", &verdict(report));
    if report.copies() {
        let meanwhile = if report.is_first {
            "devices get no rows until the copy is complete"
        } else if report.holds_devices {
            "devices stay at their checkpoint until the copy is complete"
        } else {
            "devices follow the config in use until the copy is complete"
        };
        push(&mut out, "meanwhile", meanwhile);
        let time = match seconds {
            Some(seconds) => duration::format(Duration::from_secs(seconds)),
            None => "not known: give --rows-per-second, and ANALYZE tables without an estimate"
                .to_owned(),
        };
        push(&mut out, "copy time", &time);
    }
    push_definitions(&mut out, &report.definitions);
    push_tables(&mut out, &report.tables);
    out
}

fn verdict(report: &PlanReport) -> String {
    let count = counted(report.tables.len(), "table");
    let changes = report.definitions.iter().filter(|one| one.fate != DefinitionFate::Kept).count();
    if report.is_first {
        return format!("first copy of {count}");
    }
    if report.copies_everything {
        return format!(
            "what is stored cannot be continued: {count} copied again, and devices download everything again"
        );
    }
    if report.copies() {
        return format!("{count} copied, {} changed", counted(changes, "definition"));
    }
    if changes > 0 {
        return format!("nothing is copied, {} changed", counted(changes, "definition"));
    }
    if report.is_same_text {
        "this is the config in use".to_owned()
    } else {
        "only the text differs: nothing is copied, and devices download nothing".to_owned()
    }
}

fn push_definitions(out: &mut String, definitions: &[PlannedDefinition]) {
    if definitions.is_empty() {
        return;
    }
    push_line(out, "");
    push_line(out, &format!("{:<NAME_WIDTH$}  fate", "definition"));
    for definition in definitions {
        let mut fate = match definition.fate {
            DefinitionFate::Kept => "kept".to_owned(),
            DefinitionFate::Back => "back: downloaded, not copied".to_owned(),
            DefinitionFate::New => "new: copied and downloaded".to_owned(),
            DefinitionFate::Removed => "removed".to_owned(),
        };
        if let Some(buckets) = definition.buckets {
            let more = if definition.is_complete { "" } else { " or more" };
            let noun = if buckets == 1 { "bucket" } else { "buckets" };
            fate.push_str(&format!(", with {}{more} {noun}", grouped(buckets)));
        }
        push_line(out, &format!("{:<NAME_WIDTH$}  {fate}", definition.name));
    }
}

fn push_tables(out: &mut String, tables: &[PlannedTable]) {
    if tables.is_empty() {
        return;
    }
    push_line(out, "");
    push_line(
        out,
        &format!("{:<NAME_WIDTH$}  {:>12}  {:>9}  why", "table to copy", "rows", "size"),
    );
    for table in tables {
        let rows = table
            .estimated_rows
            .map_or_else(|| "?".to_owned(), |rows| format!("~{}", grouped(rows)));
        let size = table.bytes.map(bytes::format).unwrap_or_default();
        let why = match table.reason {
            TableReason::New if table.definitions.is_empty() => "new".to_owned(),
            TableReason::New => format!("new, for {}", table.definitions.join(", ")),
            TableReason::MoreDefinitions if table.definitions.is_empty() => {
                "for lookups of the new config".to_owned()
            }
            TableReason::MoreDefinitions => format!("for {}", table.definitions.join(", ")),
            TableReason::OverStoredRows => "again: devices receive what differs".to_owned(),
            TableReason::InProgress => "the worker is copying it already".to_owned(),
        };
        push_line(out, &format!("{:<NAME_WIDTH$}  {rows:>12}  {size:>9}  {why}", table.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> PlanReport {
        PlanReport {
            is_same_text: false,
            is_first: false,
            copies_everything: false,
            holds_devices: false,
            definitions: vec![PlannedDefinition {
                name: "own|0".into(),
                fate: DefinitionFate::Kept,
                buckets: None,
                is_complete: true,
            }],
            tables: Vec::new(),
        }
    }

    #[test]
    fn a_text_that_changes_nothing_says_so() {
        assert!(render(&report(), None).starts_with("result      only the text differs"));
        let same = PlanReport { is_same_text: true, ..report() };
        assert!(render(&same, None).starts_with("result      this is the config in use"));
    }

    #[test]
    fn a_table_without_an_estimate_has_no_number() {
        let table = PlannedTable {
            name: "public.todos".into(),
            reason: TableReason::MoreDefinitions,
            estimated_rows: None,
            bytes: Some(8_192),
            definitions: vec!["new|0".into()],
        };
        let text = render(&PlanReport { tables: vec![table], ..report() }, None);
        assert!(text.contains("result      1 table copied, 0 definitions changed"), "{text}");
        assert!(text.contains("?") && text.contains("for new|0"), "{text}");
    }
}
