//! The progress of a generation's initial copy, and the numbers of its tables.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tidewater_storage::Lsn;

use crate::source::pg_snapshot::PgSnapshot;
use crate::source::shape::TableShape;

/// The record of an initial copy. It is stored with each chunk and read when a run begins. After the
/// copy it still lists the generation's tables by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyState {
    /// The tables, indexed by their numbers. `None` is a gone table: its number is never used again.
    pub(crate) tables: Vec<Option<CopiedTable>>,
    /// Applied transactions that no snapshot was seen to contain yet.
    #[serde(rename = "unseen")]
    pub(crate) not_yet_visible_xids: Vec<u32>,
}

/// A table of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedTable {
    /// The id in `pg_class`.
    pub(crate) oid: u32,
    /// The table's shape before its copy began. A table with another shape is copied again, so
    /// whatever changes the shape during the copy is noticed afterwards.
    pub(crate) shape: TableShape,
    /// True if its rows answer lookups.
    pub(crate) has_lookups: bool,
    /// The definitions and lookups that its rows are copied for.
    #[serde(default, skip_serializing_if = "TableReaders::is_empty")]
    pub(crate) readers: TableReaders,
    /// The definitions and lookups that it was copied for before this copy, if the copy is for others
    /// only. What these have of the table follows the stream, and no chunk changes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) settled: Option<TableReaders>,
    pub(crate) progress: TableCopy,
    /// A position before the catalog was read for this copy. Changes that were committed up to here
    /// are left to the copy, which reads later: they may be of a former shape of the table.
    #[serde(default)]
    pub(crate) copied_after: Lsn,
    /// True if rows of an earlier copy are stored under the table's number. Then each row is compared
    /// with its record, and at the end stored rows that no longer exist are removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) has_former_rows: bool,
    /// True if the source can be asked which stored rows still exist.
    #[serde(skip)]
    pub(crate) can_compare: bool,
}

/// Definitions and lookups, by their numbers in source rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableReaders {
    definitions: BTreeSet<u16>,
    lookups: BTreeSet<u16>,
}

/// The progress of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableCopy {
    /// Not begun.
    Todo,
    /// Copied up to the row with this key, inclusive.
    After(Vec<String>),
    /// All rows are copied. Stored rows up to this place in the store are compared with the source,
    /// and removed if it no longer has them. Without a place, none is compared.
    Removing(Option<String>),
    /// Complete: copied in chunks.
    Done,
    /// Complete: a table without a key, copied in this one snapshot.
    Whole(WholeSnapshot),
}

/// The one snapshot in which a table without a key was read, as it is stored: the `pg_snapshot`, then `@` and
/// a position of the source after the read. Records of former versions have no position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WholeSnapshot(String);

impl WholeSnapshot {
    /// Returns the stored form of a snapshot. A crash of the server must not lose WAL before `end`.
    pub(crate) fn new(snapshot: &PgSnapshot, end: Lsn) -> Self {
        Self(format!("{snapshot}@{end}"))
    }

    /// Returns whether the rows that were read contain the changes of a committed transaction.
    ///
    /// The id alone does not tell. The server assigns an id again if it crashes before it has flushed
    /// that a transaction of this id was rolled back.
    fn contains(&self, xid: u32, commit: Lsn) -> bool {
        let (snapshot, end) = match self.0.split_once('@') {
            Some((snapshot, end)) => (snapshot, end.parse().ok()),
            None => (&*self.0, None),
        };
        let is_before_end = end.is_none_or(|end| commit <= end);
        is_before_end && PgSnapshot::parse(snapshot).is_some_and(|snapshot| snapshot.sees(xid))
    }
}

/// The rows of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkRange {
    /// Rows of the source after this key; without one, the first. They are applied.
    After(Option<Vec<String>>),
    /// Stored rows from this place in the store on; without one, the first. Those that the source
    /// no longer has are removed.
    Stored(Option<String>),
}

/// The place up to which a chunk has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkEnd {
    /// The key of the last row; `None` if there was no row.
    Key(Option<Vec<String>>),
    /// The place in the store where the next stored rows begin; `None` after the last one.
    Place(Option<String>),
}

