//! The admin API over HTTP, in PowerSync's paths and shapes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidewater_tests::{
    AUDIENCE, DevOptions, Lodging, Postgres, Process, Signal, SyncReader, Tidewater, admin_calls,
    eventually,
};

/// A bound for whatever must happen: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(60);

const TOKEN: &str = "an-admin-token-for-tests";

const CONFIG: &str = "
config: { edition: 3 }
streams:
  notes: { auto_subscribe: true, query: SELECT * FROM notes }
";

const TWO_TABLES: &str = "
config: { edition: 3 }
streams:
  notes: { auto_subscribe: true, query: SELECT * FROM notes }
  lists: { auto_subscribe: true, query: SELECT * FROM lists }
";

const TABLES: &str = "
    CREATE TABLE notes (id text PRIMARY KEY, done bool, size float8, file bytea, at timestamptz);
    CREATE TABLE lists (id text PRIMARY KEY);
    CREATE PUBLICATION powersync FOR TABLE notes, lists;
    INSERT INTO notes (id) VALUES ('n1');
    INSERT INTO lists VALUES ('l1');
";

async fn setup() -> Result<(Postgres, Tidewater)> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    let options = DevOptions::new(&postgres.url("postgres"), CONFIG).with(&[
        "--admin-token",
        TOKEN,
        "--wal-receiver-timeout",
        "4s",
    ]);
    Ok((postgres, Tidewater::dev_ready(options).await?))
}

/// Sends a request with the admin token. Returns the status and the body of the reply.
async fn send(url: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
    let request = match path {
        "/api/sync-rules/v1/current" => reqwest::Client::new().get(format!("{url}{path}")),
        path => reqwest::Client::new().post(format!("{url}{path}")).json(body),
    };
    let reply = request.header("authorization", format!("Token {TOKEN}")).send().await?;
    let status = reply.status().as_u16();
    Ok((status, reply.json().await?))
}

/// Returns the ids of the rows that a new device gets.
async fn first_rows(tidewater: &Tidewater) -> Result<Vec<String>> {
    let mut reader = SyncReader::new();
    let mut connection = tidewater.connect(&mut reader, "u1").await?;
    let completed = tokio::time::timeout(SOON, connection.completed()).await??;
    Ok(completed.rows.keys().map(|(_, id)| id.clone()).collect())
}

#[tokio::test]
async fn diagnostics_have_powersyncs_shape_and_the_state() -> Result<()> {
    let (_postgres, tidewater) = setup().await?;
    let mut reader = SyncReader::new();
    let mut connection = tidewater.connect(&mut reader, "u1").await?;
    tokio::time::timeout(SOON, connection.completed()).await??;

    let path = "/api/admin/v1/diagnostics";
    let (status, body) = send(tidewater.url(), path, &json!({"sync_rules_content": true})).await?;
    assert_eq!(status, 200, "{body}");
    let data = &body["data"];
    let source = &data["connections"][0];
    assert_eq!((&source["connected"], &source["errors"]), (&true.into(), &json!([])));
    let uri = source["postgres_uri"].as_str().context("no URI")?;
    ensure!(uri.starts_with("postgresql://") && uri.ends_with("/postgres"), "{uri}");

    let active = &data["active_sync_rules"];
    assert_eq!((&active["content"], &active["errors"]), (&CONFIG.into(), &json!([])));
    let replication = &active["connections"][0];
    assert_eq!(replication["initial_replication_done"], true);
    ensure!(replication["slot_name"].as_str().is_some_and(|name| name.starts_with("tidewater_")));
    ensure!(replication["replication_lag_bytes"].is_u64(), "{replication}");
    ensure!(replication["last_checkpoint_ts"].as_str().is_some_and(|time| time.ends_with('Z')));
    let notes = json!({
        "schema": "public", "name": "notes", "replication_id": ["id"],
        "data_queries": true, "parameter_queries": false, "errors": [],
    });
    assert_eq!(replication["tables"], json!([notes]));
    ensure!(data["deploying_sync_rules"].is_null(), "{data}");
    assert_eq!(
        (&data["tidewater"]["healthy"], &data["tidewater"]["streams"]),
        (&true.into(), &1.into())
    );

    drop(connection);
    let (_, body) = send(tidewater.url(), path, &json!({})).await?;
    ensure!(body["data"]["active_sync_rules"]["content"].is_null(), "it was not asked for: {body}");
    Ok(())
}

