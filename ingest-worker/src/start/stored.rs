//! The generations that an earlier run has stored, and the progress of its copy.

use tidewater_storage::{
    Control, Generation, GenerationId, ReadResult, RecordKey, Storage, StorageError,
};

use crate::initial_copy::state::CopyState;

/// A generation that an earlier run has stored, and the progress of its copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredGeneration {
    /// The generation.
    pub generation: Generation,
    /// The progress of its initial copy, as of the last commit.
    pub copy: CopyState,
    /// True if a later run planned another copy and ended before it stored that plan.
    pub lacks_plan: bool,
    /// The other generations that the former run has maintained.
    pub others: Vec<Generation>,
}

/// Reads the generations that the control record names, or the one that the latest continues if a run was
/// killed before it stored that one, and the progress of the copy as of the last commit. Returns `None`
/// if one of them is missing or cannot be read: then all tables are copied again.
///
/// # Errors
/// When the store fails.
pub async fn read_stored_generation<S: Storage>(
    storage: &S,
    former: Option<&Control>,
) -> Result<Option<StoredGeneration>, StorageError> {
    let Some(former) = former else { return Ok(None) };
    let mut generation = storage.generation(former.generation).await?;
    if let (None, Some(continued)) = (&generation, former.continued_generation) {
        generation = storage.generation(continued).await?;
    }
    let Some(generation) = generation else { return Ok(None) };

    let records = storage.records(&[RecordKey::Copy(generation.rows_of())]).await?;
    let Some(record) = records.into_iter().next().flatten() else { return Ok(None) };
    let committed_ops = former.committed_ops(&storage.archived_epochs().await?);
    let ReadResult::Found(op, record) = record.read_at(former.committed.op, &committed_ops) else {
        return Ok(None);
    };

    // A run that is killed between its takeover and its first commit leaves the record of a run before.
    let lacks_plan = former.copy_planned_in.is_some_and(|planned_in| op.epoch() < Some(planned_in));
    let Ok(copy) = serde_json::from_slice(record) else { return Ok(None) };
    let others = read_others(storage, former, generation.id).await?;
    Ok(Some(StoredGeneration { generation, copy, lacks_plan, others }))
}

/// Reads the other generations that the former run has maintained.
async fn read_others<S: Storage>(
    storage: &S,
    former: &Control,
    latest: GenerationId,
) -> Result<Vec<Generation>, StorageError> {
    let mut others = Vec::new();
    for maintained in former.maintained.iter().filter(|maintained| maintained.id != latest) {
        others.extend(storage.generation(maintained.id).await?);
    }
    Ok(others)
}
