//! Removal of generations that neither the worker nor any reader needs.

use tidewater_storage::{
    BucketStore, Catalog, Control, ControlStore, Generation, GenerationId, ObjectStore, Registry,
    Sweep, Tag,
};
use tracing::info;

use crate::base_objects::delete_base;
use crate::error::BuildError;
use crate::options::Options;

/// Number of buckets that are listed and read at a time. It bounds memory.
const PAGE: usize = 1_000;

/// Notes the time at which a generation was replaced, and removes generations that were replaced longer
/// ago than the grace period.
pub(crate) async fn remove_unneeded_generations<
    S: BucketStore + ControlStore + ObjectStore + Registry + Sweep,
>(
    storage: &S,
    control: &Control,
    options: &Options,
    now: u64,
) -> Result<(), BuildError> {
    if control.visible.is_none() {
        return Ok(());
    }

    let mut kept = Vec::new();
    let mut expired = Vec::new();
    for id in storage.generations().await? {
        let Some(mut generation) = storage.generation(id).await? else { continue };
        // A generation that begins during the sweep is needed, too. One that is not needed never is again.
        if control.needs(id) {
            kept.push(generation);
            continue;
        }

        match generation.retired_at {
            None => {
                generation.retired_at = Some(now);
                storage.put_generation(&generation).await?;
                kept.push(generation);
            }
            // Readers that began before the replacement have had the grace period to finish.
            Some(at) if now >= at.saturating_add(options.grace.as_secs()) => {
                expired.push(generation);
            }
            Some(_) => kept.push(generation),
        }
    }

    for generation in expired {
        remove_generation(storage, generation, &kept).await?;
    }
    Ok(())
}

/// Removes what a generation does not share with those that are kept, its record last. So a sweep that
/// is killed is continued by the next one.
async fn remove_generation<S: BucketStore + ControlStore + ObjectStore + Registry + Sweep>(
    storage: &S,
    generation: Generation,
    kept: &[Generation],
) -> Result<(), BuildError> {
    for tag in &generation.definitions {
        if !kept.iter().any(|kept| kept.definitions.contains(tag)) {
            remove_buckets(storage, tag).await?;
        }
    }
    for tag in &generation.lookups {
        if !kept.iter().any(|kept| kept.lookups.contains(tag)) {
            storage.delete_lookup(tag).await?;
        }
    }

    let is_in_use = |rows: GenerationId| kept.iter().any(|kept| kept.rows_of() == rows);
    if is_in_use(generation.id) {
        // Its source rows are continued, and deleted with its record one day. Until then no sweep
        // needs to look for what was removed now.
        if !(generation.definitions.is_empty() && generation.lookups.is_empty()) {
            let without_tags =
                Generation { definitions: Vec::new(), lookups: Vec::new(), ..generation };
            storage.put_generation(&without_tags).await?;
        }
        return Ok(());
    }

    let rows_of = generation.rows_of();
    if rows_of != generation.id && !is_in_use(rows_of) {
        storage.delete_generation(rows_of).await?;
    }
    storage.delete_generation(generation.id).await?;
    info!(generation = %generation.id.0, "removed a generation that is no longer needed");
    Ok(())
}

/// Removes the buckets of a definition: the objects of each first, then the bucket, which names them.
async fn remove_buckets<S: BucketStore + ObjectStore + Registry + Sweep>(
    storage: &S,
    tag: &Tag,
) -> Result<(), BuildError> {
    loop {
        // Removed buckets are no longer registered, so each page is the first one.
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
                delete_base(storage, base).await?;
            }
            storage.delete_bucket(bucket).await?;
        }
    }
}
