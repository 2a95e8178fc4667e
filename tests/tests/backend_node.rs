//! The example backend in Node: it takes uploads of the official Node SDK, and rejects only by a verdict.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidewater_tests::{
    DevOptions, Endpoints, NodeBackend, OfficialSdk, Postgres, SdkClient, Settings, SigningKey,
    Tidewater, eventually,
};

/// A bound for whatever must happen: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(60);

const CONFIG: &str = "
config: { edition: 3 }
streams:
  own: { auto_subscribe: true, query: SELECT * FROM lists WHERE owner = auth.user_id() }
";

const TABLES: &str = "
    CREATE TABLE lists (id text PRIMARY KEY, owner text NOT NULL, name text UNIQUE, size int);
    CREATE TABLE secrets (id text PRIMARY KEY);
    CREATE PUBLICATION powersync FOR TABLE lists;
    INSERT INTO lists VALUES ('l0', 'u1', 'taken', 1);
";

/// Returns all lists, by id.
async fn lists(postgres: &Postgres) -> Result<String> {
    let sql = "SELECT coalesce(string_agg(id || ':' || name || ':' || size, ' ' ORDER BY id), '') FROM lists";
    postgres.value(sql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_the_official_node_sdk_arrive_and_a_rejected_one_is_taken_back() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    let url = postgres.url("postgres");
    let tidewater = Tidewater::dev_ready(DevOptions::new(&url, CONFIG)).await?;
    let backend = NodeBackend::start(&url, tidewater.key(), &["lists"]).await?;

    let clients = SdkClient::chosen(&Settings::from_env()?);
    let client = clients.into_iter().find(SdkClient::is_node).context("no SDK for Node")?;
    let endpoints = Endpoints {
        sync: tidewater.url().to_owned(),
        backend: backend.upload_url(),
        token: tidewater.token("u1")?,
    };
    let tables = json!({ "lists": { "owner": "text", "name": "text", "size": "integer" } });
    let mut sdk = OfficialSdk::open(client, &tables, &endpoints).await?;
    sdk.connect().await?;
    let names = "SELECT id, name, size FROM lists ORDER BY id";
    sdk.wait_for(names, &json!([{ "id": "l0", "name": "taken", "size": 1 }]), SOON).await?;

    sdk.write(&[
        "INSERT INTO lists (id, owner, name, size) VALUES ('l1', 'u1', 'mine', 2)",
        "UPDATE lists SET size = 5 WHERE id = 'l0'",
    ])
    .await?;
    eventually("the writes in PostgreSQL", SOON, async || {
        Ok((lists(&postgres).await? == "l0:taken:5 l1:mine:2").then_some(()))
    })
    .await?;

    // The whole transaction is rejected: its first write, too.
    sdk.write(&[
        "UPDATE lists SET size = 9 WHERE id = 'l0'",
        "INSERT INTO lists (id, owner, name, size) VALUES ('l2', 'u1', 'taken', 3)",
    ])
    .await?;
    let expected = json!([
        { "id": "l0", "name": "taken", "size": 5 },
        { "id": "l1", "name": "mine", "size": 2 },
    ]);
    sdk.wait_for(names, &expected, SOON).await?;
    assert_eq!(lists(&postgres).await?, "l0:taken:5 l1:mine:2");
    Ok(())
}

/// Sends a body. Returns the status and the reply.
async fn send(backend: &NodeBackend, token: &str, body: &Value) -> Result<(u16, Value)> {
    let request = reqwest::Client::new().post(backend.upload_url()).bearer_auth(token).json(body);
    let reply = request.send().await?;
    Ok((reply.status().as_u16(), reply.json().await?))
}

#[tokio::test]
async fn only_a_verdict_rejects_and_a_transaction_takes_effect_once() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    let key = SigningKey::random("k1");
    let backend = NodeBackend::start(&postgres.url("postgres"), &key, &["lists"]).await?;
    let token = key.token("u1").sign()?;
    let put = |number: i64, table: &str, data: Value| {
        json!({ "client_id": "c1", "crud": [
            { "op_id": number, "tx_id": number, "op": "PUT", "type": table, "id": "l1", "data": data },
        ] })
    };

    let first = put(1, "lists", json!({ "owner": "u1", "name": "mine", "size": 1 }));
    for _ in 0..2 {
        assert_eq!(send(&backend, &token, &first).await?, (200, json!({ "outcome": "applied" })));
    }
    postgres.execute("UPDATE lists SET size = 7 WHERE id = 'l1'").await?;
    assert_eq!(send(&backend, &token, &first).await?.0, 200);
    assert_eq!(lists(&postgres).await?, "l0:taken:1 l1:mine:7", "it was not applied again");
    let of_client = json!({ "client_id": "c1", "transaction_id": 9, "operations": [
        { "op": "PATCH", "table": "lists", "id": "l1", "data": { "size": 8 } },
    ] });
    assert_eq!(send(&backend, &token, &of_client).await?.1["outcome"], "applied");

    for (rejected, status, text) in [
        (put(1, "lists", json!({ "owner": "u1", "size": 2 })), 422, "another transaction"),
        (put(2, "lists", json!({ "owner": "u1", "name": "taken" })), 409, "unique"),
        (put(3, "lists", json!({ "owner": "u1", "size": "many" })), 409, "integer"),
        (put(4, "secrets", json!({})), 409, "cannot be written to"),
        (put(5, "lists", json!({ "owner\" = 'x'; --": "u1" })), 409, "there is no column"),
    ] {
        let (found, reply) = send(&backend, &token, &rejected).await?;
        assert_eq!((found, &reply["outcome"]), (status, &json!("rejected")), "{rejected}: {reply}");
        ensure!(reply["reason"].as_str().is_some_and(|reason| reason.contains(text)), "{reply}");
    }

    let two = json!({ "client_id": "c1", "crud": [
        { "tx_id": 6, "op": "DELETE", "type": "lists", "id": "l1" },
        { "tx_id": 7, "op": "DELETE", "type": "lists", "id": "l0" },
    ] });
    let other = SigningKey::random("k1").token("u1").sign()?;
    let expired = key.token("u1").valid_seconds(-600).sign()?;
    let audience = key.token("u1").claim("aud", "other").sign()?;
    for (token, body, status) in [
        (token.as_str(), &two, 400),
        (&other, &first, 401),
        (&expired, &first, 401),
        (&audience, &first, 401),
        ("x.y.z", &first, 401),
    ] {
        let (found, reply) = send(&backend, token, body).await?;
        assert_eq!((found, &reply["outcome"]), (status, &Value::Null), "{reply}");
    }
    assert_eq!(lists(&postgres).await?, "l0:taken:1 l1:mine:8");

    // A database that cannot do it now is no verdict.
    postgres.execute("ALTER TABLE tidewater_uploads RENAME TO moved").await?;
    let later = put(8, "lists", json!({ "owner": "u1", "name": "later", "size": 1 }));
    let (status, reply) = send(&backend, &token, &later).await?;
    assert_eq!((status, &reply["outcome"]), (503, &Value::Null), "{reply}");
    postgres.execute("ALTER TABLE moved RENAME TO tidewater_uploads").await?;
    assert_eq!(send(&backend, &token, &later).await?.1["outcome"], "applied");
    Ok(())
}
