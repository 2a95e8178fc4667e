//! The values of a row that a later UPDATE may leave out, since PostgreSQL stores them out of line.

/// Bytes of a row below which its record keeps no values. By default PostgreSQL stores values out of
/// line only in longer rows (`toast_tuple_target` is about 2,000). Where a table sets a lower target,
/// values that are missing in the stream are read from the source instead.
const TOAST_ROW_BYTES: usize = 1_900;
/// Bytes below which a value is never stored out of line: PostgreSQL's pointer is as long.
const TOAST_VALUE_BYTES: usize = 18;
/// Bytes of values that a record keeps at most, so that records stay small. Values beyond it are
/// read from the source when they are missing.
const TOAST_KEPT_BYTES_MAX: usize = 64 << 10;

/// Returns the values that a later UPDATE may leave out, of the columns that the config reads.
pub(super) fn out_of_line<'a>(
    row: &[Option<&'a str>],
    columns_read: &[bool],
) -> Vec<(u16, &'a str)> {
    let row_bytes: usize = row.iter().flatten().map(|value| value.len()).sum();
    if row_bytes < TOAST_ROW_BYTES {
        return Vec::new();
    }

    let long = row.iter().enumerate().filter_map(|(column, value)| {
        let value = value.filter(|v| columns_read[column] && v.len() >= TOAST_VALUE_BYTES)?;
        let column = u16::try_from(column).expect("a table has at most 1,600 columns");
        Some((column, value))
    });
    let mut kept: Vec<_> = long.collect();

    // If there is no room for all of them, the longest are dropped.
    kept.sort_unstable_by_key(|(_, value)| value.len());
    let mut bytes = 0;
    kept.retain(|(_, value)| {
        bytes += value.len();
        bytes <= TOAST_KEPT_BYTES_MAX
    });

    kept.sort_unstable_by_key(|(column, _)| *column);
    kept
}
