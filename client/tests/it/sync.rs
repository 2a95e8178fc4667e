//! Downloads, over real HTTP.

use serde_json::{Value, json};
use tempfile::TempDir;
use tidewater_client::{
    ChangeOrigin, ClientError, Connection, FixedToken, ProblemKind, TransferMethod,
};

use crate::app::{connect, open, rows, until, until_equal};
use crate::server::Server;

fn todo(title: &str) -> Value {
    json!({"id": "x", "title": title, "done": 0, "list_id": null})
}

#[tokio::test]
async fn rows_appear_change_and_disappear_with_the_servers() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    server.change(|source| {
        for n in 0..35 {
            source.put("a", "todos", &format!("t{n}"), &todo("first"));
        }
        source.put("b", "lists", "l1", &json!({"name": "groceries"}));
    });

    let client = open(&dir.path().join("app.db"));
    let mut changes = client.changes();
    connect(&client, &server);
    let status = until(&client, |status| status.checkpoint.is_some()).await;
    assert_eq!((status.connection, status.published), (Connection::Connected, 1));

    until_equal(&client, &server).await;
    let change = changes.recv().await.unwrap();
    assert_eq!(change.origin, ChangeOrigin::Checkpoint(status.checkpoint.unwrap()));
    assert_eq!(change.tables.into_iter().collect::<Vec<_>>(), ["lists", "todos"]);
    server.change(|source| {
        source.put("a", "todos", "t3", &todo("second"));
        source.remove("a", "todos", "t4");
    });

    until_equal(&client, &server).await;
    assert_eq!(rows(&client)["todos"].len(), 34);
    server.change(|source| source.remove_bucket("a"));
    until_equal(&client, &server).await;

    assert!(!rows(&client).contains_key("todos"));

    // One connection carried all of it.
    assert_eq!(server.seen().streams.len(), 1);
    client.disconnect().await;
    assert_eq!(client.status().borrow().connection, Connection::Disconnected);
    drop(client);

    assert!(!dir.path().join("app.db-wal").exists(), "everything is in the database file itself");
}

#[tokio::test]
async fn a_cut_stream_is_resumed_at_its_position() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    server.change(|source| {
        for n in 0..100 {
            source.put("a", "todos", &format!("t{n}"), &todo("first"));
        }
    });

    {
        let mut faults = server.faults();
        faults.cut_after_lines.extend([3, 3]);
        faults.cut_within_line = true;
    }

    let client = open(&dir.path().join("app.db"));
    connect(&client, &server);
    until_equal(&client, &server).await;
    let seen = server.seen();
    let positions: Vec<Vec<i64>> = seen
        .streams
        .iter()
        .map(|request| request.buckets.iter().map(|b| b.after.get()).collect())
        .collect();

    assert_eq!(positions, [vec![], vec![20], vec![40]]);
}

#[tokio::test]
async fn a_wrong_checksum_resets_one_bucket_and_publishes_nothing() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    server.change(|source| {
        source.put("a", "todos", "t1", &todo("a"));
        source.put("b", "todos", "t2", &todo("b"));
    });

    server.faults().wrong_checksum = true;
    let client = open(&dir.path().join("app.db"));
    connect(&client, &server);
    let status = until(&client, |status| status.checksum_mismatches == 1).await;
    assert_eq!(status.download_problem.unwrap().kind, ProblemKind::Checksum);
    assert!(rows(&client).is_empty());

    until_equal(&client, &server).await;
    let status = until(&client, |status| status.download_problem.is_none()).await;
    assert_eq!(status.checksum_mismatches, 1);

    let seen = server.seen();
    let second: Vec<_> =
        seen.streams[1].buckets.iter().map(|b| (b.name.as_str(), b.after.get())).collect();

    assert_eq!(second, [("a", 0), ("b", 2)]);
}

#[tokio::test]
async fn an_altered_operation_is_not_stored() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    server.change(|source| source.put("a", "todos", "t1", &todo("a")));
    server.faults().altered_operation = true;
    let client = open(&dir.path().join("app.db"));
    connect(&client, &server);
    let status = until(&client, |status| status.download_problem.is_some()).await;
    let problem = status.download_problem.unwrap();
    assert_eq!(problem.message, "operation 1 of bucket a is altered");
    until_equal(&client, &server).await;
}

