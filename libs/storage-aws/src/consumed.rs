//! The request units that the calls of a process have consumed.

use std::sync::{Mutex, PoisonError};

use aws_sdk_dynamodb::types::ConsumedCapacity;

use crate::metrics;
use crate::tables::Table;

/// Request units, DynamoDB's unit of charge for on-demand capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RequestUnits {
    /// Write request units: one for each started KB of an item.
    pub write: f64,
    /// Read request units: one for each started 4 KB. An eventually consistent read costs half.
    pub read: f64,
}

/// Request units by table since the store was connected, as DynamoDB reports them. Attempts without a
/// reply are not included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConsumedUnits {
    tables: [RequestUnits; Table::ALL.len()],
}

impl ConsumedUnits {
    /// Returns the units of one table.
    #[must_use]
    pub fn of(&self, table: Table) -> RequestUnits {
        self.tables[table as usize]
    }

    /// Returns the units of all tables.
    #[must_use]
    pub fn total(&self) -> RequestUnits {
        RequestUnits {
            write: self.tables.iter().map(|units| units.write).sum(),
            read: self.tables.iter().map(|units| units.read).sum(),
        }
    }
}

/// Adds up the consumed capacity that replies report.
#[derive(Debug, Default)]
pub(crate) struct CapacityMeter(Mutex<ConsumedUnits>);

impl CapacityMeter {
    pub(crate) fn read(&self, table: Table, consumed: Option<&ConsumedCapacity>) {
        self.add(table, |units| units.read += units_of(consumed));
    }

    pub(crate) fn wrote(&self, table: Table, consumed: Option<&ConsumedCapacity>) {
        self.add(table, |units| units.write += units_of(consumed));
    }

    /// Adds a write whose condition failed for an item of this size. DynamoDB charges for it, but its
    /// reply does not report that.
    pub(crate) fn condition_failed(&self, table: Table, bytes: usize) {
        let units = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX).max(1);
        self.add(table, |consumed| consumed.write += f64::from(units));
    }

    pub(crate) fn consumed(&self) -> ConsumedUnits {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, table: Table, add: impl FnOnce(&mut RequestUnits)) {
        let mut consumed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let units = &mut consumed.tables[table as usize];
        let before = *units;
        add(units);

        // A counter has whole numbers, and reads cost halves. So each whole unit is counted when it is
        // complete, which loses less than one.
        metrics::count_read_units(table, whole(units.read) - whole(before.read));
        metrics::count_write_units(table, whole(units.write) - whole(before.write));
    }
}

/// Returns the whole part of a sum of units, which is never negative.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sums stay below 2^53")]
fn whole(units: f64) -> u64 {
    units as u64
}

fn units_of(consumed: Option<&ConsumedCapacity>) -> f64 {
    consumed.and_then(ConsumedCapacity::capacity_units).unwrap_or_default()
}
