//! Local writes: captured, uploaded, and returned by the stream, over real HTTP.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::BoxFuture;
use serde_json::json;
use tempfile::TempDir;
use tidewater_client::rusqlite::params;
use tidewater_client::{
    Client, ClientError, Credentials, CredentialsError, FixedToken, HttpConnector, LocalOp,
    Options, ProblemKind, Schema,
};

use crate::app::{connect, open, rows, until, until_equal};
use crate::server::Server;

fn insert(client: &Client, id: &str, title: &str) {
    let sql = "INSERT INTO todos (id, title, done) VALUES (?1, ?2, 0)";
    client.write(|tx| tx.execute(sql, params![id, title])).unwrap();
}

fn title(client: &Client, id: &str) -> Option<String> {
    let rows = rows(client);
    let title = rows.get("todos")?.get(id)?.get("title")?;
    Some(title.as_str().unwrap().to_owned())
}

/// A verdict of a backend.
const NOT_TODAY: &str = r#"{"outcome":"rejected","reason":"not today","more":1}"#;

/// Waits until everything is uploaded, acknowledged and visible.
async fn until_settled(client: &Client, server: &Server) {
    until(client, |status| status.queue_length == 0).await;
    until_equal(client, server).await;
}

#[tokio::test]
async fn a_local_transaction_is_uploaded_as_one_unit_of_changes() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    server.change(|source| {
        source.put("mine", "todos", "t1", &json!({"title": "old", "done": 0, "list_id": null}));
        source.put("mine", "todos", "t2", &json!({"title": "gone", "done": 0, "list_id": null}));
    });

    let client = open(&dir.path().join("app.db"));
    connect(&client, &server);
    until_equal(&client, &server).await;
    client
        .write(|tx| {
            tx.execute("INSERT INTO lists VALUES ('l1', 'it''s \"new\"')", [])?;
            tx.execute("UPDATE todos SET done = 1, title = title WHERE id = 't1'", [])?;
            tx.execute("UPDATE todos SET title = title", [])?;
            tx.execute("DELETE FROM todos WHERE id = 't2'", [])
        })
        .unwrap();
    client.write(|tx| tx.execute("UPDATE lists SET name = NULL", [])).unwrap();
    until_settled(&client, &server).await;
    let seen = server.seen();
    let sent: Vec<_> = seen
        .uploads
        .iter()
        .map(|unit| {
            let operations = unit.operations.iter();
            let operations = operations.map(|o| (o.op, o.id.as_str(), json!(o.data)));
            (unit.transaction_id, operations.collect::<Vec<_>>())
        })
        .collect();
    let first = vec![
        (LocalOp::Put, "l1", json!({"name": "it's \"new\""})),
        (LocalOp::Patch, "t1", json!({"done": 1})),
        (LocalOp::Delete, "t2", json!({})),
    ];

    assert_eq!(sent, [(1, first), (2, vec![(LocalOp::Patch, "l1", json!({"name": null}))])]);
    assert_eq!(seen.uploads[0].client_id, client.client_id());
}

#[test]
fn a_failed_transaction_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let client = open(&dir.path().join("app.db"));
    let failed = client.write(|tx| {
        tx.execute("INSERT INTO lists VALUES ('l1', 'x')", [])?;
        tx.execute("INSERT INTO lists VALUES ('l1', 'again')", [])
    });
    assert!(failed.is_err());

    for (sql, message) in [
        ("UPDATE lists SET id = 'l3' WHERE id = 'l2'", "the id of a synced row cannot change"),
        ("INSERT INTO lists VALUES (NULL, 'x')", "the id of a synced row must be a text"),
        ("INSERT INTO lists VALUES (x'00', 'x')", "the id of a synced row must be a text"),
        ("INSERT INTO lists VALUES ('l4', x'00')", "a synced row cannot hold a blob"),
        ("UPDATE lists SET name = x'00'", "a synced row cannot hold a blob"),
    ] {
        let failed = client.write(|tx| {
            tx.execute("INSERT INTO lists VALUES ('l2', 'x')", [])?;
            tx.execute(sql, [])
        });
        let error = failed.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, message, "{sql}");
    }

    assert_eq!(client.status().borrow().queue_length, 0);
    assert!(rows(&client).is_empty());
    client.write(|tx| tx.execute("INSERT INTO lists VALUES (5, 'x')", [])).unwrap();
    assert!(rows(&client)["lists"].contains_key("5"), "a number becomes the column's text");
}

