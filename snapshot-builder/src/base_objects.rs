//! The objects of a base.

use tidewater_storage::{Base, ObjectStore};

use crate::error::BuildError;

/// Deletes the objects of a base that no catalog names, or that readers no longer need.
///
/// Deletion is idempotent: after a failure, the same call continues it.
pub(crate) async fn delete_base<S: ObjectStore>(
    storage: &S,
    base: &Base,
) -> Result<(), BuildError> {
    for object in base.objects() {
        storage.delete_object(&object).await?;
    }
    Ok(())
}
