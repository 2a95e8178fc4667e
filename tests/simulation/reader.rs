//! Clients of the real sync API that verify every completed checkpoint.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tidewater_functions::{Authenticator, Settings, router};
use tidewater_storage::{CallScheduler, Embedded, FaultPlan, Faulty};
use tidewater_tests::{AUDIENCE, Completed, LineEffect, LocalBuckets, SigningKey};
use tokio::sync::watch;
use tower::ServiceExt;

use crate::Shared;

type Store = Faulty<Embedded>;

/// A client: its buckets, and its writes that no checkpoint has acknowledged yet.
pub(crate) struct Reader {
    user: &'static str,
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
    /// Number of the write checkpoint.
    number: i64,
    /// Position in the source after the write.
    position: u64,
}

/// The last checkpoint that the client has completed.
#[derive(Clone, Copy)]
struct LastCheckpoint {
    op: i64,
    position: u64,
}

impl Reader {
    pub(crate) fn new(user: &'static str, seed: u64) -> Self {
        let key = SigningKey::random("k");
        let dir = tempfile::tempdir().unwrap();
        let key_set = std::fs::read_to_string(key.write_jwk_set(dir.path()).unwrap()).unwrap();
        let rng = StdRng::seed_from_u64(seed);
        let local = LocalBuckets::default();
        Self { user, rng, key, key_set, local, awaited: VecDeque::new(), last: None }
    }

    /// Connects, reads, writes, and cuts the connection after any line, at random until `recalled`.
    pub(crate) async fn act_at_random(
        mut self,
        store: Store,
        world: Shared,
        recalled: watch::Receiver<bool>,
    ) -> Result<Self> {
        while !*recalled.borrow() {
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
        let store = Faulty::new(store.clone(), FaultPlan::default()).with_scheduler(scheduler);
        let completed = self.read(&store, world, usize::MAX).await.unwrap();
        let completed =
            completed.expect("a checkpoint is visible, and nothing cuts the connection");

        let expected = world.lock().unwrap().source.now().visible_to(self.user);
        assert_eq!(*completed.rows, expected, "{} differs at the end", self.user);
        assert!(self.awaited.is_empty(), "{} still waits for {:?}", self.user, self.awaited);
    }

    async fn request(&self, store: &Store, request: Request<Body>) -> Result<(StatusCode, Body)> {
        let auth = Authenticator::new(&[&self.key_set], vec![AUDIENCE.to_owned()])?;
        let settings = Settings { keep_open: Some(Duration::ZERO), ..Settings::new(auth) };
        let response = router(store.clone(), settings).oneshot(request).await?;
        Ok((response.status(), response.into_body()))
    }

    /// Writes as an app does: commits to the source, then requests a write checkpoint.
    async fn write(&mut self, store: &Store, world: &Shared) -> Result<()> {
        let position = {
            let mut world = world.lock().unwrap();
            world.source.commit_random(&mut self.rng);
            world.source.position()
        };

        let request = Request::get("/write-checkpoint2.json?client_id=c")
            .header("Authorization", format!("Token {}", self.key.token(self.user).sign()?))
            .body(Body::empty())?;
        let (status, body) = self.request(store, request).await?;
        ensure!(status == StatusCode::OK, "write checkpoint: {status}");

        let body = axum::body::to_bytes(body, 10_000).await?;
        let reply: Value = serde_json::from_slice(&body)?;
        let number = reply["data"]["write_checkpoint"].as_str().context("no number")?.parse()?;
        self.awaited.push_back(AwaitedWrite { number, position });
        Ok(())
    }

    /// Reads one response up to line number `lines_max`. Returns the last completed checkpoint.
    async fn read(
        &mut self,
        store: &Store,
        world: &Shared,
        lines_max: usize,
    ) -> Result<Option<Completed>> {
        let body = json!({"buckets": self.local.connect(), "raw_data": true, "client_id": "c"});
        let request = Request::post("/sync/stream")
            .header("Authorization", format!("Token {}", self.key.token(self.user).sign()?))
            .header("Content-Type", "application/json")
            .body(Body::from(body.to_string()))?;
        let (status, body) = self.request(store, request).await?;
        if status != StatusCode::OK {
            let body = axum::body::to_bytes(body, 10_000).await?;
            let text = String::from_utf8_lossy(&body);
            // S2302: no checkpoint is visible yet.
            let deletes_early = world.lock().unwrap().deletes_early;
            ensure!(deletes_early || text.contains("PSYNC_S2302"), "{status}: {text}");
            return Ok(None);
        }

        let mut chunks = body.into_data_stream();
        let mut pending = Vec::new();
        let mut lines = 0;
        let mut last_completed = None;
        while lines < lines_max
            && let Some(chunk) = chunks.next().await
        {
            // The server aborts a stream that it cannot continue. The client retries, as after a
            // lost connection.
            let Ok(chunk) = chunk else { break };
            pending.extend_from_slice(&chunk);
            while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                lines += 1;

                // A line of a base ends in a marker, which is the only MOVE of a stream.
                let is_of_base = String::from_utf8_lossy(&line).contains("\"op\":\"MOVE\"");
                world.lock().unwrap().lines_of_bases += usize::from(is_of_base);

                if let LineEffect::Complete(completed) = self.local.apply(&line)? {
                    self.verify(&completed, world)?;
                    last_completed = Some(completed);
                }
                if lines >= lines_max {
                    break;
                }
            }
        }
        Ok(last_completed)
    }

    /// Verifies a completed checkpoint: it is the source at one commit, not before the last one, and
    /// contains the writes that it acknowledges.
    fn verify(&mut self, completed: &Completed, world: &Shared) -> Result<()> {
        let mut world = world.lock().unwrap();
        let op = completed.last_op_id.get();
        let positions: Vec<u64> =
            world.visible.iter().filter(|(seen, _)| *seen == op).map(|(_, at)| *at).collect();
        ensure!(!positions.is_empty(), "checkpoint {op} was never visible");
        for position in &positions {
            let expected = world.source.at(*position).visible_to(self.user);
            if *completed.rows != expected {
                bail!(
                    "{} at checkpoint {op} (position {position}) has\n{:?}\nnot\n{expected:?}",
                    self.user,
                    completed.rows
                );
            }
        }

        let position = positions.iter().copied().max().unwrap_or_default();
        if let Some(last) = self.last {
            ensure!(
                op >= last.op && position >= last.position,
                "{} went back from {} to {op}",
                self.user,
                last.op
            );
        }
        self.last = Some(LastCheckpoint { op, position });
        world.completed += 1;
        world.log(|| format!("{} completes {op} at {position}", self.user));

        let acknowledged = completed.write_checkpoint.map_or(0, |number| number.get());
        while let Some(write) = self.awaited.front().copied()
            && write.number <= acknowledged
        {
            ensure!(
                position >= write.position,
                "{}: write {} at {} is acknowledged at {position}",
                self.user,
                write.number,
                write.position
            );
            self.awaited.pop_front();
            world.acknowledged += 1;
        }
        Ok(())
    }
}
