//! One test suite for all implementations of the ports. Each guarantee of a port is a test.
//!
//! A crate with a store enables the feature `conformance` in its dev-dependencies, and calls
//! [`storage_conformance!`](crate::storage_conformance) in a test module. The macro takes an
//! expression whose future returns two handles of one empty store. They may be clones, or separate
//! instances as two processes have. Each test evaluates the expression, so it gets a store of its own.
//!
//! ```
//! use tidewater_storage::{Embedded, storage_conformance};
//!
//! async fn two_handles() -> [Embedded; 2] {
//!     let store = Embedded::temporary().expect("a directory can be created");
//!     [store.clone(), store]
//! }
//!
//! // This defines a `#[tokio::test]` for each guarantee, in a module for each group of ports.
//! storage_conformance!(super::two_handles());
//!
//! # fn main() {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! // Finished ports of an unfinished store can be tested one by one. A test asks only for the ports
//! // that it uses.
//! use tidewater_storage::conformance::objects;
//!
//! objects::an_object_round_trips(two_handles().await).await;
//! # });
//! # }
//! ```
#![allow(missing_docs, reason = "the name of a test is the claim it proves")]
#![allow(clippy::missing_panics_doc, clippy::unwrap_used, reason = "these are tests")]

pub mod buckets;
pub mod compaction_queue;
pub mod control;
pub mod objects;
pub mod op_log;
pub mod records;
pub mod sweep;
pub mod write_checkpoints;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use tidewater_protocol::{Body, Checksum, Epoch, OpId, Operation, RowKey};

use crate::{
    BucketKey, Control, Generation, GenerationId, LookupKey, Lsn, Nonce, Numbering, RecordKey,
    Segment, SegmentWriter, SourceIdentity, Tag, Version, VersionedRecord,
};

/// Defines the tests of a store. See [`conformance`](crate::conformance) for an example.
#[macro_export]
macro_rules! storage_conformance {
    ($handles:expr) => {
        $crate::storage_conformance! { @tests $handles;
            control: [
                an_empty_store_has_no_control_record,
                a_swap_needs_the_stored_revision,
                only_one_first_record_is_stored,
                a_repeated_swap_succeeds,
                exactly_one_concurrent_swap_succeeds,
                a_control_record_round_trips,
                a_swap_wakes_a_waiting_call,
                a_wait_for_an_outdated_revision_returns_immediately,
                a_wait_for_a_swap_times_out,
                each_closed_epoch_is_archived_once,
                a_generation_is_found_by_its_id,
            ]
            records: [
                records_are_returned_in_the_order_of_the_keys,
                records_of_different_kinds_are_distinct,
                a_new_record_is_stored_if_none_is_expected,
                a_stored_record_is_a_conflict_if_none_is_expected,
                a_record_with_the_expected_newest_op_is_replaced,
                a_record_with_another_newest_op_is_a_conflict,
                an_absent_record_is_a_conflict_if_one_is_expected,
                a_conflict_does_not_affect_the_rest_of_the_batch,
                a_repeated_batch_succeeds,
                exactly_one_concurrent_record_write_succeeds,
                a_batch_of_thousands_of_records_is_stored,
                an_empty_batch_succeeds,
                each_source_row_of_a_table_is_in_one_page,
            ]
            op_log: [
                a_segment_round_trips,
                a_range_excludes_after_and_includes_upto,
                segments_of_one_bucket_are_returned_in_order,
                a_page_ends_once_it_exceeds_its_size,
                a_page_contains_at_least_one_segment,
                storing_a_segment_is_idempotent,
                a_deletion_ends_at_its_bound,
                a_log_of_a_thousand_segments_is_deleted,
            ]
            buckets: [
                buckets_are_returned_in_the_order_of_the_keys,
                a_catalog_swap_needs_the_stored_revision,
                a_repeated_catalog_swap_succeeds,
                a_catalog_swap_needs_a_stored_bucket,
                head_and_catalog_are_written_independently,
                a_lookup_returns_all_rows_and_deletions,
                lookups_are_returned_in_the_order_of_the_keys,
                a_registered_bucket_is_listed_once,
                a_listing_is_paged_in_ascending_order,
                a_listing_contains_only_its_tag,
            ]
            write_checkpoints: [
                tickets_start_at_one_and_increase,
                no_ticket_is_issued_twice,
                a_ticket_wakes_a_waiting_call,
                a_wait_for_an_outdated_ticket_returns_immediately,
                a_new_client_has_no_requests,
                a_request_swap_needs_the_stored_revision,
                a_repeated_request_swap_succeeds,
                requests_of_different_clients_are_distinct,
            ]
            objects: [
                an_object_round_trips,
                a_range_is_cut_at_the_end_of_the_object,
                an_object_that_was_never_stored_is_not_found,
                storing_an_object_is_idempotent,
                a_deleted_object_is_not_found,
                deleting_an_object_keeps_all_others,
                a_file_is_stored_as_an_object,
            ]
            compaction_queue: [
                a_written_bucket_is_due,
                a_completed_task_is_removed,
                a_replaced_task_is_neither_completed_nor_deferred,
                a_deferred_task_is_due_at_its_time,
                due_tasks_are_read_up_to_the_limit,
            ]
            sweep: [
                generations_are_listed_in_ascending_order,
                a_deleted_bucket_has_no_records,
                deleting_a_lookup_keeps_other_lookups,
                deleting_a_generation_keeps_other_generations,
            ]
        }
    };
    (@tests $handles:expr; $($module:ident: [$($claim:ident,)+])+) => {
        $(mod $module {
            $(#[tokio::test]
            async fn $claim() {
                $crate::conformance::$module::$claim($handles.await).await;
            })+
        })+
    };
}