/// Tables with their numbers, and what became of those that were known.
#[derive(Debug, Default)]
pub(crate) struct NumberedCopies {
    /// The numbers, in the order of the tables.
    pub(crate) numbers: Vec<u16>,
    /// Known tables that are not among them.
    pub(crate) gone: Vec<GoneTable>,
    /// Known tables that are copied again: their indexes, and the reasons.
    pub(crate) changed: Vec<(usize, String)>,
    /// Known tables that are copied for further definitions or lookups only: their indexes.
    pub(crate) extended: Vec<usize>,
    /// True if readers must wait for a copy, since what they have of a table is not right.
    pub(crate) is_held: bool,
}

/// The definitions and lookups that may be copied for.
#[derive(Clone, Debug, Default)]
pub(crate) struct CopyReaders {
    /// All that the run maintains.
    pub(crate) all: TableReaders,
    /// Those of configs that readers have or may have back at any time. `None` if readers wait at a
    /// checkpoint in any case.
    pub(crate) served: Option<TableReaders>,
    /// True if rows of an earlier copy may be ahead of the stream.
    pub(crate) is_ahead: bool,
}

/// A table whose rows are to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoneTable {
    pub(crate) number: u16,
    pub(crate) has_lookups: bool,
}

impl TableReaders {
    pub(crate) fn new(
        definitions: impl IntoIterator<Item = u16>,
        lookups: impl IntoIterator<Item = u16>,
    ) -> Self {
        Self {
            definitions: definitions.into_iter().collect(),
            lookups: lookups.into_iter().collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.definitions.is_empty() && self.lookups.is_empty()
    }

    /// Adds other definitions and lookups.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.definitions.extend(&other.definitions);
        self.lookups.extend(&other.lookups);
    }

    /// Returns the lowest numbers above all definitions and all lookups; `None` if there is none.
    pub(crate) fn free_numbers(&self) -> Option<(u16, u16)> {
        let next = |numbers: &BTreeSet<u16>| match numbers.last() {
            Some(last) => last.checked_add(1),
            None => Some(0),
        };
        Some((next(&self.definitions)?, next(&self.lookups)?))
    }

    /// Returns those that are not among others.
    fn without(&self, other: &Self) -> Self {
        Self {
            definitions: &self.definitions - &other.definitions,
            lookups: &self.lookups - &other.lookups,
        }
    }

    pub(crate) fn contains(&self, other: &Self) -> bool {
        self.definitions.is_superset(&other.definitions) && self.lookups.is_superset(&other.lookups)
    }

    pub(crate) fn intersects(&self, other: &Self) -> bool {
        !self.definitions.is_disjoint(&other.definitions)
            || !self.lookups.is_disjoint(&other.lookups)
    }
}

impl CopyState {
    /// Gives each table a number. Tables whose shape is known keep their number and progress. A table that
    /// was known in another shape is copied again, under its number if its rows can be compared with
    /// the stored ones. A table that definitions or lookups read for which it was not copied is copied
    /// for these only, if readers need not wait for it, and otherwise again. Others get the next number.
    /// Known tables that are not among them are gone, if any maintained reader has rows of them.
    /// Returns `None` when no number is left.
    pub(crate) fn number(
        &mut self,
        tables: impl IntoIterator<Item = CopiedTable>,
        readers: &CopyReaders,
    ) -> Option<NumberedCopies> {
        let is_served = |table: &TableReaders| {
            readers.served.as_ref().is_none_or(|served| served.intersects(table))
        };
        let tables: Vec<_> = tables.into_iter().collect();
        let mut numbered = NumberedCopies::default();
        let mut taken: Vec<_> = tables.iter().filter_map(|table| self.place_of(table)).collect();
        for (index, table) in tables.into_iter().enumerate() {
            let place = match self.place_of(&table) {
                Some(place) if self.is_copied_for(place, &table.readers) => {
                    self.settle(place, &table.readers);
                    place
                }
                Some(place) if self.can_extend(place, &table, readers) => {
                    self.extend_copy(place, &table);
                    numbered.extended.push(index);
                    place
                }
                Some(place) => {
                    let reason = "the sync config reads more of it".to_owned();
                    numbered.changed.push((index, reason));
                    numbered.is_held |= is_served(&table.readers);
                    self.begin_copy(table, Some(place))
                }
                None => {
                    let former = self.former_place(&table, &taken);
                    let reason = former.map(|at| self.differences(at, &table));
                    numbered.changed.extend(reason.map(|reason| (index, reason)));
                    numbered.is_held |= is_served(&table.readers);
                    self.begin_copy(table, former)
                }
            };
            taken.push(place);
            numbered.numbers.push(u16::try_from(place).ok()?);
        }

        for (number, table) in (0_u16..).zip(&mut self.tables) {
            if !numbered.numbers.contains(&number)
                && let Some(CopiedTable { has_lookups, readers: of_table, .. }) = table.take()
                // Rows of others are in buckets and lookups that no present config names.
                && (of_table.is_empty() || of_table.intersects(&readers.all))
            {
                numbered.is_held |= of_table.is_empty() || is_served(&of_table);
                numbered.gone.push(GoneTable { number, has_lookups });
            }
        }

        Some(numbered)
    }

