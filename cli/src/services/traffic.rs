//! The calls that a deployment's traffic makes on AWS.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::prices::{Task, Usage};
use crate::terminal::duration;

/// Days of a month.
const DAYS: f64 = 30.4;
/// Units of a transaction that updates one row, as measured.
const LONE_WRITE_UNITS: f64 = 3.0;
const LONE_READ_UNITS: f64 = 2.0;
/// Units of each further row that a transaction updates, as measured for 10,000 rows in 200 buckets.
const ROW_WRITE_UNITS: f64 = 0.06;
const ROW_READ_UNITS: f64 = 1.0;
/// Write units that an inserted or deleted row takes beyond those of an update: its source row.
const INSERT_WRITE_UNITS: f64 = 1.0;
/// Bytes of compressed operations from which they are an object, and the part to which they are compressed.
/// The latter is assumed.
const OBJECT_BYTES: f64 = 4_096.0;
const COMPRESSED_PART: f64 = 0.2;
/// Units of a worker and of a builder that have nothing to do, in an hour, as measured.
const IDLE_WORKER_WRITE_UNITS: f64 = 225.0;
const IDLE_WORKER_READ_UNITS: f64 = 885.0;
const IDLE_BUILDER_READ_UNITS: f64 = 60.0 * 12.0;
/// Read units of a poll of a client that is up to date, as measured.
const POLL_READ_UNITS: f64 = 2.0;
/// Bytes of a stored row in DynamoDB, as measured for rows of 265 bytes in a bucket per owner.
const STORED_ROW_BYTES: f64 = 308.0;
/// Bytes of a row in a snapshot, as measured: 45.7 MB for 500,000 rows.
const SNAPSHOT_ROW_BYTES: f64 = 91.4;
/// Objects of a snapshot: its manifest, its rows, and one file.
const SNAPSHOT_OBJECTS: f64 = 3.0;
/// A snapshot is built again once its bucket has changed by this part of its rows.
const REBUILD_PART: f64 = 0.25;
/// Rows from which a bucket has a snapshot, and changes after which one with fewer rows is compacted.
const SNAPSHOT_ROWS: f64 = 1_000.0;
const COMPACTED_CHANGES: f64 = 10_000.0;
/// Memory of the builder's function in GB, and the seconds of a pass that finds nothing. The latter is assumed.
const BUILDER_GB: f64 = 1.769;
const BUILDER_IDLE_SECONDS: f64 = 0.1;
/// Log bytes of a request and of a pass: a line of metrics, and Lambda's own. Assumed.
const REQUEST_LOG_BYTES: f64 = 1_500.0;
/// Metrics of CloudWatch that the processes record: of the worker, the builder, and the sync API.
const WORKER_METRICS: f64 = 8.0;
const BUILDER_METRICS: f64 = 4.0;
const API_METRICS: f64 = 6.0;
/// Alarms of the template without and with a worker.
const ALARMS: f64 = 10.0;
const ALARMS_WITH_WORKER: f64 = 17.0;

