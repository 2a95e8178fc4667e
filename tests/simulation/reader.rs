//! Clients of the real sync API that verify every completed checkpoint.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tidewater_functions::{Authenticator, Settings, router};
use tidewater_protocol::{OpId, SyncLine};
use tidewater_storage::{CallScheduler, Embedded, FaultPlan, Lsn};
use tidewater_tests::{AUDIENCE, Completed, LineEffect, LocalBuckets, Rows, SigningKey};
use tokio::sync::watch;
use tower::ServiceExt;

use crate::source::USERS;
use crate::store::{Store, store_of};
use crate::world::{Shared, World, op_text};

/// Error code of a refusal: no checkpoint is visible yet. Readers have no other reason to be refused.
const NOT_READY: &str = "PSYNC_S2302";

/// Lifetime of the token of a stream: longer than a run by its own clock.
const HELD_SECONDS: i64 = 80_000;

/// Cause of an abort: what the stream was about to send is gone. Early deletion may do so.
const INCOMPLETE: &str = "stored operations are incomplete";

/// A client: its buckets, and its writes that no checkpoint has acknowledged yet.
pub(crate) struct Reader {
    user: &'static str,
    /// The client's id, which names the reader in the log.
    client_id: String,
    /// The server process that holds the reader's streams; `None` if each request has one of its own.
    process: Option<Router>,
    rng: StdRng,
    key: SigningKey,
    key_set: String,
    local: LocalBuckets,
    awaited: VecDeque<AwaitedWrite>,
    last: Option<LastCheckpoint>,
}

/// A write of the client that a checkpoint must acknowledge.
#[derive(Clone, Copy, Debug)]
struct AwaitedWrite {
    /// The ticket of the write checkpoint.
    ticket: i64,
    /// The end of the source after the write.
    lsn: Lsn,
}

/// The last checkpoint that the client has completed.
#[derive(Clone, Copy)]
struct LastCheckpoint {
    op: OpId,
    lsn: Lsn,
}

impl Reader {
    pub(crate) fn new(user: &'static str, seed: u64) -> Self {
        let key = SigningKey::random("k");
        let dir = tempfile::tempdir().unwrap();
        let key_set = std::fs::read_to_string(key.write_jwk_set(dir.path()).unwrap()).unwrap();
        let rng = StdRng::seed_from_u64(seed);
        let local = LocalBuckets::default();
        let client_id = "c".to_owned();
        let awaited = VecDeque::new();
        Self { user, client_id, process: None, rng, key, key_set, local, awaited, last: None }
    }

    /// Creates the readers of one server process, which holds a stream of each.
    pub(crate) fn of_process(number: usize, seed: u64, store: &Store) -> Vec<Self> {
        let mut readers: Vec<_> =
            (seed..).zip(USERS).map(|(seed, user)| Self::new(user, seed)).collect();
        let key_sets: Vec<_> = readers.iter().map(|reader| reader.key_set.clone()).collect();
        // The key sets name their keys alike, so each reader uses the key of the first.
        let key = readers[0].key.clone();
        let auth = Authenticator::new(&key_sets[..1], vec![AUDIENCE.to_owned()]).unwrap();
        let process = router(store.clone(), Settings::new(auth));
        for reader in &mut readers {
            reader.key = key.clone();
            reader.client_id = format!("held-{number}");
            reader.process = Some(process.clone());
        }
        readers
    }

    pub(crate) fn label(&self) -> String {
        match self.process {
            Some(_) => format!("reader {} {}", self.user, self.client_id),
            None => format!("reader {}", self.user),
        }
    }

    /// Keeps a stream open over many commits, and connects again after a cut, until `stop` is true.
    pub(crate) async fn hold_streams(
        mut self,
        store: Store,
        world: Shared,
        stop: watch::Receiver<bool>,
    ) -> Result<()> {
        while !*stop.borrow() {
            if !world.lock().unwrap().is_settling && self.rng.random_range(0..3) == 0 {
                self.write(&store, &world).await?;
            }
            let cut = if self.rng.random() { self.rng.random_range(5..60) } else { usize::MAX };
            self.read(&store, &world, cut).await?;
        }
        Ok(())
    }

