//! Measures how far the committed position is behind the server, and as of when it is current.

use std::time::Duration;

use tidewater_storage::Lsn;
use tokio::time::Instant;

use crate::source::connection::ServerEnd;

/// A time by the server's clock, in microseconds since 2000.
type ServerTime = i64;

/// The replication lag, from what the server says of itself.
///
/// Times of the server are compared with each other only, so its clock need not agree with ours.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LagMeter {
    /// The last position of the server.
    server_position: Lsn,
    /// The last time of the server, and our time when it arrived.
    server_clock: Option<(ServerTime, Instant)>,
    /// The commit time of the last transaction received whole that no commit contains.
    last_received: Option<ServerTime>,
    /// The commit time of the last transaction in the commit in flight.
    last_in_flight: Option<ServerTime>,
    committed: Lsn,
    /// The position up to which the stream has sent everything.
    sent_up_to: Lsn,
    /// The end of the server's WAL, and a moment before it was read there.
    server_end: Option<(Lsn, Instant)>,
    /// The last moment as of which everything of the source was committed here.
    current_as_of: Option<Instant>,
}

impl LagMeter {
    /// Notes what the server says of itself.
    pub(crate) fn note_server(&mut self, position: Lsn, time: ServerTime, now: Instant) {
        self.server_position = self.server_position.max(position);
        self.note_time(time, now);
    }

    fn note_time(&mut self, time: ServerTime, now: Instant) {
        if self.server_clock.is_none_or(|(known, _)| known <= time) {
            self.server_clock = Some((time, now));
        }
    }

    /// Notes a keepalive: the server has sent everything up to `position`, which may be far behind the
    /// end of its WAL. `is_pending` is true while some of that is received in part, or not committed.
    pub(crate) fn note_keepalive(
        &mut self,
        position: Lsn,
        time: ServerTime,
        now: Instant,
        is_pending: bool,
    ) {
        self.note_server(position, time, now);
        self.sent_up_to = self.sent_up_to.max(position);
        self.compare_with_end(is_pending);
    }

    /// Notes the end of the server's WAL and the server's time, as a query has read them that began at
    /// `read_at`.
    pub(crate) fn note_server_end(&mut self, end: ServerEnd, read_at: Instant, is_pending: bool) {
        self.note_server(end.position, end.time, read_at);
        self.server_end = Some((end.position, read_at));
        self.compare_with_end(is_pending);
    }

    /// Nothing is pending and everything up to the end of the server's WAL was sent: so readers have
    /// what the server had when the end was read.
    fn compare_with_end(&mut self, is_pending: bool) {
        if is_pending {
            return;
        }
        // What was received since the last commit had nothing for readers.
        self.last_received = None;
        if let Some((end, read_at)) = self.server_end
            && self.sent_up_to >= end
        {
            self.current_as_of = self.current_as_of.max(Some(read_at));
        }
    }

    /// Notes a transaction that was received whole, and the time at which it was committed there.
    pub(crate) fn note_received(&mut self, time: ServerTime, now: Instant) {
        // The server's clock shows at least this time. A transaction of messages alone shows no other.
        self.note_time(time, now);
        self.last_received = self.last_received.max(Some(time));
    }

    /// Notes that a commit of everything received is in flight.
    pub(crate) fn note_requested(&mut self) {
        self.last_in_flight = self.last_in_flight.max(self.last_received.take());
    }

    /// Notes that the commit in flight has landed.
    pub(crate) fn note_landed(&mut self) {
        if let Some(time) = self.last_in_flight.take() {
            self.current_as_of = self.current_as_of.max(self.local_time(time));
        }
    }

    /// Notes that everything up to a position is committed.
    pub(crate) fn note_committed(&mut self, position: Lsn) {
        self.committed = position;
        self.server_position = self.server_position.max(position);
    }

    /// Returns the bytes of WAL that the server has and that are not committed here.
    pub(crate) fn bytes(&self) -> u64 {
        self.server_position.0 - self.committed.0
    }

    /// Returns the last moment as of which everything of the source is committed here.
    pub(crate) fn current_as_of(&self) -> Option<Instant> {
        self.current_as_of
    }

    /// Returns the moment as of which everything would be, if what was received were committed.
    pub(crate) fn current_with_received(&self) -> Option<Instant> {
        self.current_as_of.max(self.last_received.and_then(|time| self.local_time(time)))
    }