    /// Returns all definitions and lookups that any table was ever copied for.
    pub(crate) fn all_readers(&self) -> TableReaders {
        let mut all = TableReaders::default();
        for table in self.tables.iter().flatten() {
            all.extend(&table.readers);
        }
        all
    }

    /// Returns whether the table at a place is copied for all of these readers. Those that are gone stay
    /// recorded: their numbers are never used again.
    fn is_copied_for(&self, place: usize, readers: &TableReaders) -> bool {
        self.tables[place].as_ref().is_some_and(|known| known.readers.contains(readers))
    }

    /// Ends the copy of a table if it is for none of these readers any more.
    fn settle(&mut self, place: usize, readers: &TableReaders) {
        if let Some(known) = &mut self.tables[place]
            && known.settled.as_ref().is_some_and(|settled| settled.contains(readers))
        {
            known.settled = None;
            known.progress = TableCopy::Done;
        }
    }

    /// Returns whether a table can be copied for further readers while what the others have of it goes on
    /// following the stream.
    fn can_extend(&self, place: usize, table: &CopiedTable, readers: &CopyReaders) -> bool {
        let (Some(known), Some(served)) = (&self.tables[place], &readers.served) else {
            return false;
        };
        // Stored rows of a table that nobody has read for a while are of that time.
        let is_maintained = served.intersects(&table.readers);
        let complete = known.settled.as_ref().unwrap_or(&known.readers);
        let is_only_for_new = !table.readers.without(complete).intersects(served);
        let is_complete = match &known.progress {
            TableCopy::Done => true,
            // Until the stream has passed it, the snapshot says which changes are in the copy.
            TableCopy::Whole(_) => !readers.is_ahead,
            TableCopy::Todo | TableCopy::After(_) | TableCopy::Removing(_) => false,
        };
        is_maintained && is_only_for_new && (is_complete || known.settled.is_some())
    }

    /// Begins to copy a table for further readers.
    fn extend_copy(&mut self, place: usize, table: &CopiedTable) {
        let Some(known) = &mut self.tables[place] else { return };
        if known.settled.is_none() {
            known.settled = Some(known.readers.clone());
        }
        // Those of a copy that was given up stay: nobody else may get their numbers.
        known.readers.extend(&table.readers);
        known.has_lookups |= table.has_lookups;
        known.can_compare = table.can_compare;
        known.has_former_rows = false;
        known.progress = TableCopy::Todo;
    }

    /// Returns whether a table's copy is for some of its readers only.
    pub(crate) fn is_extended(&self, number: u16) -> bool {
        let table = self.tables.get(usize::from(number)).and_then(Option::as_ref);
        table.is_some_and(|table| table.settled.is_some())
    }

    /// Returns the place of a table in the same shape.
    fn place_of(&self, table: &CopiedTable) -> Option<usize> {
        let is_it = |known: &Option<CopiedTable>| {
            known.as_ref().is_some_and(|known| known.shape == table.shape)
        };
        self.tables.iter().position(is_it)
    }

    /// Returns the place of a table that was found again in another shape: as the same relation, or
    /// under its name.
    fn former_place(&self, table: &CopiedTable, taken: &[usize]) -> Option<usize> {
        let find = |is_it: &dyn Fn(&CopiedTable) -> bool| {
            let is_free_and_it = |&(place, known): &(usize, &Option<CopiedTable>)| {
                !taken.contains(&place) && known.as_ref().is_some_and(is_it)
            };
            self.tables.iter().enumerate().find(is_free_and_it).map(|(place, _)| place)
        };
        find(&|known| known.oid == table.oid)
            .or_else(|| find(&|known| table.shape.has_name_of(&known.shape)))
    }

