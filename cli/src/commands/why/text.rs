//! The chain of a row as text of at most 80 columns where names and values permit.

use tidewater_ingest_worker::{
    ConditionReport, DefinitionReport, Link, LinkName, LinkState, LookupReport, WhyReport,
};

use crate::terminal::labelled::{push, push_line};

/// Characters of a value or name that are shown.
const VALUE_CHARS_MAX: usize = 400;
/// Buckets, lookups and answers that are listed.
const LISTED_MAX: usize = 20;

/// Returns the text.
pub(super) fn render(report: &WhyReport) -> String {
    let mut out = String::new();
    push(&mut out, "row", &shown(&format!("{} {}", report.table, report.id)));
    push(&mut out, "user", &shown(&report.user_id));
    let verdict = match &report.first_failure {
        Some(link) => format!("does not arrive: {}", name(link.link)),
        None if report.links.iter().any(|link| link.state == LinkState::Unknown) => {
            "no link fails, and some are not known".to_owned()
        }
        None => "arrives".to_owned(),
    };
    push(&mut out, "result", &verdict);
    if let Some(fix) = report.first_failure.as_ref().and_then(|link| link.fix.as_ref()) {
        push(&mut out, "to do", &shown(fix));
    }

    push_line(&mut out, "");
    for link in &report.links {
        push_link(&mut out, link);
    }
    push_definitions(&mut out, &report.definitions);
    push_user(&mut out, report);
    out
}

fn name(link: LinkName) -> &'static str {
    match link {
        LinkName::Publication => "publication",
        LinkName::Config => "config",
        LinkName::Source => "source",
        LinkName::Copy => "copy",
        LinkName::Definition => "definition",
        LinkName::Store => "store",
        LinkName::Checkpoint => "checkpoint",
        LinkName::User => "user",
        LinkName::Client => "client",
    }
}

fn push_link(out: &mut String, link: &Link) {
    let state = match link.state {
        LinkState::Holds => "ok",
        LinkState::Fails => "FAILS",
        LinkState::Unknown => "?",
    };
    push(out, name(link.link), &format!("{state:<6}{}", shown(&link.text)));
}

fn push_definitions(out: &mut String, definitions: &[DefinitionReport]) {
    for definition in definitions.iter().take(LISTED_MAX) {
        push_line(out, "");
        push_line(out, &format!("{}, query {}", definition.definition, definition.query));
        for condition in &definition.conditions {
            push_line(out, &condition_text(condition));
        }
        for missing in &definition.missing_parameters {
            push_line(out, &format!("  FAILS  {missing} is NULL or bytes, which equal nothing"));
        }
        if let Some(error) = &definition.error {
            push_line(out, &format!("  FAILS  {error}"));
        }
        for bucket in definition.buckets.iter().take(LISTED_MAX) {
            push_line(out, &format!("  gives  {}", shown(bucket)));
        }
    }
}

fn condition_text(condition: &ConditionReport) -> String {
    let state = if condition.holds { "ok" } else { "FAILS" };
    let values: Vec<_> = condition
        .columns
        .iter()
        .map(|(column, value)| shown(&format!("{column} = {value}")))
        .collect();
    let outcome = &condition.outcome;
    format!("  {state:<7}{} is {outcome} ({})", condition.sql, values.join(", "))
}

fn push_user(out: &mut String, report: &WhyReport) {
    push_line(out, "");
    push_line(out, &format!("buckets of {}", shown(&report.user_id)));
    for lookup in report.user.lookups.iter().take(LISTED_MAX) {
        push_line(out, &lookup_text(lookup));
    }
    for bucket in report.user.buckets.iter().take(LISTED_MAX) {
        push_line(out, &format!("  {}", shown(bucket)));
    }
    let more = report.user.buckets.len().saturating_sub(LISTED_MAX);
    if more > 0 {
        push_line(out, &format!("  and {more} more"));
    }
    if report.user.buckets.is_empty() {
        push_line(out, "  none");
    }
    for error in &report.user.errors {
        push_line(out, &format!("  error: {}", shown(error)));
    }
}

fn lookup_text(lookup: &LookupReport) -> String {
    let outputs: Vec<_> = lookup.outputs.iter().take(LISTED_MAX).map(|one| shown(one)).collect();
    let answer = if outputs.is_empty() { "nothing".to_owned() } else { outputs.join(", ") };
    format!("  lookup in {} by {} gives {answer}", lookup.table, shown(&lookup.key))
}

/// Shortens a text with values of rows. Control characters are replaced: they must not reach the terminal as
/// commands.
fn shown(text: &str) -> String {
    let mut chars = text.chars().map(|char| if char.is_control() { '?' } else { char });
    let mut shown: String = chars.by_ref().take(VALUE_CHARS_MAX).collect();
    if chars.next().is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_do_not_reach_the_terminal_as_commands_and_are_cut() {
        assert_eq!(shown("a\u{1b}[2Jb\n"), "a?[2Jb?");
        assert_eq!(shown(&"x".repeat(500)).len(), VALUE_CHARS_MAX + 3);
    }
}
