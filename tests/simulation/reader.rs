//! Clients of the real sync API, and what they must find.

use std::collections::VecDeque;

use anyhow::{Context, Result, bail, ensure};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::time::Duration;
use tidewater_functions::{Authenticator, Settings, router};
use tidewater_storage::{CallScheduler, Embedded, FaultPlan, Faulty};
use tidewater_tests::{AUDIENCE, Completed, LineEffect, LocalBuckets, SigningKey};
use tokio::sync::watch;
use tower::ServiceExt;

use crate::Shared;

type Store = Faulty<Embedded>;

/// One client: what it holds, and the writes that it waits for.
pub(crate) struct Reader {
    user: &'static str,
    rng: StdRng,
    key: SigningKey,
    key_set: String,
    local: LocalBuckets,
    /// Write checkpoints, and where in the source the write was.
    awaited: VecDeque<(i64, u64)>,
    last: Option<(i64, u64)>,
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

    /// Connects, reads, cuts connections at any line, writes now and then; until recalled.
    pub(crate) async fn come_and_go(
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

    /// Reads without a cut, and compares with the end of the source.
    pub(crate) async fn read_to_the_end(&mut self, store: &Embedded, world: &Shared) {
        let scheduler = std::sync::Arc::new(CallScheduler::default());
        scheduler.admit_all();
        let store = Faulty::new(store.clone(), FaultPlan::default()).with_scheduler(scheduler);
        let done = self.read(&store, world, usize::MAX).await.unwrap();
        let done = done.expect("a checkpoint is visible, and nothing cuts the connection");
        let expected = world.lock().unwrap().source.now().visible_to(self.user);
        assert_eq!(*done.rows, expected, "{} differs at the end", self.user);
        assert!(self.awaited.is_empty(), "{} still waits for {:?}", self.user, self.awaited);
    }

    async fn request(&self, store: &Store, request: Request<Body>) -> Result<(StatusCode, Body)> {
        let auth = Authenticator::new(&[&self.key_set], vec![AUDIENCE.to_owned()])?;
        let settings = Settings { keep_open: Some(Duration::ZERO), ..Settings::new(auth) };
        let reply = router(store.clone(), settings).oneshot(request).await?;
        Ok((reply.status(), reply.into_body()))
    }

    /// A write of the app: committed to the source, then acknowledged by a write checkpoint.
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
        self.awaited.push_back((number, position));
        Ok(())
    }

    /// Reads one answer, up to `cut` lines of it; gives the last checkpoint that it completed.
    async fn read(
        &mut self,
        store: &Store,
        world: &Shared,
        cut: usize,
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
            let is_harsh = world.lock().unwrap().is_harsh;
            ensure!(is_harsh || text.contains("PSYNC_S2302"), "{status}: {text}");
            return Ok(None);
        }
        let mut chunks = body.into_data_stream();
        let (mut pending, mut lines, mut completed) = (Vec::new(), 0, None);
        while lines < cut
            && let Some(chunk) = chunks.next().await
        {
            // A connection that the server had to cut is like any other cut.
            let Ok(chunk) = chunk else { break };
            pending.extend_from_slice(&chunk);
            while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                lines += 1;
                // Lines with rows of a base end in a marker, and nothing else is a MOVE.
                let is_of_base = String::from_utf8_lossy(&line).contains("\"op\":\"MOVE\"");
                world.lock().unwrap().from_base += usize::from(is_of_base);
                if let LineEffect::Complete(done) = self.local.apply(&line)? {
                    self.check(&done, world)?;
                    completed = Some(done);
                }
                if lines >= cut {
                    break;
                }
            }
        }
        Ok(completed)
    }

    /// A completed checkpoint must be the source at exactly one commit, no earlier than the one
    /// before, and must contain the writes that it acknowledges.
    fn check(&mut self, done: &Completed, world: &Shared) -> Result<()> {
        let mut world = world.lock().unwrap();
        let op = done.last_op_id.get();
        let positions: Vec<u64> =
            world.visible.iter().filter(|(seen, _)| *seen == op).map(|(_, at)| *at).collect();
        ensure!(!positions.is_empty(), "checkpoint {op} was never visible");
        for position in &positions {
            let expected = world.source.at(*position).visible_to(self.user);
            if *done.rows != expected {
                bail!(
                    "{} at checkpoint {op} (position {position}) has\n{:?}\nnot\n{expected:?}",
                    self.user,
                    done.rows
                );
            }
        }
        let latest = positions.iter().copied().max().unwrap_or_default();
        if let Some((last_op, last)) = self.last {
            ensure!(
                op >= last_op && latest >= last,
                "{} went back from {last_op} to {op}",
                self.user
            );
        }
        self.last = Some((op, latest));
        world.completed += 1;
        world.log(|| format!("{} completes {op} at {latest}", self.user));
        let reached = done.write_checkpoint.map_or(0, |number| number.get());
        while let Some((number, position)) = self.awaited.front().copied()
            && number <= reached
        {
            ensure!(
                latest >= position,
                "{}: write {number} at {position} acknowledged at {latest}",
                self.user
            );
            self.awaited.pop_front();
            world.acknowledged += 1;
        }
        Ok(())
    }
}
