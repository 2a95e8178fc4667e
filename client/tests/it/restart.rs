//! The process is killed (by a real SIGKILL) at any point and started again.
//!
//! The child is this very test program: `child` below does nothing unless it has a task.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tempfile::TempDir;
use tidewater_client::{FixedToken, HttpConnector};

use crate::app::{connect, open, read_rows, rows, until, until_equal, visible};
use crate::server::{Rows, Server};

const TASK: &str = "TIDEWATER_TEST_TASK";

/// Returns the child's task: `sync FILE URL` or `write FILE ROUND`.
#[expect(clippy::disallowed_methods, reason = "how the parent tells the child its task")]
fn task() -> Option<Vec<String>> {
    let task = std::env::var(TASK).ok()?;
    Some(task.split('\n').map(str::to_owned).collect())
}

/// Runs a task. Not a test by itself: the other tests start and kill this process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(task) = task() else { return };
    let client = open(Path::new(&task[1]));
    if task[0] == "sync" {
        let token = Arc::new(FixedToken("t".into()));
        let backend = HttpConnector::new(&format!("{}/upload", task[2]), token.clone()).unwrap();
        client.connect(&task[2], token, Some(Arc::new(backend))).unwrap();
        println!("\nconnected");
        client.status().wait_for(|status| status.published > 0).await.unwrap();
        println!("\npublished");
        std::future::pending::<()>().await;
    }

    for n in 0_u64.. {
        client
            .write(|tx| {
                let sql = "INSERT INTO todos (id, title) VALUES (?1, 'a'), (?1 || 'b', 'b')";
                tx.execute(sql, [format!("{}-{n}", task[2])])
            })
            .unwrap();
        println!("\ncommitted {}-{n}", task[2]);
    }
}

