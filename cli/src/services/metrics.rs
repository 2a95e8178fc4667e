//! Metrics of the process, served as Prometheus text at `/metrics`.
//!
//! The crates record by the `metrics` facade. This module installs the recorder and serves what it
//! holds. `docs/metrics.md` lists all metrics; a test compares it with what the crates describe.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use clap::Args;
use metrics::Recorder;
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
#[cfg(feature = "aws")]
use tidewater_cloudwatch::EmfRecorder;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "aws")]
use self::cloudwatch::{Both, MetricsLog};
use super::server::{self, ConnectionLimits};
use crate::terminal::failure::Failure;

#[cfg(feature = "aws")]
mod cloudwatch;

/// Port of `tidewater dev` for metrics. Each command has a port of its own, so that all of them can
/// run on one machine.
pub(crate) const DEV_PORT: u16 = 9461;
/// Port of `tidewater ingest` for metrics.
pub(crate) const INGEST_PORT: u16 = 9462;
/// Port of `tidewater serve` for metrics.
pub(crate) const SERVE_PORT: u16 = 9463;
/// Port of `tidewater compact` for metrics.
pub(crate) const COMPACT_PORT: u16 = 9464;

/// Host without `--metrics-listen HOST:PORT`: the metrics name tables, and have no authentication.
const LOOPBACK: &str = "127.0.0.1";
/// Number of connections at a time. Few programs scrape, and they must not take the files of others.
const CONNECTIONS_MAX: usize = 64;
/// Content type of Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4";
/// Interval between two moves of recorded samples into their buckets. Without it, samples pile up in
/// memory while nobody scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Upper bounds of the buckets of durations, in seconds: from an SQLite commit to a long build.
const SECONDS_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];
/// Upper bounds of the buckets of all other histograms, which hold bytes, rows or other counts.
const COUNT_BUCKETS: [f64; 10] = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// The flag for the address of metrics.
#[derive(Args, Debug, Default)]
pub(crate) struct MetricsArgs {
    /// Address of Prometheus metrics (/metrics): a port of 127.0.0.1, an address with a port, or off
    /// [default: 9461 for dev, 9462 for ingest, 9463 for serve, 9464 for compact]
    #[arg(long, env = "TIDEWATER_METRICS_LISTEN", value_name = "[HOST:]PORT|off")]
    metrics_listen: Option<MetricsListen>,
    /// Name of this process in CloudWatch. Each minute its metrics are written to stdout in the embedded
    /// metric format as well, which CloudWatch reads from the log of a container
    #[cfg(feature = "aws")]
    #[arg(long, env = "TIDEWATER_METRICS_CLOUDWATCH", value_name = "NAME")]
    metrics_cloudwatch: Option<String>,
}

/// The value of `--metrics-listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum MetricsListen {
    /// No metrics.
    Off,
    /// An address with a port, such as `127.0.0.1:9461`.
    At(String),
}

impl FromStr for MetricsListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }

        let (host, port) = text.rsplit_once(':').unwrap_or((LOOPBACK, text));
        match port.parse::<u16>() {
            Ok(port) if !host.is_empty() => Ok(Self::At(format!("{host}:{port}"))),
            _ => Err("expected a port, an address with a port (127.0.0.1:9461), or off".to_owned()),
        }
    }
}

impl MetricsArgs {
    /// Returns whether metrics are asked for.
    pub(crate) fn is_given(&self) -> bool {
        #[cfg(feature = "aws")]
        if self.metrics_cloudwatch.is_some() {
            return true;
        }
        self.metrics_listen.is_some()
    }

    /// Installs the recorder and serves metrics until the process ends, also while it shuts down.
    ///
    /// A default port that is in use is no failure: it must not keep a second process from starting.
    /// The process then runs without metrics and logs a warning.
    pub(crate) async fn start(&self, default_port: u16) -> Result<RunningMetrics, Failure> {
        let listener = self.listener(default_port).await?;
        #[cfg(feature = "aws")]
        if let Some(name) = &self.metrics_cloudwatch {
            return self.start_with_log(listener, name);
        }
        let Some(listener) = listener else { return Ok(RunningMetrics::default()) };

        let recorder = prometheus()?;
        let handle = recorder.handle();
        install(recorder)?;
        spawn_server(listener, handle)?;
        Ok(RunningMetrics::default())
    }

