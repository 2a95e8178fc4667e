//! Every method of the ports, by way of the plan.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tidewater_protocol::OpId;

use super::{Faulty, Method};
use crate::bucket::BucketItem;
use crate::cell::Cell;
use crate::control::{Control, Generation, GenerationId};
use crate::error::StorageError;
use crate::keys::{BucketKey, CellKey, LookupKey, Tag};
use crate::limits::ClosedEpoch;
use crate::ports::{
    Batch, BucketStore, CellStore, ControlStore, Due, LookupRow, LookupStore, ObjectStore, OpLog,
    Refused, Registry, SegmentPage, SwapOutcome, Sweep, WorkList, WriteCheckpointStore,
};
use crate::write_checkpoint::{ClientKey, Ticket, WriteRequests};

impl<S: ControlStore> ControlStore for Faulty<S> {
    async fn control(&self) -> Result<Option<Control>, StorageError> {
        self.call(Method::Control, self.store.control()).await
    }

    async fn swap_control(
        &self,
        expected: Option<u64>,
        new: &Control,
    ) -> Result<SwapOutcome, StorageError> {
        self.call(Method::SwapControl, self.store.swap_control(expected, new)).await
    }

    async fn control_changed(&self, seen: u64, timeout: Duration) -> Result<(), StorageError> {
        self.call(Method::ControlChanged, self.store.control_changed(seen, timeout)).await
    }

    async fn archived_epochs(&self) -> Result<Vec<ClosedEpoch>, StorageError> {
        self.call(Method::ArchivedEpochs, self.store.archived_epochs()).await
    }

    async fn archive_epochs(&self, epochs: &[ClosedEpoch]) -> Result<(), StorageError> {
        self.call(Method::ArchiveEpochs, self.store.archive_epochs(epochs)).await
    }

    async fn generation(&self, id: GenerationId) -> Result<Option<Generation>, StorageError> {
        self.call(Method::Generation, self.store.generation(id)).await
    }

    async fn put_generation(&self, generation: &Generation) -> Result<(), StorageError> {
        self.call(Method::PutGeneration, self.store.put_generation(generation)).await
    }
}

impl<S: CellStore> CellStore for Faulty<S> {
    async fn cells(&self, keys: &[CellKey]) -> Result<Vec<Option<Cell>>, StorageError> {
        self.call(Method::Cells, self.store.cells(keys)).await
    }

    async fn write(&self, batch: &Batch) -> Result<Vec<Refused>, StorageError> {
        self.call(Method::Write, self.store.write(batch)).await
    }
}

impl<S: OpLog> OpLog for Faulty<S> {
    async fn segments(
        &self,
        bucket: &BucketKey,
        after: OpId,
        upto: OpId,
        bytes_max: usize,
    ) -> Result<SegmentPage, StorageError> {
        self.call(Method::Segments, self.store.segments(bucket, after, upto, bytes_max)).await
    }

    async fn delete_segments(&self, bucket: &BucketKey, upto: OpId) -> Result<(), StorageError> {
        self.call(Method::DeleteSegments, self.store.delete_segments(bucket, upto)).await
    }
}

impl<S: BucketStore> BucketStore for Faulty<S> {
    async fn buckets(&self, keys: &[BucketKey]) -> Result<Vec<Option<BucketItem>>, StorageError> {
        self.call(Method::Buckets, self.store.buckets(keys)).await
    }

    async fn swap_catalog(
        &self,
        key: &BucketKey,
        expected: u64,
        catalog: &Bytes,
    ) -> Result<bool, StorageError> {
        self.call(Method::SwapCatalog, self.store.swap_catalog(key, expected, catalog)).await
    }
}

impl<S: LookupStore> LookupStore for Faulty<S> {
    async fn lookup_rows(&self, keys: &[LookupKey]) -> Result<Vec<Vec<LookupRow>>, StorageError> {
        self.call(Method::LookupRows, self.store.lookup_rows(keys)).await
    }
}

impl<S: Registry> Registry for Faulty<S> {
    async fn registered(
        &self,
        tag: &Tag,
        after: Option<&BucketKey>,
        limit: usize,
    ) -> Result<Vec<BucketKey>, StorageError> {
        self.call(Method::Registered, self.store.registered(tag, after, limit)).await
    }
}

impl<S: WriteCheckpointStore> WriteCheckpointStore for Faulty<S> {
    async fn last_ticket(&self) -> Result<Ticket, StorageError> {
        self.call(Method::LastTicket, self.store.last_ticket()).await
    }

    async fn take_ticket(&self) -> Result<Ticket, StorageError> {
        self.call(Method::TakeTicket, self.store.take_ticket()).await
    }

    async fn ticket_taken(&self, seen: Ticket, timeout: Duration) -> Result<(), StorageError> {
        self.call(Method::TicketTaken, self.store.ticket_taken(seen, timeout)).await
    }

    async fn write_requests(&self, client: &ClientKey) -> Result<WriteRequests, StorageError> {
        self.call(Method::WriteRequests, self.store.write_requests(client)).await
    }

    async fn swap_write_requests(
        &self,
        client: &ClientKey,
        requests: &WriteRequests,
    ) -> Result<bool, StorageError> {
        self.call(Method::SwapWriteRequests, self.store.swap_write_requests(client, requests)).await
    }
}

impl<S: ObjectStore> ObjectStore for Faulty<S> {
    async fn put_object(&self, name: &str, content: Bytes) -> Result<(), StorageError> {
        self.call(Method::PutObject, self.store.put_object(name, content)).await
    }

    async fn put_object_file(&self, name: &str, file: &Path) -> Result<(), StorageError> {
        self.call(Method::PutObjectFile, self.store.put_object_file(name, file)).await
    }

    async fn object_url(
        &self,
        name: &str,
        lifetime: Duration,
    ) -> Result<Option<String>, StorageError> {
        self.call(Method::ObjectUrl, self.store.object_url(name, lifetime)).await
    }

    async fn object_range(
        &self,
        name: &str,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, StorageError> {
        self.call(Method::ObjectRange, self.store.object_range(name, range)).await
    }

    async fn delete_object(&self, name: &str) -> Result<(), StorageError> {
        self.call(Method::DeleteObject, self.store.delete_object(name)).await
    }
}

impl<S: WorkList> WorkList for Faulty<S> {
    async fn due(&self, now: u64, limit: usize) -> Result<Vec<Due>, StorageError> {
        self.call(Method::Due, self.store.due(now, limit)).await
    }

    async fn settle(&self, due: &Due, not_before: Option<u64>) -> Result<bool, StorageError> {
        self.call(Method::Settle, self.store.settle(due, not_before)).await
    }
}

impl<S: Sweep> Sweep for Faulty<S> {
    async fn generations(&self) -> Result<Vec<GenerationId>, StorageError> {
        self.call(Method::Generations, self.store.generations()).await
    }

    async fn delete_bucket(&self, bucket: &BucketKey) -> Result<(), StorageError> {
        self.call(Method::DeleteBucket, self.store.delete_bucket(bucket)).await
    }

    async fn delete_lookup(&self, tag: &Tag) -> Result<(), StorageError> {
        self.call(Method::DeleteLookup, self.store.delete_lookup(tag)).await
    }

    async fn delete_generation(&self, id: GenerationId) -> Result<(), StorageError> {
        self.call(Method::DeleteGeneration, self.store.delete_generation(id)).await
    }
}
