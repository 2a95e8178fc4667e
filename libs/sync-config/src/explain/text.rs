//! Descriptions as text for people.

use std::fmt::{Display, Formatter, Result};

use super::{
    AccessPathExplanation, Explanation, FamilyExplanation, NotExistsExplanation, RowsExplanation,
    StepExplanation, StreamExplanation, TableExplanation,
};

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for stream in &self.streams {
            writeln!(f, "{stream}")?;
        }
        self.tables.iter().try_for_each(|table| writeln!(f, "{table}"))
    }
}

impl Display for StreamExplanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let kind = if self.is_bucket_definition { "bucket definition" } else { "stream" };
        let subscribed = match (self.is_bucket_definition, self.auto_subscribe) {
            (true, _) => "",
            (false, true) => "subscribed by default, ",
            (false, false) => "subscribed by the app, ",
        };
        writeln!(f, "{kind} {}  ({subscribed}priority {})", self.name, self.priority)?;
        for family in &self.families {
            write_family(f, self, family)?;
        }
        Ok(())
    }
}

impl Display for TableExplanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let families = if self.families == 1 { "family" } else { "families" };
        let lookups = if self.lookups == 1 { "lookup" } else { "lookups" };
        write!(
            f,
            "table {}: a change of a row writes up to {} bucket {families} and {} {lookups}; reads {}",
            self.table,
            self.families,
            self.lookups,
            columns_text(&self.reads, "no column"),
        )
    }
}

fn columns_text(columns: &[String], none: &str) -> String {
    match columns {
        [] => none.to_owned(),
        [all] if all == "*" => "all columns".to_owned(),
        _ => columns.join(", "),
    }
}

fn write_family(
    f: &mut Formatter<'_>,
    stream: &StreamExplanation,
    family: &FamilyExplanation,
) -> Result {
    writeln!(f, "  family {}", family.name)?;
    for rows in &family.rows {
        write_rows(f, rows)?;
    }
    if family.found_by.is_empty() {
        writeln!(f, "    found by: no request")?;
    }

    for (place, path) in family.found_by.iter().enumerate() {
        let by = if place == 0 { "found by" } else { "or by" };
        let priority = if path.priority == stream.priority {
            String::new()
        } else {
            format!("  (priority {})", path.priority)
        };
        write_access_path(f, path, &format!("    {by}{priority}:"))?;
    }

    Ok(())
}

fn write_rows(f: &mut Formatter<'_>, rows: &RowsExplanation) -> Result {
    let columns = columns_text(&rows.columns, "no column");
    let but = if rows.without_underscore { " but those that begin with _" } else { "" };
    writeln!(f, "    rows: {} as {}, {columns}{but}", rows.table, rows.output_table)?;
    for array in &rows.arrays {
        writeln!(f, "      for each of {array}")?;
    }
    if !rows.conditions.is_empty() {
        writeln!(f, "      where {}", rows.conditions.join(" AND "))?;
    }
    if !rows.keys.is_empty() {
        writeln!(f, "      by {}", rows.keys.join(", "))?;
    }
    Ok(())
}

fn write_access_path(f: &mut Formatter<'_>, path: &AccessPathExplanation, title: &str) -> Result {
    if path.steps.is_empty() && path.conditions.is_empty() {
        writeln!(f, "{title} every request")?;
    } else {
        writeln!(f, "{title}")?;
    }

    write_steps(f, "      ", &path.conditions, &path.steps)?;
    write_not_exists(f, "      ", &path.absent)?;
    let is_one = path.steps.iter().all(|step| match step {
        StepExplanation::Value { .. } | StepExplanation::Equal { .. } => true,
        StepExplanation::Elements { .. } | StepExplanation::Lookup { .. } => false,
    });

    match (path.parameters.as_slice(), is_one) {
        ([], _) => writeln!(f, "    buckets: one for all"),
        (parameters, true) => writeln!(f, "    buckets: one, of {}", parameters.join(", ")),
        ([one], false) => writeln!(f, "    buckets: one for each {one}"),
        (several, false) => writeln!(f, "    buckets: one for each ({})", several.join(", ")),
    }
}

fn write_steps(
    f: &mut Formatter<'_>,
    indent: &str,
    conditions: &[String],
    steps: &[StepExplanation],
) -> Result {
    if !conditions.is_empty() {
        writeln!(f, "{indent}only if {}", conditions.join(" AND "))?;
    }
    for (place, step) in steps.iter().enumerate() {
        writeln!(f, "{indent}{}. {}", place + 1, step_text(step))?;
    }
    Ok(())
}

fn write_not_exists(
    f: &mut Formatter<'_>,
    indent: &str,
    absent: &[NotExistsExplanation],
) -> Result {
    for part in absent {
        let always =
            if part.steps.is_empty() && part.conditions.is_empty() { " always" } else { "" };
        writeln!(f, "{indent}but not if there is:{always}")?;
        let deeper = format!("{indent}  ");
        write_steps(f, &deeper, &part.conditions, &part.steps)?;
        write_not_exists(f, &deeper, &part.absent)?;
    }
    Ok(())
}

fn step_text(step: &StepExplanation) -> String {
    match step {
        StepExplanation::Value { value } => value.clone(),

        StepExplanation::Elements { array, conditions, gives } => {
            let mut text = format!("each of {array}");
            if !conditions.is_empty() {
                text.push_str(&format!(" where {}", conditions.join(" AND ")));
            }
            text + &gives_text(gives)
        }

        StepExplanation::Lookup { table, alias, arrays, keys, conditions, gives, .. } => {
            let mut text = table.clone();
            if !table.ends_with(&format!(".{alias}")) {
                text.push_str(&format!(" as {alias}"));
            }
            for array in arrays {
                text.push_str(&format!(", {array}"));
            }

            let keys = keys.iter().map(|key| format!("{} = {}", key.row, key.value));
            let all: Vec<String> = keys.chain(conditions.iter().cloned()).collect();
            if !all.is_empty() {
                text.push_str(&format!(" where {}", all.join(" AND ")));
            }
            text + &gives_text(gives)
        }

        StepExplanation::Equal { left, right } => format!("only where {left} = {right}"),
    }
}

fn gives_text(gives: &[String]) -> String {
    match gives {
        [] => "  if there is one".to_owned(),
        [_, ..] => format!("  gives {}", gives.join(", ")),
    }
}
