//! AWS's prices, and what a deployment costs by them.
//!
//! `infra/prices.json` has the prices, with region, date and sources. The calls that an operation makes are
//! measured; BENCHMARKS.md says how.

use anyhow::Context;
use serde::Deserialize;

const FILE: &str = include_str!("../../../infra/prices.json");
const MILLION: f64 = 1e6;
const GB: f64 = 1e9;

/// The list prices of a region, in dollars.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Prices {
    /// Day on which they were looked up.
    pub(crate) date: String,
    pub(crate) region: String,
    month_hours: f64,
    dynamodb: DynamoDb,
    s3: S3,
    lambda: Lambda,
    transfer: Transfer,
    fargate: Fargate,
    cloudwatch: CloudWatch,
    secrets: Secrets,
}

#[derive(Clone, Debug, Deserialize)]
struct DynamoDb {
    write_units_million: f64,
    read_units_million: f64,
    storage_gb_month: f64,
    free: FreeStorage,
}

#[derive(Clone, Debug, Deserialize)]
struct FreeStorage {
    storage_gb_month: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct S3 {
    storage_gb_month: f64,
    puts_million: f64,
    gets_million: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct Lambda {
    requests_million: f64,
    gb_seconds_million: ByArchitecture,
    free: FreeLambda,
}

#[derive(Clone, Debug, Deserialize)]
struct FreeLambda {
    requests_million: f64,
    gb_seconds_million: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct Transfer {
    internet_gb: f64,
    free: FreeTransfer,
}

#[derive(Clone, Debug, Deserialize)]
struct FreeTransfer {
    internet_gb: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct Fargate {
    cpu_hour: ByArchitecture,
    gb_hour: ByArchitecture,
    public_address_hour: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct ByArchitecture {
    x86_64: f64,
    arm64: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct CloudWatch {
    alarm_month: f64,
    metric_month: f64,
    log_gb: f64,
    free: FreeCloudWatch,
}

#[derive(Clone, Debug, Deserialize)]
struct FreeCloudWatch {
    metrics: f64,
    log_gb: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct Secrets {
    secret_month: f64,
}

/// The use of a deployment in a month.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) write_units: f64,
    pub(crate) read_units: f64,
    pub(crate) table_bytes: f64,
    pub(crate) puts: f64,
    pub(crate) gets: f64,
    pub(crate) object_bytes: f64,
    pub(crate) function_requests: f64,
    pub(crate) function_gb_seconds: f64,
    pub(crate) downloaded_bytes: f64,
    pub(crate) logged_bytes: f64,
    pub(crate) is_arm: bool,
    /// The worker's task runs all the time, in this many CPUs and GB, with a public address.
    pub(crate) worker: Option<Task>,
    pub(crate) alarms: f64,
    pub(crate) metrics: f64,
}

/// The size of a Fargate task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Task {
    pub(crate) cpus: f64,
    pub(crate) gigabytes: f64,
}

/// One line of a bill.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Position {
    pub(crate) name: &'static str,
    /// Dollars a month.
    pub(crate) dollars: f64,
}

impl ByArchitecture {
    fn of(&self, is_arm: bool) -> f64 {
        if is_arm { self.arm64 } else { self.x86_64 }
    }
}

impl Prices {
    /// Returns the prices that this program was built with.
    pub(crate) fn known() -> anyhow::Result<Self> {
        serde_json::from_str(FILE).context("infra/prices.json does not have the known form")
    }

    /// Returns the dollars for request units of DynamoDB.
    pub(crate) fn units(&self, write: f64, read: f64) -> f64 {
        let DynamoDb { write_units_million, read_units_million, .. } = self.dynamodb;
        (write * write_units_million + read * read_units_million) / MILLION
    }

    /// Returns the hours of a month.
    pub(crate) fn month_hours(&self) -> f64 {
        self.month_hours
    }

    /// Returns the bill of a month. What is free each month for every account is left out.
    pub(crate) fn bill(&self, usage: &Usage) -> Vec<Position> {
        let tables = beyond(usage.table_bytes / GB, self.dynamodb.free.storage_gb_month);
        let requests = beyond(usage.function_requests, self.lambda.free.requests_million * MILLION);
        let gb_seconds =
            beyond(usage.function_gb_seconds, self.lambda.free.gb_seconds_million * MILLION);
        let per_gb_second = self.lambda.gb_seconds_million.of(usage.is_arm) / MILLION;
        let downloaded = beyond(usage.downloaded_bytes / GB, self.transfer.free.internet_gb);
        let logged = beyond(usage.logged_bytes / GB, self.cloudwatch.free.log_gb);
        let metrics = beyond(usage.metrics, self.cloudwatch.free.metrics);

        let mut bill = vec![
            Position { name: "DynamoDB writes", dollars: self.units(usage.write_units, 0.0) },
            Position { name: "DynamoDB reads", dollars: self.units(0.0, usage.read_units) },
            Position { name: "DynamoDB storage", dollars: tables * self.dynamodb.storage_gb_month },
            Position {
                name: "S3",
                dollars: (usage.puts * self.s3.puts_million + usage.gets * self.s3.gets_million)
                    / MILLION
                    + usage.object_bytes / GB * self.s3.storage_gb_month,
            },
            Position {
                name: "Lambda",
                dollars: requests * self.lambda.requests_million / MILLION
                    + gb_seconds * per_gb_second,
            },
            Position { name: "traffic", dollars: downloaded * self.transfer.internet_gb },
            Position {
                name: "CloudWatch",
                dollars: usage.alarms * self.cloudwatch.alarm_month
                    + metrics * self.cloudwatch.metric_month
                    + logged * self.cloudwatch.log_gb,
            },
        ];
        if let Some(task) = usage.worker {
            bill.push(Position { name: "worker", dollars: self.task(task, usage.is_arm) });
        }
        bill
    }

    /// Returns the dollars of a task that runs all the time, with its address and its secret.
    fn task(&self, task: Task, is_arm: bool) -> f64 {
        let Fargate { cpu_hour, gb_hour, public_address_hour } = &self.fargate;
        let hour = task.cpus * cpu_hour.of(is_arm)
            + task.gigabytes * gb_hour.of(is_arm)
            + public_address_hour;
        hour * self.month_hours + self.secrets.secret_month
    }
}

fn beyond(used: f64, free: f64) -> f64 {
    (used - free).max(0.0)
}

/// Returns the sum of a bill, in dollars.
pub(crate) fn total(bill: &[Position]) -> f64 {
    bill.iter().map(|position| position.dollars).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dollars(usage: &Usage) -> f64 {
        total(&Prices::known().unwrap().bill(usage))
    }

    fn assert_close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 0.005, "{found} instead of {expected}");
    }

    #[test]
    fn each_use_has_its_price() {
        let used = Usage::default();
        assert_close(dollars(&used), 0.0);
        assert_close(dollars(&Usage { write_units: 4e6, ..used.clone() }), 2.5);
        assert_close(dollars(&Usage { read_units: 8e6, ..used.clone() }), 1.0);
        assert_close(dollars(&Usage { puts: 1e6, gets: 1e6, ..used.clone() }), 5.4);
        assert_close(dollars(&Usage { alarms: 10.0, ..used.clone() }), 1.0);
        let task = Task { cpus: 0.25, gigabytes: 0.5 };
        // 730 h x (0.25 x 0.03238 + 0.5 x 0.00356 + 0.005), and a secret.
        assert_close(dollars(&Usage { worker: Some(task), is_arm: true, ..used }), 11.26);
    }

    #[test]
    fn what_is_free_each_month_costs_nothing() {
        let free = Usage {
            table_bytes: 25e9,
            function_requests: 1e6,
            function_gb_seconds: 4e5,
            downloaded_bytes: 100e9,
            logged_bytes: 5e9,
            metrics: 10.0,
            ..Usage::default()
        };
        assert_close(dollars(&free), 0.0);
        assert_close(dollars(&Usage { table_bytes: 26e9, ..free.clone() }), 0.25);
        assert_close(dollars(&Usage { function_requests: 6e6, ..free.clone() }), 1.0);
        assert_close(dollars(&Usage { function_gb_seconds: 1.4e6, ..free.clone() }), 16.67);
        assert_close(dollars(&Usage { downloaded_bytes: 110e9, ..free }), 0.9);
    }
}
