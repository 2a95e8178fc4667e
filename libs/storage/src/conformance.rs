//! One suite over every implementation of the ports: each guarantee of theirs is a test.
//!
//! ```ignore
//! tidewater_storage::storage_conformance!(async { [store.clone(), store] });
//! ```
//!
//! The block yields two handles of one empty store: clones, or what two processes would have. Other
//! crates' implementations run it by way of the feature `conformance`.
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
    BucketKey, Control, Generation, GenerationId, LookupKey, Lsn, Nonce, RecordKey, Segment,
    SegmentWriter, SourceIdentity, Tag, Version, VersionedRecord,
};

#[macro_export]
macro_rules! storage_conformance {
    ($handles:expr) => {
        $crate::storage_conformance! { @tests $handles;
            control: [
                nothing_is_there_before_the_first_record,
                a_swap_needs_the_revision_that_is_stored,
                the_first_record_is_written_once,
                a_swap_whose_reply_was_lost_is_done_when_repeated,
                of_rival_swaps_one_wins,
                a_record_is_read_as_it_was_written,
                a_waiter_learns_of_a_swap,
                a_waiter_is_not_kept_when_the_record_is_another_already,
                a_wait_for_a_swap_ends,
                closed_epochs_are_archived_once,
                a_generation_is_found_by_its_name,
            ]
            records: [
                cells_come_in_the_order_of_the_keys,
                kinds_of_cells_do_not_mix,
                an_absent_cell_is_written_when_none_is_known,
                a_stored_cell_is_not_written_when_none_is_known,
                a_cell_is_written_over_the_known_top,
                a_cell_is_not_written_over_another_top,
                an_absent_cell_is_not_written_when_one_is_known,
                a_refusal_leaves_the_rest_of_the_batch,
                a_batch_may_be_repeated,
                of_rival_writes_one_wins,
                a_large_batch_is_stored,
                an_empty_batch_is_nothing,
            ]
            op_log: [
                a_segment_is_read_as_it_was_written,
                a_range_is_after_one_end_and_upto_the_other,
                segments_come_in_order_from_their_own_bucket,
                a_page_ends_once_it_exceeds_its_size,
                a_page_holds_at_least_one_segment,
                storing_a_segment_twice_is_storing_it_once,
                deletion_ends_at_its_bound,
                a_long_log_is_deleted_whole,
            ]
            buckets: [
                items_come_in_the_order_of_the_keys,
                a_catalog_is_swapped_by_its_revision,
                a_catalog_swap_whose_reply_was_lost_is_done_when_repeated,
                a_catalog_needs_its_bucket,
                head_and_catalog_do_not_disturb_each_other,
                a_lookup_finds_all_rows_that_ever_answered_it,
                lookups_come_in_the_order_of_the_keys,
                a_registered_bucket_is_listed_once,
                a_listing_is_paged_in_order,
                a_listing_keeps_to_its_tag,
            ]
            write_checkpoints: [
                tickets_start_at_one_and_rise,
                no_ticket_is_given_twice,
                a_waiter_learns_of_a_ticket,
                a_waiter_is_not_kept_when_a_ticket_was_taken_already,
                a_client_has_no_requests_at_first,
                requests_are_swapped_by_their_revision,
                a_request_swap_whose_reply_was_lost_is_done_when_repeated,
                clients_do_not_mix,
            ]
            objects: [
                an_object_is_read_as_it_was_written,
                a_range_ends_where_the_object_ends,
                there_is_no_object_before_it_is_stored,
                an_object_may_be_stored_again,
                a_deleted_object_is_gone,
                one_object_does_not_touch_another,
                a_file_is_stored_as_an_object,
            ]
            compaction_queue: [
                a_bucket_that_was_written_is_due,
                a_settled_entry_is_off_the_list,
                what_happened_since_is_not_settled,
                an_entry_may_be_put_off,
                a_list_is_read_up_to_its_limit,
            ]
            sweep: [
                generations_are_listed,
                a_deleted_bucket_leaves_nothing,
                a_deleted_lookup_leaves_others,
                a_deleted_generation_leaves_others,
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

/// Longer than anything takes that works.
const FOREVER: Duration = Duration::from_secs(60);

/// The `sequence`th op id of epoch 1.
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

/// A cell of one version with an arbitrary value.
fn record(sequence: u64) -> VersionedRecord {
    let value = Some(Bytes::from(format!("value {sequence}")));
    VersionedRecord { floor: OpId::ZERO, versions: vec![Version { op: op(sequence), value }] }
}

/// The control record that the first run on a store writes.
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

/// A generation of a sync config that says nothing.
pub fn empty_generation(id: GenerationId) -> Generation {
    Generation {
        id,
        identity: String::new(),
        sync_config: String::new(),
        definitions: Vec::new(),
        lookups: Vec::new(),
        retired_at: None,
    }
}

fn control_at(revision: u64) -> Control {
    Control { revision, ..first_control() }
}

/// A segment of one operation.
fn segment(bucket: &BucketKey, sequence: u64, prev: u64) -> Segment {
    let data = format!("{{\"n\":{sequence}}}");
    let body = Body::Put { row: RowKey::new("todos", "t1", "s"), data: data.into() };
    let checksum = body.checksum().unwrap();
    let mut writer = SegmentWriter::default();
    writer.push(&Operation { op_id: op(sequence), checksum, body });
    writer.finish(bucket.clone(), op(prev), Checksum(7))
}

/// Waits for something that must come.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(FOREVER, future).await.expect("it comes")
}
