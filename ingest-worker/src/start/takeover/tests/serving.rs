//! Deployments while readers have another config: what is copied, what they keep, what comes back.

use super::*;

/// A stream that the stored config does not have.
const MORE: &str = "  more: {query: SELECT id FROM todos WHERE body = 'a'}\n";
/// One that reads the table without a key.
const MEMOS: &str = "  memos: {query: SELECT id FROM notes WHERE id > 'a'}\n";
/// The config's stream of that table.
const NOTES_STREAM: &str = "  notes: {auto_subscribe: true, query: SELECT id FROM notes}\n";

/// A store whose readers have the first config, complete and current.
fn served() -> Case {
    let mut case = Case::stored();
    let former = case.former();
    former.visible = Some(Visible {
        at: former.committed,
        generation: former.generation,
        truncated: Vec::new(),
        current_at: None,
    });
    case
}

/// The store that a planned run leaves if it stores its plan and nothing else.
fn after(plan: TakeoverPlan) -> Case {
    Case {
        stored: Some(StoredGeneration {
            generation: plan.generation,
            copy: plan.copy,
            lacks_plan: false,
            others: plan.others,
        }),
        former: Some(plan.next),
        ..Case::stored()
    }
}

/// The store after the planned copy was completed and readers have its config.
fn switched(plan: TakeoverPlan) -> Case {
    let mut case = after(plan);
    for number in 0..2 {
        case.copy().advance(number, TableCopy::Done);
    }
    let former = case.former();
    let position = Committed { lsn: Lsn(600), ..former.committed };
    former.switch_barrier = None;
    case.former = Some(former.after_commit(position, Vec::new(), None).with_former_until(NOW + 9));
    case.slot.confirmed = Lsn(600);
    case
}

fn plan_of(mut case: Case, text: &str) -> TakeoverPlan {
    case.text = text.to_owned();
    case.plan().unwrap()
}

fn with(stream: &str) -> String {
    format!("{CONFIG}{stream}")
}

#[test]
fn a_new_stream_is_copied_while_readers_have_the_former_config() {
    let case = served();
    let former = case.former.clone().unwrap();
    let first = former.generation;
    let plan = plan_of(case, &with(MORE));
    assert_eq!(plan.kind, TakeoverKind::ConfigChanged);
    assert_eq!(
        (plan.next.visibility_barrier, plan.next.switch_barrier),
        (None, Some(BARRIER_UNKNOWN))
    );
    assert_eq!(plan.next.maintained, [MaintainedGeneration { id: first, until: None }]);
    assert_eq!(plan.next.copy_planned_in, former.copy_planned_in, "another run plans the same");
    assert_eq!(progress(&plan), [Some(TableCopy::Todo), Some(TableCopy::Done)]);
    assert_eq!(plan.copy.copied_after(0), FIRST_READ_AT, "the stream goes on");
    assert!(plan.tables[TODOS].is_extended && !plan.tables[NOTES].is_extended);
    assert!(plan.copy_in_progress().is_some() && plan.must_list_transactions_in_progress());
    assert!(plan.advice[0].contains("copying table public.todos for the new"), "{:?}", plan.advice);
}

#[test]
fn a_stream_over_a_table_without_a_key_leaves_its_number_and_rows() {
    let plan = plan_of(served(), &with(MEMOS));
    assert_eq!((numbers(&plan), plan.gone.len()), (vec![0, 1], 0));
    assert_eq!(progress(&plan), [Some(TableCopy::Done), Some(TableCopy::Todo)]);
    assert_eq!((plan.next.visibility_barrier, plan.tables[NOTES].is_extended), (None, true));
}

#[test]
fn readers_get_a_config_without_new_streams_at_once() {
    let plan = plan_of(served(), &CONFIG.replace(NOTES_STREAM, ""));
    assert_eq!((plan.next.visibility_barrier, plan.next.switch_barrier), (None, None));
    assert_eq!(plan.tables.len(), 2, "the former config is maintained");
    assert!(plan.copy.next().is_none() && plan.gone.is_empty());
}

#[test]
fn a_copy_goes_on_where_the_former_run_was_killed() {
    let mut case = after(plan_of(served(), &with(MORE)));
    let progress_made = TableCopy::After(vec!["k".into()]);
    case.copy().advance(0, progress_made.clone());
    let generation = case.stored.as_ref().unwrap().generation.clone();
    let plan = plan_of(case, &with(MORE));
    assert_eq!((plan.kind, plan.generation), (TakeoverKind::Continue, generation));
    assert_eq!(plan.copy.tables[0].as_ref().unwrap().progress, progress_made);
    assert_eq!(plan.next.switch_barrier, Some(BARRIER_UNKNOWN));
    assert!(plan.tables[TODOS].is_extended && plan.next.visibility_barrier.is_none());
}

#[test]
fn a_deployment_that_is_given_up_leaves_readers_what_they_have() {
    let mut case = after(plan_of(served(), &with(MORE)));
    case.copy().advance(0, TableCopy::After(vec!["k".into()]));
    let visible = case.former.clone().unwrap().visible.unwrap().generation;
    let plan = plan_of(case, CONFIG);
    assert_eq!((plan.next.generation, plan.is_new_generation), (visible, false));
    assert_eq!((plan.next.visibility_barrier, plan.next.switch_barrier), (None, None));
    assert_eq!(plan.next.maintained, []);
    assert_eq!(progress(&plan), [Some(TableCopy::Done), Some(TableCopy::Done)]);

    // The stream that was given up comes back as a new one, under another number.
    let again = plan_of(after(plan), &with(MORE));
    assert_eq!(again.generation.definition_numbers.numbers(), [0, 1, 3]);
    assert_eq!(again.copy.next(), Some((0, &TableCopy::Todo)));
}

