//! The state of one row while its staged records are applied.
//!
//! Several buckets may contain a copy of the same row, with different values. The copy with the
//! greatest op id wins, and its value is the visible row. A copy whose value equals the visible row
//! does not store it again (`_tw_rows.payload` is null). Any other copy stores its own value: it
//! becomes visible when the winner goes.
//!
//! | winner | other copy before | app wrote to the row | visible row | other copy afterwards |
//! |---|---|---|---|---|
//! | new value | same as visible | either | the new value | stores the value from before (1) |
//! | new value | own value | either | the new value | unchanged (2) |
//! | same as visible | same as visible | no | unchanged | unchanged |
//! | same as visible | same as visible | yes | the server's value, restored | unchanged |
//! | same as visible | own value | no | unchanged | unchanged (2) |
//! | same as visible | own value | yes | the server's value, restored | unchanged (2) |
//! | none | none | either | deleted | |
//!
//! 1. Unless it equals the new visible row.
//! 2. A value that arrives now and equals the visible row is not stored.
//!
//! "The value from before" is the server's: the row itself, or the value saved before the
//! app wrote to it.

use crate::db::staging::kind;
use crate::db::table_plan::{ColumnValues, TablePlan};

/// A bucket's copy of a row.
#[derive(Debug)]
pub(super) struct BucketCopy {
    pub(super) bucket: i64,
    pub(super) subkey: String,
    pub(super) op_id: i64,
    pub(super) value: CopyValue,
    /// The copy has to be written to `_tw_rows`.
    pub(super) is_changed: bool,
}

#[derive(Debug)]
pub(super) enum CopyValue {
    /// Equal to the row as it was visible before.
    SameAsVisible,
    /// JSON of its own.
    Own(String),
}

/// A staged record of the row.
pub(super) struct StagedRecord {
    pub(super) kind: i64,
    pub(super) bucket: i64,
    pub(super) subkey: String,
    pub(super) op_id: i64,
    pub(super) data: Option<String>,
}

/// A row with its copies.
#[derive(Debug)]
pub(super) struct RowState {
    pub(super) type_id: i64,
    pub(super) id: String,
    pub(super) copies: Vec<BucketCopy>,
    /// Bucket and subkey of copies that were removed.
    pub(super) removed: Vec<(i64, String)>,
    /// Copies were there before, so the row may be visible.
    pub(super) had_copies: bool,
    /// Set if the app wrote to the row. Contains the server's value before, if there was one.
    pub(super) touched: Option<Option<String>>,
}

impl RowState {
    /// Applies one staged record. They come in the order of `seq`, so the last one of a copy wins.
    pub(super) fn apply_op(&mut self, record: StagedRecord) {
        let StagedRecord { kind, bucket, subkey, op_id, data } = record;
        if kind == kind::TOUCHED {
            self.touched = Some(data);
            return;
        }

        let place = self.copies.iter().position(|c| c.bucket == bucket && c.subkey == subkey);
        match (data, place) {
            (Some(data), Some(place)) => {
                let copy = &mut self.copies[place];
                copy.op_id = op_id;
                copy.value = CopyValue::Own(data);
                copy.is_changed = true;
            }
            (Some(data), None) => {
                let value = CopyValue::Own(data);
                self.copies.push(BucketCopy { bucket, subkey, op_id, value, is_changed: true });
            }
            (None, Some(place)) => {
                let copy = self.copies.swap_remove(place);
                self.removed.push((copy.bucket, copy.subkey));
            }
            (None, None) => {}
        }
    }

    /// Returns the index of the winning copy. Op ids differ between buckets; bucket and subkey only
    /// make the choice independent of the order of the copies.
    pub(super) fn winner(&self) -> Option<usize> {
        self.copies
            .iter()
            .enumerate()
            .max_by_key(|(_, copy)| (copy.op_id, copy.bucket, copy.subkey.as_str()))
            .map(|(at, _)| at)
    }

    /// Returns whether the server's value from before has to be known. It is not read otherwise:
    /// most rows have one copy, and it is new.
    pub(super) fn needs_value_before(&self, winner: usize) -> bool {
        let others_had_it = self
            .copies
            .iter()
            .enumerate()
            .any(|(at, copy)| at != winner && matches!(copy.value, CopyValue::SameAsVisible));
        let winner_has_it = matches!(self.copies[winner].value, CopyValue::SameAsVisible);

        others_had_it || (winner_has_it && (self.touched.is_some() || self.copies.len() > 1))
    }
}

/// The value that a row shows from now on.
pub(super) struct VisibleValue<'v> {
    pub(super) text: &'v str,
    pub(super) values: &'v ColumnValues<'v>,
    /// It differs from what was visible before.
    pub(super) is_new: bool,
}

impl BucketCopy {
    /// Makes a copy that does not win keep its own value, unless that equals the visible row.
    pub(super) fn keep_own_value(
        &mut self,
        plan: &TablePlan,
        before: Option<&str>,
        visible: &VisibleValue<'_>,
    ) {
        match &self.value {
            // It equals the visible row, which does not change.
            CopyValue::SameAsVisible if !visible.is_new => {}

            // It equals the visible row, which is about to be overwritten. The value is saved now,
            // because it exists nowhere else.
            CopyValue::SameAsVisible => {
                if let Some(before) = before.filter(|before| !is_equal(plan, before, visible)) {
                    self.value = CopyValue::Own(before.to_owned());
                    self.is_changed = true;
                }
            }

            // Two buckets have the same value. It is stored once, in the visible row.
            CopyValue::Own(own) if self.is_changed && is_equal(plan, own, visible) => {
                self.value = CopyValue::SameAsVisible;
            }
            CopyValue::Own(_) => {}
        }
    }
}

/// Returns whether a value shows the same row. Two texts may, if they differ in columns that the
/// table lacks or in how they are written.
fn is_equal(plan: &TablePlan, text: &str, visible: &VisibleValue<'_>) -> bool {
    text == visible.text || plan.read(text).is_ok_and(|values| values == *visible.values)
}
