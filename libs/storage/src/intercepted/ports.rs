//! Every method of the ports, passed to the interceptor.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewater_protocol::OpId;

use super::{CallInterceptor, Intercepted};
use crate::bucket::BucketItem;
use crate::committed_ops::ClosedEpoch;
use crate::control::Control;
use crate::error::StorageError;
use crate::generation::Generation;
use crate::keys::{BucketKey, GenerationId, LookupKey, RecordKey, Tag};
use crate::port_method::PortMethod;
use crate::ports::{
    AccessProbe, Batch, BucketStore, CompactionQueue, CompactionTask, ControlStore, LookupRow,
    LookupStore, ObjectStore, OpLog, RecordConflict, RecordStore, Registry, SegmentPage,
    SourceRowPage, SwapOutcome, Sweep, WriteCheckpointStore,
};
use crate::versioned_record::VersionedRecord;
use crate::write_checkpoint::{ClientKey, Ticket, WriteRequests};

impl<S: ControlStore, I: CallInterceptor> ControlStore for Intercepted<S, I> {
    async fn control(&self) -> Result<Option<Control>, StorageError> {
        self.interceptor.call(PortMethod::Control, self.store.control()).await
    }

    async fn swap_control(
        &self,
        expected: Option<u64>,
        new: &Control,
    ) -> Result<SwapOutcome, StorageError> {
        self.interceptor.call(PortMethod::SwapControl, self.store.swap_control(expected, new)).await
    }

    async fn wait_for_control_change(
        &self,
        seen: u64,
        timeout: Duration,
    ) -> Result<(), StorageError> {
        self.interceptor
            .call(
                PortMethod::WaitForControlChange,
                self.store.wait_for_control_change(seen, timeout),
            )
            .await
    }

    async fn archived_epochs(&self) -> Result<Vec<ClosedEpoch>, StorageError> {
        self.interceptor.call(PortMethod::ArchivedEpochs, self.store.archived_epochs()).await
    }

    async fn archive_epochs(&self, epochs: &[ClosedEpoch]) -> Result<(), StorageError> {
        self.interceptor.call(PortMethod::ArchiveEpochs, self.store.archive_epochs(epochs)).await
    }

    async fn generation(&self, id: GenerationId) -> Result<Option<Generation>, StorageError> {
        self.interceptor.call(PortMethod::Generation, self.store.generation(id)).await
    }

    async fn put_generation(&self, generation: &Generation) -> Result<(), StorageError> {
        self.interceptor
            .call(PortMethod::PutGeneration, self.store.put_generation(generation))
            .await
    }
}

impl<S: RecordStore, I: CallInterceptor> RecordStore for Intercepted<S, I> {
    async fn records(
        &self,
        keys: &[RecordKey],
    ) -> Result<Vec<Option<VersionedRecord>>, StorageError> {
        self.interceptor.call(PortMethod::Records, self.store.records(keys)).await
    }

    async fn source_rows(
        &self,
        generation: GenerationId,
        table: u16,
        after: Option<&str>,
        limit: usize,
    ) -> Result<SourceRowPage, StorageError> {
        let page = self.store.source_rows(generation, table, after, limit);
        self.interceptor.call(PortMethod::SourceRows, page).await
    }

    async fn write(&self, batch: Arc<Batch>) -> Result<Vec<RecordConflict>, StorageError> {
        self.interceptor.call(PortMethod::Write, self.store.write(batch)).await
    }
}

impl<S: OpLog, I: CallInterceptor> OpLog for Intercepted<S, I> {
    async fn segments(
        &self,
        bucket: &BucketKey,
        after: OpId,
        upto: OpId,
        bytes_max: usize,
    ) -> Result<SegmentPage, StorageError> {
        self.interceptor
            .call(PortMethod::Segments, self.store.segments(bucket, after, upto, bytes_max))
            .await
    }

    async fn delete_segments(&self, bucket: &BucketKey, upto: OpId) -> Result<(), StorageError> {
        self.interceptor
            .call(PortMethod::DeleteSegments, self.store.delete_segments(bucket, upto))
            .await
    }
}

impl<S: BucketStore, I: CallInterceptor> BucketStore for Intercepted<S, I> {
    async fn buckets(&self, keys: &[BucketKey]) -> Result<Vec<Option<BucketItem>>, StorageError> {
        self.interceptor.call(PortMethod::Buckets, self.store.buckets(keys)).await
    }

    async fn swap_catalog(
        &self,
        key: &BucketKey,
        expected: u64,
        catalog: &Bytes,
    ) -> Result<bool, StorageError> {
        self.interceptor
            .call(PortMethod::SwapCatalog, self.store.swap_catalog(key, expected, catalog))
            .await
    }
}