#[tokio::test]
async fn the_schema_has_the_tables_with_the_types_that_devices_get() -> Result<()> {
    let (_postgres, tidewater) = setup().await?;
    let (status, body) = send(tidewater.url(), "/api/admin/v1/schema", &json!({})).await?;
    assert_eq!(status, 200, "{body}");
    let connection = &body["data"]["connections"][0];
    assert_eq!(
        (&connection["tag"], &body["data"]["defaultSchema"]),
        (&"default".into(), &"public".into())
    );
    let public = &connection["schemas"][0];
    assert_eq!(
        (&public["name"], &public["tables"][1]["name"]),
        (&"public".into(), &"notes".into())
    );
    let columns = public["tables"][1]["columns"].as_array().context("no columns")?;
    let types: Vec<_> = columns
        .iter()
        .map(|column| (column["name"].as_str(), column["sqlite_type"].as_u64()))
        .collect();
    let expected = [("id", 2), ("done", 4), ("size", 8), ("file", 1), ("at", 2)]
        .map(|(n, t)| (Some(n), Some(t)));
    assert_eq!(types, expected);
    assert_eq!(columns[4]["internal_type"], "timestamp with time zone");
    Ok(())
}

#[tokio::test]
async fn a_config_is_validated_against_the_source() -> Result<()> {
    let (_postgres, tidewater) = setup().await?;
    let url = tidewater.url();
    let errors = async |config: &str| -> Result<Vec<Value>> {
        let (status, body) =
            send(url, "/api/admin/v1/validate", &json!({"sync_rules": config})).await?;
        ensure!(status == 200, "{body}");
        Ok(body["data"]["errors"].as_array().context("no errors")?.clone())
    };

    let advice = errors(TWO_TABLES).await?;
    ensure!(advice.iter().all(|one| one["level"] == "warning"), "it can be used: {advice:?}");
    let unknown = errors(&TWO_TABLES.replace("FROM lists", "FROM unknown")).await?;
    assert_eq!(unknown[0]["level"], "fatal");
    ensure!(
        unknown[0]["message"].as_str().is_some_and(|text| text.contains("unknown")),
        "{unknown:?}"
    );
    let broken = errors("streams:\n  a: {}\n").await?;
    ensure!(broken[0]["message"].as_str().is_some_and(|text| text.contains(": ")), "{broken:?}");

    let path = "/api/sync-rules/v1/validate";
    let (_, valid) = send(url, path, &json!({"content": TWO_TABLES})).await?;
    assert_eq!(
        (&valid["valid"], &valid["bucket_definitions"][0]["name"]),
        (&true.into(), &"notes|0".into())
    );
    let (_, invalid) = send(url, path, &json!({"content": "streams: 1"})).await?;
    assert_eq!(invalid["valid"], false);

    let (status, body) = send(url, "/api/admin/v1/validate", &json!({})).await?;
    assert_eq!((status, &body["error"]["code"]), (400, &"PSYNC_S2001".into()));
    Ok(())
}

#[tokio::test]
async fn a_config_is_deployed_to_the_running_worker() -> Result<()> {
    let (_postgres, tidewater) = setup().await?;
    let file = tidewater.folder().join("sync-config.yaml");
    let path = "/api/sync-rules/v1/deploy";
    for (config, part) in
        [("streams: 1", "1:"), (&TWO_TABLES.replace("FROM lists", "FROM unknown"), "unknown")]
    {
        let (status, body) = send(tidewater.url(), path, &json!({"content": config})).await?;
        assert_eq!((status, &body["error"]["code"]), (422, &"PSYNC_R0001".into()), "{body}");
        ensure!(
            body["error"]["details"].as_str().is_some_and(|text| text.contains(part)),
            "{body}"
        );
        assert_eq!(std::fs::read_to_string(&file)?, CONFIG, "it is not replaced");
    }

    // The body of PowerSync's clients is the text itself.
    let request = reqwest::Client::new().post(format!("{}{path}", tidewater.url()));
    let request = request.header("authorization", format!("Bearer {TOKEN}"));
    let request = request.header("content-type", "application/yaml").body(TWO_TABLES);
    let reply: Value = request.send().await?.error_for_status()?.json().await?;
    ensure!(reply["data"]["slot_name"].is_string(), "{reply}");
    assert_eq!(std::fs::read_to_string(&file)?, TWO_TABLES);

    eventually("the new config to be in use", SOON, async || {
        let (_, body) = send(tidewater.url(), "/api/sync-rules/v1/current", &json!({})).await?;
        let current = &body["data"]["current"];
        Ok((current["content"] == TWO_TABLES && current["valid"] == true).then_some(()))
    })
    .await?;
    assert_eq!(first_rows(&tidewater).await?, ["l1", "n1"]);
    Ok(())
}

