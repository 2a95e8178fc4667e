mod properties;
mod serving;

use tidewater_storage::{
    Committed, LastTransaction, MaintainedGeneration, Tag, Ticket, Truncation, Visible,
};

use super::*;
use crate::initial_copy::state::TableCopy;
use crate::source::preflight::Finding;
use crate::test_support::{CONFIG, NOTES, TODOS, oid, table, tables};

/// Position up to which the former run has committed, and the slot is confirmed.
const COMMITTED: Lsn = Lsn(500);
/// Position before the catalog was read.
const READ_AT: Lsn = Lsn(700);
/// The time of the takeover, in seconds.
const NOW: u64 = 10_000;
/// Duration for which a former config is maintained.
const GRACE: Duration = Duration::from_secs(3_600);
/// Position before the former run had read it.
const FIRST_READ_AT: Lsn = Lsn(300);

fn source() -> SourceIdentity {
    SourceIdentity {
        system_id: "7".into(),
        database: "app".into(),
        timeline: 1,
        slot: "tidewater".into(),
        slot_generation: 1,
    }
}

fn found(table: SourceTable) -> FoundTable {
    FoundTable { table, findings: Vec::new() }
}

fn unreadable(table: SourceTable) -> FoundTable {
    let finding = Finding { is_fatal: true, problem: "it is odd".into(), fix: "mend it".into() };
    FoundTable { table, findings: vec![finding] }
}

/// Returns a tag for each definition and lookup of a config.
fn tags_for(config: &SyncConfig) -> NewTags {
    let tag = |index| Tag::from_bits(u32::try_from(index).unwrap() + 1);
    NewTags {
        definitions: (0..config.definitions().len()).map(tag).collect(),
        lookups: (0..config.lookups().len()).map(tag).collect(),
    }
}

fn tags() -> NewTags {
    NewTags { definitions: vec![Tag::from_bits(1), Tag::from_bits(2)], lookups: Vec::new() }
}

/// Everything that a run finds. Each case changes a part of it.
struct Case {
    former: Option<Control>,
    stored: Option<StoredGeneration>,
    found: SourceIdentity,
    slot: SlotPosition,
    text: String,
    tables: Vec<FoundTable>,
    changed_table: Option<u32>,
    has_diverged: bool,
}

impl Case {
    /// An empty store.
    fn fresh() -> Self {
        Self {
            former: None,
            stored: None,
            found: source(),
            slot: SlotPosition { confirmed: COMMITTED, is_new: true, server_end: READ_AT },
            text: CONFIG.into(),
            tables: tables().into_iter().map(found).collect(),
            changed_table: None,
            has_diverged: false,
        }
    }

    /// The store that a first run has left when its copy was complete and visible.
    fn stored() -> Self {
        let mut plan = Self::fresh().plan().unwrap();
        for table in plan.copy.tables.iter_mut().flatten() {
            table.progress = TableCopy::Done;
            table.copied_after = FIRST_READ_AT;
        }
        plan.next.visibility_barrier = None;
        plan.next.committed = Committed {
            op: tidewater_protocol::OpId::new(plan.next.epoch, 9),
            lsn: COMMITTED,
            ticket: Ticket(3),
        };
        Self {
            former: Some(plan.next),
            stored: Some(StoredGeneration {
                generation: plan.generation,
                copy: plan.copy,
                lacks_plan: false,
                others: Vec::new(),
            }),
            slot: SlotPosition { confirmed: COMMITTED, is_new: false, server_end: READ_AT },
            ..Self::fresh()
        }
    }

    fn copy(&mut self) -> &mut CopyState {
        &mut self.stored.as_mut().unwrap().copy
    }

    fn former(&mut self) -> &mut Control {
        self.former.as_mut().unwrap()
    }

    fn plan(self) -> Result<TakeoverPlan, TakeoverError> {
        let config = SyncConfig::compile(&self.text).unwrap();
        plan_takeover(TakeoverInput {
            former: self.former,
            stored: self.stored,
            found: self.found,
            slot: self.slot,
            config: &config,
            config_text: &self.text,
            tables: self.tables,
            changed_table: self.changed_table,
            has_diverged: self.has_diverged,
            catalog_read_at: READ_AT,
            owner: Nonce("me".into()),
            tags: tags_for(&config),
            now: NOW,
            rollback_grace: GRACE,
        })
    }
}