impl<S: LookupStore, I: CallInterceptor> LookupStore for Intercepted<S, I> {
    async fn lookup_rows(&self, keys: &[LookupKey]) -> Result<Vec<Vec<LookupRow>>, StorageError> {
        self.interceptor.call(PortMethod::LookupRows, self.store.lookup_rows(keys)).await
    }
}

impl<S: Registry, I: CallInterceptor> Registry for Intercepted<S, I> {
    async fn registered_buckets(
        &self,
        tag: &Tag,
        after: Option<&BucketKey>,
        limit: usize,
    ) -> Result<Vec<BucketKey>, StorageError> {
        self.interceptor
            .call(PortMethod::RegisteredBuckets, self.store.registered_buckets(tag, after, limit))
            .await
    }
}

impl<S: WriteCheckpointStore, I: CallInterceptor> WriteCheckpointStore for Intercepted<S, I> {
    async fn last_ticket(&self) -> Result<Ticket, StorageError> {
        self.interceptor.call(PortMethod::LastTicket, self.store.last_ticket()).await
    }

    async fn take_ticket(&self) -> Result<Ticket, StorageError> {
        self.interceptor.call(PortMethod::TakeTicket, self.store.take_ticket()).await
    }

    async fn wait_for_ticket(
        &self,
        seen: Ticket,
        timeout: Duration,
    ) -> Result<Ticket, StorageError> {
        self.interceptor
            .call(PortMethod::WaitForTicket, self.store.wait_for_ticket(seen, timeout))
            .await
    }

    async fn write_requests(&self, client: &ClientKey) -> Result<WriteRequests, StorageError> {
        self.interceptor.call(PortMethod::WriteRequests, self.store.write_requests(client)).await
    }

    async fn swap_write_requests(
        &self,
        client: &ClientKey,
        requests: &WriteRequests,
    ) -> Result<bool, StorageError> {
        self.interceptor
            .call(PortMethod::SwapWriteRequests, self.store.swap_write_requests(client, requests))
            .await
    }
}

impl<S: ObjectStore, I: CallInterceptor> ObjectStore for Intercepted<S, I> {
    async fn put_object(&self, name: &str, content: Bytes) -> Result<(), StorageError> {
        self.interceptor.call(PortMethod::PutObject, self.store.put_object(name, content)).await
    }

    async fn put_object_file(&self, name: &str, file: &Path) -> Result<(), StorageError> {
        self.interceptor
            .call(PortMethod::PutObjectFile, self.store.put_object_file(name, file))
            .await
    }

    async fn object_url(
        &self,
        name: &str,
        lifetime: Duration,
    ) -> Result<Option<String>, StorageError> {
        self.interceptor.call(PortMethod::ObjectUrl, self.store.object_url(name, lifetime)).await
    }

    async fn object_range(
        &self,
        name: &str,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, StorageError> {
        self.interceptor.call(PortMethod::ObjectRange, self.store.object_range(name, range)).await
    }

    async fn delete_object(&self, name: &str) -> Result<(), StorageError> {
        self.interceptor.call(PortMethod::DeleteObject, self.store.delete_object(name)).await
    }
}

impl<S: AccessProbe, I: CallInterceptor> AccessProbe for Intercepted<S, I> {
    async fn probe_access(&self) -> Result<(), StorageError> {
        self.interceptor.call(PortMethod::ProbeAccess, self.store.probe_access()).await
    }
}

impl<S: CompactionQueue, I: CallInterceptor> CompactionQueue for Intercepted<S, I> {
    async fn due_tasks(&self, now: u64, limit: usize) -> Result<Vec<CompactionTask>, StorageError> {
        self.interceptor.call(PortMethod::DueTasks, self.store.due_tasks(now, limit)).await
    }

    async fn complete(&self, task: &CompactionTask) -> Result<bool, StorageError> {
        self.interceptor.call(PortMethod::Complete, self.store.complete(task)).await
    }

    async fn defer(&self, task: &CompactionTask, not_before: u64) -> Result<bool, StorageError> {
        self.interceptor.call(PortMethod::Defer, self.store.defer(task, not_before)).await
    }
}

impl<S: Sweep, I: CallInterceptor> Sweep for Intercepted<S, I> {
    async fn generations(&self) -> Result<Vec<GenerationId>, StorageError> {
        self.interceptor.call(PortMethod::Generations, self.store.generations()).await
    }

    async fn delete_bucket(&self, bucket: &BucketKey) -> Result<(), StorageError> {
        self.interceptor.call(PortMethod::DeleteBucket, self.store.delete_bucket(bucket)).await
    }

    async fn delete_lookup(&self, tag: &Tag) -> Result<(), StorageError> {
        self.interceptor.call(PortMethod::DeleteLookup, self.store.delete_lookup(tag)).await
    }

    async fn delete_generation(&self, id: GenerationId) -> Result<(), StorageError> {
        self.interceptor.call(PortMethod::DeleteGeneration, self.store.delete_generation(id)).await
    }
}
