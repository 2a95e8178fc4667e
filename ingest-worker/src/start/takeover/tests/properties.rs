//! Properties of any takeover, whatever has changed since the former run.

use proptest::prelude::*;

use super::*;

/// A difference between what the former run left and what the next one finds. Tables are given by
/// their indexes.
#[derive(Clone, Copy, Debug)]
enum Difference {
    TableAltered(usize),
    TableRecreated(usize),
    TableDropped(usize),
    /// The generation lost the table earlier, and now it is back.
    TableReturned(usize),
    /// The former run ended because of the table.
    TableEndedRun(usize),
    TablesReordered,
    CopyInterrupted(usize),
    SlotBehind,
    SlotNew,
    SlotMoved,
    SlotRenamed,
    ServerPromoted,
    ServerRestored,
    HistoryDiverged,
    ConfigEdited,
}

impl Difference {
    fn apply(self, case: &mut Case) {
        match self {
            Self::TableAltered(table) => {
                if let Some(found) = found_table(case, table) {
                    found.facts.storage = "rewritten".into();
                }
            }
            Self::TableRecreated(table) => {
                if let Some(found) = found_table(case, table) {
                    found.oid += 1_000;
                }
            }
            Self::TableDropped(table) => {
                let name = &tables()[table].schema.name;
                case.tables.retain(|found| found.table.schema.name != *name);
            }
            Self::TableReturned(table) => case.copy().tables[table] = None,
            Self::TableEndedRun(table) => case.changed_table = Some(oid(table)),
            Self::TablesReordered => case.tables.reverse(),
            Self::CopyInterrupted(table) => {
                let number = u16::try_from(table).unwrap();
                case.copy().advance(number, TableCopy::After(vec!["k".into()]));
                case.former().visibility_barrier = Some(BARRIER_UNKNOWN);
            }
            Self::SlotBehind => case.slot.confirmed = Lsn(400),
            Self::SlotNew => case.slot.is_new = true,
            Self::SlotMoved => case.slot.confirmed = Lsn(600),
            Self::SlotRenamed => case.found.slot = "other".into(),
            Self::ServerPromoted => case.found.timeline = 2,
            Self::ServerRestored => case.slot.server_end = Lsn(499),
            Self::HistoryDiverged => case.has_diverged = true,
            Self::ConfigEdited => case.text.push_str("\n# edited\n"),
        }
    }

    /// Returns whether the stream no longer begins where the store ends.
    fn breaks_stream(self, case: &Case) -> bool {
        match self {
            Self::SlotNew
            | Self::SlotRenamed
            | Self::ServerPromoted
            | Self::ServerRestored
            | Self::HistoryDiverged => true,
            // A later difference may have put the slot elsewhere.
            Self::SlotMoved => case.slot.confirmed > COMMITTED,
            Self::TableAltered(_)
            | Self::TableRecreated(_)
            | Self::TableDropped(_)
            | Self::TableReturned(_)
            | Self::TableEndedRun(_)
            | Self::TablesReordered
            | Self::CopyInterrupted(_)
            | Self::SlotBehind
            | Self::ConfigEdited => false,
        }
    }
}

fn found_table(case: &mut Case, table: usize) -> Option<&mut SourceTable> {
    let name = tables()[table].schema.name.clone();
    case.tables.iter_mut().map(|found| &mut found.table).find(|table| table.schema.name == name)
}

fn differences() -> impl Strategy<Value = Vec<Difference>> {
    let of_table = |difference: fn(usize) -> Difference| (TODOS..=NOTES).prop_map(difference);
    let difference = prop_oneof![
        3 => of_table(Difference::TableAltered),
        2 => of_table(Difference::TableRecreated),
        2 => of_table(Difference::TableDropped),
        2 => of_table(Difference::TableReturned),
        2 => of_table(Difference::TableEndedRun),
        1 => Just(Difference::TablesReordered),
        3 => of_table(Difference::CopyInterrupted),
        2 => Just(Difference::SlotBehind),
        1 => prop_oneof![
            Just(Difference::SlotNew),
            Just(Difference::SlotMoved),
            Just(Difference::SlotRenamed),
            Just(Difference::ServerPromoted),
            Just(Difference::ServerRestored),
            Just(Difference::HistoryDiverged),
            Just(Difference::ConfigEdited),
        ],
    ];
    proptest::collection::vec(difference, 0..5)
}

/// A plan, and what it was made from.
#[derive(Debug)]
struct Planned {
    former: Control,
    stored: StoredGeneration,
    slot: SlotPosition,
    found: Vec<SourceTable>,
    changed_table: Option<u32>,
    has_stream_break: bool,
    is_config_edited: bool,
    plan: TakeoverPlan,
}