#[tokio::test]
async fn all_tables_are_copied_again_and_devices_keep_their_rows() -> Result<()> {
    let (postgres, tidewater) = setup().await?;
    let copies = |log: &str| log.matches("\"copied\"").count();
    let before = copies(&tidewater.log()?);
    let (status, body) = send(tidewater.url(), "/api/admin/v1/reprocess", &json!({})).await?;
    assert_eq!(status, 200, "{body}");
    ensure!(body["data"]["connections"][0]["slot_name"].is_string(), "{body}");

    eventually("the table to be copied again", SOON, async || {
        Ok((copies(&tidewater.log()?) > before).then_some(()))
    })
    .await?;
    postgres.execute("INSERT INTO notes (id) VALUES ('n2')").await?;
    eventually("a row behind the copy", SOON, async || {
        Ok((first_rows(&tidewater).await? == ["n1", "n2"]).then_some(()))
    })
    .await
}

#[tokio::test]
async fn powersyncs_own_client_reads_every_answer() -> Result<()> {
    let (_postgres, tidewater) = setup().await?;
    let answers = admin_calls(tidewater.url(), TOKEN, TWO_TABLES).await?;
    let diagnostics = &answers["diagnostics"];
    assert_eq!(diagnostics["active_sync_rules"]["content"], CONFIG);
    assert_eq!(diagnostics["connections"][0]["connected"], true);
    assert_eq!(answers["schema"]["connections"][0]["schemas"][0]["name"], "public");
    let tables = answers["validation"]["connections"][0]["tables"].as_array();
    assert_eq!(tables.map(Vec::len), Some(2), "{answers}");
    let slot = &answers["reprocess"]["connections"][0]["slot_name"];
    assert_eq!(slot, &diagnostics["active_sync_rules"]["connections"][0]["slot_name"]);

    let refused = admin_calls(tidewater.url(), "another-token-of-16", TWO_TABLES).await;
    ensure!(refused.is_err_and(|error| error.to_string().contains("401")), "it was let in");
    Ok(())
}

#[tokio::test]
async fn a_server_without_a_worker_answers_from_the_store_and_deploys_nothing() -> Result<()> {
    let (_postgres, tidewater) = setup().await?;
    let mut command = Tidewater::command()?;
    let store = format!("embedded:{}", tidewater.data_dir().display());
    command.args(["serve", "--store", &store, "--listen", "127.0.0.1:0", "--audience", AUDIENCE]);
    command.arg("--jwks").arg(tidewater.folder().join("test.jwks.json"));
    let file = tidewater.folder().join("admin-tokens");
    std::fs::write(&file, format!("another-token-of-16\n{TOKEN}\n"))?;
    command.arg("--admin-token-file").arg(&file);
    let lodging = Lodging { name: "serve", logs: tidewater.folder(), end: Signal::Kill };
    let mut process = Process::spawn(&mut command, lodging)?;
    let url = process.listening(SOON).await?;

    let (status, body) = send(&url, "/api/admin/v1/diagnostics", &json!({})).await?;
    assert_eq!((status, &body["data"]["connections"]), (200, &json!([])), "{body}");
    assert_eq!(
        body["data"]["active_sync_rules"]["connections"][0]["initial_replication_done"],
        true
    );
    let (status, body) = send(&url, "/api/sync-rules/v1/current", &json!({})).await?;
    assert_eq!((status, &body["data"]["current"]["content"]), (200, &CONFIG.into()), "{body}");

    for path in ["/api/sync-rules/v1/deploy", "/api/admin/v1/reprocess", "/api/admin/v1/schema"] {
        let (status, body) = send(&url, path, &json!({"content": TWO_TABLES})).await?;
        assert_eq!(
            (status, &body["error"]["code"]),
            (422, &"PSYNC_S4105".into()),
            "{path}: {body}"
        );
    }
    Ok(())
}
