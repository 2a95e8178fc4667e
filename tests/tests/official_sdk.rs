//! The official Node SDK, unmodified, from npm: first sync, changes, uploads and reconnects.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tidewater_tests::{
    Backend, DevOptions, Endpoints, OfficialSdk, Postgres, RecordingProxy, Tidewater, eventually,
};

/// Timeout of each wait. The SDK retries after five seconds, and uploads at most once a second.
const SOON: Duration = Duration::from_secs(60);

/// SQL that creates the tables and a trigger.
///
/// The trigger changes rows that clients insert. A client shows the change only after its write
/// checkpoint has arrived, so the change proves the arrival.
const TABLES: &str = "
    CREATE TABLE lists (id text PRIMARY KEY, name text, owner_id text);
    CREATE TABLE todos (
        id text PRIMARY KEY, list_id text, description text, completed boolean, position int,
        weight float8, body text);
    CREATE PUBLICATION powersync FOR TABLE lists, todos;
    CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.position := 42; RETURN NEW; END $$;
    CREATE TRIGGER stamp BEFORE INSERT ON todos FOR EACH ROW WHEN (NEW.position IS NULL)
        EXECUTE FUNCTION stamp();
    INSERT INTO lists VALUES ('l1', 'mine', 'u1'), ('l2', 'theirs', 'u2');
    INSERT INTO todos
        SELECT 'l1-' || n, 'l1', 'todo ' || n, false, n, n / 2.0, repeat('x', 3000)
        FROM generate_series(1, 200) n;
    INSERT INTO todos VALUES ('l2-1', 'l2', 'secret', false, 1, NULL, NULL);
";

const CONFIG: &str = "
config:
  edition: 3
streams:
  lists:
    auto_subscribe: true
    priority: 1
    query: SELECT * FROM lists WHERE owner_id = auth.user_id()
  todos:
    auto_subscribe: true
    query: >
      SELECT * FROM todos WHERE
      list_id IN (SELECT id FROM lists WHERE owner_id = auth.user_id())
";

const COUNT: &str = "SELECT count(*) AS n, count(DISTINCT list_id) AS lists FROM todos";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_syncs_follows_changes_uploads_writes_and_reconnects() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    let options = DevOptions::new(&postgres.url("postgres"), CONFIG);
    let mut tidewater = Tidewater::dev_ready(options).await?;
    let backend =
        Backend::start(&postgres.url("postgres"), tidewater.key(), &["lists", "todos"]).await?;
    let proxy = RecordingProxy::start(tidewater.url()).await?;
    let mut sdk = OfficialSdk::open(&Endpoints {
        sync: proxy.url().to_owned(),
        backend: backend.upload_url(),
        token: tidewater.token("u1")?,
    })
    .await?;

    // The first sync brings all rows of the user, and no other.
    sdk.connect().await?;
    sdk.wait_for(COUNT, &json!([{"n": 200, "lists": 1}]), SOON).await?;
    let todo = "SELECT description, completed, position, weight, length(body) AS length
                FROM todos WHERE id = 'l1-7'";
    let expected = json!([{
        "description": "todo 7", "completed": 0, "position": 7, "weight": 3.5, "length": 3000
    }]);
    sdk.wait_for(todo, &expected, SOON).await?;
    assert_eq!(sdk.query("SELECT name FROM lists").await?, [json!({"name": "mine"})]);

    live_changes(&postgres, &mut sdk).await?;
    local_writes(&postgres, &mut sdk).await?;
    reconnect(&postgres, &proxy, &mut sdk).await?;

    // The server is killed, and restarts on another port.
    tidewater.kill_9()?;
    postgres.execute("UPDATE todos SET description = 'after' WHERE id = 'l1-1'").await?;
    tidewater.start().await?;
    proxy.forward_to(tidewater.url());
    let todo = "SELECT description FROM todos WHERE id = 'l1-1'";
    sdk.wait_for(todo, &json!([{"description": "after"}]), SOON).await
}

