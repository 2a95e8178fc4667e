//! `tidewater rows`: what would this user get?

mod gather;
mod report;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Map, Value, json};
use tidewater_protocol::StreamSubscription;
use tidewater_sync_config::{Request, SyncConfig};

use crate::failure::Failure;
use crate::format::Format;
use crate::worker::ConfigFile;

const EXAMPLES: &str = "\
Examples:
  What the streams that subscribe by themselves give user u1:
    tidewater rows sync-config.yaml --database-url postgres://user@host/db --user-id u1

  With a claim that the config reads by auth.parameter('org_id'), and a stream that the app
  subscribes to with a parameter, which the config reads by subscription.parameter('project'):
    tidewater rows sync-config.yaml --database-url postgres://user@host/db --user-id u1 \\
      --claims '{\"org_id\": \"acme\"}' --stream 'project={\"project\": 7}'

  For a program, with up to 1000 rows of each bucket:
    tidewater rows sync-config.yaml --database-url postgres://user@host/db --user-id u1 \\
      --format json --limit 1000

Each bucket comes with its priority, the number of its rows, and the first of them, one JSON object
a line: the table on the device, the id, and the row as it arrives. The JSON is one object:
  {\"buckets\": [{\"bucket\": \"todos|0[\\\"u1\\\"]\", \"definition\": \"todos|0\", \"parameters\": [\"u1\"],
      \"priority\": 3, \"row_count\": 1, \"rows\": [{\"type\": \"todos\", \"id\": \"t1\", \"data\": {...}}]}],
   \"streams\": [{\"name\": \"todos\", \"is_default\": true, \"errors\": []}],
   \"left_out\": [{\"message\": \"...\", \"row_count\": 1}]}
\"left_out\" counts rows, of any user, that a query cannot be evaluated for.

Exit codes: 0 done, 1 the database cannot be read, 2 wrong usage, or a config that does not fit it.";

/// Print which buckets and rows a user would get, straight from the database
///
/// Nothing has to run and nothing is changed: all tables that the sync config reads are read as of
/// one moment, in one read-only transaction. They are read whole, those that lookups are about
/// twice, and what matches is kept in memory: the user's rows, and the answers to lookups for all
/// users. So ask a large database when it is not busy. No publication or replication slot is
/// needed; what a publication leaves out is not left out here, and the sync API's limits, such as
/// that of buckets, are not applied.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RowsArgs {
    /// The sync config (YAML)
    file: PathBuf,
    /// The database to read, as `tidewater dev` takes it
    #[arg(long, env = "TIDEWATER_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: String,
    /// The user: the token's `sub`, in the sync config `auth.user_id()`
    #[arg(long, env = "TIDEWATER_USER_ID", value_name = "U",
          value_parser = NonEmptyStringValueParser::new())]
    user_id: String,
    /// More claims of the token: a JSON object
    #[arg(long, env = "TIDEWATER_CLAIMS", value_name = "JSON", value_parser = parse_claims)]
    claims: Option<Map<String, Value>>,
    /// What the app sets when it connects, for `connection.parameter(...)`: a JSON object
    #[arg(long, env = "TIDEWATER_PARAMETERS", value_name = "JSON", value_parser = parse_object)]
    parameters: Option<Map<String, Value>>,
    /// A stream that the app subscribes to, and its parameters, a JSON object; may be repeated (but
    /// the environment holds one)
    #[arg(long = "stream", env = "TIDEWATER_STREAM", value_name = "NAME[=JSON]",
          value_parser = parse_stream)]
    streams: Vec<StreamSubscription>,
    /// Rows shown of each bucket; all are counted
    #[arg(long, env = "TIDEWATER_LIMIT", value_name = "N", default_value_t = 10)]
    limit: usize,
    /// For people, or one JSON object for programs
    #[arg(long, env = "TIDEWATER_FORMAT", value_enum, default_value_t)]
    format: Format,
}

/// Prints what the user would get on stdout.
pub(crate) async fn run(args: &RowsArgs) -> Result<(), Failure> {
    let file = ConfigFile::read(&args.file)?;
    let mut claims = args.claims.clone().unwrap_or_default();
    claims.insert("sub".to_owned(), json!(args.user_id));
    let request = Request {
        user_id: &args.user_id,
        claims: &claims,
        parameters: args.parameters.as_ref(),
        include_defaults: true,
        subscriptions: &args.streams,
    };
    check_streams(file.config(), &request)?;
    let gathered = gather::gather(&file, &args.database_url, &request).await?;
    let output = match args.format {
        Format::Text => report::text(file.config(), &gathered, args.limit)?,
        Format::Json => report::json(file.config(), &gathered, args.limit)?,
    };
    std::io::stdout().write_all(output.as_bytes()).context("cannot write to stdout")?;
    Ok(())
}

/// The sync API says nothing of a stream that does not exist, as the app may be ahead of it; who
/// asks here has misspelt it.
fn check_streams(config: &SyncConfig, request: &Request<'_>) -> Result<(), Failure> {
    let known = config.request(request).finish().streams;
    let is_unknown = |one: &&StreamSubscription| known.iter().all(|known| known.name != one.stream);
    match request.subscriptions.iter().find(is_unknown) {
        None => Ok(()),
        Some(one) => Err(Failure::Wrong(anyhow!(
            "the sync config has no stream '{}' (--stream)",
            one.stream
        ))),
    }
}

fn parse_object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}

/// What a token may hold beside its user.
fn parse_claims(text: &str) -> Result<Map<String, Value>, String> {
    let claims = parse_object(text)?;
    if claims.contains_key("sub") {
        return Err("'sub' is set by --user-id".to_owned());
    }
    if claims.get("parameters").is_some_and(|parameters| !parameters.is_object()) {
        return Err("the sync API refuses a token whose 'parameters' are no object".to_owned());
    }
    Ok(claims)
}

fn parse_stream(text: &str) -> Result<StreamSubscription, String> {
    // No name of a stream holds an equals sign.
    let (name, parameters) = match text.split_once('=') {
        Some((name, parameters)) => (name, Some(parse_object(parameters)?)),
        None => (text, None),
    };
    Ok(StreamSubscription { stream: name.to_owned(), parameters, override_priority: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_may_have_parameters() {
        let bare = parse_stream("a.b-c").unwrap();
        assert_eq!((bare.stream.as_str(), bare.parameters), ("a.b-c", None));
        let given = parse_stream(r#"p={"x": "a=b"}"#).unwrap();
        assert_eq!(given.stream, "p");
        assert_eq!(json!(given.parameters), json!({"x": "a=b"}));
        assert_eq!(json!(parse_stream("p={}").unwrap().parameters), json!({}));
        for bad in ["p=", "p=7", "p=[]", "p={"] {
            assert!(parse_stream(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn claims_are_what_a_token_can_hold() {
        assert!(parse_claims(r#"{"org": 1, "parameters": {"a": 1}}"#).is_ok());
        for bad in [r#"{"sub": "u2"}"#, r#"{"parameters": 1}"#, "[]", ""] {
            assert!(parse_claims(bad).is_err(), "{bad}");
        }
    }
}
