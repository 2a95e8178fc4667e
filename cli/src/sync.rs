//! `tidewater sync`: a database file kept in sync from the command line.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tidewater_client::{
    Client, ClientError, Connector, Credentials, FixedToken, HttpConnector, Options, ProblemKind,
    Schema, Status, SyncReport,
};
use tokio::sync::watch;

use crate::failure::Failure;
use crate::{logging, signals};

const EXAMPLES: &str = "\
Examples:
  Fill app.db once and say how long it took:
    tidewater sync --endpoint http://127.0.0.1:8080 --token @token.txt --schema app.sql --once app.db

  Follow, and send what other programs write into the file to the app's backend:
    tidewater sync --endpoint http://127.0.0.1:8080 --token @token.txt --schema app.sql \\
      --upload-url http://127.0.0.1:3000/upload app.db

The schema is a file of SQLite CREATE TABLE and CREATE INDEX statements; each table needs
'id TEXT PRIMARY KEY'. Rows of tables that it lacks are kept aside until it gains them.";

const BAR: &str = "  {msg:12} {bar:28} {human_pos:>12} / {human_len} operations  {per_sec:>14}";

/// Keep a SQLite file in sync
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SyncArgs {
    /// Address of the sync API
    #[arg(long, env = "TIDEWATER_ENDPOINT", value_name = "URL")]
    endpoint: String,
    /// The user's JWT, or @FILE to read it from a file (again whenever a new one is needed)
    #[arg(long, env = "TIDEWATER_TOKEN", value_name = "JWT|@FILE", hide_env_values = true)]
    token: String,
    /// SQLite CREATE TABLE and CREATE INDEX statements of the tables to fill
    #[arg(long, env = "TIDEWATER_SCHEMA", value_name = "FILE")]
    schema: PathBuf,
    /// End after the first checkpoint that was complete at the start
    #[arg(long, env = "TIDEWATER_ONCE")]
    once: bool,
    /// Take rows as data lines only, not as snapshots
    #[arg(long, env = "TIDEWATER_NO_SNAPSHOTS")]
    no_snapshots: bool,
    /// Print the result as one JSON object (with --once)
    #[arg(long, env = "TIDEWATER_JSON", requires = "once")]
    json: bool,
    /// Where local writes are posted; without it they wait in the file
    #[arg(long, env = "TIDEWATER_UPLOAD_URL", value_name = "URL")]
    upload_url: Option<String>,
    /// The SQLite file; made if it is not there
    #[arg(value_name = "DB.sqlite")]
    database: PathBuf,
}

/// Syncs once, or until a signal.
pub(crate) async fn run(args: &SyncArgs) -> Result<(), Failure> {
    let credentials = credentials(&args.token).map_err(Failure::wrong)?;
    let connector = args
        .upload_url
        .as_deref()
        .map(|url| HttpConnector::new(url, Arc::clone(&credentials)))
        .transpose()
        .map_err(Failure::wrong)?
        .map(|connector| Arc::new(connector) as Arc<dyn Connector>);
    let schema = read_schema(&args.schema).map_err(Failure::wrong)?;
    let options = Options { snapshots: !args.no_snapshots, ..Options::default() };
    let client = Client::open(&args.database, &schema, options).map_err(failure)?;
    let shown = tokio::spawn(show(client.status()));
    let done = if args.once {
        let shutdown = signals::shutdown_on_signal()?;
        let synced = client.sync_once(&args.endpoint, credentials, connector, None);
        tokio::select! {
            report = synced => report
                .map_err(|error| advised(error, &client.status().borrow()))
                .and_then(|report| print(&report, args.json)),
            () = shutdown.cancelled() => Err(Failure::from(anyhow!("stopped by a signal"))),
        }
    } else {
        follow(&client, &args.endpoint, credentials, connector).await
    };
    shown.abort();
    let rejected = client.status().borrow().rejected;
    if rejected > 0 {
        tracing::warn!(
            rejected,
            "the backend has rejected local transactions, and their rows went back to the server's \
             state; what was written, and why it was rejected: \
             SELECT reason, operations FROM _tw_rejected"
        );
    }
    done
}

async fn follow(
    client: &Client,
    endpoint: &str,
    credentials: Arc<dyn Credentials>,
    connector: Option<Arc<dyn Connector>>,
) -> Result<(), Failure> {
    let shutdown = signals::shutdown_on_signal()?;
    client.connect(endpoint, credentials, connector).map_err(failure)?;
    shutdown.cancelled().await;
    client.disconnect().await;
    Ok(())
}

/// What the user can mend by another call is wrong input; the rest failed.
fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Schema(_) | ClientError::SchemaChange(_) | ClientError::Endpoint(_) => {
            Failure::wrong(error)
        }
        ClientError::NewerFormat(_)
        | ClientError::Locked
        | ClientError::Connected
        | ClientError::Deadline
        | ClientError::Sync(_)
        | ClientError::File { .. }
        | ClientError::Http(_) => Failure::from(anyhow::Error::from(error)),
        ClientError::Sqlite(_) => {
            let what = format!("cannot sync. {}", advice(ProblemKind::Storage));
            Failure::from(anyhow::Error::from(error).context(what))
        }
    }
}

