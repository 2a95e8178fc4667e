//! Plays the ingest worker: writes through the ports as a real one does.

use std::collections::BTreeMap;

use tidewater_protocol::{Body, OpId, Operation, RowKey};
use tidewater_storage::conformance::{empty_generation, first_control};
use tidewater_storage::{
    Batch, BucketHead, BucketKey, Committed, Control, ControlStore, Embedded, Generation,
    GenerationId, LookupKey, Lsn, Nonce, RecordKey, RecordStore, RecordWrite, SegmentWriter,
    SwapOutcome, Tag, Ticket, Truncation, Version, VersionedRecord, WriteContext, answer_name,
};
use tidewater_sync_config::SyncConfig;

use crate::server::unix_now;

/// A change of stored data.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Puts a row: bucket (readable name, parameters), row id, data.
    Put(&'static str, String, String, String),
    /// Removes a row: bucket (readable name, parameters), row id.
    Remove(&'static str, String, String),
    /// Sets or removes an answer: lookup, question, source row, answer.
    Answer(usize, String, String, Option<String>),
}

pub(crate) fn put(bucket: &'static str, params: &str, id: &str, text: &str) -> Change {
    let data = serde_json::json!({ "id": id, "text": text }).to_string();
    Change::Put(bucket, params.to_owned(), id.to_owned(), data)
}

pub(crate) fn remove(bucket: &'static str, params: &str, id: &str) -> Change {
    Change::Remove(bucket, params.to_owned(), id.to_owned())
}

pub(crate) fn answer(question: &str, source: &str, answer: Option<&str>) -> Change {
    Change::Answer(0, question.to_owned(), source.to_owned(), answer.map(str::to_owned))
}

pub(crate) struct Worker {
    pub(crate) storage: Embedded,
    pub(crate) control: Control,
    pub(crate) config: SyncConfig,
    pub(crate) generation: Generation,
    sequence: u64,
}

impl Worker {
    /// Begins a deployment with a sync config. Nothing is visible yet.
    pub(crate) async fn start(storage: Embedded, yaml: &str) -> Self {
        let control = first_control();
        let (config, generation) = compiled(yaml, control.generation);
        storage.put_generation(&generation).await.unwrap();
        assert_eq!(storage.swap_control(None, &control).await.unwrap(), SwapOutcome::Swapped);
        Self { storage, control, config, generation, sequence: 0 }
    }

    /// Ends this run without committing what it stored, and begins another.
    pub(crate) async fn crash(&mut self) {
        let (next, archived) = self.control.after_takeover(Nonce("next".to_owned())).unwrap();
        self.storage.archive_epochs(&archived).await.unwrap();
        self.swap(next).await;
        self.sequence = 0;
    }

    /// Begins a run that maintains another config.
    pub(crate) async fn deploy(&mut self, yaml: &str) {
        let (next, _) = self.control.after_takeover(Nonce("deploy".to_owned())).unwrap();
        let id = GenerationId(next.epoch);
        (self.config, self.generation) = compiled(yaml, id);
        self.storage.put_generation(&self.generation).await.unwrap();
        self.swap(Control { generation: id, ..next }).await;
        self.sequence = 0;
    }

    pub(crate) fn next_op(&mut self) -> OpId {
        self.sequence += 1;
        OpId::new(self.control.epoch, self.sequence)
    }

    pub(crate) fn key(&self, bucket: &str, params: &str) -> BucketKey {
        BucketKey::new(&self.generation.definitions[self.definition(bucket)], params)
    }

    /// Returns a bucket's name on the wire.
    pub(crate) fn name(&self, bucket: &str, params: &str) -> String {
        let name = &self.config.definitions()[self.definition(bucket)].name;
        format!("{name}.{}", self.key(bucket, params))
    }

    fn definition(&self, bucket: &str) -> usize {
        let mut all = self.config.definitions().iter();
        let found = all.position(|d| d.name == bucket || d.name.starts_with(&format!("{bucket}|")));
        found.unwrap_or_else(|| panic!("no definition {bucket}"))
    }

    /// Stores changes above the committed op id, as one segment for each bucket.
    pub(crate) async fn flush(&mut self, changes: &[Change]) {
        let mut runs: BTreeMap<BucketKey, SegmentWriter> = BTreeMap::new();
        let mut batch = Batch::default();
        for change in changes {
            let op_id = self.next_op();
            let (bucket, body) = match change {
                Change::Put(bucket, params, id, data) => {
                    let row = RowKey::new("rows", id, id);
                    (self.key(bucket, params), Body::Put { row, data: data.into() })
                }
                Change::Remove(bucket, params, id) => {
                    (self.key(bucket, params), Body::Remove { row: RowKey::new("rows", id, id) })
                }
                Change::Answer(lookup, question, source, output) => {
                    let tag = &self.generation.lookups[*lookup];
                    let table = self.config.lookups()[*lookup].table;
                    let name = answer_name(u16::try_from(table).unwrap(), source, 0);
                    let key = RecordKey::Lookup(LookupKey::new(tag, question), name);
                    let value = output.clone().map(bytes::Bytes::from);
                    batch.records.push(self.record(key, Version { op: op_id, value }).await);
                    continue;
                }
            };
            let checksum = body.checksum().unwrap();
            runs.entry(bucket).or_default().push(&Operation { op_id, checksum, body });
        }
        for (bucket, run) in runs {
            let key = RecordKey::Bucket(bucket.clone());
            let mut head = self.head(&key).await;
            let segment = run.finish(bucket.clone(), head.last, head.sum);
            head.last = segment.last;
            head.sum += segment.sum;
            head.count += segment.count;
            let version = Version { op: head.last, value: Some(head.encode()) };
            batch.records.push(self.record(key, version).await);
            batch.registry.push(bucket);
            batch.segments.push(segment);
        }

        assert_eq!(self.storage.write(batch.into()).await.unwrap(), []);
    }

    /// Commits what was stored, and makes it visible.
    pub(crate) async fn publish(&mut self) {
        let ticket = self.control.committed.ticket;
        self.advance(ticket, self.control.truncated.clone(), None).await;
    }

    /// Commits what was stored, but leaves the visible checkpoint: the visibility barrier is ahead.
    pub(crate) async fn commit_invisible(&mut self) {
        let visibility_barrier = Some(Lsn(u64::MAX));
        let ticket = self.control.committed.ticket;
        self.advance(ticket, self.control.truncated.clone(), visibility_barrier).await;
    }

    /// Stores changes and publishes them as one checkpoint.
    pub(crate) async fn commit(&mut self, changes: &[Change]) -> OpId {
        self.flush(changes).await;
        self.publish().await;
        self.control.committed.op
    }

    /// Publishes a checkpoint that covers the write-checkpoint tickets up to `ticket`.
    pub(crate) async fn cover(&mut self, ticket: Ticket) {
        self.advance(ticket, self.control.truncated.clone(), None).await;
    }

    /// Truncates a table: its answers are void.
    pub(crate) async fn truncate(&mut self, table: u16) {
        let op = self.next_op();
        let ticket = self.control.committed.ticket;
        self.advance(ticket, vec![Truncation { table, op }], None).await;
    }

    async fn advance(
        &mut self,
        ticket: Ticket,
        truncated: Vec<Truncation>,
        visibility_barrier: Option<Lsn>,
    ) {
        let former = self.control.committed;
        let last = OpId::new(self.control.epoch, self.sequence);
        let op = if self.sequence > 0 { last.max(former.op) } else { former.op };
        let lsn = Lsn(former.lsn.0 + 1);
        let committed = Committed { op, lsn, ticket };
        let next = self.control.after_commit(committed, truncated, visibility_barrier);
        self.swap(next.current_as_of(u64::try_from(unix_now()).unwrap() * 1_000)).await;
    }

    async fn swap(&mut self, next: Control) {
        let expected = Some(self.control.revision);
        let outcome = self.storage.swap_control(expected, &next).await.unwrap();
        assert_eq!(outcome, SwapOutcome::Swapped);
        self.control = next;
    }

    async fn stored(&self, key: &RecordKey) -> Option<VersionedRecord> {
        let mut records = self.storage.records(std::slice::from_ref(key)).await.unwrap();
        records.remove(0)
    }

    async fn committed_ops(&self) -> tidewater_storage::CommittedOps {
        self.control.committed_ops(&self.storage.archived_epochs().await.unwrap())
    }

    async fn head(&self, key: &RecordKey) -> BucketHead {
        let record = self.stored(key).await;
        let committed_ops = self.committed_ops().await;
        let own = record.as_ref().and_then(|record| record.latest_for_writer(&committed_ops));
        let value = own.and_then(|version| version.value.as_ref());
        value.map_or(BucketHead::default(), |value| BucketHead::decode(value).unwrap())
    }

    async fn record(&self, key: RecordKey, version: Version) -> RecordWrite {
        let stored = self.stored(&key).await;
        let committed_ops = self.committed_ops().await;
        let visible = self.control.visible.as_ref().map(|visible| visible.at.op);
        let context = WriteContext { committed_ops: &committed_ops, visible, recent: &[] };
        let record = VersionedRecord::with_version(stored.as_ref(), version, &context);
        RecordWrite {
            expected_newest: stored.as_ref().map(VersionedRecord::newest_op),
            key,
            record: record.into(),
        }
    }
}

fn compiled(yaml: &str, id: GenerationId) -> (SyncConfig, Generation) {
    let config = SyncConfig::compile(yaml).unwrap_or_else(|errors| panic!("{errors:?}"));

    // Each definition and lookup of each generation has its own tag.
    let first = id.0.number() * 1_000;
    let mut tags = (1..).map(|number| Tag::from_bits(first + number));
    let generation = Generation {
        sync_config: yaml.to_owned(),
        definitions: tags.by_ref().take(config.definitions().len()).collect(),
        lookups: tags.take(config.lookups().len()).collect(),
        ..empty_generation(id)
    };

    (config, generation)
}
