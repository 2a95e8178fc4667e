//! The builder's work list.

use aws_sdk_dynamodb::types::ReturnValue;
use tidewater_protocol::OpId;
use tidewater_storage::{BucketKey, Due, ObjectStore, StorageError, WorkList};

use crate::Aws;
use crate::batch::BatchWrite;
use crate::dynamo::{Outcome, Query, What, Write};
use crate::items::{self, AT, NOT_BEFORE, number};
use crate::keys::{self, ItemKey, LIST_SHARDS};
use crate::tables::Table;

impl<O: ObjectStore + 'static> WorkList for Aws<O> {
    async fn due(&self, now: u64, limit: usize) -> Result<Vec<Due>, StorageError> {
        let mut due = Vec::new();
        // From another shard each time, lest what cannot be done keeps all else waiting.
        let first = rand::random::<u8>() % LIST_SHARDS;
        for shard in (first..LIST_SHARDS).chain(0..first) {
            let partition = keys::work_list_partition(shard);
            let filter = Some(("n <= :n", vec![(":n", number(now))]));
            let query = Query { filter, ..Query::all(Table::WorkList, partition) };
            let mut from = None;
            loop {
                let page = self.dynamo().query(&query, from).await?;
                for item in &page.items {
                    if due.len() == limit {
                        return Ok(due);
                    }
                    due.push(items::read_due(item)?);
                }
                match page.next {
                    Some(next) => from = Some(next),
                    None => break,
                }
            }
        }
        Ok(due)
    }

    async fn settle(&self, due: &Due, not_before: Option<u64>) -> Result<bool, StorageError> {
        let mut values = vec![(":a", number(due.at.get()))];
        let what = match not_before {
            None => What::Delete,
            Some(time) => {
                values.push((":n", number(time)));
                What::Update("SET n = :n", ReturnValue::None)
            }
        };
        let condition = Some("a = :a");
        let write = Write { key: ItemKey::due(&due.bucket), what, condition, values };
        Ok(matches!(self.dynamo().write(write).await?, Outcome::Done(_)))
    }
}

/// Makes a bucket due at once.
pub(crate) fn entry(bucket: &BucketKey, at: OpId) -> BatchWrite {
    let whole = keys::whole_if_cut(bucket.as_str());
    let rest = [(AT, number(at.get())), (NOT_BEFORE, number(0))];
    BatchWrite::Put(Table::WorkList, items::listed(&ItemKey::due(bucket), whole, rest))
}