#[test]
fn another_deployment_meanwhile_copies_what_is_new_of_it() {
    let mut case = after(plan_of(served(), &with(MORE)));
    case.copy().advance(0, TableCopy::Done);
    let third = with(&format!("{MORE}{MEMOS}"));
    let plan = plan_of(case, &third);
    assert_eq!(plan.generation.definition_numbers.numbers(), [0, 1, 2, 3]);
    assert_eq!(progress(&plan), [Some(TableCopy::Done), Some(TableCopy::Todo)]);
    assert_eq!(plan.next.maintained.len(), 1, "only what readers have");
    assert_eq!(plan.next.switch_barrier, Some(BARRIER_UNKNOWN));
}

#[test]
fn a_copied_stream_waits_for_its_barrier_under_another_text_too() {
    let mut case = after(plan_of(served(), &with(MORE)));
    case.copy().advance(0, TableCopy::Done);
    case.former().switch_barrier = Some(Lsn(900));
    let plan = plan_of(case, &with(&format!("{MORE}# by me\n")));
    assert_eq!(plan.next.switch_barrier, Some(Lsn(900)));
    assert!(plan.is_new_generation && plan.copy.next().is_none());
}

#[test]
fn a_former_config_comes_back_by_one_commit_within_the_grace() {
    let case = switched(plan_of(served(), &with(MORE)));
    let control = case.former.clone().unwrap();
    let first = control.maintained[0];
    assert_eq!(first.until, Some(NOW + 9));
    assert_eq!(control.visible.unwrap().generation, control.generation);

    let plan = plan_of(case, CONFIG);
    assert_eq!((plan.next.generation, plan.is_new_generation), (first.id, false));
    assert_eq!((plan.next.visibility_barrier, plan.next.switch_barrier), (None, None));
    assert!(plan.copy.next().is_none() && plan.gone.is_empty());
    let expected = MaintainedGeneration { id: control.generation, until: None };
    assert_eq!(plan.next.maintained, [expected], "readers have it until the first commit");
}

#[test]
fn a_former_config_is_dropped_after_the_grace() {
    let mut case = switched(plan_of(served(), &with(MORE)));
    case.former().maintained[0].until = Some(NOW);
    let plan = plan_of(case, &with(MORE));
    assert_eq!((plan.kind, plan.next.maintained.len()), (TakeoverKind::Continue, 0));
    assert!(plan.others.is_empty());
    let back = plan_of(after(plan), CONFIG);
    assert!(back.is_new_generation, "its definitions are those of the present config");
    assert_eq!(back.generation.definition_numbers.numbers(), [0, 1]);
}

#[test]
fn a_config_that_the_source_no_longer_fits_is_not_maintained() {
    let mut case = served();
    case.tables.remove(NOTES);
    let plan = plan_of(case, &with(MORE).replace(NOTES_STREAM, ""));
    assert_eq!((plan.next.maintained.len(), plan.tables.len()), (0, 1));
    assert_eq!(plan.next.visibility_barrier, Some(BARRIER_UNKNOWN), "readers wait as they are");
    assert_eq!(plan.next.switch_barrier, None);
}

#[test]
fn a_table_that_has_changed_holds_the_checkpoint_during_a_deployment_too() {
    let mut case = served();
    case.changed_table = Some(oid(TODOS));
    let plan = plan_of(case, &with(MEMOS));
    assert_eq!(
        (plan.next.visibility_barrier, plan.next.switch_barrier),
        (Some(BARRIER_UNKNOWN), Some(BARRIER_UNKNOWN))
    );
    assert_eq!(plan.next.copy_planned_in, Some(plan.next.epoch));
    assert!(!plan.tables[TODOS].is_extended && plan.tables[NOTES].is_extended);
}

#[test]
fn a_table_that_only_the_new_config_reads_holds_nothing() {
    let fewer = CONFIG.replace(NOTES_STREAM, "");
    let mut first = Case::fresh();
    first.text.clone_from(&fewer);
    first.tables.remove(NOTES);
    let mut case = served();
    let plan = first.plan().unwrap();
    case.stored.as_mut().unwrap().generation = plan.generation;
    case.stored.as_mut().unwrap().copy = plan.copy;
    case.copy().advance(0, TableCopy::Done);

    let plan = plan_of(case, CONFIG);
    assert_eq!(
        (plan.next.visibility_barrier, plan.next.switch_barrier),
        (None, Some(BARRIER_UNKNOWN))
    );
    // It is altered while it is copied.
    let mut case = after(plan);
    case.changed_table = Some(oid(NOTES));
    let again = plan_of(case, CONFIG);
    assert_eq!((again.kind, again.gone.len()), (TakeoverKind::TablesChanged, 1));
    assert_eq!(
        (again.next.visibility_barrier, again.next.switch_barrier),
        (None, Some(BARRIER_UNKNOWN))
    );
}
