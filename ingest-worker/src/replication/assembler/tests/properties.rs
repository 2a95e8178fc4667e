//! Properties of any stream, however it is cut into reads and however long writes take.

use proptest::prelude::*;

use super::driver::START;
use super::*;

/// A transaction of the stream.
#[derive(Clone, Debug)]
struct Transaction {
    rows: usize,
    ticket: Option<u64>,
}

/// An incident between two events of the stream.
#[derive(Clone, Copy, Debug)]
enum Pause {
    Nothing,
    Drained,
    WriteLands,
    DrainedAndLands,
    TimePasses,
    ReadsAhead,
    Keepalive,
}

fn transactions() -> impl Strategy<Value = Vec<Transaction>> {
    let transaction = (0_usize..9, proptest::option::weighted(0.2, 1_u64..50))
        .prop_map(|(rows, ticket)| Transaction { rows, ticket });
    proptest::collection::vec(transaction, 1..12)
}

fn pauses() -> impl Strategy<Value = Vec<Pause>> {
    let pause = prop_oneof![
        6 => Just(Pause::Nothing),
        3 => Just(Pause::Drained),
        2 => Just(Pause::WriteLands),
        2 => Just(Pause::DrainedAndLands),
        1 => Just(Pause::TimePasses),
        1 => Just(Pause::ReadsAhead),
        1 => Just(Pause::Keepalive),
    ];
    proptest::collection::vec(pause, 1..60)
}

fn limits() -> impl Strategy<Value = AssemblerLimits> {
    (1_usize..12, 40_usize..400).prop_map(|(buffered_changes_max, buffered_bytes_max)| {
        AssemblerLimits { buffered_changes_max, buffered_bytes_max, chunk_rows: 10 }
    })
}

/// The end of a transaction, by its place. Keepalives come in between.
fn end_of(index: usize) -> u64 {
    START + 10 * (index as u64 + 1)
}

fn pause(driver: &mut Driver, pause: Pause, end: u64) {
    match pause {
        Pause::Nothing => {}
        Pause::Drained => driver.feed(Event::Drained),
        Pause::WriteLands => driver.land(),
        Pause::DrainedAndLands => {
            driver.feed(Event::Drained);
            driver.land();
        }
        Pause::TimePasses => driver.now += Duration::from_secs(4),
        Pause::ReadsAhead => driver.read_ahead_to = Some(Lsn(end + 25)),
        Pause::Keepalive => driver.feed(Event::Keepalive { wal_end: Lsn(end + 3) }),
    }
}

/// Runs the whole stream with a pause after each of its events; repeats the pauses as needed.
fn run(transactions: &[Transaction], pauses: &[Pause], limits: AssemblerLimits) -> Driver {
    let mut driver = Driver::with_limits(limits);
    let mut pauses = pauses.iter().copied().cycle();
    let mut end = START;

    for (index, transaction) in transactions.iter().enumerate() {
        driver.begin(end_of(index) - 1);
        pause(&mut driver, pauses.next().unwrap(), end);
        for row in 0..transaction.rows {
            driver.rows(&[&format!("{index}-{row}")]);
            pause(&mut driver, pauses.next().unwrap(), end);
        }
        if let Some(ticket) = transaction.ticket {
            driver.wal_message(&format!("{SLOT}:{ticket}"));
            pause(&mut driver, pauses.next().unwrap(), end);
        }

        end = end_of(index);
        driver.end(end);
        pause(&mut driver, pauses.next().unwrap(), end);
    }

    driver.feed(Event::Shutdown);
    driver
}

/// Begins a shutdown after so many events of the stream, and hands in nothing from then on.
fn run_until(
    transactions: &[Transaction],
    pauses: &[Pause],
    limits: AssemblerLimits,
    shutdown_after: usize,
) -> Driver {
    let mut driver = Driver::with_limits(limits);
    let mut end = START;
    let mut pauses = pauses.iter().copied().cycle();
    let mut steps = 0;

    'stream: for (index, transaction) in transactions.iter().enumerate() {
        for part in 0..transaction.rows + 2 {
            if steps == shutdown_after {
                break 'stream;
            }
            steps += 1;
            if part == 0 {
                driver.begin(end_of(index) - 1);
            } else if part <= transaction.rows {
                driver.rows(&[&format!("{index}-{part}")]);
            } else {
                end = end_of(index);
                driver.end(end);
            }
            pause(&mut driver, pauses.next().unwrap(), end);
        }
    }

    driver.feed(Event::Shutdown);
    driver
}

