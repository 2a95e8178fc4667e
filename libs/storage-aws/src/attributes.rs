//! The names of all attributes, grouped by the items that have them.
//!
//! Names are one letter long, because DynamoDB charges for each byte of a name in each item. A letter
//! has a meaning within its group only. Expressions are built from these constants, so no other file
//! spells a name.

/// Name of every partition key.
pub const PARTITION: &str = "p";
/// Name of every sort key.
pub const SORT: &str = "s";

/// Name of the object that holds a versioned record or payload too long for an item.
pub(crate) const OBJECT: &str = "o";

/// JSON records: control, generations and write requests.
pub(crate) mod json_record {
    /// The revision that conditional writes compare. Generations have none.
    pub(crate) const REVISION: &str = "r";
    /// The record as JSON text.
    pub(crate) const TEXT: &str = "v";
    /// The record as compressed JSON text.
    pub(crate) const COMPRESSED: &str = "z";
}

/// The control record, besides those of a JSON record.
pub(crate) mod control {
    /// The layout version of the whole store.
    pub(crate) const LAYOUT: &str = "y";
}

/// Closed epochs.
pub(crate) mod closed_epoch {
    /// The last op id that the epoch committed.
    pub(crate) const LAST_COMMITTED: &str = "l";
}

/// Segments. A long payload is an object, see [`OBJECT`](super::OBJECT).
pub(crate) mod segment {
    /// The last op id of the previous segment.
    pub(crate) const PREV: &str = "a";
    /// The checksum of all operations before the segment.
    pub(crate) const SUM_BEFORE: &str = "b";
    /// The checksum of the segment's operations.
    pub(crate) const SUM: &str = "n";
    /// The number of operations.
    pub(crate) const COUNT: &str = "c";
    /// The payload.
    pub(crate) const PAYLOAD: &str = "d";
    /// The length of a payload that is an object.
    pub(crate) const PAYLOAD_BYTES: &str = "l";
}

/// Versioned records: bucket heads, lookups, source rows and copies. A long record is an object, see
/// [`OBJECT`](super::OBJECT).
pub(crate) mod versioned_record {
    /// The newest op id, which conditional writes compare.
    pub(crate) const NEWEST_OP: &str = "t";
    /// The encoded record.
    pub(crate) const RECORD: &str = "v";
}

/// Buckets, besides those of a versioned record.
pub(crate) mod bucket {
    /// The catalog.
    pub(crate) const CATALOG: &str = "k";
    /// The revision of the catalog. A bucket without a catalog has none.
    pub(crate) const CATALOG_REVISION: &str = "g";
}

/// Items of lists whose sort key is a text: lookups, source rows, registry entries and compaction tasks.
pub(crate) mod listed {
    /// The full text, if the sort key is truncated.
    pub(crate) const FULL_TEXT: &str = "k";
}

/// Compaction tasks, besides those of listed items.
pub(crate) mod compaction_task {
    /// The operation whose write queued the task.
    pub(crate) const TRIGGERED_BY: &str = "a";
    /// The earliest time of processing in seconds since 1970.
    pub(crate) const NOT_BEFORE: &str = "n";
}

/// The ticket counter.
pub(crate) mod ticket_counter {
    /// The last ticket that was taken.
    pub(crate) const LAST_TICKET: &str = "t";
}

/// Write requests, besides those of a JSON record.
pub(crate) mod write_requests {
    /// The time at which the item expires, in seconds since 1970.
    pub(crate) const EXPIRES: &str = "x";
}

#[cfg(test)]
mod tests;
