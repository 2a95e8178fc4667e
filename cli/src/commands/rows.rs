//! `tidewater rows`: prints the buckets and rows that a user would get.

mod gather;
mod report;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Map, Value, json};
use tidewater_protocol::StreamSubscription;
use tidewater_sync_config::{Request, RequestLimits, SyncConfig};

use crate::services::config_file::ConfigFile;
use crate::services::database::DatabaseArgs;
use crate::terminal::failure::Failure;
use crate::terminal::format::Format;

const EXAMPLES: &str = "\
Examples:
  The rows that user u1 gets from streams with auto_subscribe:
    tidewater rows sync-config.yaml --database-url postgres://user@host/db --user-id u1

  With a claim that the config reads by auth.parameter('org_id'), and a subscription with a parameter
  that the config reads by subscription.parameter('project'):
    tidewater rows sync-config.yaml --database-url postgres://user@host/db --user-id u1 \\
      --claims '{\"org_id\": \"acme\"}' --stream 'project={\"project\": 7}'

  As JSON, with up to 1000 rows of each bucket:
    tidewater rows sync-config.yaml --database-url postgres://user@host/db --user-id u1 \\
      --format json --limit 1000

For each bucket, the output has its priority, its number of rows, and the first rows, one JSON object a
line: the table on the device, the id, and the row as it is sent. The JSON is one object:
  {\"buckets\": [{\"bucket\": \"todos|0[\\\"u1\\\"]\", \"definition\": \"todos|0\", \"parameters\": [\"u1\"],
      \"priority\": 3, \"row_count\": 1, \"rows\": [{\"type\": \"todos\", \"id\": \"t1\", \"data\": {...}}]}],
   \"streams\": [{\"name\": \"todos\", \"is_default\": true, \"errors\": []}],
   \"left_out\": [{\"message\": \"...\", \"row_count\": 1}]}
\"left_out\" counts the rows of all users for which a query cannot be evaluated.

Exit codes: 0 success, 1 cannot read the database, 2 wrong usage, or the config does not fit it.";

/// Print the buckets and rows that a user would get, read from the database
///
/// It needs no running Tidewater, no publication and no replication slot, and changes nothing. It
/// reads all tables of the sync config in one read-only transaction, so at one point in time. Each
/// table is read completely, tables with lookups twice. The user's rows, and the answers to lookups
/// for all users, are kept in memory. So run it on a large database when it is not busy. Row filters
/// of a publication and limits of the sync API are not applied.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RowsArgs {
    /// The sync config (YAML)
    file: PathBuf,
    #[command(flatten)]
    database: DatabaseArgs,
    /// User id: the token's `sub`, and `auth.user_id()` in the sync config
    #[arg(long, env = "TIDEWATER_USER_ID", value_name = "U",
          value_parser = NonEmptyStringValueParser::new())]
    user_id: String,
    /// Further claims of the token, as a JSON object
    #[arg(long, env = "TIDEWATER_CLAIMS", value_name = "JSON", value_parser = parse_claims)]
    claims: Option<Map<String, Value>>,
    /// Connection parameters of the app, for `connection.parameter(...)`, as a JSON object
    #[arg(long, env = "TIDEWATER_PARAMETERS", value_name = "JSON", value_parser = parse_object)]
    parameters: Option<Map<String, Value>>,
    /// Stream that the app subscribes to, with its parameters as a JSON object. Repeatable as a flag
    #[arg(long = "stream", env = "TIDEWATER_STREAM", value_name = "NAME[=JSON]",
          value_parser = parse_stream)]
    streams: Vec<StreamSubscription>,
    /// Maximum number of rows shown of each bucket. All rows are counted
    #[arg(long, env = "TIDEWATER_LIMIT", value_name = "N", default_value_t = 10)]
    limit: usize,
    /// Format of the output
    #[arg(long, env = "TIDEWATER_FORMAT", value_enum, default_value_t)]
    format: Format,
}

/// Prints the user's buckets and rows to stdout.
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
    let gathered = gather::gather(&file, &args.database.database().await, &request).await?;
    let output = match args.format {
        Format::Text => report::text(file.config(), &gathered, args.limit)?,
        Format::Json => report::json(file.config(), &gathered, args.limit)?,
    };
    std::io::stdout().write_all(output.as_bytes()).context("cannot write to stdout")?;
    Ok(())
}

/// Fails if a subscription names a stream that the config lacks. The sync API ignores such a
/// subscription, since the app may be newer than the config; here it is a spelling mistake.
fn check_streams(config: &SyncConfig, request: &Request<'_>) -> Result<(), Failure> {
    let prepared =
        config.prepare(request, &RequestLimits::UNLIMITED).map_err(anyhow::Error::from)?;
    let known = prepared.evaluation().finish().map_err(anyhow::Error::from)?.streams;
    for subscription in request.subscriptions {
        if known.iter().all(|known| known.name != subscription.stream) {
            let name = &subscription.stream;
            let error = anyhow!("the sync config has no stream '{name}' (--stream)");
            return Err(Failure::Usage(error));
        }
    }
    Ok(())
}

fn parse_object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}

/// Parses the claims of a token besides the user id.
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
    // The name of a stream contains no equals sign.
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
    fn a_stream_is_parsed_with_and_without_parameters() {
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
    fn claims_that_no_token_can_hold_are_refused() {
        assert!(parse_claims(r#"{"org": 1, "parameters": {"a": 1}}"#).is_ok());
        for bad in [r#"{"sub": "u2"}"#, r#"{"parameters": 1}"#, "[]", ""] {
            assert!(parse_claims(bad).is_err(), "{bad}");
        }
    }
}