    /// Does what [`MetricsArgs::start`] does, and writes the metrics into the log as well.
    #[cfg(feature = "aws")]
    fn start_with_log(
        &self,
        listener: Option<TcpListener>,
        name: &str,
    ) -> Result<RunningMetrics, Failure> {
        let prometheus = prometheus()?;
        let handle = prometheus.handle();
        let emf = EmfRecorder::default();
        install(Both(prometheus, emf.clone()))?;
        if let Some(listener) = listener {
            spawn_server(listener, handle)?;
        }
        Ok(RunningMetrics { _log: Some(MetricsLog::start(emf, name.to_owned())) })
    }

    /// Returns the listener of the address, or `None` if there is to be none.
    async fn listener(&self, default_port: u16) -> Result<Option<TcpListener>, Failure> {
        let address = match &self.metrics_listen {
            Some(MetricsListen::Off) => return Ok(None),
            Some(MetricsListen::At(address)) => address.clone(),
            None => format!("{LOOPBACK}:{default_port}"),
        };

        match TcpListener::bind(&address).await {
            Ok(listener) => Ok(Some(listener)),
            Err(error) if self.metrics_listen.is_some() => {
                Err(Failure::Failed(anyhow!(error).context(format!(
                    "cannot serve metrics on '{address}': choose another address with \
                     --metrics-listen, or switch metrics off with --metrics-listen off"
                ))))
            }
            Err(error) => {
                tracing::warn!(
                    address,
                    %error,
                    "cannot serve metrics on the default port, running without metrics; choose a \
                     port with --metrics-listen, or off"
                );
                Ok(None)
            }
        }
    }
}

/// The metrics of a process that runs. Dropped at its end, it writes what was recorded last.
#[derive(Default)]
#[must_use]
pub(crate) struct RunningMetrics {
    #[cfg(feature = "aws")]
    _log: Option<MetricsLog>,
}

fn prometheus() -> anyhow::Result<PrometheusRecorder> {
    Ok(PrometheusBuilder::new()
        .set_buckets(&COUNT_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?
        .build_recorder())
}

fn install(recorder: impl Recorder + Sync + Send + 'static) -> anyhow::Result<()> {
    // The error holds the recorder, which a context cannot.
    let is_first = metrics::set_global_recorder(recorder).is_ok();
    ensure!(is_first, "metrics are recorded already");
    describe_all();
    Ok(())
}

fn spawn_server(listener: TcpListener, handle: PrometheusHandle) -> anyhow::Result<()> {
    let address = listener.local_addr().context("the listener has no address")?;
    tokio::spawn(run_upkeep(handle.clone()));
    tokio::spawn(serve(listener, handle, address));
    Ok(())
}

/// Describes the metrics of all crates. Those that the process never records are not shown.
fn describe_all() {
    tidewater_functions::describe_metrics();
    tidewater_ingest_worker::describe_metrics();
    tidewater_snapshot_builder::describe_metrics();
    tidewater_storage::describe_metrics();
    #[cfg(feature = "aws")]
    tidewater_storage_aws::describe_metrics();
}

async fn run_upkeep(handle: PrometheusHandle) {
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        interval.tick().await;
        handle.run_upkeep();
    }
}

async fn serve(listener: TcpListener, handle: PrometheusHandle, address: SocketAddr) {
    let router = Router::new()
        .route(
            "/metrics",
            get(move || async move { ([(CONTENT_TYPE, TEXT_FORMAT)], handle.render()) }),
        )
        // For the health check of a container.
        .route("/probes/liveness", get(|| async { "alive\n" }));

    tracing::info!(url = format!("http://{address}/metrics"), "serving metrics");
    let limits = ConnectionLimits {
        connections_max: CONNECTIONS_MAX,
        reserved: 0,
        ..ConnectionLimits::default()
    };
    server::serve(listener, router, &limits, &CancellationToken::new()).await;
}

#[cfg(test)]
mod tests;
