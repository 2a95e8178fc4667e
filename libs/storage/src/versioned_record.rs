//! Versioned records: values that change in place while readers still see older versions.

use bytes::Bytes;
use tidewater_protocol::OpId;

use crate::committed_ops::CommittedOps;
use crate::error::{BoxError, StorageError};

/// The maximum number of versions that a record keeps besides the newest one. A reader uses one
/// checkpoint for at most a few seconds, in which a record rarely changes eight times.
const VERSIONS_FOR_RECENT: usize = 8;

/// A few versions of one value, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionedRecord {
    /// The oldest checkpoint that can be answered; versions for older ones were dropped.
    pub floor: OpId,
    /// The versions, at least one.
    pub versions: Vec<Version>,
}

/// A value from an op id on; `None` is a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The operation that set the value.
    pub op: OpId,
    /// The value.
    pub value: Option<Bytes>,
}

/// The result of reading a record at a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadResult<'a> {
    /// The value, and the operation that set it.
    Found(OpId, &'a Bytes),
    /// No value: the record never existed, or its value was deleted.
    NotFound,
    /// The checkpoint is below the record's floor. Read again at a newer one.
    TooOld,
}

/// The checkpoints whose versions a writer must keep.
#[derive(Clone, Debug)]
pub struct WriteContext<'a> {
    /// The operations that are committed now.
    pub committed_ops: &'a CommittedOps,
    /// The checkpoint that new readers use, if there is one.
    pub visible: Option<OpId>,
    /// The checkpoints that were visible within the last 10 seconds, in any order.
    pub recent: &'a [OpId],
}

impl WriteContext<'_> {
    /// Returns whether a reader needs the version of `op`. `newer` is the next committed version.
    fn needs(&self, op: OpId, newer: Option<OpId>) -> bool {
        let mut checkpoints = std::iter::once(self.committed_ops.last_committed())
            .chain(self.visible)
            .chain(self.recent.iter().copied());
        checkpoints.any(|at| op <= at && newer.is_none_or(|newer| at < newer))
    }

    /// Returns the oldest checkpoint at which the record must be readable.
    fn oldest_needed(&self) -> OpId {
        let checkpoints = self.recent.iter().copied().chain(self.visible);
        checkpoints.min().unwrap_or(OpId::MAX).min(self.committed_ops.last_committed())
    }
}

impl VersionedRecord {
    /// Returns the op id of the newest version, committed or not. Writes are conditional on it.
    ///
    /// # Panics
    /// Never: a record has at least one version.
    #[must_use]
    pub fn newest_op(&self) -> OpId {
        self.versions.first().expect("a record has at least one version").op
    }

    /// Returns the value at `checkpoint`: the newest committed version at or below it.
    #[must_use]
    pub fn read_at(&self, checkpoint: OpId, committed_ops: &CommittedOps) -> ReadResult<'_> {
        if checkpoint < self.floor {
            return ReadResult::TooOld;
        }

        let seen = self
            .versions
            .iter()
            .find(|version| version.op <= checkpoint && committed_ops.is_committed(version.op));
        let value = seen.and_then(|version| Some((version.op, version.value.as_ref()?)));
        value.map_or(ReadResult::NotFound, |(op, value)| ReadResult::Found(op, value))
    }

    /// Returns the version that the ingest worker sees: the newest one that is committed or belongs
    /// to its own unfinished transaction.
    #[must_use]
    pub fn latest_for_writer(&self, committed_ops: &CommittedOps) -> Option<&Version> {
        self.versions
            .iter()
            .find(|v| committed_ops.is_from_current_epoch(v.op) || committed_ops.is_committed(v.op))
    }

    /// Returns whether a newer epoch than the writer's has written the record: then the writer is
    /// fenced and must stop.
    #[must_use]
    pub fn has_newer_epoch(&self, committed_ops: &CommittedOps) -> bool {
        self.versions
            .iter()
            .any(|v| v.op.epoch().is_some_and(|epoch| epoch > committed_ops.current_epoch()))
    }

    /// Returns the record after writing `version` over the stored one.
    ///
    /// The result keeps the new version, the newest committed version, the version at the visible
    /// checkpoint, and those at recent checkpoints, at most eight in total besides the new one. An
    /// uncommitted version of the writer's own transaction is replaced. Other uncommitted versions
    /// belong to closed epochs and are dropped.
    ///
    /// The floor rises to the oldest kept version if a reader at an older checkpoint could miss a
    /// dropped version. It does not rise for dropped versions that are newer than all needed
    /// checkpoints: at those checkpoints the record reads as not found, which is correct.
    #[must_use]
    pub fn with_version(
        known: Option<&Self>,
        version: Version,
        context: &WriteContext<'_>,
    ) -> Self {
        let mut versions = vec![version];
        let Some(known) = known else { return Self { floor: OpId::ZERO, versions } };

        let mut is_missed = false;
        let mut newer = None;
        for old in known.versions.iter().filter(|v| context.committed_ops.is_committed(v.op)) {
            let is_needed = context.needs(old.op, newer);
            if is_needed && versions.len() <= VERSIONS_FOR_RECENT {
                versions.push(old.clone());
            } else {
                is_missed |= is_needed || old.op <= context.oldest_needed();
            }
            newer = Some(old.op);
        }

        let oldest = versions.last().map_or(OpId::ZERO, |v| v.op);
        let floor = if is_missed { known.floor.max(oldest) } else { known.floor };
        Self { floor, versions }
    }

    /// Returns the stored form, as section 3 of `LAYOUT.md` specifies it.
    ///
    /// # Panics
    /// If a value is 4 GiB or longer.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let values = self.versions.iter().filter_map(|v| v.value.as_ref()).map(Bytes::len);
        let mut out = Vec::with_capacity(8 + 12 * self.versions.len() + values.sum::<usize>());

        out.extend_from_slice(&self.floor.get().to_le_bytes());
        for version in &self.versions {
            out.extend_from_slice(&version.op.get().to_le_bytes());
            let value = version.value.as_deref();
            let length = value.map_or(u32::MAX, |value| {
                u32::try_from(value.len()).expect("a record's value is far below 4 GiB")
            });
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(value.unwrap_or_default());
        }
        out
    }

    /// Decodes the stored form.
    ///
    /// # Errors
    /// `Damaged` if `stored` is not a versioned record.
    pub fn decode(stored: &Bytes) -> Result<Self, StorageError> {
        decode(stored).ok_or_else(|| {
            let cause: BoxError =
                format!("{} bytes are not a versioned record", stored.len()).into();
            StorageError::Damaged("versioned record", cause)
        })
    }
}

fn decode(stored: &Bytes) -> Option<VersionedRecord> {
    let floor = op_id_at(stored, 0)?;
    let mut versions = Vec::new();
    let mut at = 8;

    while at < stored.len() {
        let op = op_id_at(stored, at)?;
        let length = u32::from_le_bytes(stored.get(at + 8..at + 12)?.try_into().ok()?);
        at += 12;

        let value = if length == u32::MAX {
            None
        } else {
            let end = at.checked_add(length as usize)?;
            stored.get(at..end)?;
            let value = stored.slice(at..end);
            at = end;
            Some(value)
        };
        versions.push(Version { op, value });
    }

    if versions.is_empty() { None } else { Some(VersionedRecord { floor, versions }) }
}

fn op_id_at(stored: &[u8], at: usize) -> Option<OpId> {
    let bytes = stored.get(at..at + 8)?;
    OpId::from_i64(i64::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests;