#[tokio::test]
async fn replace_captures_the_deleted_row_and_the_new_one() {
    let dir = TempDir::new().unwrap();
    let schema = "CREATE TABLE lists (id TEXT PRIMARY KEY, name TEXT UNIQUE)";
    let client = crate::app::open_with(&dir.path().join("app.db"), schema);
    let server = Server::start().await;
    connect(&client, &server);
    client.write(|tx| tx.execute("INSERT INTO lists VALUES ('l1', 'x')", [])).unwrap();
    client.write(|tx| tx.execute("REPLACE INTO lists VALUES ('l2', 'x')", [])).unwrap();
    until_settled(&client, &server).await;
    let seen = server.seen();
    let ops: Vec<_> = seen.uploads[1].operations.iter().map(|o| (o.op, o.id.as_str())).collect();
    assert_eq!(ops, [(LocalOp::Delete, "l1"), (LocalOp::Put, "l2")]);
}

#[tokio::test]
async fn a_rejected_transaction_leaves_the_queue_and_the_next_is_sent() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    server.change(|source| {
        source.put("mine", "todos", "t1", &json!({"title": "the server's", "done": 0}));
    });

    let client = open(&dir.path().join("app.db"));
    connect(&client, &server);
    until_equal(&client, &server).await;
    server.faults().uploads.push_back(Some((400, NOT_TODAY)));
    let edit = "UPDATE todos SET title = 'mine' WHERE id = 't1'";
    client.write(|tx| tx.execute(edit, [])).unwrap();
    insert(&client, "t2", "fine");
    let status = until(&client, |status| status.rejected == 1).await;
    assert_eq!(status.upload_problem, None);

    until_settled(&client, &server).await;
    assert_eq!(title(&client, "t1").unwrap(), "the server's", "reverted by the checkpoint");
    assert_eq!(title(&client, "t2").unwrap(), "fine");

    let rejected = client.rejected().unwrap();
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].reason, "not today");
    assert_eq!(rejected[0].body.as_deref(), Some(NOT_TODAY));
    assert_eq!(rejected[0].transaction.operations[0].data["title"], "mine");
    assert!(client.discard_rejected(rejected[0].transaction.transaction_id).unwrap());
    assert!(!client.discard_rejected(rejected[0].transaction.transaction_id).unwrap());
    assert_eq!(client.status().borrow().rejected, 0);
}