/// Returns the number of rows in the transactions that end at or before a position.
fn rows_up_to(transactions: &[Transaction], position: Lsn) -> usize {
    let covered = transactions.iter().enumerate().filter(|(at, _)| end_of(*at) <= position.0);
    covered.map(|(_, transaction)| transaction.rows).sum()
}

/// Returns the messages that were applied.
fn applied(driver: &Driver) -> Vec<Bytes> {
    let mut messages = Vec::new();
    for change in &driver.changes {
        match change {
            Change::Row(row) => messages.push(row.message.clone()),
            Change::Truncate(_) => unreachable!("the stream has no truncation"),
        }
    }
    messages
}

proptest! {
    #[test]
    fn any_cut_of_the_stream_applies_the_same_content(
        transactions in transactions(),
        pauses in pauses(),
        limits in limits(),
    ) {
        let driver = run(&transactions, &pauses, limits);
        let mut expected = Vec::new();
        for (index, transaction) in transactions.iter().enumerate() {
            for row in 0..transaction.rows {
                expected.push(insert_message(TODOS, &format!("{index}-{row}")));
            }
        }
        prop_assert_eq!(applied(&driver), expected);
    }

    #[test]
    fn a_commit_contains_whole_transactions_up_to_its_position(
        transactions in transactions(),
        pauses in pauses(),
        limits in limits(),
    ) {
        let driver = run(&transactions, &pauses, limits);
        for commit in &driver.commits {
            let end = commit.position.lsn.0;
            let covered = transactions.iter().enumerate().filter(|(index, _)| end_of(*index) <= end);
            let covered: Vec<_> = covered.map(|(_, transaction)| transaction).collect();
            let rows: usize = covered.iter().map(|transaction| transaction.rows).sum();
            prop_assert_eq!(commit.applied, rows, "a commit at {:?}", commit.position);

            let ticket = covered.iter().filter_map(|transaction| transaction.ticket).max();
            prop_assert_eq!(commit.position.ticket.0, ticket.unwrap_or_default());
        }
    }

    #[test]
    fn positions_never_go_back_and_everything_is_committed_in_the_end(
        transactions in transactions(),
        pauses in pauses(),
        limits in limits(),
    ) {
        let driver = run(&transactions, &pauses, limits);
        let lsns: Vec<_> = driver.commits.iter().map(|commit| commit.position.lsn).collect();
        prop_assert!(lsns.is_sorted(), "{:?}", lsns);
        prop_assert!(driver.confirmed.is_sorted(), "{:?}", driver.confirmed);

        prop_assert!(driver.is_closed);
        let last = Lsn(end_of(transactions.len() - 1));
        prop_assert!(driver.assembler.received().lsn >= last);
        prop_assert_eq!(driver.confirmed.last(), Some(&driver.assembler.received().lsn));
    }

    #[test]
    fn the_buffer_never_grows_beyond_its_bound(
        transactions in transactions(),
        limits in limits(),
    ) {
        let mut driver = Driver::with_limits(limits);
        for (index, transaction) in transactions.iter().enumerate() {
            driver.begin(end_of(index) - 1);
            for row in 0..transaction.rows {
                driver.rows(&[&format!("{index}-{row}")]);
                prop_assert!(!driver.assembler.buffer.is_full());
            }
            driver.end(end_of(index));
        }
    }

    #[test]
    fn readers_stay_behind_the_last_row_that_was_read_ahead(
        transactions in transactions(),
        pauses in pauses(),
        limits in limits(),
    ) {
        let driver = run(&transactions, &pauses, limits);
        // Once set, a barrier stays until a commit reaches it.
        let mut barrier = None;
        for commit in &driver.commits {
            prop_assert!(commit.barrier >= barrier, "{:?} after {:?}", commit, barrier);
            barrier = commit.barrier.filter(|&barrier| commit.position.lsn < barrier);
        }
    }

    /// The driver also checks that each confirmed position has landed before.
    #[test]
    fn a_shutdown_at_any_moment_commits_and_confirms_whole_transactions(
        transactions in transactions(),
        pauses in pauses(),
        limits in limits(),
        shutdown_after in 0_usize..80,
    ) {
        let driver = run_until(&transactions, &pauses, limits, shutdown_after);
        prop_assert!(driver.is_closed, "nothing keeps a shutdown waiting");
        prop_assert!(!driver.is_writing, "the last write has landed");

        for commit in &driver.commits {
            let rows = rows_up_to(&transactions, commit.position.lsn);
            prop_assert_eq!(commit.applied, rows, "a commit at {:?}", commit.position);
        }
        let last_commit = driver.commits.last().map_or(Lsn(START), |commit| commit.position.lsn);
        prop_assert_eq!(driver.confirmed.last(), Some(&last_commit));
    }
}
