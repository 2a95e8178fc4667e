//! Mistakes of users: each ends with an exit code, and with an error that says what to do.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidewater_tests::{
    Auth, DevOptions, Device, Output, Postgres, PostgresOptions, SigningKey, SyncReader, Tidewater,
};

/// Timeout of a command that fails: long enough for a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(30);

const TABLES: &str = "
    CREATE TABLE lists (id text PRIMARY KEY, name text, owner_id text);
    CREATE PUBLICATION powersync FOR TABLE lists;
";

/// Returns a sync config with one query.
fn config(query: &str) -> String {
    format!("config:\n  edition: 3\nstreams:\n  s:\n    auto_subscribe: true\n    query: {query}\n")
}

/// Returns options with a sync config that reads the table `lists`.
fn read_lists(url: &str) -> DevOptions {
    DevOptions::new(url, &config("SELECT * FROM lists"))
}

/// Starts PostgreSQL with the table `lists` and a publication of it.
async fn database() -> Result<Postgres> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    Ok(postgres)
}

/// Runs `tidewater dev`, which must exit with `code` and an error with these texts and no password.
async fn refused(options: DevOptions, code: i32, says: &[&str]) -> Result<Output> {
    let output = Tidewater::prepare(options)?.run_to_end(SOON).await?;
    output.assert_code(code);
    output.assert_says(says);
    for secret in ["correct-horse", "s3cret"] {
        assert!(!output.stderr.contains(secret), "a password is in:\n{}", output.stderr);
    }
    Ok(output)
}

/// Runs `tidewater dev` with a sync config of one query, which must be refused before anything is
/// created in the database.
async fn refused_config(query: &str, code: i32, says: &[&str]) -> Result<()> {
    let postgres = database().await?;
    let options = DevOptions::new(&postgres.url("postgres"), &config(query));
    refused(options, code, says).await?;

    let slots = postgres.value("SELECT count(*) FROM pg_replication_slots").await?;
    assert_eq!(slots, "0", "a slot that nobody reads retains WAL until the disk is full");
    Ok(())
}

