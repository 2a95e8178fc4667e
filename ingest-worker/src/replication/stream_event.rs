//! Translates events of the replication client into those of the assembler.

use pgwire_replication::ReplicationEvent;
use tidewater_storage::Lsn;

use crate::replication::events::Event;

/// Returns the assembler's event; `None` for one that it need not know of.
pub(crate) fn assembler_event(event: ReplicationEvent) -> Option<Event> {
    Some(match event {
        ReplicationEvent::Begin { final_lsn, xid, commit_time_micros } => {
            let commit_lsn = Lsn(final_lsn.0);
            Event::Begin { xid, commit_lsn, commit_time: commit_time_micros }
        }
        ReplicationEvent::XLogData { data, .. } => Event::Data(data),
        ReplicationEvent::Commit { end_lsn, .. } => Event::Commit { end_lsn: Lsn(end_lsn.0) },
        ReplicationEvent::Message { prefix, content, transactional, .. } => {
            Event::LogicalMessage { is_transactional: transactional, prefix, content }
        }
        ReplicationEvent::KeepAlive { wal_end, .. } => Event::Keepalive { wal_end: Lsn(wal_end.0) },
        // The run sets no position to stop at.
        ReplicationEvent::StoppedAt { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgwire_replication::Lsn as PgLsn;

    fn check(event: ReplicationEvent, expected: Option<Event>) {
        let shown = format!("{event:?}");
        assert_eq!(assembler_event(event), expected, "{shown}");
    }

    #[test]
    fn a_transaction_keeps_the_start_and_the_end_of_its_commit_record() {
        check(
            ReplicationEvent::Begin { final_lsn: PgLsn(70), xid: 5, commit_time_micros: 9 },
            Some(Event::Begin { xid: 5, commit_lsn: Lsn(70), commit_time: 9 }),
        );
        check(
            ReplicationEvent::Commit { lsn: PgLsn(70), end_lsn: PgLsn(80), commit_time_micros: 9 },
            Some(Event::Commit { end_lsn: Lsn(80) }),
        );
    }

    #[test]
    fn a_change_is_passed_on_as_it_is() {
        check(
            ReplicationEvent::XLogData {
                wal_start: PgLsn(60),
                wal_end: PgLsn(0),
                server_time_micros: 9,
                data: "change".into(),
            },
            Some(Event::Data("change".into())),
        );
    }

    #[test]
    fn a_message_says_whether_it_belongs_to_the_open_transaction() {
        for transactional in [true, false] {
            check(
                ReplicationEvent::Message {
                    transactional,
                    lsn: PgLsn(60),
                    prefix: "p".into(),
                    content: "c".into(),
                },
                Some(Event::LogicalMessage {
                    is_transactional: transactional,
                    prefix: "p".into(),
                    content: "c".into(),
                }),
            );
        }
    }

    #[test]
    fn a_keepalive_says_how_far_the_server_has_sent() {
        check(
            ReplicationEvent::KeepAlive {
                wal_end: PgLsn(90),
                reply_requested: true,
                server_time_micros: 9,
            },
            Some(Event::Keepalive { wal_end: Lsn(90) }),
        );
    }

    #[test]
    fn a_position_to_stop_at_is_ignored() {
        check(ReplicationEvent::StoppedAt { reached: PgLsn(90) }, None);
    }
}