fn spawn(task: &[&str]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "restart::child", "--nocapture"])
        .env(TASK, task.join("\n"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn seed() -> SmallRng {
    let seed = rand::rng().random();
    println!("seed {seed}");
    SmallRng::seed_from_u64(seed)
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn check_file(path: &Path) -> Rows {
    let db = rusqlite::Connection::open(path).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    read_rows(&db).unwrap()
}

/// Changes most rows of three buckets, and removes some.
fn change_rows(server: &Server, round: i64) {
    server.change(|source| {
        for n in 0..2_000 {
            let bucket = format!("b{}", n % 3);
            let id = format!("t{}", n % 1_500);
            let row = json!({"title": format!("{round}"), "done": n, "list_id": null});
            source.put(&bucket, "todos", &id, &row);
        }
        for n in 0..300 {
            source.remove("b0", "todos", &format!("t{}", 3 * n + 3 * round));
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_download_shows_the_old_or_the_new_state_and_is_resumed() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    let path = dir.path().join("app.db");
    let mut random = seed();
    drop(open(&path));
    let mut states = vec![Rows::new()];
    let mut kills = 0;
    for round in 0..3 {
        change_rows(&server, round);
        states.push(visible(server.rows()));

        let mut shown = check_file(&path);
        let mut patience = 0;
        while Some(&shown) != states.last() {
            let mut child = spawn(&["sync", path.to_str().unwrap(), &server.url]);
            let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
            assert!(output.any(|line| line.unwrap() == "connected"));

            // In the download or the publication; later each time, so that the test ends.
            patience += 80;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..patience))).await;
            kill(child);
            kills += 1;

            shown = check_file(&path);
            let is_whole = states[states.len() - 2..].contains(&shown);
            assert!(is_whole, "mixed state after kill {kills} in round {round}");
        }
    }

    println!("{kills} kills");

    // The positions were exact: no checksum was wrong.
    let client = open(&path);
    connect(&client, &server);
    until(&client, |status| status.published == 1).await;
    until_equal(&client, &server).await;

    assert_eq!(client.status().borrow().checksum_mismatches, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_transactions_survive_a_kill_whole_and_take_effect_once() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    let path = dir.path().join("app.db");
    let mut random = seed();
    drop(open(&path));
    let mut committed = Vec::new();

    for round in 0..5 {
        let mut child = spawn(&["write", path.to_str().unwrap(), &round.to_string()]);
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = random.random_range(1..40);
        let mut lines = output.map_while(Result::ok);
        let told = lines.by_ref().filter(|line| line.starts_with("committed")).take(wanted);
        committed.extend(told.map(|line| line["committed ".len()..].to_owned()));
        kill(child);
        let rest = lines.filter(|line| line.starts_with("committed"));
        committed.extend(rest.map(|line| line["committed ".len()..].to_owned()));
        // An uploader is killed as well.
        let uploader = spawn(&["sync", path.to_str().unwrap(), &server.url]);
        tokio::time::sleep(Duration::from_millis(random.random_range(20..200))).await;
        kill(uploader);
    }

    let client = open(&path);
    let local = rows(&client)["todos"].clone();
    for id in &committed {
        assert!(local.contains_key(id), "{id} was committed and is lost");
        assert!(local.contains_key(&format!("{id}b")), "half of {id} is lost");
    }

    assert_eq!(local.len() % 2, 0);
    connect(&client, &server);
    until(&client, |status| status.queue_length == 0 && status.published > 0).await;
    until_equal(&client, &server).await;
    assert_eq!(rows(&client)["todos"].len(), local.len());

    let seen = server.seen();
    let mut units: Vec<_> = seen.applied.iter().map(|(_, id)| *id).collect();
    let in_order = units.clone();
    units.sort_unstable();
    units.dedup();

    assert_eq!(units, in_order, "each once and in the order of the commits");
    assert_eq!(units.len() * 2, local.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_first_sync_from_a_snapshot_shows_nothing_or_all_and_is_resumed() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    let mut random = seed();
    server.change(|source| {
        for n in 0..20_000 {
            let row = json!({"id": format!("t{n:05}"), "title": "x", "done": n, "list_id": null});
            source.put("a", "todos", &format!("t{n:05}"), &row);
        }
        source.publish_snapshot("a");
    });

    let all = visible(server.rows());
    for run in 0..3 {
        let path = dir.path().join(format!("{run}.db"));
        drop(open(&path));
        let mut patience = 0;
        let mut kills = 0;
        loop {
            let mut child = spawn(&["sync", path.to_str().unwrap(), &server.url]);
            let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
            assert!(output.any(|line| line.unwrap() == "connected"));
            patience += 100;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..patience))).await;
            kill(child);
            kills += 1;
            let shown = check_file(&path);
            if shown == all {
                break;
            }
            assert!(shown.is_empty(), "mixed state after kill {kills} of run {run}");
        }
        let client = open(&path);
        connect(&client, &server);
        until(&client, |status| status.published == 1).await;
        assert_eq!(rows(&client), all);
        assert_eq!(client.status().borrow().checksum_mismatches, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_during_the_wal_checkpoint_loses_no_row_and_no_copy() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    server.change(|source| {
        for n in 0..40_000 {
            let row = json!({"id": format!("t{n:05}"), "title": "x", "done": n, "list_id": null});
            source.put("a", "todos", &format!("t{n:05}"), &row);
        }
        source.publish_snapshot("a");
    });

    for run in 0..3 {
        let path = dir.path().join(format!("{run}.db"));
        let mut child = spawn(&["sync", path.to_str().unwrap(), &server.url]);
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(output.any(|line| line.unwrap() == "published"));
        kill(child);
        assert_eq!(check_file(&path), visible(server.rows()));
        // The bucket's copies are known as well: its rows can change and go.
        server.change(|source| {
            source.remove("a", "todos", &format!("t{:05}", 7 * run));
            let row = json!({"id": "t30000", "title": format!("run {run}")});
            source.put("a", "todos", "t30000", &row);
        });
        let client = open(&path);
        connect(&client, &server);
        until_equal(&client, &server).await;
        assert_eq!(client.status().borrow().checksum_mismatches, 0);
    }
}
