//! `tidewater sync`: keeps a SQLite file in sync from the command line.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use tidewater_client::{
    Client, ClientError, Connector, Credentials, FixedToken, HttpConnector, Options, Problem,
    ProblemKind, Schema, Status, SyncReport,
};
use tokio::sync::watch;

use crate::process::signals;
use crate::terminal::failure::Failure;
use crate::terminal::format::counted;
use crate::terminal::logging;

const EXAMPLES: &str = "\
Examples:
  Download into app.db once, and print the time that it took:
    tidewater sync --endpoint http://127.0.0.1:8080 --token @token.txt --schema app.sql --once app.db

  Stay connected, and upload what other programs write into the file to the app's backend:
    tidewater sync --endpoint http://127.0.0.1:8080 --token @token.txt --schema app.sql \\
      --upload-url http://127.0.0.1:3000/upload app.db

The schema is a file with SQLite CREATE TABLE and CREATE INDEX statements. Each table needs
'id TEXT PRIMARY KEY'. Rows of tables that the schema lacks are stored until it has them.";

/// Keep a SQLite file in sync
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SyncArgs {
    /// URL of the sync API
    #[arg(long, env = "TIDEWATER_ENDPOINT", value_name = "URL")]
    endpoint: String,
    /// The user's JWT, or @FILE to read it from a file whenever a new token is needed
    #[arg(long, env = "TIDEWATER_TOKEN", value_name = "JWT|@FILE", hide_env_values = true)]
    token: String,
    /// File with the CREATE TABLE and CREATE INDEX statements of the tables to fill
    #[arg(long, env = "TIDEWATER_SCHEMA", value_name = "FILE")]
    schema: PathBuf,
    /// Exit after the first complete checkpoint
    #[arg(long, env = "TIDEWATER_ONCE")]
    once: bool,
    /// Download rows as data lines only, not as snapshots
    #[arg(long, env = "TIDEWATER_NO_SNAPSHOTS")]
    no_snapshots: bool,
    /// Print the result as one JSON object. Needs --once
    #[arg(long, env = "TIDEWATER_JSON", requires = "once")]
    json: bool,
    /// URL that local writes are posted to. Without it they stay queued in the file
    #[arg(long, env = "TIDEWATER_UPLOAD_URL", value_name = "URL")]
    upload_url: Option<String>,
    /// The SQLite file. It is created if it does not exist
    #[arg(value_name = "DB.sqlite")]
    database: PathBuf,
}

/// Syncs once, or until a signal.
pub(crate) async fn run(args: &SyncArgs) -> Result<(), Failure> {
    let credentials = credentials(&args.token).map_err(Failure::usage)?;
    let connector = args
        .upload_url
        .as_deref()
        .map(|url| HttpConnector::new(url, Arc::clone(&credentials)))
        .transpose()
        .map_err(Failure::usage)?
        .map(|connector| Arc::new(connector) as Arc<dyn Connector>);
    let schema = read_schema(&args.schema).map_err(Failure::usage)?;
    let options = Options { snapshots: !args.no_snapshots, ..Options::default() };
    let client = Client::open(&args.database, &schema, options).map_err(failure)?;
    let shown = tokio::spawn(show(client.status(), args.upload_url.clone()));

    let done = if args.once {
        let shutdown = signals::shutdown_on_signal()?;
        let synced = client.sync_once(&args.endpoint, credentials, connector, None);
        tokio::select! {
            report = synced => report
                .map_err(|error| advised(error, &client.status().borrow()))
                .and_then(|report| print(&report, args.json)),
            () = shutdown.cancelled() => Err(Failure::from(anyhow!("interrupted by a signal"))),
        }
    } else {
        follow(&client, &args.endpoint, credentials, connector).await
    };
    shown.abort();

    let rejected = client.status().borrow().rejected;
    if rejected > 0 {
        tracing::warn!(
            rejected,
            "the backend rejected local transactions; their rows were reset to the server's state; \
             to see the writes and the reasons: tidewater queue list {}",
            args.database.display()
        );
    }
    done
}

/// Stays connected until a signal.
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