#[tokio::test]
async fn an_upload_without_a_verdict_is_sent_again_and_takes_effect_once() {
    for fault in [
        Some((408, "")),
        Some((425, "")),
        Some((429, "")),
        Some((500, "")),
        Some((503, "")),
        Some((302, "")),
        // A wrong address, a gateway's rule, a limit of a proxy, the sign-in page of a network.
        Some((404, "not found")),
        Some((403, r#"{"message":"Forbidden"}"#)),
        Some((413, "<html>too large</html>")),
        Some((200, " <!doctype html><title>Welcome to the hotel</title>")),
        // Not one of the outcomes that this version knows, and one that its status contradicts.
        Some((200, r#"{"outcome":"postponed"}"#)),
        Some((409, r#"{"outcome":"applied"}"#)),
        None,
    ] {
        let dir = TempDir::new().unwrap();
        let server = Server::start().await;
        let client = open(&dir.path().join("app.db"));
        connect(&client, &server);
        server.faults().uploads.push_back(fault);

        insert(&client, "t1", "first");
        insert(&client, "t2", "second");
        let status = until(&client, |status| status.upload_problem.is_some()).await;
        assert_eq!(status.upload_problem.unwrap().kind, ProblemKind::Upload, "{fault:?}");
        assert_eq!(status.queue_length, 2, "the head blocks");

        until_settled(&client, &server).await;
        let seen = server.seen();
        let ids: Vec<_> = seen.uploads.iter().map(|unit| unit.transaction_id).collect();
        assert_eq!(ids, [1, 1, 2], "{fault:?}");
        assert_eq!(seen.uploads[0], seen.uploads[1]);
        assert_eq!(seen.applied.len(), 2);
        assert_eq!(client.status().borrow().rejected, 0);
    }
}

#[tokio::test]
async fn a_verdict_of_any_status_rejects() {
    for status in [200, 403, 404, 500] {
        let dir = TempDir::new().unwrap();
        let server = Server::start().await;
        let client = open(&dir.path().join("app.db"));
        connect(&client, &server);
        server.faults().uploads.push_back(Some((status, NOT_TODAY)));
        insert(&client, "t1", "x");

        let found = until(&client, |status| status.rejected == 1).await;
        assert_eq!(found.upload_problem, None, "{status}");
        assert_eq!(client.rejected().unwrap()[0].reason, "not today", "{status}");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_verdict_but_a_success_applies() {
    for body in ["", "OK", "{}", r#"{"id":7}"#, "[]", r#"{"outcome":"applied"}"#] {
        let dir = TempDir::new().unwrap();
        let server = Server::start().await;
        let client = open(&dir.path().join("app.db"));
        connect(&client, &server);
        server.faults().uploads.push_back(Some((200, body)));
        insert(&client, "t1", "x");

        let status = until(&client, |status| status.queue_length == 0).await;
        assert_eq!((status.rejected, status.upload_problem), (0, None), "{body}");
        assert_eq!(server.seen().uploads.len(), 1, "{body}");
    }
}

/// Returns a token of a user. Nothing here checks its signature.
fn token_of(user: &str) -> String {
    let claims = URL_SAFE_NO_PAD.encode(json!({ "sub": user }).to_string());
    format!("e30.{claims}.c2ln")
}

/// Credentials of the user who is signed in.
struct SignedIn(Mutex<&'static str>);

impl SignedIn {
    fn new(user: &'static str) -> Arc<Self> {
        Arc::new(Self(Mutex::new(user)))
    }

    fn change(&self, user: &'static str) {
        *self.0.lock().unwrap() = user;
    }
}

impl Credentials for SignedIn {
    fn token(&self) -> BoxFuture<'_, Result<String, CredentialsError>> {
        let token = token_of(*self.0.lock().unwrap());
        Box::pin(async move { Ok(token) })
    }
}

fn connect_as(client: &Client, server: &Server, signed_in: &Arc<SignedIn>) {
    let backend = HttpConnector::new(&server.upload_url(), signed_in.clone()).unwrap();
    client.connect(&server.url, signed_in.clone(), Some(Arc::new(backend))).unwrap();
}

#[tokio::test]
async fn writes_wait_for_the_user_who_made_them() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    let client = open(&dir.path().join("app.db"));
    let signed_in = SignedIn::new("u1");
    connect_as(&client, &server, &signed_in);
    until(&client, |status| status.published == 1).await;
    client.disconnect().await;
    insert(&client, "t1", "of u1");

    signed_in.change("u2");
    connect_as(&client, &server, &signed_in);
    let status = until(&client, |status| status.download_problem.is_some()).await;
    let problem = status.download_problem.unwrap();
    assert_eq!(problem.kind, ProblemKind::OtherUser);
    let message =
        "the token is of user 'u2', but local transactions of user 'u1' wait to be sent (1)";
    assert_eq!(problem.message, message);
    assert_eq!(server.seen().uploads, []);
    client.disconnect().await;

    signed_in.change("u1");
    connect_as(&client, &server, &signed_in);
    until_settled(&client, &server).await;
    client.disconnect().await;
    assert_eq!(server.seen().upload_tokens, [format!("Bearer {}", token_of("u1"))]);

    // Nothing waits any more.
    let published = client.status().borrow().published;
    signed_in.change("u2");
    connect_as(&client, &server, &signed_in);
    until(&client, |status| status.published > published).await;
    insert(&client, "t2", "of u2");
    until_settled(&client, &server).await;
    let tokens = server.seen().upload_tokens.clone();
    assert_eq!(tokens[1..], [format!("Bearer {}", token_of("u2"))]);
}

#[tokio::test]
async fn a_change_of_users_between_two_tokens_sends_nothing_under_the_wrong_name() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    let client = open(&dir.path().join("app.db"));
    let signed_in = SignedIn::new("u1");
    connect_as(&client, &server, &signed_in);
    until(&client, |status| status.published == 1).await;

    // The session has a token of the first user. The connector gets its own now.
    signed_in.change("u2");
    insert(&client, "t1", "of u1");
    let status = until(&client, |status| status.upload_problem.is_some()).await;
    let message = status.upload_problem.unwrap().message;
    assert!(message.starts_with("the token is of user 'u2', but user 'u1' made"), "{message}");
    assert_eq!(server.seen().uploads, []);

    signed_in.change("u1");
    client.network_available();
    until_settled(&client, &server).await;
    assert_eq!(server.seen().upload_tokens, [format!("Bearer {}", token_of("u1"))]);
}

#[tokio::test]
async fn a_wrong_row_of_another_program_does_not_reject_the_others() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    let path = dir.path().join("app.db");
    let client = open(&path);
    let other = rusqlite::Connection::open(&path).unwrap();
    for id in ["l1", "l2", "l3"] {
        other.execute("INSERT INTO lists (id, name) VALUES (?1, 'theirs')", [id]).unwrap();
    }
    let ok = Some((200, ""));
    let answers = [Some((422, NOT_TODAY)), ok, Some((422, NOT_TODAY)), ok];
    server.faults().uploads.extend(answers);

    connect(&client, &server);
    until(&client, |status| status.rejected == 1 && status.queue_length == 0).await;
    let seen = server.seen();
    let sent: Vec<_> = seen
        .uploads
        .iter()
        .map(|unit| {
            let ids = unit.operations.iter().map(|o| o.id.as_str()).collect::<Vec<_>>();
            (unit.transaction_id, ids.join(" "))
        })
        .collect();
    let expected = [(1, "l1 l2 l3"), (2, "l1"), (3, "l2"), (4, "l3")];
    assert_eq!(sent, expected.map(|(number, ids)| (number, ids.to_owned())));
    let rejected = client.rejected().unwrap();
    assert_eq!(rejected[0].transaction.operations[0].id, "l2");
}

#[tokio::test]
async fn waiting_and_rejected_writes_can_be_listed_retried_and_discarded() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("app.db");
    assert!(matches!(
        Client::open_existing(&path, Options::default()),
        Err(ClientError::NoDatabase(_))
    ));
    assert!(!path.exists());
    let server = Server::start().await;
    let client = open(&path);
    insert(&client, "t1", "first");
    insert(&client, "t2", "second");
    drop(client);

    let client = Client::open_existing(&path, Options::default()).unwrap();
    let waiting = client.queued().unwrap();
    let numbers: Vec<_> = waiting.iter().map(|unit| unit.transaction_id).collect();
    assert_eq!(numbers, [1, 2]);
    assert!(client.discard_queued(1).unwrap());
    assert!(!client.discard_queued(1).unwrap());
    assert_eq!(client.status().borrow().queue_length, 1);
    drop(client);

    let client = open(&path);
    server.faults().uploads.push_back(Some((422, NOT_TODAY)));
    connect(&client, &server);
    until(&client, |status| status.rejected == 1).await;
    until_equal(&client, &server).await;
    assert!(rows(&client).is_empty(), "both are reverted");
    assert!(client.retry_rejected(2).unwrap());
    until_settled(&client, &server).await;
    assert_eq!(title(&client, "t2").unwrap(), "second");
    assert_eq!(client.rejected().unwrap(), []);
    assert_eq!(server.seen().applied.len(), 1);
}

#[tokio::test]
async fn a_refused_token_is_replaced_and_the_unit_is_sent_again() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    let client = open(&dir.path().join("app.db"));
    connect(&client, &server);
    server.faults().uploads.push_back(Some((401, "")));
    insert(&client, "t1", "x");
    until_settled(&client, &server).await;
    assert_eq!(server.seen().upload_tokens, ["Bearer t1", "Bearer t2"]);

    // A second refusal is not a verdict on the data either.
    server.faults().uploads.extend([Some((401, "")), Some((401, ""))]);
    insert(&client, "t2", "y");
    until(&client, |status| status.upload_problem.is_some()).await;
    until_settled(&client, &server).await;
    assert_eq!(server.seen().applied.len(), 2);
}

#[tokio::test]
async fn no_checkpoint_without_the_local_writes_becomes_visible() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    server.change(|source| {
        source.put("mine", "todos", "t1", &json!({"title": "first", "done": 0}));
    });

    let client = open(&dir.path().join("app.db"));
    connect(&client, &server);
    until_equal(&client, &server).await;
    server.change(|source| source.withhold_write_checkpoints = true);
    let edit = "UPDATE todos SET title = 'mine' WHERE id = 't1'";
    client.write(|tx| tx.execute(edit, [])).unwrap();
    until(&client, |status| status.queue_length == 0).await;
    let published = client.status().borrow().published;

    // The source goes on, but its checkpoints are not known to contain the write.
    let lines = *server.lines_sent().borrow();
    server.change(|source| {
        source.put("mine", "todos", "t2", &json!({"title": "news", "done": 0}));
    });

    until_lines(&server, lines + 3).await;
    assert_eq!(client.status().borrow().published, published);
    assert_eq!(title(&client, "t1").unwrap(), "mine");
    assert_eq!(title(&client, "t2"), None);

    // A restart does not change that.
    client.disconnect().await;
    drop(client);
    let client = open(&dir.path().join("app.db"));
    let lines = *server.lines_sent().borrow();
    connect(&client, &server);
    until_lines(&server, lines + 2).await;
    assert_eq!(title(&client, "t2"), None);

    server.release_write_checkpoints();
    until_equal(&client, &server).await;
    assert_eq!(title(&client, "t2").unwrap(), "news");
}

/// Waits until the server has sent this many lines.
async fn until_lines(server: &Server, lines: usize) {
    let mut sent = server.lines_sent();
    let enough = sent.wait_for(|sent| *sent >= lines);
    tokio::time::timeout(Duration::from_secs(20), enough).await.unwrap().unwrap();
}

#[tokio::test]
async fn offline_writes_are_sent_later_in_order() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    let path = dir.path().join("app.db");

    for n in 0..20 {
        // The app is started again each time.
        insert(&open(&path), &format!("t{n:02}"), "offline");
    }

    let client = open(&path);
    assert_eq!(client.status().borrow().queue_length, 20);
    connect(&client, &server);
    until(&client, |status| status.published == 1).await;
    until_equal(&client, &server).await;
    let seen = server.seen();
    let ids: Vec<_> = seen.uploads.iter().map(|unit| unit.operations[0].id.clone()).collect();

    assert_eq!(ids, (0..20).map(|n| format!("t{n:02}")).collect::<Vec<_>>());
    assert_eq!(seen.write_checkpoints, 1, "asked for when the queue is empty");
}

#[tokio::test]
async fn writes_of_other_processes_are_sent_too() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    let path = dir.path().join("app.db");
    let client = open(&path);
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute("INSERT INTO lists VALUES ('l1', 'theirs')", []).unwrap();
    insert(&client, "t1", "ours");
    connect(&client, &server);
    until(&client, |status| status.published == 1).await;
    assert_eq!(server.seen().uploads.len(), 2);

    // Nobody notifies a connected client of these: it polls.
    other.execute("INSERT INTO lists VALUES ('l2', 'later')", []).unwrap();
    until(&client, |status| status.published == 2).await;
    assert_eq!(server.seen().uploads.len(), 3);
}