/// A timeout that only a call which never returns exceeds.
const FOREVER: Duration = Duration::from_secs(60);

/// Returns an op id of epoch 1.
fn op(sequence: u64) -> OpId {
    OpId::new(Epoch::ZERO.next().unwrap(), sequence)
}

fn tag(bits: u32) -> Tag {
    Tag::from_bits(bits)
}

fn bucket(bits: u32, params: &str) -> BucketKey {
    BucketKey::new(&tag(bits), params)
}

fn lookup(values: &str) -> LookupKey {
    LookupKey::new(&tag(9), values)
}

fn generation() -> GenerationId {
    GenerationId(Epoch::ZERO.next().unwrap())
}

fn row(key: &str) -> RecordKey {
    RecordKey::SourceRow(generation(), 3, key.into())
}

/// Returns a versioned record with one version.
fn record(sequence: u64) -> VersionedRecord {
    let value = Some(Bytes::from(format!("value {sequence}")));
    VersionedRecord { floor: OpId::ZERO, versions: vec![Version { op: op(sequence), value }] }
}

/// Returns the control record that the first run on a store writes.
pub fn first_control() -> Control {
    let source = SourceIdentity {
        system_id: "7301".into(),
        database: "app".into(),
        timeline: 1,
        slot: "tidewater".into(),
        slot_generation: 1,
    };
    Control::first(Epoch::ZERO.next().unwrap(), Nonce("00".into()), source, Lsn(0))
}

/// Returns a generation with an empty sync config.
pub fn empty_generation(id: GenerationId) -> Generation {
    Generation {
        id,
        identity: String::new(),
        sync_config: String::new(),
        definitions: Vec::new(),
        lookups: Vec::new(),
        rows_of: None,
        definition_numbers: Numbering::default(),
        lookup_numbers: Numbering::default(),
        retired_at: None,
    }
}

fn control_at(revision: u64) -> Control {
    Control { revision, ..first_control() }
}

/// Returns a segment of one operation.
fn segment(bucket: &BucketKey, sequence: u64, prev: u64) -> Segment {
    let data = format!("{{\"n\":{sequence}}}");
    let body = Body::Put { row: RowKey::new("todos", "t1", "s"), data: data.into() };
    let checksum = body.checksum().unwrap();
    let mut writer = SegmentWriter::default();
    writer.push(&Operation { op_id: op(sequence), checksum, body });
    writer.finish(bucket.clone(), op(prev), Checksum(7))
}

/// Waits for a future that must complete.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(FOREVER, future).await.expect("the future completes")
}
