//! [`crate::CompactionQueue`].

use tidewater_protocol::OpId;

use super::{bucket, op};
use crate::{Batch, BucketKey, CompactionTask, Storage};

/// Some time in seconds.
const NOW: u64 = 1_800_000_000;

async fn make_due(store: &impl Storage, buckets: &[(BucketKey, OpId)]) {
    let tasks = buckets.iter().map(|(bucket, op)| CompactionTask::immediate(bucket.clone(), *op));
    let batch = Batch { compaction_tasks: tasks.collect(), ..Batch::default() };
    assert_eq!(store.write(batch.into()).await.unwrap(), []);
}

async fn due(store: &impl Storage, now: u64) -> Vec<CompactionTask> {
    let mut found = store.due_tasks(now, 1_000).await.unwrap();
    found.sort_by(|a, b| a.bucket.cmp(&b.bucket));
    found
}

fn entry(params: &str, at: u64, not_before: u64) -> CompactionTask {
    CompactionTask { bucket: bucket(1, params), triggered_by: op(at), not_before }
}

pub async fn a_bucket_that_was_written_is_due([a, b]: [impl Storage; 2]) {
    assert_eq!(due(&a, NOW).await, []);
    make_due(&a, &[(bucket(1, "[1]"), op(5)), (bucket(1, "[2]"), op(6))]).await;
    assert_eq!(due(&b, NOW).await, [entry("[1]", 5, 0), entry("[2]", 6, 0)]);
    make_due(&a, &[(bucket(1, "[1]"), op(9))]).await;
    assert_eq!(due(&b, NOW).await, [entry("[1]", 9, 0), entry("[2]", 6, 0)]);
}

pub async fn a_settled_entry_is_off_the_list([a, b]: [impl Storage; 2]) {
    make_due(&a, &[(bucket(1, "[1]"), op(5)), (bucket(1, "[2]"), op(6))]).await;
    assert!(b.complete(&entry("[1]", 5, 0)).await.unwrap());
    assert_eq!(due(&a, NOW).await, [entry("[2]", 6, 0)]);
    assert!(!b.complete(&entry("[1]", 5, 0)).await.unwrap());
}

pub async fn what_happened_since_is_not_settled([a, b]: [impl Storage; 2]) {
    make_due(&a, &[(bucket(1, "[1]"), op(5))]).await;
    let seen = due(&b, NOW).await.remove(0);
    make_due(&a, &[(bucket(1, "[1]"), op(6))]).await;
    assert!(!b.complete(&seen).await.unwrap());
    assert!(!b.defer(&seen, NOW + 9).await.unwrap());
    assert_eq!(due(&b, NOW).await, [entry("[1]", 6, 0)]);
}

pub async fn an_entry_may_be_put_off([a, b]: [impl Storage; 2]) {
    make_due(&a, &[(bucket(1, "[1]"), op(5))]).await;
    assert!(a.defer(&entry("[1]", 5, 0), NOW + 10).await.unwrap());
    assert_eq!(due(&b, NOW + 9).await, []);
    assert_eq!(due(&b, NOW + 10).await, [entry("[1]", 5, NOW + 10)]);
    // What is written meanwhile is due at once.
    make_due(&a, &[(bucket(1, "[1]"), op(6))]).await;
    assert_eq!(due(&b, NOW).await, [entry("[1]", 6, 0)]);
}

pub async fn a_list_is_read_up_to_its_limit([a, b]: [impl Storage; 2]) {
    let buckets: Vec<_> = (0..300).map(|n| (bucket(1, &format!("[{n}]")), op(n + 1))).collect();
    make_due(&a, &buckets).await;
    let some = b.due_tasks(NOW, 7).await.unwrap();
    assert_eq!(some.len(), 7);
    for entry in &some {
        assert!(b.complete(entry).await.unwrap());
    }
    assert_eq!(due(&a, NOW).await.len(), 293);
}
