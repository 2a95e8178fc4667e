//! The upload machine, and where it meets the download machine.

use super::*;

fn queue_failed() -> Event<'static> {
    Event::QueueFailed("disk full".into())
}

/// Returns the outcome of the upload of transaction 1.
fn uploaded(outcome: UploadOutcome) -> Event<'static> {
    Event::Uploaded { transaction_id: 1, outcome }
}

fn retry_upload(after: Option<Duration>) -> Event<'static> {
    uploaded(UploadOutcome::Retry { after, reason: "503".into() })
}

/// Returns the refusal of a write checkpoint request.
fn write_checkpoint_refused(status: u16) -> Event<'static> {
    Event::WriteCheckpoint { queue_version: 1, answer: Err(failed(status)) }
}

#[test]
fn a_failed_queue_is_retried() {
    let mut script = Script::connected();
    script.event(Event::LocalWrite, &["upload"]);
    script.event(queue_failed(), &["Upload 1s"]);
    assert_eq!(script.0.status().upload_problem.unwrap().kind, ProblemKind::Storage);

    // The first of the two actions may fail while the second is carried out.
    script.event(Event::Timer(Timer::Upload), &["upload"]);
    script.event(uploaded(UploadOutcome::Applied), &["finish 1", "upload"]);
    script.event(queue_failed(), &["Upload 1s"]);
    script.event(uploaded(UploadOutcome::Applied), &[]);

    script.event(Event::Timer(Timer::Upload), &["upload"]);
    script.event(queue_empty(PendingUploads::Unknown, 1), &["write checkpoint t1 1"]);
    script.event(write_checkpoint(1, 1), &["store 1 1"]);
    script.event(queue_failed(), &["Upload 1s"]);
}

#[test]
fn transactions_are_sent_one_by_one_then_the_write_checkpoint_is_stored() {
    let mut script = Script::connected();
    script.event(Event::LocalWrite, &["upload"]);
    script.event(Event::LocalWrite, &[]);
    let applied =
        |transaction_id| Event::Uploaded { transaction_id, outcome: UploadOutcome::Applied };
    script.event(applied(1), &["finish 1", "upload"]);
    let outcome = UploadOutcome::Rejected { reason: "no".into(), body: None };
    let rejected = Event::Uploaded { transaction_id: 2, outcome };
    script.event(rejected, &["finish 2 rejected", "upload"]);
    assert!(script.0.status().uploading);

    script.event(queue_empty(PendingUploads::Unknown, 3), &["write checkpoint t1 3"]);
    script.event(Event::LocalWrite, &[]);
    script.event(write_checkpoint(3, 8), &["store 3 8"]);

    // A local write came in between: it is sent first.
    script.event(Event::WriteCheckpointStored(false), &["upload"]);
    script.event(applied(3), &["finish 3", "upload"]);
    script.event(queue_empty(PendingUploads::Unknown, 4), &["write checkpoint t1 4"]);
    script.event(write_checkpoint(4, 9), &["store 4 9"]);
    script.event(Event::WriteCheckpointStored(true), &["WriteCheckpoint 60s"]);

    assert!(!script.0.status().uploading);
}

#[test]
fn a_deferred_checkpoint_is_published_once_its_write_checkpoint_is_known() {
    let mut script = Script::connected();
    script.event(Event::LocalWrite, &["upload"]);
    script.event(queue_empty(PendingUploads::Unknown, 1), &["write checkpoint t1 1"]);
    script.line(checkpoint(5, vec![]), &[]);
    script.line(complete(5), &["publish 5 []"]);
    script.event(Event::PublishFinished(PublishOutcome::Deferred), &[]);
    script.event(write_checkpoint(1, 1), &["store 1 1"]);
    script.event(Event::WriteCheckpointStored(true), &["WriteCheckpoint 60s", "publish 5 []"]);
    script.event(published(5), &[]);

    // Not if a newer one was announced: what is stored is no longer that checkpoint.
    let mut script = Script::connected();
    script.event(Event::LocalWrite, &["upload"]);
    script.event(queue_empty(PendingUploads::Unknown, 1), &["write checkpoint t1 1"]);
    script.line(checkpoint(5, vec![]), &[]);
    script.line(complete(5), &["publish 5 []"]);
    script.event(Event::PublishFinished(PublishOutcome::Deferred), &[]);
    script.line(diff(6, vec![], &[]), &[]);
    script.event(write_checkpoint(1, 1), &["store 1 1"]);
    script.event(Event::WriteCheckpointStored(true), &["WriteCheckpoint 60s"]);
    script.line(complete(6), &["publish 6 w1 []"]);
}