/// Changes a value, deletes a row, and moves a list with all its to-dos to the user and back.
async fn live_changes(postgres: &Postgres, sdk: &mut OfficialSdk) -> Result<()> {
    postgres
        .execute(
            "BEGIN; UPDATE todos SET completed = true WHERE id = 'l1-7';
             DELETE FROM todos WHERE id = 'l1-8'; COMMIT",
        )
        .await?;
    let todo = "SELECT completed, length(body) AS length FROM todos WHERE id IN ('l1-7', 'l1-8')";
    sdk.wait_for(todo, &json!([{"completed": 1, "length": 3000}]), SOON).await?;

    postgres.execute("UPDATE lists SET owner_id = 'u1' WHERE id = 'l2'").await?;
    sdk.wait_for(COUNT, &json!([{"n": 200, "lists": 2}]), SOON).await?;
    postgres.execute("UPDATE lists SET owner_id = 'u2' WHERE id = 'l2'").await?;
    sdk.wait_for(COUNT, &json!([{"n": 199, "lists": 1}]), SOON).await
}

/// Writes locally, and waits for the rows in PostgreSQL and for the write checkpoint.
async fn local_writes(postgres: &Postgres, sdk: &mut OfficialSdk) -> Result<()> {
    sdk.write(&[
        "INSERT INTO todos (id, list_id, description, completed) VALUES ('new', 'l1', 'local', 1)",
        "UPDATE todos SET description = 'changed' WHERE id = 'l1-9'",
        "DELETE FROM todos WHERE id = 'l1-10'",
    ])
    .await?;

    let sql = "SELECT string_agg(concat_ws(' ', id, description, completed, position), ','
               ORDER BY id) FROM todos WHERE id IN ('new', 'l1-9', 'l1-10')";
    eventually("the writes in PostgreSQL", SOON, async || {
        Ok((postgres.value(sql).await? == "l1-9 changed f 9,new local t 42").then_some(()))
    })
    .await?;

    // The position comes from the trigger, so the write checkpoint has arrived.
    let local = "SELECT description, completed, position FROM todos WHERE id = 'new'";
    let expected = json!([{"description": "local", "completed": 1, "position": 42}]);
    sdk.wait_for(local, &expected, SOON).await?;
    assert_eq!(sdk.status().await?["queued"], 0);
    sdk.wait_for(COUNT, &json!([{"n": 199, "lists": 1}]), SOON).await
}

/// Reconnects, also after a cut. The request must have the positions of the stored buckets.
async fn reconnect(
    postgres: &Postgres,
    proxy: &RecordingProxy,
    sdk: &mut OfficialSdk,
) -> Result<()> {
    sdk.disconnect().await?;
    let before = proxy.stream_requests()?.len();
    postgres.execute("UPDATE todos SET description = 'offline' WHERE id = 'l1-2'").await?;
    sdk.connect().await?;
    let todo = "SELECT description FROM todos WHERE id = 'l1-2'";
    sdk.wait_for(todo, &json!([{"description": "offline"}]), SOON).await?;

    let requests = proxy.stream_requests()?;
    let request = requests.get(before).context("no request")?;
    assert_eq!(request.buckets.len(), 2, "{request:?}");
    let first = &request.buckets[0];
    assert!(first.after.get() > 0, "{request:?}");
    assert!(request.buckets.iter().all(|bucket| bucket.after == first.after), "{request:?}");
    assert!(request.client_id.is_some() && request.raw_data, "{request:?}");

    // The SDK reconnects by itself after a broken connection.
    proxy.cut_connections();
    postgres.execute("UPDATE todos SET description = 'cut' WHERE id = 'l1-2'").await?;
    sdk.wait_for(todo, &json!([{"description": "cut"}]), SOON).await?;
    let status: Value = sdk.status().await?;
    assert_eq!(status["connected"], true, "{status}");
    Ok(())
}