/// A change of what a run finds.
type Change = fn(&mut Case);

/// Plans a case that changes what a complete store and its source look like.
fn planned(change: impl Fn(&mut Case)) -> TakeoverPlan {
    let mut case = Case::stored();
    change(&mut case);
    case.plan().unwrap()
}

/// The progress of the tables by their numbers; `None` for one that is gone.
fn progress(plan: &TakeoverPlan) -> Vec<Option<TableCopy>> {
    let progress = |table: &Option<crate::initial_copy::state::CopiedTable>| {
        table.as_ref().map(|table| table.progress.clone())
    };
    plan.copy.tables.iter().map(progress).collect()
}

fn numbers(plan: &TakeoverPlan) -> Vec<u16> {
    plan.tables.iter().map(|table| table.number).collect()
}

#[test]
fn each_situation_has_its_plan() {
    use TakeoverKind::{ConfigChanged, Continue, GenerationLost, SlotReset, TablesChanged};
    let cases: [(&str, TakeoverKind, Change); 20] = [
        ("nothing has changed", Continue, |_| {}),
        ("the slot is behind", Continue, |c| c.slot.confirmed = Lsn(400)),
        ("the copy is not finished", Continue, |c| {
            c.copy().advance(0, TableCopy::After(vec!["k".into()]));
            c.former().visibility_barrier = Some(BARRIER_UNKNOWN);
        }),
        ("tables are in another order", Continue, |c| c.tables.reverse()),
        ("an unknown table had changed", Continue, |c| c.changed_table = Some(9)),
        ("a table that cannot be synced", Continue, |c| {
            c.tables.push(unreadable(table(9, "todos_2", false)));
        }),
        ("a table is gone", TablesChanged, |c| drop(c.tables.pop())),
        ("a table has changed", TablesChanged, |c| c.changed_table = Some(oid(TODOS))),
        ("a table has another column", TablesChanged, |c| {
            let mut column = c.tables[TODOS].table.schema.columns[1].clone();
            column.name = "more".into();
            c.tables[TODOS].table.schema.columns.push(column);
            c.tables[TODOS].table.column_types.push("text".into());
        }),
        ("a table was created again", TablesChanged, |c| c.tables[TODOS].table.oid = 9),
        ("the slot is new", SlotReset, |c| c.slot.is_new = true),
        ("the slot has moved", SlotReset, |c| c.slot.confirmed = Lsn(501)),
        ("the server was restored", SlotReset, |c| c.slot.server_end = Lsn(499)),
        ("the server ends where the store does", Continue, |c| c.slot.server_end = COMMITTED),
        ("the server sends another history", SlotReset, |c| c.has_diverged = true),
        ("another slot is configured", SlotReset, |c| c.found.slot = "other".into()),
        ("the server was promoted", SlotReset, |c| c.found.timeline = 2),
        ("the config's text has changed", ConfigChanged, |c| c.text.push_str("\n# by me\n")),
        ("the generation was stored in another format", ConfigChanged, |c| {
            c.stored.as_mut().unwrap().generation.identity = "old".into();
        }),
        ("the generation cannot be read", GenerationLost, |c| c.stored = None),
    ];
    for (case, kind, change) in cases {
        let plan = planned(change);
        assert_eq!(plan.kind, kind, "{case}");

        let is_kept = matches!(kind, Continue | TablesChanged | SlotReset);
        assert_eq!(plan.is_new_generation, !is_kept, "{case}");
        let is_continued = is_kept || case == "the config's text has changed";
        assert_eq!(
            plan.generation.rows_of() == GenerationId(plan.next.epoch),
            !is_continued,
            "{case}"
        );
        assert_eq!(plan.generation.id, plan.next.generation, "{case}");
        assert_eq!(plan.generation.id.0 == plan.next.epoch, !is_kept, "{case}");
        // Whenever a table is to be copied, readers stay at the former checkpoint.
        if plan.copy.next().is_some() {
            assert_eq!(plan.next.visibility_barrier, Some(BARRIER_UNKNOWN), "{case}");
        }
        assert_eq!(plan.next.epoch.number(), 2, "{case}");
        assert_eq!(plan.next.revision, 2, "{case}");
        assert_eq!(plan.next.owner, Nonce("me".into()), "{case}");
    }
}

