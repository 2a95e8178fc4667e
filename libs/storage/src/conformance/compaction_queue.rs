//! The guarantees of [`CompactionQueue`].

use tidewater_protocol::OpId;

use super::{bucket, op};
use crate::{Batch, BucketKey, CompactionQueue, CompactionTask, RecordStore};

/// An arbitrary time in seconds since 1970.
const NOW: u64 = 1_800_000_000;

async fn make_due(store: &impl RecordStore, buckets: &[(BucketKey, OpId)]) {
    let tasks = buckets.iter().map(|(bucket, op)| CompactionTask::immediate(bucket.clone(), *op));
    let batch = Batch { compaction_tasks: tasks.collect(), ..Batch::default() };
    assert_eq!(store.write(batch.into()).await.unwrap(), []);
}

async fn due(store: &impl CompactionQueue, now: u64) -> Vec<CompactionTask> {
    let mut found = store.due_tasks(now, 1_000).await.unwrap();
    found.sort_by(|a, b| a.bucket.cmp(&b.bucket));
    found
}

fn task(params: &str, at: u64, not_before: u64) -> CompactionTask {
    CompactionTask { bucket: bucket(1, params), triggered_by: op(at), not_before }
}

pub async fn a_written_bucket_is_due([a, b]: [impl CompactionQueue + RecordStore; 2]) {
    assert_eq!(due(&a, NOW).await, []);
    make_due(&a, &[(bucket(1, "[1]"), op(5)), (bucket(1, "[2]"), op(6))]).await;
    assert_eq!(due(&b, NOW).await, [task("[1]", 5, 0), task("[2]", 6, 0)]);
    make_due(&a, &[(bucket(1, "[1]"), op(9))]).await;
    assert_eq!(due(&b, NOW).await, [task("[1]", 9, 0), task("[2]", 6, 0)]);
}

pub async fn a_completed_task_is_removed([a, b]: [impl CompactionQueue + RecordStore; 2]) {
    make_due(&a, &[(bucket(1, "[1]"), op(5)), (bucket(1, "[2]"), op(6))]).await;
    assert!(b.complete(&task("[1]", 5, 0)).await.unwrap());
    assert_eq!(due(&a, NOW).await, [task("[2]", 6, 0)]);
    assert!(!b.complete(&task("[1]", 5, 0)).await.unwrap());
}

pub async fn a_replaced_task_is_neither_completed_nor_deferred(
    [a, b]: [impl CompactionQueue + RecordStore; 2],
) {
    make_due(&a, &[(bucket(1, "[1]"), op(5))]).await;
    let seen = due(&b, NOW).await.remove(0);
    make_due(&a, &[(bucket(1, "[1]"), op(6))]).await;
    assert!(!b.complete(&seen).await.unwrap());
    assert!(!b.defer(&seen, NOW + 9).await.unwrap());
    assert_eq!(due(&b, NOW).await, [task("[1]", 6, 0)]);
}

pub async fn a_deferred_task_is_due_at_its_time([a, b]: [impl CompactionQueue + RecordStore; 2]) {
    make_due(&a, &[(bucket(1, "[1]"), op(5))]).await;
    assert!(a.defer(&task("[1]", 5, 0), NOW + 10).await.unwrap());
    assert_eq!(due(&b, NOW + 9).await, []);
    assert_eq!(due(&b, NOW + 10).await, [task("[1]", 5, NOW + 10)]);

    // Another write replaces the deferred task by one that is due immediately.
    make_due(&a, &[(bucket(1, "[1]"), op(6))]).await;
    assert_eq!(due(&b, NOW).await, [task("[1]", 6, 0)]);
}

pub async fn due_tasks_are_read_up_to_the_limit([a, b]: [impl CompactionQueue + RecordStore; 2]) {
    let buckets: Vec<_> = (0..300).map(|n| (bucket(1, &format!("[{n}]")), op(n + 1))).collect();
    make_due(&a, &buckets).await;
    let some = b.due_tasks(NOW, 7).await.unwrap();
    assert_eq!(some.len(), 7);
    for task in &some {
        assert!(b.complete(task).await.unwrap());
    }
    assert_eq!(due(&a, NOW).await.len(), 293);
}