    /// Converts a time of the server to ours.
    fn local_time(&self, time: ServerTime) -> Option<Instant> {
        let (server_time, arrived_at) = self.server_clock?;
        let micros = server_time.saturating_sub(time).max(0).unsigned_abs();
        arrived_at.checked_sub(Duration::from_micros(micros))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    /// A second of the server's clock.
    const TICK: ServerTime = 1_000_000;

    /// Returns a moment of which there is an hour before.
    fn start() -> Instant {
        Instant::now() + 3_600 * SECOND
    }

    fn end(position: u64, time: ServerTime) -> ServerEnd {
        ServerEnd { position: Lsn(position), time }
    }

    #[test]
    fn an_idle_worker_is_current_as_of_the_last_look_at_the_servers_end() {
        let start = start();
        let mut meter = LagMeter::default();
        assert_eq!(meter.current_as_of(), None, "nothing is known before the server has spoken");
        meter.note_committed(Lsn(100));
        meter.note_server_end(end(100, 5 * TICK), start, false);
        assert_eq!(meter.current_as_of(), None, "what was sent is not known");
        meter.note_keepalive(Lsn(100), 6 * TICK, start + SECOND, false);
        assert_eq!((meter.bytes(), meter.current_as_of()), (0, Some(start)));

        let later = start + 15 * SECOND;
        meter.note_server_end(end(100, 20 * TICK), later, false);
        assert_eq!(meter.current_as_of(), Some(later), "nothing was added since");
    }

    /// While the server decodes WAL that has nothing for us, its keepalives name the position it has
    /// reached.
    #[test]
    fn a_keepalive_below_the_servers_end_says_nothing() {
        let start = start();
        let mut meter = LagMeter::default();
        meter.note_server_end(end(900, TICK), start, false);
        meter.note_keepalive(Lsn(500), 9 * TICK, start + 8 * SECOND, false);
        assert_eq!((meter.bytes(), meter.current_as_of()), (900, None));
        meter.note_keepalive(Lsn(900), 10 * TICK, start + 9 * SECOND, false);
        assert_eq!(meter.current_as_of(), Some(start));
    }

    #[test]
    fn a_backlog_is_current_as_of_its_last_committed_transaction() {
        let start = start();
        let mut meter = LagMeter::default();
        meter.note_server(Lsn(500), 1_000 * TICK, start);
        meter.note_received(900 * TICK, start);
        meter.note_received(940 * TICK, start);
        assert_eq!(meter.current_as_of(), None, "nothing is committed");
        assert_eq!(meter.current_with_received(), Some(start - 60 * SECOND));

        meter.note_requested();
        meter.note_received(950 * TICK, start);
        meter.note_landed();
        assert_eq!(meter.current_as_of(), Some(start - 60 * SECOND));
        assert_eq!(meter.current_with_received(), Some(start - 50 * SECOND));
    }

    #[test]
    fn a_keepalive_says_nothing_while_something_is_pending() {
        let start = start();
        let mut meter = LagMeter::default();
        meter.note_received(2 * TICK, start + SECOND);
        meter.note_keepalive(Lsn(200), 3 * TICK, start + 2 * SECOND, true);
        meter.note_requested();
        meter.note_keepalive(Lsn(200), 4 * TICK, start + 3 * SECOND, true);
        assert_eq!(meter.current_as_of(), None, "the commit has not landed");

        meter.note_landed();
        let committed_there = start + SECOND;
        assert_eq!(meter.current_as_of(), Some(committed_there));
        meter.note_server_end(end(200, 9 * TICK), start + 8 * SECOND, false);
        assert_eq!(meter.current_as_of(), Some(start + 8 * SECOND));
    }

    /// Such a transaction is committed with the next position, which nobody waits for.
    #[test]
    fn a_transaction_without_anything_for_readers_does_not_make_them_late() {
        let start = start();
        let mut meter = LagMeter::default();
        meter.note_received(TICK, start);
        meter.note_server_end(end(200, 9 * TICK), start + 8 * SECOND, false);
        meter.note_keepalive(Lsn(200), 9 * TICK, start + 9 * SECOND, false);
        assert_eq!(meter.current_with_received(), Some(start + 8 * SECOND));
    }

    #[test]
    fn a_transaction_of_messages_shows_the_time_of_the_server() {
        let start = start();
        let mut meter = LagMeter::default();
        meter.note_received(7 * TICK, start);
        assert_eq!(meter.current_with_received(), Some(start));
    }

    #[test]
    fn a_server_clock_that_goes_back_gives_no_time_in_the_future() {
        let start = start();
        let mut meter = LagMeter::default();
        meter.note_server(Lsn(100), 1_000 * TICK, start);
        meter.note_received(2_000 * TICK, start + SECOND);
        meter.note_server(Lsn(100), 500 * TICK, start + 2 * SECOND);
        assert_eq!(meter.current_with_received(), Some(start + SECOND));
    }

    #[test]
    fn a_position_that_is_ahead_of_the_server_is_no_lag() {
        let mut meter = LagMeter::default();
        meter.note_server(Lsn(50), 5, start());
        meter.note_committed(Lsn(100));
        meter.note_server(Lsn(60), 4, start());
        assert_eq!(meter.bytes(), 0);
    }

    /// An event at the source, in the stream or in the store.
    #[derive(Clone, Copy, Debug)]
    enum Incident {
        TimePasses(u64),
        /// A transaction commits, so long after the time that its commit record has.
        SourceCommits {
            skew_millis: u64,
        },
        /// The oldest transaction that is not received arrives.
        Arrives,
        /// The server says how far it has sent.
        Keepalive,
        /// The end of the server's WAL is read.
        ReadsEnd,
        CommitBegins,
        CommitLands,
    }

    fn incidents() -> impl Strategy<Value = Vec<Incident>> {
        let incident = prop_oneof![
            3 => (1_u64..5_000).prop_map(Incident::TimePasses),
            3 => (0_u64..2_000).prop_map(|skew_millis| Incident::SourceCommits { skew_millis }),
            3 => Just(Incident::Arrives),
            2 => Just(Incident::Keepalive),
            2 => Just(Incident::ReadsEnd),
            2 => Just(Incident::CommitBegins),
            2 => Just(Incident::CommitLands),
        ];
        proptest::collection::vec(incident, 0..60)
    }

    /// A transaction of the source.
    #[derive(Clone, Copy, Debug)]
    struct Transaction {
        /// The moment at which it became visible there.
        committed_at: Instant,
        /// The time of its commit record. PostgreSQL takes it earlier, so that of two transactions
        /// the first one may have the later time.
        commit_time: ServerTime,
    }

    /// A source, its stream and a store.
    struct Model {
        begun: Instant,
        now: Instant,
        /// The difference of the server's clock from ours.
        server_offset: ServerTime,
        unsent: VecDeque<Transaction>,
        /// The end of the last transaction that was sent, and of the last one there is.
        sent: u64,
        end: u64,
        received: Vec<Transaction>,
        in_flight: Vec<Transaction>,
        meter: LagMeter,
    }

    impl Model {
        fn server_time(&self, moment: Instant) -> ServerTime {
            let elapsed = moment.duration_since(self.begun).as_micros();
            self.server_offset + ServerTime::try_from(elapsed).unwrap()
        }

        fn happen(&mut self, incident: Incident) {
            let time = self.server_time(self.now);
            match incident {
                Incident::TimePasses(millis) => self.now += Duration::from_millis(millis),
                Incident::SourceCommits { skew_millis } => {
                    let taken_at = self.now - Duration::from_millis(skew_millis);
                    self.end += 10;
                    self.unsent.push_back(Transaction {
                        committed_at: self.now,
                        commit_time: self.server_time(taken_at),
                    });
                }
                Incident::Arrives => {
                    if let Some(transaction) = self.unsent.pop_front() {
                        self.sent += 10;
                        self.meter.note_server(Lsn(self.sent), time, self.now);
                        self.meter.note_received(transaction.commit_time, self.now);
                        self.received.push(transaction);
                    }
                }
                Incident::Keepalive => {
                    let is_pending = !self.received.is_empty() || !self.in_flight.is_empty();
                    self.meter.note_keepalive(Lsn(self.sent), time, self.now, is_pending);
                }
                Incident::ReadsEnd => {
                    let is_pending = !self.received.is_empty() || !self.in_flight.is_empty();
                    self.meter.note_server_end(end(self.end, time), self.now, is_pending);
                }
                Incident::CommitBegins if self.in_flight.is_empty() => {
                    self.in_flight.append(&mut self.received);
                    self.meter.note_requested();
                }
                Incident::CommitLands => {
                    self.in_flight.clear();
                    self.meter.note_landed();
                }
                Incident::CommitBegins => {}
            }
        }
    }

    proptest! {
        #[test]
        fn everything_before_the_moment_is_committed_and_the_moment_never_goes_back(
            incidents in incidents(),
            server_offset in -1_000_000_000_000_000_i64..1_000_000_000_000_000,
        ) {
            let begun = start();
            let mut model = Model {
                begun,
                now: begun,
                server_offset,
                unsent: VecDeque::new(),
                sent: 0,
                end: 0,
                received: Vec::new(),
                in_flight: Vec::new(),
                meter: LagMeter::default(),
            };
            for incident in incidents {
                let before = model.meter.current_as_of();
                model.happen(incident);

                let current = model.meter.current_as_of();
                prop_assert!(current >= before, "{incident:?} takes knowledge away");
                prop_assert!(current <= Some(model.now), "{incident:?} looks into the future");
                let uncommitted = model.received.iter().chain(&model.in_flight);
                for transaction in uncommitted.chain(&model.unsent) {
                    let is_seen = current <= Some(transaction.committed_at);
                    prop_assert!(is_seen, "{incident:?} hides {transaction:?}");
                }

                // What the next commit stores may contain what was received, and no more.
                let with_received = model.meter.current_with_received();
                prop_assert!(with_received >= current && with_received <= Some(model.now));
                for transaction in &model.unsent {
                    let is_seen = with_received <= Some(transaction.committed_at);
                    prop_assert!(is_seen, "{incident:?} hides {transaction:?}");
                }
            }
        }
    }
}