    /// Returns the differences of a table from the one at a place, for people.
    fn differences(&self, place: usize, table: &CopiedTable) -> String {
        let known = self.tables[place].as_ref();
        known.map(|known| table.shape.differences(&known.shape)).unwrap_or_default()
    }

    /// Begins to copy a table, which was known at the place `former` in another shape. Returns its
    /// place.
    fn begin_copy(&mut self, mut table: CopiedTable, former: Option<usize>) -> usize {
        let known = former.and_then(|place| self.tables[place].as_ref());
        let comparable =
            known.filter(|known| table.can_compare && table.shape.has_key_of(&known.shape));
        table.has_former_rows = comparable.is_some();
        // Former answers to lookups may be stored that the table no longer gives.
        table.has_lookups |= comparable.is_some_and(|known| known.has_lookups);
        if let Some(known) = comparable {
            // Stored rows refer to them, so nobody else may get their numbers.
            table.readers.extend(&known.readers);
        }

        let place = match former {
            Some(place) if table.has_former_rows => place,
            Some(_) | None => {
                self.tables.push(None);
                self.tables.len() - 1
            }
        };
        self.tables[place] = Some(table);
        place
    }

    /// Invalidates the stored shapes of all tables, so that all of them are copied again.
    pub(crate) fn forget_all(&mut self) {
        for table in self.tables.iter_mut().flatten() {
            table.shape.forget();
        }
    }

    /// Invalidates the stored shape of a table, so that it is copied again.
    pub(crate) fn forget(&mut self, oid: Option<u32>) {
        for table in self.tables.iter_mut().flatten().filter(|table| Some(table.oid) == oid) {
            table.shape.forget();
        }
    }

    /// Invalidates what is stored of a table: it is copied again under a new number, and the rows under
    /// the present one are removed from the buckets that have them.
    pub(crate) fn forget_rows(&mut self, oid: u32) {
        for table in self.tables.iter_mut().flatten().filter(|table| table.oid == oid) {
            table.shape = TableShape::default();
        }
    }

    /// Returns the position up to which a table's changes are left to its copy.
    pub(crate) fn copied_after(&self, number: u16) -> Lsn {
        let table = self.tables.get(usize::from(number)).and_then(Option::as_ref);
        table.map(|table| table.copied_after).unwrap_or_default()
    }

    /// Returns whether the generation has a table, in whatever shape.
    pub(crate) fn holds(&self, oid: u32) -> bool {
        self.tables.iter().flatten().any(|table| table.oid == oid)
    }

    /// Returns the number and the progress of the next table to copy a chunk of.
    pub(crate) fn next(&self) -> Option<(u16, &TableCopy)> {
        (0_u16..).zip(&self.tables).find_map(|(number, table)| match &table.as_ref()?.progress {
            progress @ (TableCopy::Todo | TableCopy::After(_) | TableCopy::Removing(_)) => {
                Some((number, progress))
            }
            TableCopy::Done | TableCopy::Whole(_) => None,
        })
    }

    /// Returns whether rows of an earlier copy are stored under a table's number.
    pub(crate) fn has_former_rows(&self, number: u16) -> bool {
        let table = self.tables.get(usize::from(number)).and_then(Option::as_ref);
        table.is_some_and(|table| table.has_former_rows)
    }

    /// Notes the progress of a table.
    pub(crate) fn advance(&mut self, number: u16, progress: TableCopy) {
        if let Some(Some(table)) = self.tables.get_mut(usize::from(number)) {
            if progress == TableCopy::Done {
                table.settled = None;
            }
            table.progress = progress;
        }
    }

    /// Returns whether the copy contains a transaction's changes of a table without a key, or will
    /// contain them. Such a table is read in one snapshot, since equal rows are counted.
    pub(crate) fn contains_keyless_change(&self, number: u16, xid: u32, commit: Lsn) -> bool {
        let Some(Some(table)) = self.tables.get(usize::from(number)) else { return false };
        if table.settled.is_some() {
            // The stream goes on. A chunk adds nothing for a row that the stream has not brought yet.
            return false;
        }
        match &table.progress {
            TableCopy::Todo | TableCopy::After(_) | TableCopy::Removing(_) => true,
            TableCopy::Whole(snapshot) => snapshot.contains(xid, commit),
            TableCopy::Done => false,
        }
    }
}

#[cfg(test)]
mod tests;
