//! Measures how far the committed position is behind the server.

use std::time::Duration;

use tidewater_storage::Lsn;

/// A time by the server's clock, in microseconds since 2000.
type ServerTime = i64;

/// The replication lag, from what the server says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LagMeter {
    /// The last position of the server.
    server_position: Lsn,
    /// The last time of the server.
    server_time: ServerTime,
    /// The time of the oldest transaction that no commit contains.
    oldest_received: Option<ServerTime>,
    /// The time of the oldest transaction in the commit in flight.
    oldest_in_flight: Option<ServerTime>,
    committed: Lsn,
}

/// A measured lag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lag {
    /// Bytes of WAL that the server has and that are not committed here.
    pub(crate) bytes: u64,
    /// Age of the oldest transaction that was received and is not committed.
    pub(crate) age: Duration,
}

impl LagMeter {
    /// Notes what the server says of itself.
    pub(crate) fn note_server(&mut self, position: Lsn, time: ServerTime) {
        self.server_position = self.server_position.max(position);
        self.server_time = self.server_time.max(time);
    }

    /// Notes a transaction that was received, and the time at which it was committed there.
    pub(crate) fn note_received(&mut self, time: ServerTime) {
        self.oldest_received.get_or_insert(time);
        self.server_time = self.server_time.max(time);
    }

    /// Notes that a commit of everything received is in flight.
    pub(crate) fn note_requested(&mut self) {
        self.oldest_in_flight = self.oldest_received.take();
    }

    /// Notes that everything up to a position is committed.
    pub(crate) fn note_committed(&mut self, position: Lsn) {
        self.oldest_in_flight = None;
        self.committed = position;
        self.server_position = self.server_position.max(position);
    }

    pub(crate) fn lag(&self) -> Lag {
        let oldest = self.oldest_in_flight.or(self.oldest_received);
        let micros = oldest.map_or(0, |oldest| self.server_time.saturating_sub(oldest).max(0));
        Lag {
            bytes: self.server_position.0 - self.committed.0,
            age: Duration::from_micros(micros.unsigned_abs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lag(bytes: u64, micros: u64) -> Lag {
        Lag { bytes, age: Duration::from_micros(micros) }
    }

    #[test]
    fn an_idle_worker_has_no_lag() {
        let mut meter = LagMeter::default();
        meter.note_committed(Lsn(100));
        meter.note_server(Lsn(100), 5);
        assert_eq!(meter.lag(), lag(0, 0));
    }

    #[test]
    fn the_age_is_that_of_the_oldest_transaction_not_committed() {
        let mut meter = LagMeter::default();
        meter.note_committed(Lsn(100));
        meter.note_received(10);
        meter.note_received(20);
        meter.note_server(Lsn(150), 30);
        assert_eq!(meter.lag(), lag(50, 20));

        meter.note_requested();
        meter.note_received(40);
        assert_eq!(meter.lag(), lag(50, 30), "the commit has not landed");
        meter.note_committed(Lsn(120));
        assert_eq!(meter.lag(), lag(30, 0), "the transaction at 40 is the newest time known");
    }

    #[test]
    fn a_commit_that_is_in_flight_does_not_hide_the_transactions_after_it() {
        let mut meter = LagMeter::default();
        meter.note_committed(Lsn(100));
        meter.note_received(10);
        meter.note_requested();
        meter.note_received(20);
        meter.note_committed(Lsn(110));
        meter.note_server(Lsn(120), 50);
        assert_eq!(meter.lag(), lag(10, 30), "the transaction at 20 is the oldest one left");

        meter.note_requested();
        meter.note_committed(Lsn(120));
        assert_eq!(meter.lag(), lag(0, 0));
    }

    #[test]
    fn a_server_clock_that_goes_back_gives_no_negative_age() {
        let mut meter = LagMeter::default();
        meter.note_server(Lsn(100), 1_000);
        meter.note_received(2_000);
        meter.note_server(Lsn(100), 500);
        assert_eq!(meter.lag(), lag(100, 0));
    }

    #[test]
    fn a_position_that_is_ahead_of_the_server_is_no_lag() {
        let mut meter = LagMeter::default();
        meter.note_server(Lsn(50), 5);
        meter.note_committed(Lsn(100));
        meter.note_server(Lsn(60), 4);
        assert_eq!(meter.lag(), lag(0, 0));
    }
}
