//! The request units that the calls of a process have consumed.

use std::sync::{Mutex, PoisonError};

use aws_sdk_dynamodb::types::ConsumedCapacity;

use crate::tables::Table;

/// Request units, which are what DynamoDB charges for on demand.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RequestUnits {
    /// Write request units: one for each KB of an item that was begun.
    pub write: f64,
    /// Read request units: one for each 4 KB that were begun, half of it if not read strongly.
    pub read: f64,
}

/// Request units since the store was connected, by table, as DynamoDB itself counted them. Attempts
/// that got no reply are not in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConsumedUnits {
    tables: [RequestUnits; Table::ALL.len()],
}

impl ConsumedUnits {
    /// Those of one table.
    #[must_use]
    pub fn of(&self, table: Table) -> RequestUnits {
        self.tables[table as usize]
    }

    /// Those of all tables.
    #[must_use]
    pub fn total(&self) -> RequestUnits {
        let write = self.tables.iter().map(|units| units.write).sum();
        RequestUnits { write, read: self.tables.iter().map(|units| units.read).sum() }
    }
}

/// Adds up what replies say they have cost.
#[derive(Debug, Default)]
pub(crate) struct CapacityMeter(Mutex<ConsumedUnits>);

impl CapacityMeter {
    pub(crate) fn read(&self, table: Table, consumed: Option<&ConsumedCapacity>) {
        self.add(table, |units| units.read += units_of(consumed));
    }

    pub(crate) fn wrote(&self, table: Table, consumed: Option<&ConsumedCapacity>) {
        self.add(table, |units| units.write += units_of(consumed));
    }

    /// A write that its condition refused, over an item of this many bytes: no reply tells.
    pub(crate) fn refused(&self, table: Table, bytes: usize) {
        let units = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX).max(1);
        self.add(table, |of_table| of_table.write += f64::from(units));
    }

    pub(crate) fn consumed(&self) -> ConsumedUnits {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, table: Table, add: impl FnOnce(&mut RequestUnits)) {
        let mut consumed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut consumed.tables[table as usize]);
    }
}

fn units_of(consumed: Option<&ConsumedCapacity>) -> f64 {
    consumed.and_then(ConsumedCapacity::capacity_units).unwrap_or_default()
}
