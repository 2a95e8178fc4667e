//! `tidewater cost`: what a deployment on AWS costs in a month.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use reqwest::Url;
use serde_json::{Value, json};

use crate::services::prices::{Position, Prices, Usage, total};
use crate::services::traffic::TrafficArgs;
use crate::terminal::duration;
use crate::terminal::failure::Failure;

/// Time for an answer of a process with metrics.
const TIMEOUT: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  A deployment that nobody uses:
    tidewater cost

  2,000 users with an hour a day, 200,000 changed rows a day, most of them alone:
    tidewater cost --users 2000 --minutes-per-day 60 --changes-per-day 200000

  What a running deployment would cost for a month of the next ten minutes, by the counters of its processes:
    tidewater cost --metrics http://10.0.0.5:9462/metrics --metrics http://10.0.0.6:9463/metrics --for 10m

docs/cost.md has the model, what is measured and what is assumed.";

/// Print what a deployment on AWS costs in a month
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CostArgs {
    #[command(flatten)]
    traffic: TrafficArgs,
    /// Metrics of a running process, in place of the flags for traffic: the request units and bytes that it
    /// counts. Repeatable
    #[arg(long, env = "TIDEWATER_METRICS", value_name = "URL", value_delimiter = ',')]
    metrics: Vec<Url>,
    /// Time between two looks at the metrics
    #[arg(long, env = "TIDEWATER_FOR", value_name = "DURATION", default_value = "1m",
          value_parser = duration::parse_positive)]
    r#for: Duration,
    /// Print one JSON object
    #[arg(long, env = "TIDEWATER_JSON")]
    json: bool,
}

/// The counters of a deployment's processes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counted {
    write_units: f64,
    read_units: f64,
    sent_bytes: f64,
}

/// Prints the bill.
pub(crate) async fn run(args: &CostArgs) -> Result<(), Failure> {
    let prices = Prices::known()?;
    let usage = if args.metrics.is_empty() {
        args.traffic.usage(prices.month_hours())
    } else {
        measured(args, &prices).await?
    };

    let bill = prices.bill(&usage);
    let text = if args.json {
        format!("{}\n", as_json(&prices, &usage, &bill))
    } else {
        as_text(&prices, &bill)
    };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")?;
    Ok(())
}

/// Returns a month's usage by what the processes count in a part of it. The rest is that of the flags.
async fn measured(args: &CostArgs, prices: &Prices) -> Result<Usage, Failure> {
    let before = counted(&args.metrics).await?;
    tokio::time::sleep(args.r#for).await;
    let after = counted(&args.metrics).await?;
    if after.write_units < before.write_units || after.read_units < before.read_units {
        let cause = "a process was started again meanwhile, so its counters cannot be compared";
        return Err(Failure::Failed(anyhow!(cause)));
    }

    let months = prices.month_hours() * 3_600.0 / args.r#for.as_secs_f64();
    Ok(Usage {
        write_units: (after.write_units - before.write_units) * months,
        read_units: (after.read_units - before.read_units) * months,
        downloaded_bytes: (after.sent_bytes - before.sent_bytes) * months,
        ..args.traffic.usage(prices.month_hours())
    })
}

async fn counted(urls: &[Url]) -> Result<Counted, Failure> {
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build();
    let client = client.map_err(anyhow::Error::from)?;
    let mut sum = Counted::default();
    for url in urls {
        let answer =
            client.get(url.clone()).send().await.and_then(|answer| answer.error_for_status());
        let answer = answer.with_context(|| format!("cannot read the metrics at {url}"))?;
        let text =
            answer.text().await.with_context(|| format!("cannot read the metrics at {url}"))?;
        let found = read_counters(&text);
        sum.write_units += found.write_units;
        sum.read_units += found.read_units;
        sum.sent_bytes += found.sent_bytes;
    }
    Ok(sum)
}

/// Reads Prometheus' text, summed over labels.
fn read_counters(text: &str) -> Counted {
    let sum = |name: &str| -> f64 {
        let series = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let is_whole_name = rest.starts_with(['{', ' ']);
            let (_, value) = rest.rsplit_once(' ').filter(|_| is_whole_name)?;
            value.parse::<f64>().ok()
        });
        series.sum()
    };
    Counted {
        write_units: sum("tidewater_aws_write_units_total"),
        read_units: sum("tidewater_aws_read_units_total"),
        sent_bytes: sum("tidewater_api_sent_bytes_total"),
    }
}

fn as_text(prices: &Prices, bill: &[Position]) -> String {
    let mut text = String::new();
    for Position { name, dollars } in bill {
        text += &format!("{name:<18} {dollars:>12.2}\n");
    }
    text += &format!("{:<18} {:>12.2}\n\n", "dollars a month", total(bill));
    text += &format!(
        "Prices of {} on {}, without what is free each month for every account. The database, its \
         backups\nand taxes are not included. docs/cost.md says what is measured and what is assumed.\n",
        prices.region, prices.date
    );
    text
}

fn as_json(prices: &Prices, usage: &Usage, bill: &[Position]) -> Value {
    let parts: serde_json::Map<String, Value> =
        bill.iter().map(|position| (position.name.to_owned(), position.dollars.into())).collect();
    json!({
        "dollars_a_month": total(bill),
        "parts": parts,
        "usage": {
            "write_units": usage.write_units,
            "read_units": usage.read_units,
            "puts": usage.puts,
            "gets": usage.gets,
            "function_requests": usage.function_requests,
            "function_gb_seconds": usage.function_gb_seconds,
            "downloaded_bytes": usage.downloaded_bytes,
        },
        "prices": { "region": prices.region, "date": prices.date },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_their_labels() {
        let text = "# TYPE tidewater_aws_write_units_total counter\n\
            tidewater_aws_write_units_total{table=\"control\"} 3\n\
            tidewater_aws_write_units_total{table=\"segments\"} 4\n\
            tidewater_aws_write_units_total_of_another{table=\"segments\"} 99\n\
            tidewater_aws_read_units_total{table=\"control\"} 5\n\
            tidewater_api_sent_bytes_total 1000\n";
        let expected = Counted { write_units: 7.0, read_units: 5.0, sent_bytes: 1_000.0 };
        assert_eq!(read_counters(text), expected);
        assert_eq!(read_counters(""), Counted::default());
    }

    #[test]
    fn the_bill_is_printed_with_its_sum_and_the_date_of_its_prices() {
        let prices = Prices::known().unwrap();
        let usage = Usage { write_units: 4e6, ..Usage::default() };
        let bill = prices.bill(&usage);
        let text = as_text(&prices, &bill);
        assert!(text.starts_with("DynamoDB writes            2.50\n"), "{text}");
        assert!(text.contains("dollars a month            2.50\n"), "{text}");
        assert!(text.contains(&prices.date), "{text}");

        let json = as_json(&prices, &usage, &bill);
        assert_eq!(json["dollars_a_month"], 2.5);
        assert_eq!(json["parts"]["DynamoDB writes"], 2.5);
    }
}