#[test]
fn a_polling_client_reconnects_at_once_after_its_uploads() {
    let mut script = Script::connected();
    script.line(checkpoint(1, vec![]), &[]);
    script.line(complete(1), &["publish 1 []"]);
    script.event(published(1), &[]);
    script.closed(Closed::Ended, &["Reconnect poll"]);
    script.event(Event::LocalWrite, &["upload"]);
    script.event(queue_empty(PendingUploads::Unknown, 1), &["write checkpoint t1 1"]);
    script.event(write_checkpoint(1, 1), &["store 1 1"]);
    script.event(Event::WriteCheckpointStored(true), &["WriteCheckpoint 60s", "load"]);
}

#[test]
fn an_upload_without_a_verdict_is_retried_later() {
    let mut script = Script::connected();
    script.event(Event::LocalWrite, &["upload"]);
    script.event(retry_upload(None), &["Upload 1s"]);
    assert_eq!(script.0.status().upload_problem.unwrap().kind, ProblemKind::Upload);

    // A local write does not cut the back-off short: the head of the queue blocks.
    script.event(Event::LocalWrite, &[]);
    script.event(Event::Timer(Timer::Upload), &["upload"]);
    script.event(retry_upload(Some(Duration::from_secs(70))), &["Upload 70s"]);
    script.event(Event::NetworkUp, &["upload"]);
    script.event(uploaded(UploadOutcome::Applied), &["finish 1", "upload"]);
    assert_eq!(script.0.status().upload_problem, None);
}

#[test]
fn a_failed_write_checkpoint_request_is_retried() {
    let mut script = Script::connected();
    script.event(Event::LocalWrite, &["upload"]);
    script.event(queue_empty(PendingUploads::Unknown, 1), &["write checkpoint t1 1"]);
    script.event(write_checkpoint_refused(500), &["Upload 1s"]);

    // A refused token is replaced once. The next refusal waits.
    script.event(Event::Timer(Timer::Upload), &["upload"]);
    script.event(queue_empty(PendingUploads::Unknown, 1), &["write checkpoint t1 1"]);
    script.event(write_checkpoint_refused(401), &["token"]);
    script.event(Event::Token(Ok("t2".into())), &["write checkpoint t2 1"]);
    script.event(write_checkpoint_refused(401), &["Upload 2s"]);

    script.event(Event::Timer(Timer::Upload), &["upload"]);
    script.event(queue_empty(PendingUploads::Unknown, 1), &["token"]);
    script.event(Event::Token(Err(no_token())), &["Upload 4s"]);
}

#[test]
fn a_write_checkpoint_that_never_arrives_is_requested_again() {
    let mut script = Script::connected();
    script.event(Event::LocalWrite, &["upload"]);
    script.event(queue_empty(PendingUploads::Until(op(1)), 1), &["WriteCheckpoint 60s"]);

    script.event(Event::Timer(Timer::WriteCheckpoint), &["upload"]);
    script.event(queue_empty(PendingUploads::Until(op(1)), 1), &["write checkpoint t1 1"]);
    script.event(write_checkpoint(1, 2), &["store 1 2"]);
    script.event(Event::WriteCheckpointStored(true), &["WriteCheckpoint 60s"]);
    script.event(Event::Timer(Timer::WriteCheckpoint), &["upload"]);
    script.event(queue_empty(PendingUploads::None, 1), &[]);
}

#[test]
fn without_a_connector_nothing_is_sent() {
    let mut script = Script::with(false);
    script.event(Event::Start, &["token"]);
    script.event(Event::LocalWrite, &[]);
    script.event(Event::NetworkUp, &[]);
}
