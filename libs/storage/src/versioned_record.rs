//! Versioned cells: what changes in place without anyone seeing it change.

use bytes::Bytes;
use tidewater_protocol::OpId;

use crate::committed_ops::CommittedOps;
use crate::error::{BoxError, StorageError};

/// How many versions a cell keeps for readers at recent checkpoints.
const VERSIONS_FOR_RECENT: usize = 8;

/// A few versions of one value, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionedRecord {
    /// A reader at a checkpoint below it cannot be answered: what it would see was dropped.
    pub floor: OpId,
    /// At least one.
    pub versions: Vec<Version>,
}

/// A value from an op id on; `None` is "gone".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The operation that gave it.
    pub op: OpId,
    /// The value.
    pub value: Option<Bytes>,
}

/// What a reader at a checkpoint sees in a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadResult<'a> {
    /// This value, given by this operation.
    Found(OpId, &'a Bytes),
    /// Nothing: it never was there, or is gone.
    NotFound,
    /// The checkpoint is too old for this cell: take a newer one.
    TooOld,
}

/// What a writer must know to decide which versions are still needed.
#[derive(Clone, Debug)]
pub struct WriteContext<'a> {
    /// Which op ids count now.
    pub committed_ops: &'a CommittedOps,
    /// The checkpoint that readers take now, if there is one.
    pub visible: Option<OpId>,
    /// Checkpoints that were visible within the last 10 seconds, in any order.
    pub recent: &'a [OpId],
}

impl WriteContext<'_> {
    /// Whether a reader is to see the version of `op`, after which `newer` is the next that counts.
    fn needs(&self, op: OpId, newer: Option<OpId>) -> bool {
        let sees = |at: OpId| op <= at && newer.is_none_or(|newer| at < newer);
        sees(self.committed_ops.last_committed())
            || self.visible.is_some_and(sees)
            || self.recent.iter().copied().any(sees)
    }

    fn oldest_needed(&self) -> OpId {
        let checkpoints = self.recent.iter().copied().chain(self.visible);
        checkpoints.min().unwrap_or(OpId::MAX).min(self.committed_ops.last_committed())
    }
}

impl VersionedRecord {
    /// Op id of the newest version, dead or alive: what a write is conditional on.
    ///
    /// # Panics
    /// Never: a cell has at least one version.
    #[must_use]
    pub fn newest_op(&self) -> OpId {
        self.versions.first().expect("a cell has at least one version").op
    }

    /// What a reader at `checkpoint` sees.
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

    /// What the worker itself sees: committed values, and those of its own unfinished unit.
    #[must_use]
    pub fn latest_for_writer(&self, committed_ops: &CommittedOps) -> Option<&Version> {
        self.versions
            .iter()
            .find(|v| committed_ops.is_from_current_epoch(v.op) || committed_ops.is_committed(v.op))
    }

    /// Whether a newer epoch than the writer's has been here: the writer is fenced.
    #[must_use]
    pub fn has_newer_epoch(&self, committed_ops: &CommittedOps) -> bool {
        self.versions
            .iter()
            .any(|v| v.op.epoch().is_some_and(|epoch| epoch > committed_ops.current_epoch()))
    }

    /// The cell after writing `version` over what is stored now.
    ///
    /// Kept are: the new version; the newest committed one; the newest one at the visible
    /// checkpoint; those that answer a recent checkpoint, eight at most. An undecided version of
    /// the writer's own is replaced, since one unit is committed at a time; dead ones are dropped.
    /// If a reader at an older checkpoint could miss what is dropped, the floor rises to the
    /// oldest version kept. It stays when only versions were dropped that came after all of the
    /// needed checkpoints: while visible is held, a row that is new since then reads as nothing.
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
            let needed = context.needs(old.op, newer);
            if needed && versions.len() <= VERSIONS_FOR_RECENT {
                versions.push(old.clone());
            } else {
                is_missed |= needed || old.op <= context.oldest_needed();
            }
            newer = Some(old.op);
        }
        let oldest = versions.last().map_or(OpId::ZERO, |v| v.op);
        let floor = if is_missed { known.floor.max(oldest) } else { known.floor };
        Self { floor, versions }
    }

    /// Its stored form: the floor, then op id, length and value of each version; integers are
    /// little-endian, a length of `u32::MAX` is "gone".
    ///
    /// # Panics
    /// When a value is 4 GiB or longer.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let values = self.versions.iter().filter_map(|v| v.value.as_ref()).map(Bytes::len);
        let mut out = Vec::with_capacity(8 + 12 * self.versions.len() + values.sum::<usize>());
        out.extend_from_slice(&self.floor.get().to_le_bytes());
        for version in &self.versions {
            out.extend_from_slice(&version.op.get().to_le_bytes());
            let value = version.value.as_deref();
            let length = value.map_or(u32::MAX, |value| {
                u32::try_from(value.len()).expect("a cell's value is far below 4 GiB")
            });
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(value.unwrap_or_default());
        }
        out
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// `Damaged` when it is none.
    pub fn decode(stored: &Bytes) -> Result<Self, StorageError> {
        decode(stored).ok_or_else(|| {
            let cause: BoxError =
                format!("{} bytes that are no versioned record", stored.len()).into();
            StorageError::Damaged("versioned record", cause)
        })
    }
}

fn decode(stored: &Bytes) -> Option<VersionedRecord> {
    let id = |at: usize| {
        let bytes = stored.get(at..at + 8)?;
        OpId::from_i64(i64::from_le_bytes(bytes.try_into().ok()?))
    };
    let floor = id(0)?;
    let mut versions = Vec::new();
    let mut at = 8;
    while at < stored.len() {
        let op = id(at)?;
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

#[cfg(test)]
mod tests;