#[test]
fn an_empty_store_begins_at_the_position_of_the_slot() {
    let plan = Case::fresh().plan().unwrap();
    assert_eq!((plan.kind, plan.is_new_generation), (TakeoverKind::Fresh, true));
    assert_eq!(plan.next.committed.lsn, COMMITTED);
    assert_eq!((plan.next.revision, plan.next.epoch.number()), (1, 1));
    assert_eq!(plan.next.source, source());
    assert_eq!(plan.next.visibility_barrier, Some(BARRIER_UNKNOWN));
    assert_eq!(progress(&plan), [Some(TableCopy::Todo), Some(TableCopy::Todo)]);
    assert_eq!(plan.copy.copied_after(0), READ_AT);
    assert!(plan.tables.iter().all(|table| table.copied_after == READ_AT));
    assert_eq!(plan.generation.definitions, tags().definitions);
    assert_eq!(plan.generation.sync_config, CONFIG);
    assert!(plan.former.is_none() && plan.archived.is_empty() && plan.advice.is_empty());
}

#[test]
fn a_run_that_continues_changes_only_the_owner_and_the_epoch() {
    let case = Case::stored();
    let former = case.former.clone().unwrap();
    let stored = case.stored.clone().unwrap();
    let plan = case.plan().unwrap();
    assert_eq!(plan.next.committed, former.committed);
    assert_eq!(plan.next.visible, former.visible);
    assert_eq!(plan.next.visibility_barrier, None);
    assert_eq!(plan.next.source, former.source);
    assert_eq!(plan.next.recent.len(), 1, "the former epoch is closed at what it committed");
    assert_eq!((plan.generation.clone(), plan.copy.clone()), (stored.generation, stored.copy));
    assert_eq!(plan.former, Some(former));
    assert!(plan.copy_in_progress().is_none(), "everything is visible");
    assert!(plan.must_list_transactions_in_progress());
}

#[test]
fn a_copy_that_was_interrupted_goes_on_where_it_was() {
    let after = TableCopy::After(vec!["k".into()]);
    let plan = planned(|case| {
        case.copy().advance(0, after.clone());
        case.copy().not_yet_visible_xids = vec![7, 8];
        case.former().visibility_barrier = Some(BARRIER_UNKNOWN);
    });
    assert_eq!(progress(&plan), [Some(after), Some(TableCopy::Done)]);
    assert_eq!(plan.not_yet_visible_xids(), [7, 8]);
    assert!(!plan.must_list_transactions_in_progress(), "the record lists all of them");
}

#[test]
fn a_new_copy_on_an_older_slot_lists_the_transactions_in_progress() {
    let plan = planned(|case| case.stored.as_mut().unwrap().generation.identity = "old".into());
    assert_eq!(plan.kind, TakeoverKind::ConfigChanged);
    assert!(plan.must_list_transactions_in_progress(), "a former run may have taken one of them");

    // The server created this slot after all earlier transactions had ended.
    let plan = planned(|case| case.slot.is_new = true);
    assert!(!plan.must_list_transactions_in_progress());
}

#[test]
fn a_barrier_behind_a_finished_copy_is_kept() {
    let plan = planned(|case| case.former().visibility_barrier = Some(Lsn(900)));
    assert_eq!((plan.kind, plan.next.visibility_barrier), (TakeoverKind::Continue, Some(Lsn(900))));
    assert!(plan.copy_in_progress().is_some());
    assert!(plan.must_list_transactions_in_progress(), "the record is no longer kept up to date");
}

#[test]
fn a_gone_table_is_removed_and_leaves_its_number_unused() {
    let plan = planned(|case| drop(case.tables.remove(TODOS)));
    assert_eq!(numbers(&plan), [1]);
    assert_eq!(progress(&plan), [None, Some(TableCopy::Done)]);
    assert_eq!(plan.gone, [GoneTable { number: 0, has_lookups: false }]);
    assert_eq!(
        plan.next.visibility_barrier,
        Some(BARRIER_UNKNOWN),
        "until the stream has passed the removal"
    );
}