/// The flags that describe a deployment's traffic.
#[derive(Args, Clone, Debug, PartialEq)]
pub(crate) struct TrafficArgs {
    /// Rows of the synced tables
    #[arg(long, env = "TIDEWATER_ROWS", value_name = "N", value_parser = amount, default_value_t = 0.0)]
    pub(crate) rows: f64,
    /// Bytes of a row, as JSON
    #[arg(long, env = "TIDEWATER_ROW_BYTES", value_name = "N", value_parser = amount, default_value_t = 265.0)]
    pub(crate) row_bytes: f64,
    /// Rows that are changed in a day
    #[arg(long, env = "TIDEWATER_CHANGES_PER_DAY", value_name = "N", value_parser = amount, default_value_t = 0.0)]
    pub(crate) changes_per_day: f64,
    /// Part of these changes that insert or delete a row
    #[arg(long, env = "TIDEWATER_INSERT_PART", value_name = "N", value_parser = amount, default_value_t = 0.2)]
    pub(crate) insert_part: f64,
    /// Transactions in a day that change them [default: one for each row]
    #[arg(long, env = "TIDEWATER_TRANSACTIONS_PER_DAY", value_name = "N", value_parser = amount)]
    pub(crate) transactions_per_day: Option<f64>,
    /// Users who sync
    #[arg(long, env = "TIDEWATER_USERS", value_name = "N", value_parser = amount, default_value_t = 0.0)]
    pub(crate) users: f64,
    /// Users who receive a changed row
    #[arg(long, env = "TIDEWATER_READERS", value_name = "N", value_parser = amount, default_value_t = 1.0)]
    pub(crate) readers: f64,
    /// Rows that one user has
    #[arg(long, env = "TIDEWATER_ROWS_PER_USER", value_name = "N", value_parser = amount, default_value_t = 1_000.0)]
    pub(crate) rows_per_user: f64,
    /// Buckets that one user has
    #[arg(long, env = "TIDEWATER_BUCKETS_PER_USER", value_name = "N", value_parser = amount, default_value_t = 1.0)]
    pub(crate) buckets_per_user: f64,
    /// Minutes a day that one user is connected
    #[arg(long, env = "TIDEWATER_MINUTES_PER_DAY", value_name = "N", value_parser = amount, default_value_t = 30.0)]
    pub(crate) minutes_per_day: f64,
    /// Devices a month that sync for the first time, for each user
    #[arg(long, env = "TIDEWATER_NEW_DEVICES", value_name = "N", value_parser = amount, default_value_t = 0.2)]
    pub(crate) new_devices: f64,
    /// Seconds between two polls of a connected client, while nothing is held open
    #[arg(long, env = "TIDEWATER_POLL_SECONDS", value_name = "S", value_parser = amount, default_value_t = 5.5)]
    pub(crate) poll_seconds: f64,
    /// Milliseconds of the function that a poll takes. Assumed: nobody has measured it on Lambda
    #[arg(long, env = "TIDEWATER_POLL_MILLISECONDS", value_name = "MS", value_parser = amount, default_value_t = 20.0)]
    pub(crate) poll_milliseconds: f64,
    /// Time for which the function holds the connection of a client that is up to date (the template's
    /// Hold)
    #[arg(long, env = "TIDEWATER_HOLD", value_name = "DURATION", default_value = "0s",
          value_parser = duration::parse)]
    pub(crate) hold: Duration,
    /// Megabytes of memory of the function (the template's ApiMemory)
    #[arg(long, env = "TIDEWATER_API_MEMORY", value_name = "MB", value_parser = amount, default_value_t = 512.0)]
    pub(crate) api_memory: f64,
    /// Place of the ingest worker (the template's Worker)
    #[arg(long, env = "TIDEWATER_WORKER", value_enum, default_value_t)]
    pub(crate) worker: WorkerPlace,
    /// Functions and worker run on arm64
    #[arg(long, env = "TIDEWATER_ARM64")]
    pub(crate) arm64: bool,
    /// Leave out alarms (the template's Monitoring=false)
    #[arg(long, env = "TIDEWATER_NO_ALARMS")]
    pub(crate) no_alarms: bool,
}

/// The place in which the ingest worker runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum WorkerPlace {
    /// A Fargate task of a quarter of a CPU and 512 MB, all the time
    #[default]
    Service,
    /// Elsewhere, at no cost of its own
    None,
}

/// Parses a number that is not negative, such as `200000` or `2e5`.
fn amount(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("expected a number that is not negative: 200000, or 2e5".to_owned()),
    }
}

impl TrafficArgs {
    /// Returns what this traffic uses in a month of so many hours, after the first copy.
    pub(crate) fn usage(&self, month_hours: f64) -> Usage {
        let changes = self.changes_per_day * DAYS;
        let transactions = self.transactions_per_day.map_or(changes, |count| count * DAYS);
        let transactions = transactions.min(changes);
        let further = changes - transactions;
        let delivered = changes * self.readers.min(self.users);

        let cycle_seconds = self.poll_seconds.max(1.0) + self.hold.as_secs_f64();
        let polls = self.users * self.minutes_per_day * 60.0 * DAYS / cycle_seconds;
        let poll_seconds = self.hold.as_secs_f64() + self.poll_milliseconds / 1_000.0;
        let first_syncs = self.users * self.new_devices;
        let builds = self.builds(changes);
        let passes = month_hours * 60.0;

        let has_worker = self.worker == WorkerPlace::Service;
        let alarms = if has_worker { ALARMS_WITH_WORKER } else { ALARMS };
        Usage {
            write_units: transactions * LONE_WRITE_UNITS
                + further * ROW_WRITE_UNITS
                + changes * self.insert_part.min(1.0) * INSERT_WRITE_UNITS
                + month_hours * IDLE_WORKER_WRITE_UNITS,
            read_units: transactions * LONE_READ_UNITS
                + further * ROW_READ_UNITS
                + polls * POLL_READ_UNITS
                + delivered * (1.0 + self.buckets_per_user)
                + first_syncs * self.buckets_per_user
                + month_hours * (IDLE_WORKER_READ_UNITS + IDLE_BUILDER_READ_UNITS),
            table_bytes: self.rows * STORED_ROW_BYTES * self.row_bytes / 265.0,
            puts: further * self.row_bytes * COMPRESSED_PART / OBJECT_BYTES
                + builds * SNAPSHOT_OBJECTS,
            gets: first_syncs * self.buckets_per_user * SNAPSHOT_OBJECTS,
            object_bytes: self.rows * SNAPSHOT_ROW_BYTES * 2.0 * self.row_bytes / 265.0,
            function_requests: polls + passes,
            function_gb_seconds: polls * poll_seconds * self.api_memory / 1_024.0
                + passes * BUILDER_IDLE_SECONDS * BUILDER_GB,
            downloaded_bytes: delivered * self.row_bytes
                + first_syncs * self.rows_per_user * SNAPSHOT_ROW_BYTES * self.row_bytes / 265.0,
            logged_bytes: (polls + passes) * REQUEST_LOG_BYTES,
            is_arm: self.arm64,
            worker: has_worker.then_some(Task { cpus: 0.25, gigabytes: 0.5 }),
            alarms: if self.no_alarms { 0.0 } else { alarms },
            metrics: BUILDER_METRICS
                + WORKER_METRICS
                + if self.users > 0.0 { API_METRICS } else { 0.0 },
        }
    }