    /// Connects, reads, writes, and cuts the connection after any line, at random until `stop` is true.
    pub(crate) async fn act_at_random(
        mut self,
        store: Store,
        world: Shared,
        stop: watch::Receiver<bool>,
    ) -> Result<Self> {
        while !*stop.borrow() {
            if self.rng.random_range(0..10) == 0 {
                self.write(&store, &world).await?;
            }
            let cut = if self.rng.random() { self.rng.random_range(1..8) } else { usize::MAX };
            self.read(&store, &world, cut).await?;
        }
        Ok(self)
    }

    /// Reads without a cut, and compares the rows with the end of the source.
    pub(crate) async fn read_to_the_end(&mut self, store: &Embedded, world: &Shared) {
        let scheduler = Arc::new(CallScheduler::default());
        scheduler.admit_all();
        let store = store_of(&self.label(), store, FaultPlan::default(), scheduler, world);
        let completed = self.read(&store, world, usize::MAX).await.unwrap();
        let completed =
            completed.expect("a checkpoint is visible, and nothing cuts the connection");

        let expected = world.lock().unwrap().source.now().rows_for(self.user);
        if let Some(difference) = difference(&expected, &completed.rows) {
            panic!("{} differs from the end of the source:\n{difference}", self.user);
        }
        assert!(self.awaited.is_empty(), "{} still waits for {:?}", self.user, self.awaited);
    }

    async fn request(&self, store: &Store, request: Request<Body>) -> Result<(StatusCode, Body)> {
        if let Some(process) = &self.process {
            let response = process.clone().oneshot(request).await?;
            return Ok((response.status(), response.into_body()));
        }
        let auth = Authenticator::new(&[&self.key_set], vec![AUDIENCE.to_owned()])?;
        let settings = Settings { keep_open: Some(Duration::ZERO), ..Settings::new(auth) };
        let response = router(store.clone(), settings).oneshot(request).await?;
        Ok((response.status(), response.into_body()))
    }

    /// Writes as an app does: commits to the source, then requests a write checkpoint.
    async fn write(&mut self, store: &Store, world: &Shared) -> Result<()> {
        let lsn = {
            let mut world = world.lock().unwrap();
            world.commit_random(&mut self.rng);
            world.source.end_lsn()
        };

        let request = Request::get(format!("/write-checkpoint2.json?client_id={}", self.client_id))
            .header("Authorization", format!("Token {}", self.key.token(self.user).sign()?))
            .body(Body::empty())?;
        let (status, body) = self.request(store, request).await?;
        ensure!(status == StatusCode::OK, "write checkpoint: {status}");

        let body = axum::body::to_bytes(body, 10_000).await?;
        let reply: Value = serde_json::from_slice(&body)?;
        let ticket = reply["data"]["write_checkpoint"].as_str().context("no ticket")?.parse()?;
        self.log(world, &format!("has written up to LSN {lsn} and awaits ticket {ticket}"));
        self.awaited.push_back(AwaitedWrite { ticket, lsn });
        if let Some(held) = world.lock().unwrap().held.get_mut(&self.label()) {
            held.requested = ticket;
        }
        Ok(())
    }

    /// Reads one response up to line number `lines_max`. Returns the last completed checkpoint.
    async fn read(
        &mut self,
        store: &Store,
        world: &Shared,
        lines_max: usize,
    ) -> Result<Option<Completed>> {
        let positions = self.local.connect();
        let position_texts: Vec<_> = positions
            .iter()
            .map(|bucket| format!("{} at {}", bucket.name, op_text(bucket.after)))
            .collect();
        self.log(world, &format!("connects with [{}]", position_texts.join(", ")));

        let body = json!({"buckets": positions, "raw_data": true, "client_id": self.client_id});
        // No held stream ends by its token: the next one would heal what the first was not told.
        let token = self.key.token(self.user).valid_seconds(HELD_SECONDS);
        let request = Request::post("/sync/stream")
            .header("Authorization", format!("Token {}", token.sign()?))
            .header("Content-Type", "application/json")
            .body(Body::from(body.to_string()))?;
        let (status, body) = self.request(store, request).await?;
        if status != StatusCode::OK {
            let body = axum::body::to_bytes(body, 10_000).await?;
            self.accept_refusal(&String::from_utf8_lossy(&body), world)?;
            return Ok(None);
        }

        let mut chunks = body.into_data_stream();
        let mut pending = Vec::new();
        let mut lines = 0;
        let mut last_completed = None;
        while let Some(chunk) = chunks.next().await {
            // The client retries after an abort, as after a lost connection.
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    self.accept_abort(&error, world)?;
                    break;
                }
            };

