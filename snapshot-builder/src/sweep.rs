//! Removal of generations that neither the worker nor any reader needs any more.

use tidewater_storage::{Catalog, Control, Generation, Storage, Tag};
use tracing::info;

use crate::error::BuildError;
use crate::options::Options;
use crate::pass::delete;

/// Buckets listed at a time.
const PAGE: usize = 1_000;

/// Notes which generations have been left behind, and removes those that have been for longer than
/// the grace period.
pub(crate) async fn sweep<S: Storage>(
    storage: &S,
    control: &Control,
    options: &Options,
    now: u64,
) -> Result<(), BuildError> {
    let Some(visible) = &control.visible else { return Ok(()) };
    // One that a later run begins while this goes on has a greater name than both.
    let oldest_needed = visible.generation.min(control.generation);
    for id in storage.generations().await? {
        if id >= oldest_needed {
            break;
        }
        let Some(generation) = storage.generation(id).await? else { continue };
        match generation.retired_at {
            None => {
                let retired_at = Some(now);
                storage.put_generation(&Generation { retired_at, ..generation }).await?;
            }
            Some(at) if now >= at.saturating_add(options.grace.as_secs()) => {
                remove(storage, &generation).await?;
            }
            Some(_) => {}
        }
    }
    Ok(())
}

async fn remove<S: Storage>(storage: &S, generation: &Generation) -> Result<(), BuildError> {
    for tag in &generation.definitions {
        remove_buckets(storage, tag).await?;
    }
    for tag in &generation.lookups {
        storage.delete_lookup(tag).await?;
    }
    storage.delete_generation(generation.id).await?;
    info!(generation = %generation.id.0, "a generation that nobody needs was removed");
    Ok(())
}

async fn remove_buckets<S: Storage>(storage: &S, tag: &Tag) -> Result<(), BuildError> {
    loop {
        let page = storage.registered_buckets(tag, None, PAGE).await?;
        if page.is_empty() {
            return Ok(());
        }
        let items = storage.buckets(&page).await?;
        for (bucket, item) in page.iter().zip(items) {
            let catalog = item.map(|item| Catalog::decode(&item.catalog)).transpose()?;
            let catalog = catalog.unwrap_or_default();
            let retired = catalog.retired.iter().map(|retired| &retired.base);
            for base in catalog.base.iter().chain(retired) {
                delete(storage, base).await?;
            }
            storage.delete_bucket(bucket).await?;
        }
    }
}