/// An error with what to do about it.
fn advised(error: ClientError, status: &Status) -> Failure {
    let problem = status.download_problem.as_ref().or(status.upload_problem.as_ref());
    match (&error, problem) {
        (ClientError::Sync(_), Some(problem)) => {
            Failure::from(anyhow!("{error}. {}", advice(problem.kind)))
        }
        (ClientError::Sync(_), None) if status.queue_length > 0 => {
            Failure::from(anyhow!("{error}. Name where they go with --upload-url"))
        }
        _ => failure(error),
    }
}

/// What the user of the command can do. Whatever it is, the file holds all that it held.
fn advice(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Network => {
            "Check --endpoint, and that the sync API runs there; what was received is kept, and the \
             next run goes on from there"
        }
        ProblemKind::Credentials => {
            "Get a new token from the app's backend, or for development from `tidewater token`, and \
             check that its key and its `aud` are those of the API's --jwks and --audience"
        }
        ProblemKind::Checksum => "What differed is downloaded again by the next run",
        ProblemKind::Protocol => "Check that --endpoint is a sync API, of a version that fits",
        ProblemKind::Schema => "Mend --schema, so that its tables can hold the server's rows",
        ProblemKind::Storage => {
            "Nothing is lost: make room for the database file, or let it be written, and run again"
        }
        ProblemKind::Upload => {
            "Nothing is lost: local writes wait in the file, in order, and the next run sends them. \
             Check --upload-url, and what the backend logs"
        }
    }
}

fn read_schema(path: &Path) -> anyhow::Result<Schema> {
    let sql = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the schema {}", path.display()))?;
    Schema::parse(&sql).with_context(|| format!("{} cannot be used", path.display()))
}

fn credentials(token: &str) -> anyhow::Result<Arc<dyn Credentials>> {
    match token.strip_prefix('@') {
        None => Ok(Arc::new(FixedToken(token.trim().to_owned()))),
        Some(path) => {
            let file = TokenFile(PathBuf::from(path));
            file.read().with_context(|| format!("cannot read the token from {path}"))?;
            Ok(Arc::new(file))
        }
    }
}

/// A token that another program renews.
struct TokenFile(PathBuf);

impl TokenFile {
    fn read(&self) -> std::io::Result<String> {
        Ok(std::fs::read_to_string(&self.0)?.trim().to_owned())
    }
}

impl Credentials for TokenFile {
    fn token(
        &self,
    ) -> futures::future::BoxFuture<'_, Result<String, tidewater_client::CredentialsError>> {
        Box::pin(async { Ok(self.read()?) })
    }
}

/// A bar while something is downloaded, and a line for each new trouble.
async fn show(mut status: watch::Receiver<Status>) {
    let mut bar: Option<ProgressBar> = None;
    let mut told = None;
    loop {
        let now = status.borrow_and_update().clone();
        match now.downloading {
            Some(progress) if logging::on_terminal() && progress.total > 0 => {
                let bar = bar.get_or_insert_with(new_bar);
                bar.set_length(progress.total);
                bar.set_position(progress.downloaded);
            }
            _ => {
                if let Some(bar) = bar.take() {
                    bar.finish_and_clear();
                }
            }
        }
        let problem = now.download_problem.or(now.upload_problem);
        if problem != told {
            if let Some(problem) = &problem {
                tracing::warn!("{}. {}", problem.message, advice(problem.kind));
            }
            told = problem;
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

fn new_bar() -> ProgressBar {
    let style = ProgressStyle::with_template(BAR).expect("the template is a constant that parses");
    logging::bars().add(ProgressBar::new(0).with_style(style).with_message("downloading"))
}

fn print(report: &SyncReport, as_json: bool) -> Result<(), Failure> {
    let text = if as_json {
        let buckets = report.buckets.iter();
        let buckets: serde_json::Map<_, _> =
            buckets.map(|(bucket, method)| (bucket.clone(), json!(method.to_string()))).collect();
        let object = json!({
            "checkpoint": report.checkpoint.to_string(),
            "rows": report.rows,
            "operations": report.operations,
            "bytes": report.bytes,
            "seconds": {
                "connect": report.connect.as_secs_f64(),
                "download": report.download.as_secs_f64(),
                "apply": report.apply.as_secs_f64(),
                "total": report.total.as_secs_f64(),
            },
            "buckets": buckets,
        });
        format!("{object}\n")
    } else {
        format!(
            "checkpoint {}: {} rows from {} buckets, {} bytes, {:.2} s\n",
            report.checkpoint,
            report.rows,
            report.buckets.len(),
            report.bytes,
            report.total.as_secs_f64()
        )
    };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")?;
    Ok(())
}
