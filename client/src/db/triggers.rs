//! Triggers that capture local writes.
//!
//! The triggers are part of the database file, so a write is captured whichever connection makes
//! it. Publishing sets `_tw_state.applying` within its own transaction, which no other connection
//! ever sees, and the triggers stay silent. The first local write to a row since the last
//! publication saves the server's state of the row in `_tw_touched.base`. The next publication
//! starts from that state: this is what reverts a rejected write.

use super::queue::WRITE_CHECKPOINT_UNKNOWN;
use super::table_plan::{TablePlan, quote};

const EVENTS: [&str; 6] =
    ["before_insert", "insert", "before_update", "update", "before_delete", "delete"];

/// Returns the SQL that drops a table's triggers.
pub(crate) fn drop(plan: &TablePlan) -> String {
    EVENTS
        .iter()
        .map(|event| format!("DROP TRIGGER IF EXISTS {};\n", trigger_name(plan, event)))
        .collect()
}

fn trigger_name(plan: &TablePlan, event: &str) -> String {
    quote(&format!("_tw_{event}_{}", plan.name))
}

/// Returns the SQL that replaces a table's triggers.
pub(crate) fn create(plan: &TablePlan, type_id: i64) -> String {
    let has_changes = format!("({}) <> '{{}}'", plan.changes_sql());
    let stored_image =
        format!("(SELECT {} FROM {} WHERE id = NEW.id)", plan.image_sql(""), quote(&plan.name));
    let old_image = plan.image_sql("OLD.");

    let id_is_text = "SELECT RAISE(ABORT, 'the id of a synced row must be a text') \
                      WHERE typeof(NEW.id) <> 'text';\n";
    let id_is_kept = "SELECT RAISE(ABORT, 'the id of a synced row cannot change') \
                      WHERE NEW.id IS NOT OLD.id;\n";
    // Not left to json_quote: it accepts a blob that looks like binary JSON.
    let no_blob = format!(
        "SELECT RAISE(ABORT, 'a synced row cannot hold a blob') WHERE {};\n",
        plan.has_blob_sql("NEW.")
    );

    let before_insert = format!(
        "{id_is_text}{no_blob}{}\n{}",
        save_base_sql(type_id, "NEW.id", &stored_image),
        note_replaced_sql(plan, type_id)
    );
    let before_update =
        format!("{id_is_kept}{no_blob}{}", save_base_sql(type_id, "OLD.id", &old_image));
    let before_delete = save_base_sql(type_id, "OLD.id", &old_image);
    let insert = capture_sql(type_id, "PUT", "NEW.id", &inserted_sql(plan, type_id), "1");
    let update = capture_sql(type_id, "PATCH", "NEW.id", &plan.changes_sql(), &has_changes);
    let delete = capture_sql(type_id, "DELETE", "OLD.id", "NULL", "1");

    [
        drop(plan),
        trigger_sql(plan, "before_insert", "BEFORE INSERT", &before_insert),
        trigger_sql(plan, "insert", "AFTER INSERT", &insert),
        trigger_sql(plan, "before_update", "BEFORE UPDATE", &before_update),
        trigger_sql(plan, "update", "AFTER UPDATE", &update),
        trigger_sql(plan, "before_delete", "BEFORE DELETE", &before_delete),
        trigger_sql(plan, "delete", "AFTER DELETE", &delete),
    ]
    .concat()
}

fn trigger_sql(plan: &TablePlan, event: &str, when: &str, body: &str) -> String {
    let name = trigger_name(plan, event);
    let table = quote(&plan.name);

    format!(
        "CREATE TRIGGER {name} {when} ON {table} \
         WHEN (SELECT applying FROM _tw_state) = 0 BEGIN\n{body}\nEND;\n"
    )
}

/// Returns the statement that saves the server's state of a row before its first local change.
fn save_base_sql(type_id: i64, id: &str, image: &str) -> String {
    // Not INSERT OR IGNORE: within a trigger the conflict clause of the app's own statement
    // applies, and REPLACE would overwrite the state saved first with a later one.
    format!(
        "INSERT INTO _tw_touched (type, id, base) SELECT {type_id}, {id}, {image} \
         WHERE NOT EXISTS (SELECT 1 FROM _tw_touched WHERE type = {type_id} AND id = {id});"
    )
}

/// Returns the statements that note whether the inserted row replaces one. The insert trigger runs
/// after the former row is gone.
fn note_replaced_sql(plan: &TablePlan, type_id: i64) -> String {
    let table = quote(&plan.name);

    // The first statement removes what an INSERT OR IGNORE has left.
    format!(
        "DELETE FROM _tw_replaced WHERE type = {type_id} AND id = NEW.id;\n\
         INSERT INTO _tw_replaced (type, id) SELECT {type_id}, NEW.id \
         WHERE EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id);"
    )
}

/// Returns an SQL expression for an inserted row as it is uploaded.
///
/// A trigger does not see which columns the statement set. NULLs are left out, so that the source's
/// defaults apply to a new row, as with PowerSync's SDKs. A row that replaces one names them: they
/// overwrite values.
fn inserted_sql(plan: &TablePlan, type_id: i64) -> String {
    format!(
        "CASE WHEN EXISTS (SELECT 1 FROM _tw_replaced WHERE type = {type_id} AND id = NEW.id) \
         THEN {} ELSE {} END",
        plan.upload_sql(),
        plan.upload_without_nulls_sql()
    )
}

/// Returns the statements that put a change into the queue and mark its write checkpoint as
/// unknown.
fn capture_sql(type_id: i64, op: &str, id: &str, data: &str, condition: &str) -> String {
    format!(
        "INSERT INTO _tw_queue (tx_id, op, type, id, data, is_unit) \
         SELECT tx_id, '{op}', {type_id}, {id}, {data}, is_unit FROM _tw_state \
         WHERE {condition};\n\
         UPDATE _tw_state SET gate = {WRITE_CHECKPOINT_UNKNOWN} WHERE {condition};"
    )
}
