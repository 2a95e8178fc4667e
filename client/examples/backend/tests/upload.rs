//! The example backend as a process, on a real PostgreSQL.
#![expect(clippy::unwrap_used, clippy::panic, reason = "this is all test code")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_postgres::NoTls;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const SECRET_BASE64: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct World {
    // Dropped in this order.
    _backend: Running,
    _postgres: Running,
    url: String,
    database_url: String,
    dir: TempDir,
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let postgres = start_postgres(dir.path(), port);

        let database_url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        let db = connect(&database_url).await;

        let tables = "CREATE TABLE todos (id uuid PRIMARY KEY, title varchar(10) NOT NULL,
                done boolean, n numeric CHECK (n < 100));
            CREATE TABLE secrets (id text PRIMARY KEY);
            CREATE TABLE \"od\"\"d\" (id text PRIMARY KEY, \"a b\" text);
            CREATE TABLE owned (id text PRIMARY KEY,
                owner text DEFAULT current_setting('app.user_id'));";
        db.batch_execute(tables).await.unwrap();

        let keys = dir.path().join("jwks.json");
        let key = json!({"kty": "oct", "alg": "HS256", "kid": "k1", "k": SECRET_BASE64});
        fs::write(&keys, json!({ "keys": [key] }).to_string()).unwrap();

        let (_backend, url) = start_backend(&database_url, &keys);
        Self { _backend, _postgres: postgres, url, database_url, dir }
    }

    async fn post(&self, token: &str, body: String) -> (StatusCode, Value) {
        post(&self.url, token, body).await
    }

    async fn upload(&self, transaction_id: i64, operations: Value) -> (u16, Value) {
        self.upload_as("u1", transaction_id, operations).await
    }

    async fn upload_as(&self, user: &str, number: i64, operations: Value) -> (u16, Value) {
        let body = json!({
            "client_id": "c1", "transaction_id": number, "operations": operations
        });
        let (status, reply) = self.post(&token(user), body.to_string()).await;
        (status.as_u16(), reply["reason"].clone())
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        let rows = connect(&self.database_url).await.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

async fn post(url: &str, token: &str, body: String) -> (StatusCode, Value) {
    let reply = reqwest::Client::new()
        .post(url)
        .bearer_auth(token)
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await
        .unwrap();
    let status = reply.status();
    (status, serde_json::from_str(&reply.text().await.unwrap()).unwrap_or_default())
}

fn start_backend(database_url: &str, keys: &Path) -> (Running, String) {
    let mut backend = Command::new(env!("CARGO_BIN_EXE_tidewater-example-backend"))
        .args(["--database-url", database_url, "--listen", "127.0.0.1:0"])
        .args(["--audience", "app", "--table", "todos,owned", "--table", "od\"d", "--jwks"])
        .arg(keys)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(backend.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = format!("{}/upload", line.trim().strip_prefix("listening on ").unwrap());
    (Running(backend), url)
}

async fn connect(database_url: &str) -> tokio_postgres::Client {
    let mut attempts = 0;
    loop {
        match tokio_postgres::connect(database_url, NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return client;
            }
            Err(_) if attempts < 600 => attempts += 1,
            Err(error) => panic!("PostgreSQL does not start: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Returns the command of one of PostgreSQL's programs, run by a user that may run it.
fn postgres_command(dir: &Path, program: &str) -> Command {
    let mut command = Command::new(installed(program));
    command.current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some((user, group)) = postgres_user() {
        command.uid(user).gid(group);
    }
    command
}

/// Starts PostgreSQL. It refuses to run as root, so the user `postgres` runs it then.
fn start_postgres(dir: &Path, port: u16) -> Running {
    let data = dir.join("data");
    fs::create_dir(&data).unwrap();
    if let Some((user, group)) = postgres_user() {
        chown(dir, Some(user), Some(group)).unwrap();
        chown(&data, Some(user), Some(group)).unwrap();
    }

    let made = postgres_command(dir, "initdb")
        .args(["--auth", "trust", "--username", "postgres", "--no-sync", "-D"])
        .arg(&data)
        .status()
        .unwrap();
    assert!(made.success());

    let mut server = postgres_command(dir, "postgres");
    server.arg("-D").arg(&data).args(["-c", "fsync=off", "-c", "unix_socket_directories="]);
    server.args(["-c", &format!("port={port}")]);
    Running(server.spawn().unwrap())
}

fn installed(program: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let packaged = versions.flatten().map(|version| version.path().join("bin").join(program));
    packaged.filter(|path| path.exists()).max().unwrap_or_else(|| program.into())
}

fn postgres_user() -> Option<(u32, u32)> {
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    let users = fs::read_to_string("/etc/passwd").ok().filter(|_| is_root)?;
    let fields: Vec<_> =
        users.lines().find(|line| line.starts_with("postgres:"))?.split(':').collect();
    Some((fields[2].parse().ok()?, fields[3].parse().ok()?))
}

fn token(user: &str) -> String {
    signed(&json!({"sub": user, "aud": "app", "exp": now() + 600}), SECRET)
}

fn signed(claims: &Value, secret: &[u8]) -> String {
    let header = Header { kid: Some("k1".into()), ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret)).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a token's life is in real time")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

const T1: &str = "00000000-0000-0000-0000-000000000001";

fn put(title: &str) -> Value {
    json!([{"op": "PUT", "table": "todos", "id": T1, "data": {"title": title, "done": 1, "n": 2.5}}])
}

#[tokio::test]
async fn an_upload_takes_effect_as_a_whole_and_once() {
    let world = World::start().await;
    assert_eq!(world.upload(1, put("a")).await, (200, Value::Null));
    assert_eq!(world.texts("SELECT title || done || n FROM todos").await, ["atrue2.5"]);

    // Another change, then the first unit again: it has no second effect.
    let patch = json!([{"op": "PATCH", "table": "todos", "id": T1, "data": {"title": "b"}}]);
    assert_eq!(world.upload(2, patch.clone()).await.0, 200);
    assert_eq!(world.upload(1, put("a")).await, (200, Value::Null));
    assert_eq!(world.texts("SELECT title || n FROM todos").await, ["b2.5"]);

    // The number is used for this user, not for others.
    assert_eq!(world.upload(1, patch.clone()).await.0, 409);
    assert_eq!(world.upload_as("u2", 1, put("c")).await.0, 200);

    // All or nothing.
    let half = json!([
        {"op": "DELETE", "table": "todos", "id": T1},
        {"op": "PUT", "table": "todos", "id": T1, "data": {"title": null}},
    ]);

    let (status, reason) = world.upload(3, half).await;
    assert_eq!(status, 422);
    assert!(reason.as_str().unwrap().contains("not-null constraint"), "{reason}");
    assert_eq!(world.texts("SELECT title FROM todos").await, ["c"]);

    let delete = json!([{"op": "DELETE", "table": "todos", "id": T1}]);
    assert_eq!(world.upload(4, delete.clone()).await.0, 200);
    assert_eq!(world.upload(5, delete).await.0, 200);
    assert_eq!(world.upload(6, patch).await.0, 422);

    let owned = json!([{"op": "PUT", "table": "owned", "id": "o1"}]);
    assert_eq!(world.upload(7, owned).await.0, 200);
    assert_eq!(world.texts("SELECT owner FROM owned").await, ["u1"]);
}

#[tokio::test]
async fn a_transaction_of_an_official_sdk_takes_effect_once() {
    let world = World::start().await;
    let entry = |op: &str, tx_id: Value, data: Value| json!({"op_id": 9, "op": op, "type": "todos", "id": T1, "tx_id": tx_id, "data": data});
    let put = |tx_id: Value| entry("PUT", tx_id, json!({"title": "a"}));
    let patch = entry("PATCH", json!(5), json!({"title": "b"}));
    let send = async |crud: Value| {
        let body = json!({"client_id": "c1", "crud": crud});
        let (status, reply) = world.post(&token("u1"), body.to_string()).await;
        (status.as_u16(), reply)
    };

    let applied = (200, json!({"outcome": "applied"}));
    assert_eq!(send(json!([put(json!(5)), patch])).await, applied);
    assert_eq!(world.texts("SELECT title FROM todos").await, ["b"]);
    assert_eq!(send(json!([entry("DELETE", json!(6), Value::Null)])).await, applied);
    assert_eq!(send(json!([put(json!(5)), patch])).await, applied, "sent before");
    assert!(world.texts("SELECT title FROM todos").await.is_empty());

    // A batch of several transactions is not a verdict on them.
    for crud in [json!([put(json!(7)), put(json!(8))]), json!([put(Value::Null)]), json!([])] {
        let (status, reply) = send(crud).await;
        assert_eq!(status, 400);
        assert_eq!(reply["outcome"], Value::Null);
        assert!(reply["reason"].as_str().unwrap().contains("getNextCrudTransaction()"), "{reply}");
    }
}

#[tokio::test]
async fn a_rejection_is_final() {
    let world = World::start().await;
    let big = json!([{"op": "PUT", "table": "todos", "id": T1, "data": {"title": "a", "n": 500}}]);
    let first = world.upload(1, big.clone()).await;
    assert_eq!(first.0, 422);
    let db = connect(&world.database_url).await;
    db.batch_execute("ALTER TABLE todos DROP CONSTRAINT todos_n_check").await.unwrap();
    assert_eq!(world.upload(1, big.clone()).await, first);
    assert_eq!(world.upload(2, big).await.0, 200);
}

#[tokio::test]
async fn a_unit_sent_concurrently_takes_effect_once() {
    let world = World::start().await;
    let count = "CREATE TABLE counted (n int);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO counted VALUES (1); RETURN NEW; END $$;
        CREATE TRIGGER count AFTER INSERT OR UPDATE ON todos FOR EACH ROW EXECUTE FUNCTION note()";
    connect(&world.database_url).await.batch_execute(count).await.unwrap();

    // Two backends, so that only the database can decide.
    let keys = world.dir.path().join("jwks.json");
    let (_other, other_url) = start_backend(&world.database_url, &keys);
    let body = json!({"client_id": "c1", "transaction_id": 1, "operations": put("a")});
    let user = token("u1");
    let user = user.as_str();
    let first = world.url.as_str();
    let second = other_url.as_str();
    let sent = [first, second].repeat(4).into_iter().map(|url| post(url, user, body.to_string()));
    let replies = futures::future::join_all(sent).await;

    assert!(replies.iter().all(|reply| reply.0 == 200), "{replies:?}");
    assert_eq!(world.texts("SELECT count(*)::text FROM counted").await, ["1"]);
}

#[tokio::test]
async fn a_write_that_is_not_possible_is_rejected_by_name() {
    let world = World::start().await;
    let attack = "title\" = 'x'; DROP TABLE todos; --";
    let cases = [
        (
            json!({"op": "PUT", "table": "secrets", "id": "1"}),
            "table 'secrets' cannot be written to",
        ),
        (json!({"op": "DELETE", "table": "pg_class", "id": "1"}), "table 'pg_class'"),
        (
            json!({"op": "PATCH", "table": "todos", "id": T1, "data": {attack: 1}}),
            "there is no column",
        ),
        (
            json!({"op": "PUT", "table": "todos", "id": T1, "data": {"x": 1}}),
            "there is no column 'x'",
        ),
        (
            json!({"op": "PUT", "table": "todos", "id": "x", "data": {"title": "a"}}),
            "invalid input",
        ),
        (
            json!({"op": "PUT", "table": "todos", "id": T1, "data": {"title": "longer than ten"}}),
            "value too long",
        ),
        (
            json!({"op": "PUT", "table": "todos", "id": T1, "data": {"title": "\u{0}"}}),
            "invalid byte sequence",
        ),
    ];

    for (number, (operation, expected)) in (1..).zip(cases) {
        let (status, reason) = world.upload(number, json!([operation])).await;
        assert_eq!(status, 422, "{operation}");
        assert!(reason.as_str().unwrap().contains(expected), "{operation}: {reason}");
    }

    let odd = json!([{"op": "PUT", "table": "od\"d", "id": "1'", "data": {"a b": "$1'"}}]);
    assert_eq!(world.upload(50, odd).await.0, 200);
    assert_eq!(world.texts("SELECT id || \"a b\" FROM \"od\"\"d\"").await, ["1'$1'"]);

    let many: Vec<_> =
        (0..10_001).map(|_| json!({"op": "DELETE", "table": "todos", "id": T1})).collect();
    assert_eq!(world.upload(51, Value::Array(many)).await.0, 422);
}

#[tokio::test]
async fn without_a_valid_token_nothing_is_changed_or_revealed() {
    let world = World::start().await;
    let body = json!({"client_id": "c", "transaction_id": 1, "operations": put("a")}).to_string();
    let later = now() + 600;
    let before = now() - 600;
    let bad = [
        String::new(),
        "nonsense".into(),
        signed(&json!({"sub": "u1", "aud": "app", "exp": later}), b"another secret"),
        signed(&json!({"sub": "u1", "aud": "other", "exp": later}), SECRET),
        signed(&json!({"sub": "u1", "aud": "app", "exp": before}), SECRET),
        signed(&json!({"sub": "u1", "aud": "app", "exp": "soon"}), SECRET),
        signed(&json!({"sub": "u1", "aud": "app", "exp": later, "nbf": later}), SECRET),
        signed(&json!({"sub": "u1", "exp": later}), SECRET),
        signed(&json!({"aud": "app", "exp": later}), SECRET),
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1MSIsImF1ZCI6ImFwcCIsImV4cCI6OTk5OTk5OTk5OX0.".into(),
    ];

    for token in bad {
        assert_eq!(world.post(&token, body.clone()).await.0, 401, "{token}");
        assert_eq!(world.post(&token, "{".into()).await.0, 401, "{token}");
    }

    assert!(world.texts("SELECT id::text FROM todos").await.is_empty());
    assert_eq!(world.post(&token("u1"), "{".into()).await.0, 400);
    assert_eq!(world.post(&token("u1"), "{}".into()).await.0, 422);
    assert_eq!(world.post(&token("u1"), r#"{"client_id":"c1"}"#.into()).await.0, 400);
    assert_eq!(world.post(&token("u1"), " ".repeat(11 << 20)).await.0, 413);
    assert_eq!(world.post(&token("u1"), body).await.0, 200);
}

#[tokio::test]
async fn a_lost_database_is_not_a_verdict() {
    let world = World::start().await;
    let db = connect(&world.database_url).await;
    db.batch_execute("ALTER TABLE todos RENAME TO away").await.unwrap();
    assert_eq!(world.upload(1, put("a")).await.0, 503);
    db.batch_execute("ALTER TABLE away RENAME TO todos").await.unwrap();
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                  WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
    db.query(others, &[]).await.unwrap();
    let mut replies = Vec::new();

    while replies.last() != Some(&200) && replies.len() < 3 {
        replies.push(world.upload(1, put("a")).await.0);
    }

    assert!(replies.iter().all(|status| matches!(status, 200 | 503)), "{replies:?}");
    assert_eq!(world.texts("SELECT title FROM todos").await, ["a"]);
}