    /// Returns how many snapshots these changes cause.
    fn builds(&self, changes: f64) -> f64 {
        let bucket_rows = self.rows_per_user / self.buckets_per_user.max(1.0);
        if bucket_rows >= SNAPSHOT_ROWS {
            changes / (bucket_rows * REBUILD_PART)
        } else {
            changes / COMPACTED_CHANGES
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::services::prices::{Prices, total};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        traffic: TrafficArgs,
    }

    fn dollars(arguments: &[&str]) -> f64 {
        let line = Line::parse_from([&["cost"], arguments].concat());
        let prices = Prices::known().unwrap();
        total(&prices.bill(&line.traffic.usage(prices.month_hours())))
    }

    #[test]
    fn an_idle_deployment_costs_its_units_and_its_alarms() {
        let units = dollars(&["--worker", "none", "--no-alarms"]);
        // As measured: 0.18 for the worker and 0.07 for the builder; and two metrics beyond those that are free.
        assert!((units - 0.25 - 0.6).abs() < 0.01, "{units}");
        let alarms = dollars(&["--worker", "none"]) - units;
        assert!((alarms - 1.0).abs() < 0.001, "{alarms}");
    }

    #[test]
    fn more_of_anything_costs_more() {
        let base = ["--users", "1000", "--rows", "1e7", "--changes-per-day", "1e6"];
        let before = dollars(&base);
        for more in [
            ["--users", "2000"],
            ["--rows", "1e9"],
            ["--changes-per-day", "2e6"],
            ["--minutes-per-day", "240"],
            ["--hold", "30s"],
            ["--new-devices", "50"],
            ["--readers", "100"],
        ] {
            let mut arguments = base.to_vec();
            match arguments.iter().position(|argument| *argument == more[0]) {
                Some(at) => arguments[at + 1] = more[1],
                None => arguments.extend(more),
            }
            assert!(dollars(&arguments) > before, "{more:?}");
        }
    }

    #[test]
    fn rows_of_one_transaction_cost_less_than_transactions_of_one_row() {
        let base = ["--changes-per-day", "1e6"];
        let lone = dollars(&base);
        let packed = dollars(&[&base[..], &["--transactions-per-day", "100"]].concat());
        // 30.4 million x (3 - 0.06) write units, without the objects of the large ones.
        assert!(lone - packed > 50.0, "{lone} {packed}");
    }

    /// The page's rows: `| name | ``tidewater cost ...`` | dollars | ...`.
    #[test]
    fn the_page_has_the_sums_of_its_commands() {
        let page = include_str!("../../../docs/cost.md");
        let rows: Vec<Vec<&str>> = page
            .lines()
            .filter(|line| line.contains("| `tidewater cost"))
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        assert!(rows.len() >= 4, "{rows:?}");

        let mut wrong = Vec::new();
        for row in rows {
            let command = row[2].trim_matches('`').trim_start_matches("tidewater cost");
            let arguments: Vec<&str> = command.split_whitespace().collect();
            let sum = format!("{:.2}", dollars(&arguments));
            if row[3] != sum {
                wrong.push(format!("{}: {sum}", row[1]));
            }
        }
        assert!(wrong.is_empty(), "docs/cost.md must say {wrong:#?}");
    }
}
