//! Sync configs as they are stored, compiled once.

use std::sync::{Arc, Mutex, PoisonError};

use tidewater_storage::{BucketKey, Generation, GenerationId, LookupKey, Storage};
use tidewater_sync_config::{Question, SyncConfig};
use tracing::error;

use super::error::CheckpointError;

/// Compiled configs kept: the current one, and those of streams that are about to end.
const KEPT_MAX: usize = 4;

/// A generation whose sync config is compiled.
pub(crate) struct CompiledGeneration {
    pub(crate) stored: Generation,
    pub(crate) config: SyncConfig,
}

impl CompiledGeneration {
    fn new(stored: Generation) -> Result<Self, CheckpointError> {
        let config = SyncConfig::compile(&stored.sync_config).map_err(|diagnostics| {
            let first = diagnostics.first().map(|d| d.message.clone()).unwrap_or_default();
            error!(generation = %stored.id.0, first, "the stored sync config does not compile");
            CheckpointError::Internal("the stored sync config does not compile")
        })?;
        let same = config.definitions().len() == stored.definitions.len()
            && config.lookups().len() == stored.lookups.len();
        if !same {
            return Err(CheckpointError::Internal(
                "the stored sync config compiles to other definitions",
            ));
        }
        Ok(Self { stored, config })
    }

    /// The stored key of a bucket, and its name on the wire.
    pub(crate) fn bucket(&self, definition: usize, params: &str) -> (BucketKey, String) {
        let key = BucketKey::new(&self.stored.definitions[definition], params);
        let name = format!("{}.{key}", self.config.definitions()[definition].name);
        (key, name)
    }

    /// The stored key of a question.
    pub(crate) fn lookup(&self, question: &Question) -> LookupKey {
        LookupKey::new(&self.stored.lookups[question.lookup], &question.key)
    }
}

/// The generations in use.
#[derive(Default)]
pub(crate) struct GenerationCache {
    compiled: Mutex<Vec<(GenerationId, Arc<CompiledGeneration>)>>,
}

impl GenerationCache {
    /// A generation, read and compiled at most once while it is in use.
    pub(crate) async fn get<S: Storage>(
        &self,
        storage: &S,
        id: GenerationId,
    ) -> Result<Arc<CompiledGeneration>, CheckpointError> {
        if let Some(compiled) = self.find(id) {
            return Ok(compiled);
        }
        let stored = storage.generation(id).await?;
        let stored =
            stored.ok_or(CheckpointError::Internal("the visible generation is not stored"))?;
        let compiled = Arc::new(CompiledGeneration::new(stored)?);
        let mut all = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KEPT_MAX {
            all.remove(0);
        }
        all.push((id, Arc::clone(&compiled)));
        Ok(compiled)
    }

    fn find(&self, id: GenerationId) -> Option<Arc<CompiledGeneration>> {
        let all = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|(other, _)| *other == id).map(|(_, compiled)| Arc::clone(compiled))
    }
}