#[tokio::test]
async fn sync_once_uploads_first_and_keeps_its_deadline() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    let client = open(&dir.path().join("app.db"));
    insert(&client, "t1", "x");
    let token = Arc::new(FixedToken("t".into()));
    let connector = HttpConnector::new(&server.upload_url(), token.clone());
    let connector = Arc::new(connector.unwrap());
    server.change(|source| source.withhold_write_checkpoints = true);
    let deadline = Some(Duration::from_millis(200));
    let url = &server.url;
    let late = client.sync_once(url, token.clone(), Some(connector.clone()), deadline).await;
    assert!(matches!(late, Err(ClientError::Deadline)));

    server.release_write_checkpoints();
    client.sync_once(url, token.clone(), Some(connector), None).await.unwrap();
    assert_eq!(server.seen().applied.len(), 1);
    until_equal(&client, &server).await;
    insert(&client, "t2", "x");
    let nobody = HttpConnector::new("http://127.0.0.1:1/", token.clone());
    let schema = Schema::parse(crate::app::SCHEMA).unwrap();
    let options = Options { failures_max: 2, ..Default::default() };
    let hasty = Client::open(dir.path().join("app.db"), &schema, options).unwrap();
    let hopeless = hasty.sync_once(url, token, Some(Arc::new(nobody.unwrap())), None).await;
    let message = hopeless.unwrap_err().to_string();

    assert!(message.starts_with("cannot sync: cannot connect"), "{message}");
}
