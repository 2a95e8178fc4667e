//! Adds a copied row to the buckets and lookups of a new config, while readers have another one.
//!
//! A chunk is read from a snapshot that contains everything that was applied, and perhaps transactions that
//! the stream has not brought yet. What configs that are served have of the row must not be ahead of the
//! stream, so the chunk leaves it as it is.

use tidewater_storage::{ControlStore, RecordStore};

use crate::apply::applier::{Applier, RowRef};
use crate::apply::difference::answers;
use crate::apply::fan_out::keep_limits;
use crate::apply::out_of_line::out_of_line;
use crate::apply::source_row::SourceRow;
use crate::log::error::WriteError;

impl<S: ControlStore + RecordStore + Clone + 'static> Applier<S> {
    /// Applies a row that a chunk has read for definitions and lookups that are not served.
    ///
    /// # Errors
    /// When its record is damaged, or as [`LogWriter::flush`](crate::LogWriter::flush).
    pub(super) async fn extend(
        &mut self,
        row: &RowRef,
        values: &[Option<&str>],
    ) -> Result<(), WriteError> {
        let tables = self.tables.clone();
        let table = &tables[row.table()];
        let stored = self.stored_record(row);
        let old = stored.as_ref().map(|stored| self.decode(stored, row)).transpose()?;
        if table.is_keyless() && old.is_none() {
            // The row was inserted after what was applied. The stream brings it, and counts it.
            return Ok(());
        }
        let old = old.unwrap_or_default();

        let mut output = std::mem::take(&mut self.output);
        table.evaluator.evaluate_unserved(values, &mut output);
        let problems = keep_limits(&table.evaluator, &mut output);
        if !problems.is_empty() {
            self.note_problems(row, values, &problems);
        }

        let (mut memberships, former_memberships): (Vec<_>, Vec<_>) = old
            .memberships
            .iter()
            .copied()
            .partition(|one| table.evaluator.serves_definition(one.definition));
        let (mut kept_answers, former_answers): (Vec<_>, Vec<_>) =
            old.answers.iter().copied().partition(|one| table.evaluator.serves_lookup(one.lookup));

        self.begin_row(row);
        let known = self.with_digests(&former_memberships)?;
        let mut extended = self.diff_buckets(&known, &output).await?;
        self.drop_digests(row.table(), &mut extended);
        memberships.extend(extended);
        kept_answers.extend(self.diff_lookups(&former_answers, answers(&output), row).await?);

        // An update that leaves out a value means the value as of the stream. Of a column that is served
        // that is the stored one, or none.
        let is_served = |column: u16| table.evaluator.serves_column(usize::from(column));
        let mut toast: Vec<_> =
            old.toast.iter().copied().filter(|(column, _)| is_served(*column)).collect();
        let copied = out_of_line(values, table.evaluator.columns_read());
        toast.extend(copied.into_iter().filter(|(column, _)| !is_served(*column)));
        toast.sort_unstable_by_key(|(column, _)| *column);

        let record =
            SourceRow { copies: old.copies.max(1), memberships, answers: kept_answers, toast };
        if record != old {
            self.set_record(row, &record);
        }
        self.output = output;
        Ok(())
    }
}