#[test]
fn a_changed_table_is_copied_again_over_its_rows_if_they_have_keys() {
    for (changed_table, number, gone) in
        [(TODOS, 0, vec![]), (NOTES, 2, vec![GoneTable { number: 1, has_lookups: false }])]
    {
        let plan = planned(|case| case.changed_table = Some(oid(changed_table)));
        assert_eq!(plan.gone, gone);
        assert_eq!(plan.tables[changed_table].number, number);
        assert_eq!(plan.tables[changed_table].has_former_rows, changed_table == TODOS);
        assert_eq!(progress(&plan)[usize::from(number)], Some(TableCopy::Todo));
        assert_eq!(
            plan.copy.copied_after(number),
            READ_AT,
            "earlier changes may be of its former shape"
        );
        let other = &plan.tables[1 - changed_table];
        assert_eq!(other.copied_after, FIRST_READ_AT, "the other goes on");
        let reason = "was altered in between";
        assert!(plan.advice.iter().any(|advice| advice.contains(reason)), "{:?}", plan.advice);
        assert!(plan.must_list_transactions_in_progress(), "the copy must see all of them");
    }
}

#[test]
fn a_reset_slot_gives_its_position_even_if_that_is_lower() {
    for (confirmed, is_new) in [(Lsn(100), true), (Lsn(900), false)] {
        let plan = planned(|case| {
            case.slot = SlotPosition { confirmed, is_new, server_end: READ_AT };
            case.former().last_transaction =
                Some(LastTransaction { end: COMMITTED, xid: 7, commit_time: 8 });
        });
        assert_eq!(plan.next.last_transaction, None);
        assert_eq!(plan.next.committed.lsn, confirmed);
        assert_eq!(plan.next.source.slot_generation, 2);
        assert!(plan.tables[TODOS].has_former_rows, "its rows are compared");
        assert_eq!(progress(&plan), [Some(TableCopy::Todo), None, Some(TableCopy::Todo)]);
        assert_eq!(plan.advice.len(), 1, "{:?}", plan.advice);
        assert_eq!(plan.next.committed.ticket, Ticket(3), "tickets are of the store");
        assert!(plan.advice[0].contains("replication slot tidewater"), "{:?}", plan.advice);
    }
}

#[test]
fn a_new_generation_forgets_the_truncations_of_the_former_one() {
    let op = tidewater_protocol::OpId::ZERO;
    let truncated = vec![Truncation { table: 0, op }];
    let kept = planned(|case| case.former().truncated.clone_from(&truncated));
    assert_eq!(kept.next.truncated, truncated);
    let new = planned(|case| {
        case.former().truncated.clone_from(&truncated);
        case.stored.as_mut().unwrap().generation.identity = "old".into();
    });
    assert!(new.next.truncated.is_empty());
}

#[test]
fn tables_are_numbered_again_when_too_many_have_come_and_gone() {
    let plan = planned(|case| case.copy().tables.resize(10_001, None));
    assert_eq!(plan.kind, TakeoverKind::GenerationLost);
    assert_eq!(numbers(&plan), [0, 1]);
}

#[test]
fn another_database_is_refused() {
    let changes: [Change; 2] =
        [|case| case.found.system_id = "8".into(), |case| case.found.database = "other".into()];
    for change in changes {
        let mut case = Case::stored();
        change(&mut case);
        let error = case.plan().unwrap_err();
        assert!(matches!(error, TakeoverError::Foreign { .. }), "{error}");
    }
}

#[test]
fn a_table_that_cannot_be_synced_is_left_out_unless_it_was_synced_before() {
    let plan = planned(|case| case.tables.push(unreadable(table(9, "todos_2", false))));
    assert_eq!(plan.left_out, HashSet::from([9]));
    assert_eq!(plan.advice.len(), 1);

    let mut case = Case::stored();
    case.tables[TODOS] = unreadable(tables().remove(TODOS));
    let error = case.plan().unwrap_err();
    assert!(matches!(error, TakeoverError::NotReady(_)), "{error}");

    // A new generation has not synced it before.
    let mut case = Case::stored();
    case.tables[TODOS] = unreadable(tables().remove(TODOS));
    case.stored.as_mut().unwrap().generation.identity = "old".into();
    assert_eq!(numbers(&case.plan().unwrap()), [0], "the notes alone");
}

