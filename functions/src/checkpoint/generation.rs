//! Stored sync configs, each compiled once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidewater_storage::{BucketKey, ControlStore, Generation, GenerationId, LookupKey};
use tidewater_sync_config::{Question, SyncConfig};
use tracing::error;

use super::error::CheckpointError;

/// Number of compiled configs that are cached: the current one, and some for streams of former ones
/// that are about to end.
const CACHED_GENERATIONS_MAX: usize = 4;

/// A generation whose sync config is compiled.
pub(crate) struct CompiledGeneration {
    stored: Generation,
    pub(super) config: SyncConfig,
}

impl CompiledGeneration {
    fn new(stored: Generation) -> Result<Self, CheckpointError> {
        // The worker has compiled this text, so both failures mean that worker and sync API are
        // different builds.
        let config = SyncConfig::compile(&stored.sync_config).map_err(|diagnostics| {
            let first = diagnostics.first().map(|found| found.message.clone()).unwrap_or_default();
            error!(generation = %stored.id.0, first, "the stored sync config does not compile");
            CheckpointError::Internal("the stored sync config does not compile")
        })?;

        let is_same = config.definitions().len() == stored.definitions.len()
            && config.lookups().len() == stored.lookups.len();
        if !is_same {
            return Err(CheckpointError::Internal(
                "the stored sync config compiles to other definitions",
            ));
        }
        Ok(Self { stored, config })
    }

    /// Returns the stored key of a bucket, and its name on the wire.
    pub(super) fn bucket(&self, definition: usize, params: &str) -> (BucketKey, String) {
        let key = BucketKey::new(&self.stored.definitions[definition], params);
        let name = format!("{}.{key}", self.config.definitions()[definition].name);
        (key, name)
    }

    /// Returns the stored key of a question.
    pub(super) fn lookup(&self, question: &Question) -> LookupKey {
        LookupKey::new(&self.stored.lookups[question.lookup], &question.key)
    }
}

/// The generations in use, oldest first.
#[derive(Default)]
pub(super) struct GenerationCache {
    compiled: Mutex<Vec<(GenerationId, Arc<CompiledGeneration>)>>,
}

impl GenerationCache {
    /// Returns a generation. It is read and compiled at most once while it is in use.
    pub(super) async fn get<S: ControlStore>(
        &self,
        storage: &S,
        id: GenerationId,
    ) -> Result<Arc<CompiledGeneration>, CheckpointError> {
        let cached =
            self.lock().iter().find(|(other, _)| *other == id).map(|(_, it)| Arc::clone(it));
        if let Some(compiled) = cached {
            return Ok(compiled);
        }

        let stored = storage.generation(id).await?;
        let stored =
            stored.ok_or(CheckpointError::Internal("the visible generation is not stored"))?;
        let compiled = Arc::new(CompiledGeneration::new(stored)?);

        let mut all = self.lock();
        if all.len() >= CACHED_GENERATIONS_MAX {
            all.remove(0);
        }
        all.push((id, Arc::clone(&compiled)));
        Ok(compiled)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(GenerationId, Arc<CompiledGeneration>)>> {
        // Each change is one call that cannot panic half-way.
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
