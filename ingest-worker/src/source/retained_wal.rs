//! The WAL that a slot retains while no worker runs, for people.

use std::time::Duration;

use tidewater_storage::Lsn;
use tokio_postgres::Client;

use crate::source::error::SourceError;
use crate::source::quote::quote_literal;

/// Kilobytes in a megabyte: sizes are printed in MB, since WAL grows in files of 16 MB.
const BYTES_PER_MB: u64 = 1 << 20;

/// Reads what a slot retains, and the limit of the server. The setting prints with its unit.
const RETAINED: &str = "
SELECT COALESCE(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::int8,
       current_setting('max_slot_wal_keep_size')
FROM pg_replication_slots WHERE slot_name = $1";

const IS_CONFIRMED: &str = "
SELECT confirmed_flush_lsn >= $2::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $1";

/// Pause before the next look whether the server has taken a confirmation. The driver sends one a
/// second at most.
const CONFIRMATION_PAUSE: Duration = Duration::from_millis(100);

/// Waits until the server has taken the confirmation of a position: from then on it can remove the WAL
/// before it.
pub(crate) async fn wait_until_confirmed(
    client: &Client,
    slot: &str,
    position: Lsn,
) -> Result<(), SourceError> {
    loop {
        let row = client.query_opt(IS_CONFIRMED, &[&slot, &position.to_string()]).await?;
        let row = row.ok_or(SourceError::UnexpectedAnswer("pg_replication_slots"))?;
        if row.get::<_, Option<bool>>(0) == Some(true) {
            return Ok(());
        }
        tokio::time::sleep(CONFIRMATION_PAUSE).await;
    }
}

/// Returns the warning about the slot that a worker leaves behind when it ends by itself.
pub(crate) async fn retained_wal_warning(
    client: &Client,
    slot: &str,
) -> Result<String, SourceError> {
    let row = client.query_opt(RETAINED, &[&slot]).await?;
    let row = row.ok_or(SourceError::UnexpectedAnswer("pg_replication_slots"))?;
    let limit: &str = row.get(1);
    let retained_bytes = u64::try_from(row.get::<_, i64>(0)).unwrap_or_default();
    Ok(warning(slot, retained_bytes, (limit != "-1").then_some(limit)))
}

fn warning(slot: &str, retained_bytes: u64, limit: Option<&str>) -> String {
    let retained = retained_bytes.div_ceil(BYTES_PER_MB);
    let growth = match limit {
        None => "without a limit (max_slot_wal_keep_size = -1): it can fill the server's disk"
            .to_owned(),
        Some(limit) => format!(
            "up to max_slot_wal_keep_size = {limit}: beyond it the next run copies all tables again"
        ),
    };
    let set_limit = match limit {
        None => "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf(); and ",
        Some(_) => "",
    };

    format!(
        "replication slot {slot} stays and retains WAL while no worker runs, {retained} MB now, {growth}\n    \
         fix: {set_limit}run the worker again before that, or, if it is not to run again, SELECT \
         pg_drop_replication_slot({});",
        quote_literal(slot)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_has_the_retained_wal_the_limit_and_what_to_do() {
        let unlimited = warning("s", 3 * BYTES_PER_MB + 1, None);
        assert!(unlimited.contains("slot s stays"), "{unlimited}");
        assert!(unlimited.contains("4 MB now, without a limit"), "{unlimited}");
        assert!(unlimited.contains("fix: ALTER SYSTEM SET max_slot_wal_keep_size"), "{unlimited}");
        assert!(unlimited.ends_with("SELECT pg_drop_replication_slot('s');"), "{unlimited}");

        let limited = warning("s", 0, Some("1GB"));
        assert!(limited.contains("0 MB now, up to max_slot_wal_keep_size = 1GB"), "{limited}");
        assert!(limited.contains("fix: run the worker again"), "{limited}");
    }
}
