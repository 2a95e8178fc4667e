//! The bucket definitions, and the largest buckets.

use tidewater_storage::{
    BaseManifest, BucketHead, BucketItem, BucketKey, Catalog, ReadResult, Storage, StorageError,
};
use tidewater_sync_config::SyncConfig;

use crate::status::report::{BucketScan, BucketStatus, DefinitionStatus, SnapshotStatus};
use crate::status::store_side::StoreFacts;

/// Buckets whose items are read in one call.
const PAGE: usize = 100;
/// Buckets that are listed.
const LARGEST_MAX: usize = 10;
/// Bytes of a manifest that are read. One has some hundred bytes for each 16 MB of a base.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// The result of a scan.
#[derive(Default)]
pub(super) struct ScannedBuckets {
    pub(super) definitions: Vec<DefinitionStatus>,
    pub(super) largest: Vec<BucketStatus>,
    pub(super) scan: BucketScan,
}

/// A bucket that was examined.
struct Examined {
    name: String,
    head: BucketHead,
    catalog: Catalog,
}

/// Examines at most so many buckets of the generation that readers have. The definitions share the
/// number, and what one of them does not need is left to the others.
pub(super) async fn scan_buckets<S: Storage>(
    storage: &S,
    facts: &StoreFacts,
    examined_max: usize,
    now: u64,
) -> Result<ScannedBuckets, StorageError> {
    let mut scanned = ScannedBuckets::default();
    scanned.scan.is_complete = true;
    let Some(generation) = facts.shown_generation() else { return Ok(scanned) };
    let config = SyncConfig::compile(&generation.sync_config).ok();
    let named = config.as_ref().map(SyncConfig::definitions).unwrap_or_default();

    let mut largest = Vec::new();
    let mut left = examined_max;
    for (at, tag) in generation.definitions.iter().enumerate() {
        let share = left / (generation.definitions.len() - at);
        let name = named.get(at).map_or_else(|| tag.to_string(), |named| named.name.clone());
        let mut definition =
            DefinitionStatus { name, buckets: 0, is_complete: false, operations: 0 };

        let mut after = None;
        while definition.buckets < share as u64 {
            let examined = usize::try_from(definition.buckets).unwrap_or(usize::MAX);
            let limit = PAGE.min(share - examined);
            let names = storage.registered_buckets(tag, after.as_ref(), limit).await?;
            let items = storage.buckets(&names).await?;
            definition.buckets += names.len() as u64;
            for (key, item) in names.iter().zip(items) {
                if let Some(examined) = examine(&definition.name, key, item, facts)? {
                    definition.operations += examined.head.count;
                    largest.push(examined);
                }
            }
            largest.sort_by_key(|one: &Examined| std::cmp::Reverse(one.head.count));
            largest.truncate(LARGEST_MAX);

            definition.is_complete = names.len() < limit;
            if definition.is_complete {
                break;
            }
            after = names.last().cloned();
        }

        left -= usize::try_from(definition.buckets).unwrap_or(left).min(left);
        scanned.scan.examined += definition.buckets;
        scanned.scan.is_complete &= definition.is_complete;
        scanned.definitions.push(definition);
    }

    for examined in largest {
        scanned.largest.push(describe(storage, examined, now).await?);
    }
    Ok(scanned)
}

/// Returns a bucket with its head as readers have it; `None` if readers have none of it.
fn examine(
    definition: &str,
    key: &BucketKey,
    item: Option<BucketItem>,
    facts: &StoreFacts,
) -> Result<Option<Examined>, StorageError> {
    let Some(item) = item else { return Ok(None) };
    let visible = facts.control.visible.as_ref().map(|visible| visible.at.op);
    let at = visible.unwrap_or(facts.control.committed.op);

    let head = match item.head.read_at(at, &facts.committed_ops) {
        ReadResult::Found(_, head) => BucketHead::decode(head)?,
        // The checkpoint has moved on since the control record was read, and the bucket changes often.
        ReadResult::NotFound | ReadResult::TooOld => return Ok(None),
    };

    let catalog = Catalog::decode(&item.catalog)?;
    Ok(Some(Examined { name: format!("{definition}.{key}"), head, catalog }))
}

async fn describe<S: Storage>(
    storage: &S,
    examined: Examined,
    now: u64,
) -> Result<BucketStatus, StorageError> {
    let Examined { name, head, catalog } = examined;

    let mut snapshot = None;
    if let Some(base) = &catalog.base {
        let published = catalog.published.iter().find(|published| published.op == base.to);
        let manifest = storage.object_range(&base.manifest(), 0..MANIFEST_BYTES_MAX).await?;
        let manifest = manifest.and_then(|json| serde_json::from_slice::<BaseManifest>(&json).ok());
        snapshot = Some(SnapshotStatus {
            rows: base.rows,
            operations_since: head.count.saturating_sub(base.count),
            age_seconds: published.map(|one| (now / 1_000).saturating_sub(one.time)),
            bytes: manifest.map(|manifest| bytes_of(&manifest)),
        });
    }

    Ok(BucketStatus { name, operations: head.count, snapshot })
}

fn bytes_of(manifest: &BaseManifest) -> u64 {
    let rows: u64 = manifest.rows.iter().map(|frame| frame.bytes).sum();
    rows + manifest.files.iter().map(|file| file.bytes).sum::<u64>()
}