/// Converts an error of the client. Errors that other flags would avoid are wrong usage.
fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Schema(_) | ClientError::Endpoint(_) => Failure::usage(error),
        ClientError::SchemaChange(_) => {
            let what = "--schema does not fit the file, whose tables can only gain columns, tables and \
                        indexes. Undo the other change, or sync into a new file";
            Failure::usage(anyhow::Error::from(error).context(what))
        }

        ClientError::NewerFormat(_)
        | ClientError::NoDatabase(_)
        | ClientError::Retry { .. }
        | ClientError::Locked
        | ClientError::Connected
        | ClientError::Deadline
        | ClientError::Sync(_)
        | ClientError::File { .. }
        | ClientError::Http(_) => Failure::from(anyhow::Error::from(error)),

        ClientError::Sqlite(_) => {
            let what = format!("the sync failed. {}", advice(ProblemKind::Storage));
            Failure::from(anyhow::Error::from(error).context(what))
        }
    }
}

/// Converts an error of a sync, with advice.
fn advised(error: ClientError, status: &Status) -> Failure {
    let problem = status.download_problem.as_ref().or(status.upload_problem.as_ref());
    match (&error, problem) {
        (ClientError::Sync(_), Some(problem)) => {
            Failure::from(anyhow!("{error}. {}", advice(problem.kind)))
        }
        (ClientError::Sync(_), None) if status.queue_length > 0 => {
            Failure::from(anyhow!("{error}. Name their destination with --upload-url"))
        }
        _ => failure(error),
    }
}

/// Returns what the user of the command can do. No kind of problem loses data of the file.
fn advice(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Network => {
            "Check --endpoint, and that the sync API runs there. The download is kept, and the next \
             run continues it"
        }
        ProblemKind::Credentials => {
            "Get a new token from the app's backend or, for development, from `tidewater token`. \
             Check that its key and its `aud` match the API's --jwks and --audience"
        }
        ProblemKind::OtherUser => {
            "No data is lost. Use a token of that user to send them. `tidewater queue list` shows them, \
             and `tidewater queue discard` deletes them"
        }
        ProblemKind::Checksum => "The next run downloads the affected buckets again",
        ProblemKind::Protocol => "Check that --endpoint is a sync API of a compatible version",
        ProblemKind::Schema => "Correct --schema, so that its tables can hold the server's rows",
        ProblemKind::Storage => {
            "No data is lost. Make room for the database file, make it writable, and run again"
        }
        ProblemKind::Upload => {
            "No data is lost: local writes stay queued in the file, and the next run sends them. \
             Check --upload-url and the backend's log: only a body like {\"outcome\": \"rejected\"} \
             rejects a write. `tidewater queue` shows and discards what waits"
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

/// A file with a token, which another program renews.
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

/// Shows a progress bar during a download, and logs each new problem.
async fn show(mut status: watch::Receiver<Status>, upload_url: Option<String>) {
    let mut bar: Option<ProgressBar> = None;
    let mut reported = None;
    // A problem of an upload was reported, and its end was not.
    let mut is_unsent = false;

    loop {
        let now = status.borrow_and_update().clone();
        match now.downloading {
            Some(progress) if logging::on_terminal() && progress.total > 0 => {
                let bar = bar.get_or_insert_with(|| logging::add_bar("downloading", "operations"));
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
        if problem != reported {
            match &problem {
                Some(Problem { kind: ProblemKind::Upload, message }) => {
                    let waiting = usize::try_from(now.queue_length).unwrap_or(usize::MAX);
                    let waiting = counted(waiting, "local transaction");
                    let url = upload_url.as_deref().unwrap_or_default();
                    tracing::warn!(
                        "{waiting} not sent to {url}: {message}. {}",
                        advice(ProblemKind::Upload)
                    );
                }
                Some(problem) => tracing::warn!("{}. {}", problem.message, advice(problem.kind)),
                None => {}
            }
            is_unsent |= is_upload(&problem);
            reported = problem;
        }
        if is_unsent && now.queue_length == 0 {
            tracing::info!("all local writes are sent");
            is_unsent = false;
        }

        if status.changed().await.is_err() {
            return;
        }
    }
}

fn is_upload(problem: &Option<Problem>) -> bool {
    problem.as_ref().is_some_and(|problem| problem.kind == ProblemKind::Upload)
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
            "checkpoint {}: {} rows from {}, {} bytes, {:.2} s\n",
            report.checkpoint,
            report.rows,
            counted(report.buckets.len(), "bucket"),
            report.bytes,
            report.total.as_secs_f64()
        )
    };

    std::io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")?;
    Ok(())
}