#[test]
fn a_config_that_finds_too_many_tables_is_refused() {
    let mut case = Case::fresh();
    case.tables = vec![found(tables().remove(TODOS)); 2_501];
    let error = case.plan().unwrap_err();
    assert!(matches!(error, TakeoverError::Numbering(NumberingError::TooManyTables)), "{error}");
}

#[test]
fn a_table_of_a_former_config_that_is_not_maintained_is_not_read() {
    let plan = planned(|case| case.tables.push(found(table(9, "unread", false))));
    assert_eq!((plan.kind, numbers(&plan)), (TakeoverKind::Continue, vec![0, 1]));
}

#[test]
fn a_table_that_the_config_does_not_fit_is_refused() {
    let mut case = Case::fresh();
    case.tables[NOTES].table.schema.columns.remove(0);
    let error = case.plan().unwrap_err();
    assert!(matches!(error, TakeoverError::Numbering(NumberingError::SyncConfig(_))), "{error}");
}

#[test]
fn a_plan_that_was_not_stored_is_made_again_for_all_tables() {
    let plan = planned(|case| case.slot.is_new = true);
    assert_eq!(plan.next.copy_planned_in, Some(plan.next.epoch));

    // The next run finds a slot that fits the control record, and the record of the former copy.
    let plan = planned(|case| case.stored.as_mut().unwrap().lacks_plan = true);
    assert_eq!(progress(&plan), [Some(TableCopy::Todo), None, Some(TableCopy::Todo)]);
    assert!(plan.must_list_transactions_in_progress());
    assert_eq!(plan.next.copy_planned_in, Some(plan.next.epoch));
    let continued = planned(|_| {});
    assert_eq!(continued.next.copy_planned_in, continued.former.unwrap().copy_planned_in);
}

#[test]
fn transactions_of_another_history_are_forgotten() {
    let plan = planned(|case| {
        case.copy().not_yet_visible_xids = vec![7, 8];
        case.has_diverged = true;
    });
    assert_eq!(plan.not_yet_visible_xids(), [0; 0]);
    assert!(plan.must_list_transactions_in_progress());
}

#[test]
fn another_text_of_the_same_config_is_switched_to_without_a_copy() {
    let case = Case::stored();
    let former = case.former.clone().unwrap();
    let plan = planned(|case| case.text.push_str("\n# by me\n"));
    assert_eq!(plan.kind, TakeoverKind::ConfigChanged);
    assert_eq!(plan.next.visibility_barrier, None);
    assert_eq!(plan.next.generation, GenerationId(plan.next.epoch));
    assert_eq!(plan.next.continued_generation, Some(former.generation));
    assert_eq!(plan.generation.definitions, tags().definitions);
    assert_eq!(progress(&plan), [Some(TableCopy::Done), Some(TableCopy::Done)]);
    assert!(plan.advice.is_empty() && plan.gone.is_empty());
}

#[test]
fn only_tables_of_new_definitions_are_copied() {
    let plan = planned(|case| {
        case.text.push_str("  more: {query: SELECT id FROM todos WHERE body = 'a'}\n");
    });
    assert_eq!(plan.kind, TakeoverKind::ConfigChanged);
    assert_eq!(numbers(&plan), [0, 1]);
    assert_eq!(progress(&plan), [Some(TableCopy::Todo), Some(TableCopy::Done)]);
    assert_eq!(plan.next.visibility_barrier, Some(BARRIER_UNKNOWN));
    assert_eq!(plan.advice, ["copying again table public.todos: the sync config reads more of it"]);
}

#[test]
fn a_table_that_no_definition_reads_any_more_is_left_as_it_is() {
    let plan = planned(|case| {
        case.text = case.text.replace("  notes:", "  #notes:");
        case.tables.remove(NOTES);
    });
    assert_eq!(numbers(&plan), [0]);
    assert_eq!((plan.gone.len(), plan.next.visibility_barrier), (0, None));
}
