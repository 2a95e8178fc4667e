//! Snapshots within the download machine.

use tidewater_protocol::{SnapshotFile, SnapshotFrame, SnapshotLine};

use super::*;

fn snapshot(bucket: &str, to: i64) -> SyncLine<'static> {
    let frames =
        [300, 100].map(|bytes| SnapshotFrame { bytes, raw_bytes: 4_096, sha256: String::new() });

    SyncLine::Snapshot(SnapshotLine {
        bucket: bucket.into(),
        id: "k7".into(),
        to: op(to),
        checksum: Checksum(5),
        rows: 8,
        count: 8,
        files: vec![SnapshotFile { url: "/s".into(), raw_bytes: 8_192, frames: frames.into() }],
    })
}

/// Returns a core that fetches a snapshot of 8 of the bucket's 10 operations.
fn fetching() -> Script {
    let mut script = Script::connected();
    let bucket = BucketDescription { count: 10, ..described("a", Checksum(5) + later_sum()) };
    script.line(checkpoint(9, vec![bucket]), &[]);
    script.line(snapshot("a", 4), &["fetch 1 a k7"]);
    assert!(script.0.is_fetching());
    script
}

fn later() -> [Operation<'static>; 2] {
    [put(5, "r"), put(6, "s")]
}

fn later_sum() -> Checksum {
    sum(&later())
}

/// Returns how many operations the status counts as downloaded.
fn downloaded(script: &Script) -> u64 {
    script.0.status().progress.unwrap().downloaded
}

/// Returns the failure of a fetch by a reply with this status.
fn refused_with(status: u16) -> FetchFailed {
    FetchFailed::Request(failed(status))
}

fn frame(connection: u64, bytes: u64, is_new: bool) -> Event<'static> {
    Event::FrameFetched { connection, bytes, is_new }
}

fn fetched(outcome: Result<(), FetchFailed>) -> Event<'static> {
    Event::SnapshotFetched { connection: 1, outcome }
}

#[test]
fn a_snapshot_replaces_lines_and_later_lines_follow() {
    let mut script = fetching();
    script.event(frame(1, 100, false), &[]);
    assert_eq!(downloaded(&script), 2);

    script.event(frame(7, 300, true), &[]);
    assert_eq!(downloaded(&script), 2, "a frame of another stream is not counted");

    script.event(frame(1, 300, true), &[]);
    assert_eq!(downloaded(&script), 8);

    script.event(fetched(Ok(())), &["snapshot a@4"]);
    assert_eq!(downloaded(&script), 8);
    assert!(!script.0.is_fetching());
    script.line(data("a", &later()), &["stage 2 a@6"]);
    script.line(complete(9), &["publish 9 [a]"]);
}

#[test]
fn snapshots_out_of_order_or_of_impossible_size_close_the_stream() {
    let mut script = Script::connected();
    script.line(snapshot("a", 4), &["close", "Reconnect 1s"]);
    assert_eq!(script.problem(), Some(ProblemKind::Protocol));
    let mut script = Script::connected();
    script.line(checkpoint(9, vec![described("a", Checksum(5))]), &[]);
    let SyncLine::Snapshot(mut line) = snapshot("a", 4) else { panic!("it is one") };
    line.files[0].raw_bytes = 1 << 60;
    script.line(SyncLine::Snapshot(line), &["close", "Reconnect 1s"]);
    assert!(!script.0.is_fetching());
}

#[test]
fn a_failed_fetch_is_resumed_by_the_next_stream() {
    let mut script = fetching();
    script.event(fetched(Err(refused_with(500))), &["close", "Reconnect 1s"]);
    assert_eq!(script.problem(), Some(ProblemKind::Network));
    script.event(Event::Timer(Timer::Reconnect), &["load"]);
    script.event(Event::BucketsLoaded(BTreeMap::new()), &["open 2 t1 []"]);
    script.event(Event::Opened { connection: 2 }, &[]);
    script.line(checkpoint(9, vec![described("a", Checksum(5))]), &[]);
    script.line(snapshot("a", 4), &["fetch 2 a k7"]);

    // A late event of the first fetch is ignored.
    script.event(fetched(Ok(())), &[]);
    let second = Event::SnapshotFetched { connection: 2, outcome: Err(refused_with(500)) };
    script.event(second, &["close", "Reconnect 2s"]);
    script.event(Event::NetworkUp, &["load", "upload"]);
}

#[test]
fn an_address_that_expires_during_the_fetch_is_renewed_at_once_without_a_loop() {
    let mut script = fetching();
    script.event(frame(1, 100, true), &[]);
    script.event(fetched(Err(refused_with(403))), &["close", "load"]);

    // No frame was new, so another address would not help.
    let mut script = fetching();
    script.event(frame(1, 100, false), &[]);
    script.event(fetched(Err(refused_with(403))), &["close", "Reconnect 1s"]);
    assert_eq!(script.problem(), Some(ProblemKind::Network));
}

#[test]
fn each_failure_of_a_snapshot_is_reported_by_its_kind() {
    for (failure, kind) in [
        (FetchFailed::Damaged("short".into()), ProblemKind::Checksum),
        (FetchFailed::Newer("format 2".into()), ProblemKind::Protocol),
        (FetchFailed::Storage("full".into()), ProblemKind::Storage),
    ] {
        let mut script = fetching();
        script.event(fetched(Err(failure)), &["close", "Reconnect 1s"]);
        assert_eq!(script.problem(), Some(kind));
    }

    let mut script = fetching();
    script.event(fetched(Ok(())), &["snapshot a@4"]);
    script.line(data("a", &later()), &["stage 2 a@6"]);
    script.line(complete(9), &["publish 9 [a]"]);
    let damaged = PublishOutcome::SnapshotDamaged { bucket: "a".into(), message: "wrong".into() };
    script.event(Event::PublishFinished(damaged), &["reset a", "close", "Reconnect 1s"]);

    assert_eq!(script.problem(), Some(ProblemKind::Checksum));
}

#[test]
fn a_token_that_arrives_during_a_fetch_is_used_after_it() {
    let mut script = Script::connected();
    script.line(checkpoint(9, vec![described("a", Checksum(5))]), &[]);
    script.line(SyncLine::TokenExpiresIn(20), &["token"]);
    script.line(snapshot("a", 4), &["fetch 1 a k7"]);
    script.event(Event::Token(Ok("t2".into())), &[]);
    script.event(fetched(Ok(())), &["snapshot a@4", "close", "load"]);
    let at = LocalBucket { position: op(4), ..LocalBucket::default() };
    let local = BTreeMap::from([("a".into(), at)]);
    script.event(Event::BucketsLoaded(local), &["open 2 t2 [a@4]"]);
}