#[tokio::test]
async fn a_refused_token_is_replaced_at_once_and_an_expiring_one_in_time() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    server.change(|source| source.put("a", "todos", "t1", &todo("a")));
    server.faults().refuse_streams.push_back(401);
    server.faults().token_expires_in = Some(20);
    let client = open(&dir.path().join("app.db"));
    connect(&client, &server);
    until(&client, |status| status.published == 2).await;
    assert_eq!(server.seen().tokens, ["Token t1", "Token t2", "Token t3"]);
    assert_eq!(client.status().borrow().download_problem, None);
}

#[tokio::test]
async fn a_server_that_ends_streams_is_polled() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    server.faults().end_when_complete = true;
    let client = open(&dir.path().join("app.db"));
    connect(&client, &server);
    until(&client, |status| status.published == 2).await;
    server.change(|source| source.put("a", "todos", "t1", &todo("a")));
    until_equal(&client, &server).await;
    assert_eq!(client.status().borrow().connection, Connection::Connected);
}

#[tokio::test]
async fn sync_once_returns_a_report_and_fails_on_permanent_problems() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    server.change(|source| source.put("a", "todos", "t1", &todo("a")));
    let client = open(&dir.path().join("app.db"));
    let token = std::sync::Arc::new(FixedToken("t".into()));
    let report = client.sync_once(&server.url, token.clone(), None, None).await.unwrap();
    assert_eq!((report.rows, report.operations, report.checkpoint.get()), (1, 1, 1));
    assert_eq!(report.buckets, [("a".to_owned(), TransferMethod::Lines)].into());
    assert!(report.bytes > 100 && report.total >= report.connect + report.apply);
    assert_eq!(rows(&client)["todos"]["t1"]["title"], "a");

    server.faults().refuse_streams.extend([401, 401]);
    let error = client.sync_once(&server.url, token.clone(), None, None).await.unwrap_err();

    assert_eq!(
        error.to_string(),
        "cannot sync: the server answered 401 Unauthorized: PSYNC_S2101 refused by script"
    );

    client.write(|tx| tx.execute("DELETE FROM todos", [])).unwrap();
    let error = client.sync_once(&server.url, token, None, None).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot sync: local writes wait, but there is no connector");
    client.connect("nonsense", std::sync::Arc::new(FixedToken("t".into())), None).unwrap_err();
}

#[tokio::test]
async fn one_client_syncs_a_file_while_others_read_and_write_it() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    let path = dir.path().join("app.db");
    let first = open(&path);
    let second = open(&path);
    connect(&first, &server);
    let token = std::sync::Arc::new(FixedToken("t".into()));
    let refused = second.connect(&server.url, token.clone(), None).unwrap_err();
    assert!(matches!(refused, ClientError::Locked), "{refused}");

    second.write(|tx| tx.execute("INSERT INTO lists VALUES ('l1', 'x')", [])).unwrap();
    assert_eq!(rows(&first), rows(&second));
    first.disconnect().await;
    second.connect(&server.url, token, None).unwrap();
    second.disconnect().await;
}

#[tokio::test]
async fn clearing_keeps_only_the_clients_identity() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    server.change(|source| source.put("a", "todos", "t1", &todo("a")));
    let client = open(&dir.path().join("app.db"));
    let id = client.client_id().to_owned();
    connect(&client, &server);
    until_equal(&client, &server).await;
    client.disconnect().await;
    client.write(|tx| tx.execute("INSERT INTO lists VALUES ('l1', 'x')", [])).unwrap();
    client.disconnect_and_clear().await.unwrap();
    assert!(rows(&client).is_empty());

    let status = client.status().borrow().clone();
    assert_eq!((status.queue_length, status.checkpoint), (0, None));
    assert_eq!(client.client_id(), id);
    connect(&client, &server);
    until_equal(&client, &server).await;

    assert!(server.seen().streams[1].buckets.is_empty());
    assert!(server.seen().uploads.is_empty());
}