fn planned_with(differences: &[Difference]) -> Planned {
    let mut case = Case::stored();
    for difference in differences {
        difference.apply(&mut case);
    }
    Planned {
        former: case.former.clone().unwrap(),
        stored: case.stored.clone().unwrap(),
        slot: case.slot,
        found: case.tables.iter().map(|found| found.table.clone()).collect(),
        changed_table: case.changed_table,
        has_stream_break: differences.iter().any(|difference| difference.breaks_stream(&case)),
        is_config_edited: case.text != CONFIG,
        plan: case.plan().unwrap(),
    }
}

impl Planned {
    /// Returns the stored table that a found one continues: the same in everything that decides
    /// which rows it has, while the stream goes on.
    fn continued_number(&self, found: &SourceTable) -> Option<u16> {
        if self.has_stream_break {
            return None;
        }
        let is_it = |stored: &Option<crate::initial_copy::state::CopiedTable>| {
            stored.as_ref().is_some_and(|stored| {
                stored.shape == found.shape() && self.changed_table != Some(stored.oid)
            })
        };
        let place = self.stored.copy.tables.iter().position(is_it)?;
        Some(u16::try_from(place).unwrap())
    }
}

proptest! {
    #[test]
    fn a_table_is_continued_exactly_if_nothing_of_it_has_changed(differences in differences()) {
        let planned = planned_with(&differences);
        let plan = &planned.plan;
        prop_assert_eq!(plan.tables.len(), planned.found.len());

        for (table, found) in plan.tables.iter().zip(&planned.found) {
            let copied = plan.copy.tables[usize::from(table.number)].as_ref().unwrap();
            prop_assert_eq!(table.table.oid, found.oid);
            prop_assert_eq!(&copied.shape, &found.shape());
            prop_assert_eq!(table.copied_after, copied.copied_after);

            if let Some(number) = planned.continued_number(found) {
                prop_assert_eq!(table.number, number);
                let stored = planned.stored.copy.tables[usize::from(number)].as_ref();
                prop_assert_eq!(Some(copied), stored);
            } else {
                prop_assert_eq!(&copied.progress, &TableCopy::Todo);
                prop_assert_eq!(copied.copied_after, READ_AT);
                let stored = planned.stored.copy.tables.get(usize::from(table.number));
                prop_assert_eq!(copied.has_former_rows, stored.is_some());
                prop_assert_eq!(table.has_former_rows, stored.is_some());
                // Stored rows have the names that its rows have now.
                if let Some(former) = stored {
                    let former = former.as_ref().expect("the number of a table that is not gone");
                    prop_assert!(copied.shape.has_key_of(&former.shape) && !found.key.is_empty());
                }
            }
        }
    }

    #[test]
    fn rows_of_every_number_that_is_no_longer_used_are_removed(differences in differences()) {
        let planned = planned_with(&differences);
        let plan = &planned.plan;
        let stored = (0_u16..).zip(&planned.stored.copy.tables);
        let expected: Vec<_> = stored
            .filter(|(_, table)| table.is_some())
            .map(|(number, _)| number)
            .filter(|number| plan.tables.iter().all(|table| table.number != *number))
            .collect();
        let gone: Vec<_> = plan.gone.iter().map(|gone| gone.number).collect();
        prop_assert_eq!(gone, expected);
    }

    #[test]
    fn another_text_is_another_generation_of_the_same_rows(
        differences in differences()
    ) {
        let planned = planned_with(&differences);
        let plan = &planned.plan;
        let is_new = planned.is_config_edited;
        prop_assert_eq!(plan.is_new_generation, is_new);
        prop_assert_eq!(plan.generation.id != planned.stored.generation.id, is_new);
        prop_assert_eq!(plan.next.generation, plan.generation.id);
        prop_assert_eq!(plan.generation.rows_of(), planned.stored.generation.id);
        prop_assert_eq!(&plan.generation.definitions, &planned.stored.generation.definitions);

        // Without a break the stream goes on at what is committed, wherever the slot is.
        let former = &planned.former;
        let begins_at =
            if planned.has_stream_break { planned.slot.confirmed } else { former.committed.lsn };
        prop_assert_eq!(plan.next.committed.lsn, begins_at);
    }

    #[test]
    fn readers_keep_their_checkpoint_until_every_copy_is_complete(differences in differences()) {
        let planned = planned_with(&differences);
        let Planned { former, plan, .. } = &planned;
        prop_assert_eq!(plan.next.visible.clone(), former.visible.clone());
        prop_assert_eq!(plan.next.committed.op, former.committed.op);
        prop_assert_eq!(plan.next.committed.ticket, former.committed.ticket);
        prop_assert_eq!(plan.next.revision, former.revision + 1);
        prop_assert!(plan.next.epoch > former.epoch);
        if plan.copy.next().is_some() || !plan.gone.is_empty() {
            prop_assert_eq!(plan.next.visibility_barrier, Some(BARRIER_UNKNOWN));
        }
    }
}