#[tokio::test]
async fn a_malformed_connection_string_is_wrong_input() -> Result<()> {
    let form = "postgres://user:password@host:5432/database";
    refused(read_lists("postgres//u:s3cret@host"), 2, &["--database-url", form]).await?;
    refused(read_lists("dbname=d user=u"), 2, &["names no host", form]).await?;
    let unknown = "postgres://u:s3cret@127.0.0.1/d?sslmode=perhaps";
    refused(read_lists(unknown), 2, &["sslmode=perhaps", "verify-full"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_database_or_role_is_named() -> Result<()> {
    let options = PostgresOptions { auth: Auth::Scram, ..PostgresOptions::default() };
    let postgres = Postgres::with(options).await?;

    let wrong_password = postgres.url_of("postgres", "s3cret", "postgres");
    refused(
        read_lists(&wrong_password),
        1,
        &[
            "password authentication failed for user \"postgres\"",
            "check user and password in the database URL",
        ],
    )
    .await?;

    let wrong_role = postgres.url_of("nobody_here", "s3cret", "postgres");
    refused(read_lists(&wrong_role), 1, &["nobody_here"]).await?;

    let wrong_database = postgres.url("absent");
    let says = ["\"absent\" does not exist", "CREATE DATABASE"];
    refused(read_lists(&wrong_database), 1, &says).await?;
    Ok(())
}

/// A worker whose first connection fails exits at once. It waits only if it was connected before.
#[tokio::test]
async fn a_server_that_cannot_be_reached_is_named() -> Result<()> {
    let mut postgres = database().await?;
    let options = read_lists(&postgres.url("postgres"));
    let port = postgres.port().to_string();
    postgres.stop().await?;
    let advice = "check host and port in the database URL";
    refused(options, 1, &["cannot connect to PostgreSQL", &port, advice]).await?;
    let unknown = "postgres://u:s3cret@no-such-host.invalid/d?sslmode=disable";
    refused(read_lists(unknown), 1, &["no-such-host.invalid", advice]).await?;
    Ok(())
}

/// Security test S23, for a server without TLS.
#[tokio::test]
async fn tls_is_required_of_other_machines_unless_it_is_switched_off() -> Result<()> {
    let postgres = database().await?;
    let url = postgres.url("postgres").replace("?sslmode=disable", "");
    // An address of this machine that does not say so.
    let other = url.replace("127.0.0.1", "0.0.0.0");
    refused(read_lists(&other), 1, &["no TLS", "sslmode=disable", "unencrypted"]).await?;
    let asked = format!("{url}?sslmode=require");
    refused(read_lists(&asked), 1, &["no TLS", "sslmode=disable", "unencrypted"]).await?;

    Tidewater::dev_ready(read_lists(&format!("{other}?sslmode=disable"))).await?;
    Tidewater::dev_ready(read_lists(&url).with(&["--slot", "local"])).await?;
    Ok(())
}

#[tokio::test]
async fn a_wal_level_below_logical_is_refused_with_the_sql_that_fixes_it() -> Result<()> {
    let postgres = Postgres::with(PostgresOptions::default().set("wal_level", "replica")).await?;
    postgres.execute(TABLES).await?;
    let options = read_lists(&postgres.url("postgres"));
    refused(options, 1, &["wal_level", "ALTER SYSTEM SET wal_level = logical"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_missing_publication_is_refused_with_the_sql_that_creates_it() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute("CREATE TABLE lists (id text PRIMARY KEY)").await?;
    let options = read_lists(&postgres.url("postgres"));
    refused(options.clone(), 1, &["CREATE PUBLICATION", "powersync"]).await?;

    postgres.execute("CREATE PUBLICATION powersync FOR TABLE lists").await?;
    let options = options.with(&["--publication", "other"]);
    refused(options, 1, &["CREATE PUBLICATION", "other"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_table_outside_the_publication_is_refused_with_the_sql_that_adds_it() -> Result<()> {
    let postgres = database().await?;
    postgres.execute("CREATE TABLE todos (id text PRIMARY KEY)").await?;
    let options = DevOptions::new(&postgres.url("postgres"), &config("SELECT * FROM todos"));
    refused(options, 1, &["todos", "ALTER PUBLICATION", "ADD TABLE"]).await?;
    Ok(())
}

#[tokio::test]
async fn missing_privileges_are_refused_with_the_sql_that_grants_them() -> Result<()> {
    let postgres = database().await?;
    postgres.execute("CREATE ROLE app LOGIN PASSWORD 'password'").await?;
    let options = read_lists(&postgres.url_of("app", "password", "postgres"));
    refused(options.clone(), 1, &["ALTER ROLE \"app\" REPLICATION", "GRANT SELECT ON"]).await?;

    postgres.execute("ALTER ROLE app REPLICATION").await?;
    refused(options.clone(), 1, &["GRANT SELECT ON", "lists"]).await?;

    // No other privilege is needed.
    postgres.execute("GRANT SELECT ON lists TO app").await?;
    Tidewater::dev_ready(options).await?;
    Ok(())
}

#[tokio::test]
async fn no_free_replication_slot_is_refused() -> Result<()> {
    let options = PostgresOptions::default().set("max_replication_slots", "1");
    let postgres = Postgres::with(options).await?;
    postgres.execute(TABLES).await?;
    let taken = "SELECT pg_create_logical_replication_slot('taken', 'pgoutput')";
    postgres.execute(taken).await?;
    refused(read_lists(&postgres.url("postgres")), 1, &["max_replication_slots"]).await?;
    Ok(())
}

#[tokio::test]
async fn an_unknown_table_is_wrong_input_with_its_position() -> Result<()> {
    refused_config("SELECT * FROM list", 2, &[":6:26:", "list", "lists"]).await
}

#[tokio::test]
async fn an_unknown_column_is_wrong_input_with_its_position() -> Result<()> {
    refused_config("SELECT id, nam FROM lists", 2, &[":6:23:", "nam", "name"]).await
}

#[tokio::test]
async fn a_query_without_an_id_is_wrong_input_that_says_how_to_name_one() -> Result<()> {
    refused_config("SELECT name FROM lists", 2, &[":6:12:", "AS id"]).await
}

#[tokio::test]
async fn unsupported_sql_is_wrong_input_with_its_position() -> Result<()> {
    refused_config("SELECT id FROM lists ORDER BY id", 2, &[":6:"]).await?;
    refused_config("SELECT id FROM lists LIMIT 3", 2, &[":6:"]).await
}

#[tokio::test]
async fn a_sync_config_that_cannot_be_read_is_wrong_input() -> Result<()> {
    let url = "postgres://u:s3cret@127.0.0.1:1/d?sslmode=disable";
    refused(DevOptions::new(url, "streams: ["), 2, &["sync-config.yaml"]).await?;
    refused(DevOptions::new(url, ""), 2, &["sync-config.yaml"]).await?;
    refused(DevOptions::new(url, "no_such_key: 1"), 2, &["no_such_key"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_table_without_replica_identity_is_refused_only_if_the_config_reads_it() -> Result<()> {
    let postgres = database().await?;
    postgres
        .execute(
            "CREATE TABLE log (id text, line text); ALTER PUBLICATION powersync ADD TABLE log;
             INSERT INTO log VALUES ('a', 'b')",
        )
        .await?;
    let url = postgres.url("postgres");
    let reads_log = DevOptions::new(&url, &config("SELECT * FROM log"));
    let fixes = ["log", "PRIMARY KEY", "REPLICA IDENTITY FULL"];
    refused(reads_log.clone(), 1, &fixes).await?;

    // A config that does not read the table syncs, also when the table changes.
    let mut tidewater = Tidewater::dev_ready(read_lists(&url)).await?;
    let changes = "INSERT INTO log VALUES ('c', 'd'); INSERT INTO lists VALUES ('l', 'x', 'u1')";
    postgres.execute(changes).await?;
    let mut reader = SyncReader::new();
    let mut connection = tidewater.connect(&mut reader, "u1").await?;
    connection.completed_with(|done| done.rows.len() == 1).await?;
    tidewater.must_run()?;

    // The fix that the error names is sufficient.
    postgres.execute("ALTER TABLE log REPLICA IDENTITY FULL").await?;
    Tidewater::dev_ready(reads_log).await?;
    Ok(())
}

#[tokio::test]
async fn keys_without_an_audience_are_wrong_usage() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let keys = SigningKey::random("k").write_jwk_set(folder.path())?;
    let config_file = folder.path().join("config.yaml");
    std::fs::write(&config_file, config("SELECT * FROM lists"))?;

    let output = Tidewater::command()?
        .args(["dev", "--database-url", "postgres://u@127.0.0.1:1/d?sslmode=disable"])
        .arg("--sync-config")
        .arg(config_file)
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .arg("--jwks")
        .arg(keys)
        .output()?;
    let errors = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("--audience"), "{errors}");
    Ok(())
}

#[tokio::test]
async fn unusable_keys_are_wrong_input() -> Result<()> {
    let url = "postgres://u@127.0.0.1:1/d?sslmode=disable";
    for (arguments, says) in [
        (&["--jwks", "http://id.example.com/keys"], ["http://id.example.com/keys", "use https"]),
        (&["--jwks", "https://u:s3cret@id.example.com/"], ["--jwks", "a JWK Set is public"]),
        (&["--jwks", "/nowhere/keys.json"], ["/nowhere/keys.json", "No such file"]),
        (&["--jwks", "/proc/version"], ["--jwks", "a JSON object with a list \"keys\""]),
    ] {
        refused(read_lists(url).with(arguments), 2, &says).await?;
    }
    Ok(())
}

/// The server of the keys may be available again when the first token arrives, so the API starts.
#[tokio::test]
async fn an_unreachable_url_of_keys_is_logged_and_the_api_starts() -> Result<()> {
    let postgres = database().await?;
    let keys = "http://127.0.0.1:1/keys?secret=s3cret";
    let options = read_lists(&postgres.url("postgres")).with(&["--jwks", keys]);
    let tidewater = Tidewater::dev_ready(options).await?;
    SyncReader::new().sync_once(tidewater.url(), &tidewater.token("u1")?).await?;

    let log = tidewater.log()?;
    assert!(log.contains("cannot fetch the JWK Set") && log.contains("127.0.0.1:1/keys"), "{log}");
    assert!(!log.contains("s3cret"), "{log}");

    // The key of this token may be among those that could not be fetched.
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"theirs"}"#);
    let token = format!("Token {header}.e30.AAAA");
    let refusal = attempt(&tidewater, Some(&token)).await?;
    assert_eq!(refusal, (503, "PSYNC_S2204".to_owned()), "the token may be right");
    Ok(())
}

#[tokio::test]
async fn a_data_directory_in_use_is_refused() -> Result<()> {
    let postgres = database().await?;
    let options = read_lists(&postgres.url("postgres"));
    let first = Tidewater::dev_ready(options.clone()).await?;
    let mut second = Tidewater::prepare(options)?;
    let output = second.run_on_data_dir_of(&first, SOON).await?;
    assert_ne!(output.code, Some(0), "{}", output.stderr);
    output.assert_says(&["in use"]);
    Ok(())
}

/// Tries to open a stream that must be refused. Returns the status and the error code.
async fn attempt(tidewater: &Tidewater, authorization: Option<&str>) -> Result<(u16, String)> {
    let url = format!("{}/sync/stream", tidewater.url());
    let mut request = reqwest::Client::new().post(url).json(&serde_json::json!({}));
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }

    let response = request.send().await?;
    let status = response.status().as_u16();
    let body: serde_json::Value = response.json().await?;
    let code = body["error"]["code"].as_str().context("no error code")?;
    Ok((status, code.to_owned()))
}

/// Security tests S1 to S3, through the whole system.
#[tokio::test]
async fn expired_foreign_and_missing_tokens_are_refused() -> Result<()> {
    let postgres = database().await?;
    let tidewater = Tidewater::dev_ready(read_lists(&postgres.url("postgres"))).await?;
    let key = tidewater.key();
    let good = key.token("u1").sign()?;

    // Clocks may differ by a minute, so the token has expired longer ago.
    let expired = key.token("u1").valid_seconds(-120).sign()?;
    let foreign = SigningKey::random("other").token("u1").sign()?;
    let same_name = SigningKey::random("test").token("u1").sign()?;
    let audience = key.token("u1").claim("aud", "somebody-else").sign()?;
    let too_long = key.token("u1").valid_seconds(7 * 86_400).sign()?;
    let mut forged = good.clone();
    forged.replace_range(good.len() - 8.., "AAAAAAAA");

    let cases = [
        (Some(format!("Token {expired}")), "PSYNC_S2103"),
        (Some(format!("Token {foreign}")), "PSYNC_S2101"),
        (Some(format!("Token {same_name}")), "PSYNC_S210"),
        (Some(format!("Token {forged}")), "PSYNC_S210"),
        (Some(format!("Token {audience}")), "PSYNC_S2105"),
        (Some(format!("Token {too_long}")), "PSYNC_S2104"),
        (Some("Token nonsense".to_owned()), "PSYNC_S2101"),
        (Some(format!("Basic {good}")), "PSYNC_S210"),
        (None, "PSYNC_S2106"),
    ];
    for (authorization, expected) in cases {
        let (status, code) = attempt(&tidewater, authorization.as_deref()).await?;
        assert_eq!(status, 401, "{authorization:?}");
        assert!(code.starts_with(expected), "{authorization:?}: {code}, not {expected}");
    }

    for scheme in ["Token", "Bearer"] {
        let url = format!("{}/write-checkpoint2.json?client_id=c", tidewater.url());
        let request =
            reqwest::Client::new().get(url).header("authorization", format!("{scheme} {good}"));
        assert_eq!(request.send().await?.status(), 200);
    }

    let log = tidewater.log()?;
    let refused = log.lines().filter(|line| line.contains("token refused"));
    assert_eq!(refused.count(), 9, "one line each:\n{log}");
    for said in
        ["PSYNC_S2105", r#""reason":"audience""#, r#""aud":"somebody-else""#, r#""kid":"other""#]
    {
        assert!(log.contains(said), "{said} is not in:\n{log}");
    }
    for token in [good, expired, foreign, same_name, audience, too_long] {
        let parts: Vec<&str> = token.split('.').collect();
        assert!(!log.contains(&token[..40]) && !log.contains(parts[1]), "a token is in the log");
        assert!(!log.contains(parts[2]), "a signature is in the log");
    }
    Ok(())
}

#[tokio::test]
async fn a_device_with_a_refused_token_keeps_its_rows_and_reports_the_remedy() -> Result<()> {
    let postgres = database().await?;
    postgres.execute("INSERT INTO lists VALUES ('l1', 'mine', 'u1')").await?;
    let tidewater = Tidewater::dev_ready(read_lists(&postgres.url("postgres"))).await?;
    let mut device =
        Device::new("CREATE TABLE lists (id TEXT PRIMARY KEY, name TEXT, owner_id TEXT)")?;
    let key = tidewater.key();
    let good = key.token("u1").sign()?;
    device.sync_once(tidewater.url(), &good, &[], SOON).await?.assert_code(0);

    let expired = key.token("u1").valid_seconds(-120).sign()?;
    let foreign = SigningKey::random("other").token("u1").sign()?;
    let audience = key.token("u1").claim("aud", "somebody-else").sign()?;
    for (token, says) in [
        (expired, ["PSYNC_S2103", "expired", "new token"]),
        (foreign, ["PSYNC_S2101", "not valid", "--jwks"]),
        (audience, ["PSYNC_S2105", "another audience", "--audience"]),
    ] {
        let output = device.sync_once(tidewater.url(), &token, &[], SOON).await?;
        output.assert_code(1);
        output.assert_says(&says);
        assert!(!output.stderr.contains(&token), "a token is in:\n{}", output.stderr);
        assert_eq!(device.column("SELECT name FROM lists")?, ["mine"]);
    }
    Ok(())
}
