//! The report of `tidewater queue list`.

use std::fmt::Write;

use serde_json::{Value, json};
use tidewater_client::{LocalOp, LocalOperation, LocalTransaction, RejectedUpload};

use crate::terminal::format::counted;

/// Formats the transactions for people: which rows and columns, without the values.
pub(super) fn text(waiting: &[LocalTransaction], rejected: &[RejectedUpload]) -> String {
    let mut text = heading("waiting", waiting.len());
    for transaction in waiting {
        push(&mut text, transaction);
    }

    text.push_str(&heading("rejected", rejected.len()));
    for RejectedUpload { transaction, reason, .. } in rejected {
        push(&mut text, transaction);
        line(&mut text, format_args!("    because: {}", reason.escape_debug()));
    }
    text
}

fn heading(state: &str, count: usize) -> String {
    format!(
        "{state}: {}\n",
        if count == 0 { "none".to_owned() } else { counted(count, "transaction") }
    )
}

fn push(text: &mut String, transaction: &LocalTransaction) {
    let LocalTransaction { user_id, transaction_id, operations, .. } = transaction;
    let user = user_id.as_ref().map(|user| format!(" of user {user:?}")).unwrap_or_default();
    line(text, format_args!("  {transaction_id}{user}"));

    for LocalOperation { op, table, id, data } in operations {
        let columns: Vec<_> = data.keys().map(String::as_str).collect();
        let columns =
            if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
        line(text, format_args!("    {} {table} {id:?}{columns}", name(*op)));
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes every write");
}

fn name(op: LocalOp) -> &'static str {
    match op {
        LocalOp::Put => "PUT",
        LocalOp::Patch => "PATCH",
        LocalOp::Delete => "DELETE",
    }
}

/// Formats the transactions as one JSON object, with all values.
pub(super) fn json(waiting: &[LocalTransaction], rejected: &[RejectedUpload]) -> String {
    let waiting: Vec<_> = waiting.iter().map(transaction_json).collect();
    let rejected: Vec<_> = rejected.iter().map(rejected_json).collect();
    format!("{}\n", json!({ "waiting": waiting, "rejected": rejected }))
}

fn transaction_json(transaction: &LocalTransaction) -> Value {
    let LocalTransaction { client_id, user_id, transaction_id, operations } = transaction;
    json!({
        "transaction_id": transaction_id,
        "client_id": client_id,
        "user_id": user_id,
        "operations": operations,
    })
}

fn rejected_json(upload: &RejectedUpload) -> Value {
    let RejectedUpload { transaction, reason, body, at_ms } = upload;
    let mut object = transaction_json(transaction);
    object["reason"] = json!(reason);
    object["body"] = json!(body);
    object["at_ms"] = json!(at_ms);
    object
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    fn transaction(number: i64, op: LocalOp, data: Value) -> LocalTransaction {
        let data = data.as_object().cloned().unwrap_or_else(Map::new);
        let operation = LocalOperation { op, table: "lists".into(), id: "l\n1".into(), data };
        LocalTransaction {
            client_id: "c".into(),
            user_id: Some("u1".into()),
            transaction_id: number,
            operations: vec![operation],
        }
    }

    fn rejected() -> RejectedUpload {
        RejectedUpload {
            transaction: transaction(3, LocalOp::Delete, Value::Null),
            reason: "not\x1byours".into(),
            body: None,
            at_ms: 5,
        }
    }

    #[test]
    fn the_text_names_rows_and_columns_without_control_characters() {
        let waiting = transaction(4, LocalOp::Put, json!({"name": "secret"}));
        let expected = "waiting: 1 transaction\n  4 of user \"u1\"\n    PUT lists \"l\\n1\" (name)\n\
                        rejected: 1 transaction\n  3 of user \"u1\"\n    DELETE lists \"l\\n1\"\n    \
                        because: not\\u{1b}yours\n";
        assert_eq!(text(&[waiting], &[rejected()]), expected);
        assert_eq!(text(&[], &[]), "waiting: none\nrejected: none\n");
    }

    #[test]
    fn the_json_has_the_values() {
        let waiting = transaction(4, LocalOp::Patch, json!({"name": null}));
        let object: Value = serde_json::from_str(&json(&[waiting], &[rejected()])).unwrap();
        assert_eq!(object["waiting"][0]["operations"][0]["data"], json!({"name": null}));
        let rejected = &object["rejected"][0];
        assert_eq!(
            (&rejected["reason"], &rejected["user_id"]),
            (&json!("not\x1byours"), &json!("u1"))
        );
    }
}