            pending.extend_from_slice(&chunk);
            while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                lines += 1;
                last_completed = self.take_line(&line, world)?.or(last_completed);
                // A cut would heal a stream that is not told something.
                if lines >= lines_max && !world.lock().unwrap().is_settling {
                    self.log(world, &format!("cuts the connection after line {lines}"));
                    return Ok(last_completed);
                }
            }
        }
        Ok(last_completed)
    }

    /// Applies a line. Returns the checkpoint that it completes.
    fn take_line(&mut self, line: &[u8], world: &Shared) -> Result<Option<Completed>> {
        self.log(world, &format!("receives {}", line_summary(line)?));
        // A line of a base ends in a marker, which is the only MOVE of a stream.
        let is_of_base = String::from_utf8_lossy(line).contains("\"op\":\"MOVE\"");
        world.lock().unwrap().counters.lines_of_bases += usize::from(is_of_base);

        let LineEffect::Complete(completed) = self.local.apply(line)? else { return Ok(None) };
        self.verify(&completed, &mut world.lock().unwrap())?;
        Ok(Some(completed))
    }

    /// Counts a refused request. Fails unless the refusal is one that the simulation causes.
    fn accept_refusal(&self, body: &str, world: &Shared) -> Result<()> {
        let reply: Value = serde_json::from_str(body).with_context(|| body.to_owned())?;
        let code = reply["error"]["code"].as_str().context("a refusal without a code")?;
        self.log(world, &format!("is refused: {code}"));
        *world.lock().unwrap().counters.refusals.entry(code.to_owned()).or_default() += 1;
        ensure!(code == NOT_READY, "{} is refused: {body}", self.user);
        Ok(())
    }

    /// Counts an aborted stream. Fails unless the abort is one that the simulation causes.
    fn accept_abort(&self, error: &axum::Error, world: &Shared) -> Result<()> {
        let error: &(dyn std::error::Error + 'static) = error;
        let mut causes: Vec<String> = Vec::new();
        for cause in std::iter::successors(Some(error), |cause| cause.source()) {
            let text = cause.to_string();
            if causes.last() != Some(&text) {
                causes.push(text);
            }
        }
        let text = causes.join(": ");
        self.log(world, &format!("is aborted: {text}"));

        let mut world = world.lock().unwrap();
        let is_expected = world.deletes_early && causes.iter().any(|cause| cause == INCOMPLETE);
        ensure!(is_expected, "{} is aborted: {text}", self.user);
        *world.counters.aborts.entry(text).or_default() += 1;
        Ok(())
    }

    /// Verifies a completed checkpoint: it is the source at one commit, not before the last one, and
    /// contains the writes that it acknowledges.
    fn verify(&mut self, completed: &Completed, world: &mut World) -> Result<()> {
        let user = self.user;
        let op = completed.last_op_id;
        let mut lsns = Vec::new();
        for checkpoint in &world.visible_checkpoints {
            if checkpoint.op == op {
                lsns.push(checkpoint.lsn);
            }
        }

        // Several commits may leave the op id unchanged, because no bucket changed; rows are equal at
        // each.
        let lsn = lsns.iter().copied().max();
        let lsn = lsn.with_context(|| format!("checkpoint {} was never visible", op_text(op)))?;
        for lsn in lsns {
            let expected = world.source.at(lsn).rows_for(user);
            if let Some(difference) = difference(&expected, &completed.rows) {
                bail!(
                    "{user} at checkpoint {} differs from the source at LSN {lsn}:\n{difference}",
                    op_text(op)
                );
            }
        }

        if let Some(last) = self.last {
            ensure!(
                op >= last.op && lsn >= last.lsn,
                "{user} went back from {} at LSN {} to {} at LSN {lsn}",
                op_text(last.op),
                last.lsn,
                op_text(op)
            );
        }
        self.last = Some(LastCheckpoint { op, lsn });
        if self.process.is_some() {
            let held = world.held.entry(self.label()).or_default();
            held.user = user;
            held.lsn = lsn;
        }
        world.counters.completed += 1;

        let acknowledged = completed.write_checkpoint.map_or(0, OpId::get);
        world.log(&format!(
            "{}: completes checkpoint {} at LSN {lsn}, write checkpoint {acknowledged}",
            self.label(),
            op_text(op)
        ));
        self.acknowledge(acknowledged, lsn, world)
    }

    /// Removes the acknowledged writes from those that are awaited. Each must be in the checkpoint.
    fn acknowledge(&mut self, acknowledged: i64, lsn: Lsn, world: &mut World) -> Result<()> {
        if let Some(held) = world.held.get_mut(&self.label()) {
            held.acknowledged = acknowledged;
        }
        while let Some(write) = self.awaited.front().copied()
            && write.ticket <= acknowledged
        {
            ensure!(
                lsn >= write.lsn,
                "{}: the write with ticket {} at LSN {} is acknowledged at LSN {lsn}",
                self.user,
                write.ticket,
                write.lsn
            );

            self.awaited.pop_front();
            world.counters.acknowledged += 1;
        }
        Ok(())
    }

    fn log(&self, world: &Shared, line: &str) {
        world.lock().unwrap().log(&format!("{}: {line}", self.label()));
    }
}

