//! Triggers that capture local writes.
//!
//! They stand in the database file, so that a write is captured whichever connection makes it. Our
//! own apply raises `_tw_state.applying` within its transaction, which no other connection ever
//! sees. The first touch of a row notes what the server's state of it is (`_tw_touched.base`): the
//! next published checkpoint starts from there, and so takes a rejected write back.

use crate::db::table_plan::{TablePlan, quote};

/// The gate between a local write and the write checkpoint that will cover it.
pub(crate) const GATE_UNKNOWN: i64 = i64::MAX;

const NAMES: [&str; 6] =
    ["before_insert", "insert", "before_update", "update", "before_delete", "delete"];

/// SQL that drops a table's triggers.
pub(crate) fn drop(plan: &TablePlan) -> String {
    let drop = |event: &&str| format!("DROP TRIGGER IF EXISTS {};\n", trigger_name(plan, event));
    NAMES.iter().map(drop).collect()
}

fn trigger_name(plan: &TablePlan, event: &str) -> String {
    quote(&format!("_tw_{event}_{}", plan.name))
}

/// SQL that makes a table's triggers anew.
pub(crate) fn create(plan: &TablePlan, type_id: i64) -> String {
    let table = quote(&plan.name);
    let name = |event: &str| trigger_name(plan, event);
    let unless_applying = "WHEN (SELECT applying FROM _tw_state) = 0";
    let drops = drop(plan);
    // Not INSERT OR IGNORE: within a trigger the conflict clause of the app's statement rules, and
    // REPLACE would put a later state over the one noted first.
    let touch = |base: &str, id: &str| {
        format!(
            "INSERT INTO _tw_touched (type, id, base) SELECT {type_id}, {id}, {base} \
             WHERE NOT EXISTS (SELECT 1 FROM _tw_touched WHERE type = {type_id} AND id = {id});"
        )
    };
    let queue = |op: &str, id: &str, data: &str, condition: &str| {
        format!(
            "INSERT INTO _tw_queue (tx_id, op, type, id, data) \
             SELECT tx_id, '{op}', {type_id}, {id}, {data} FROM _tw_state WHERE {condition};\n\
             UPDATE _tw_state SET gate = {GATE_UNKNOWN} WHERE {condition};"
        )
    };
    let (inserted, old_image) = (plan.upload_sql(), plan.image_sql("OLD."));
    let there = format!("(SELECT {} FROM {table} WHERE id = NEW.id)", plan.image_sql(""));
    let changes = plan.changes_sql();
    let has_changes = format!("({changes}) <> '{{}}'");
    let trigger = |event: &str, when: &str, body: &str| {
        let name = name(event);
        format!("CREATE TRIGGER {name} {when} ON {table} {unless_applying} BEGIN\n{body}\nEND;\n")
    };
    let checked = "SELECT RAISE(ABORT, 'the id of a synced row must be a text') \
                   WHERE typeof(NEW.id) <> 'text';\n";
    // Not left to json_quote: it takes a blob that looks like binary JSON.
    let no_blob = format!(
        "SELECT RAISE(ABORT, 'a synced row cannot hold a blob') WHERE {};\n",
        plan.has_blob_sql("NEW.")
    );
    let kept = "SELECT RAISE(ABORT, 'the id of a synced row cannot change') \
                WHERE NEW.id IS NOT OLD.id;\n";
    [
        drops,
        trigger(
            "before_insert",
            "BEFORE INSERT",
            &format!("{checked}{no_blob}{}", touch(&there, "NEW.id")),
        ),
        trigger("insert", "AFTER INSERT", &queue("PUT", "NEW.id", &inserted, "1")),
        trigger(
            "before_update",
            "BEFORE UPDATE",
            &format!("{kept}{no_blob}{}", touch(&old_image, "OLD.id")),
        ),
        trigger("update", "AFTER UPDATE", &queue("PATCH", "NEW.id", &changes, &has_changes)),
        trigger("before_delete", "BEFORE DELETE", &touch(&old_image, "OLD.id")),
        trigger("delete", "AFTER DELETE", &queue("DELETE", "OLD.id", "NULL", "1")),
    ]
    .concat()
}