/// Returns a line of the stream in short.
fn line_summary(line: &[u8]) -> Result<String> {
    Ok(match SyncLine::parse(line)? {
        SyncLine::Checkpoint(line) => {
            format!("checkpoint {} of {} buckets", op_text(line.last_op_id), line.buckets.len())
        }
        SyncLine::CheckpointDiff(line) => format!(
            "a diff to checkpoint {}: {} buckets updated, {} removed",
            op_text(line.last_op_id),
            line.updated_buckets.len(),
            line.removed_buckets.len()
        ),

        SyncLine::Data(line) => {
            let last = line.operations.last().map_or(OpId::ZERO, |operation| operation.op_id);
            let count = line.operations.len();
            format!("data of {}: {count} operations up to {}", line.bucket, op_text(last))
        }

        SyncLine::PartialCheckpointComplete(line) => {
            let op = op_text(line.last_op_id);
            format!("the completion of {op} up to priority {:?}", line.priority)
        }
        SyncLine::CheckpointComplete(line) => {
            format!("the completion of {}", op_text(line.last_op_id))
        }
        // Its seconds depend on the wall clock.
        SyncLine::TokenExpiresIn(_) => "a keep-alive".to_owned(),
        SyncLine::Snapshot(_) => "a snapshot".to_owned(),
        SyncLine::Unknown => "an unknown line".to_owned(),
    })
}

/// Returns the rows that differ, one a line; `None` if all are equal.
fn difference(expected: &Rows, seen: &Rows) -> Option<String> {
    let mut text = String::new();
    for ((table, id), row) in expected {
        match seen.get(&(table.clone(), id.clone())) {
            None => writeln!(text, "missing: {table} {id}: {}", json!(row)).unwrap(),
            Some(other) if other != row => {
                writeln!(
                    text,
                    "different: {table} {id}: {}, expected {}",
                    json!(other),
                    json!(row)
                )
                .unwrap();
            }
            Some(_) => {}
        }
    }

    for (key, row) in seen {
        if !expected.contains_key(key) {
            writeln!(text, "superfluous: {} {}: {}", key.0, key.1, json!(row)).unwrap();
        }
    }
    (!text.is_empty()).then_some(text)
}
