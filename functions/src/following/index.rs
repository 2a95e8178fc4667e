//! The inverted index of a process: from a bucket or lookup to the streams that depend on it. No I/O.
//!
//! The invariant: a stream without a pending change depends on nothing that has changed between the
//! checkpoint up to which it has seen everything, and the newest one that the index knows.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::task::Waker;

use tidewater_storage::ChangeName;

use crate::checkpoint::CheckpointId;

/// Number of revisions whose changes are remembered. A stream needs those that came while it read
/// something, which takes milliseconds; for one that took longer, everything may have changed.
const HISTORY_REVISIONS_MAX: usize = 1_024;

/// The streams of a process and what they depend on. `V` is a view of the store.
pub(super) struct StreamIndex<V> {
    streams: Vec<Option<Stream>>,
    /// Indices of `streams` that are free.
    free: Vec<u32>,
    dependents: HashMap<ChangeName, Dependents>,
    /// The newest checkpoint, and its view.
    newest: Option<(CheckpointId, V)>,
    /// The changes of the latest revisions up to the newest one, oldest first, without gaps.
    history: VecDeque<Box<[ChangeName]>>,
}

/// The number of a stream, while it is in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamId(u32);

/// A stream that waits, or will wait, for changes.
struct Stream {
    /// The names that the stream depends on, in ascending order.
    names: Box<[ChangeName]>,
    /// The stream knows all changes up to this checkpoint.
    seen: CheckpointId,
    pending: Option<Changed>,
    waker: Option<Waker>,
}

/// The change that concerns a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// These of the names that it depends on. None of them if write checkpoints may have been reached.
    Names(Vec<ChangeName>),
    /// Anything.
    Everything,
    /// Anything, and the newest view may be outdated: the control record cannot be read.
    Uncertain,
}

/// The streams that depend on one name. Nearly all names have one.
enum Dependents {
    One(u32),
    /// Ordered, so that the streams of a run of the simulation wake in the same order each time.
    Several(BTreeSet<u32>),
}

impl<V: Clone> StreamIndex<V> {
    /// Creates an index without streams.
    pub(super) fn new() -> Self {
        Self {
            streams: Vec::new(),
            free: Vec::new(),
            dependents: HashMap::new(),
            newest: None,
            history: VecDeque::new(),
        }
    }

    /// Returns whether there is no stream.
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.streams.len()
    }

    /// Returns the newest checkpoint that the index knows; `None` without streams.
    pub(super) fn newest(&self) -> Option<CheckpointId> {
        self.newest.as_ref().map(|(id, _)| *id)
    }

    /// Adds a stream that depends on these names, as it has read them at a checkpoint.
    pub(super) fn insert(
        &mut self,
        names: Vec<ChangeName>,
        seen: CheckpointId,
        view: &V,
    ) -> StreamId {
        // Without streams nothing was followed, so there is nothing that this one could have missed.
        self.newest.get_or_insert_with(|| (seen, view.clone()));

        let stream = Stream { names: Box::default(), seen, pending: None, waker: None };
        let id = match self.free.pop() {
            Some(free) => {
                self.streams[free as usize] = Some(stream);
                StreamId(free)
            }
            None => {
                self.streams.push(Some(stream));
                StreamId(u32::try_from(self.streams.len() - 1).expect("streams are limited"))
            }
        };
        self.replace(id, names, seen);
        id
    }

    /// Removes a stream. After the last one nothing is known any more.
    pub(super) fn remove(&mut self, id: StreamId) {
        let Some(stream) = self.streams[id.0 as usize].take() else { return };
        self.remove_names(id, &stream.names);
        self.free.push(id.0);
        if self.is_empty() {
            *self = Self::new();
        }
    }

    /// Replaces the names that a stream depends on by those that it has read at `seen`.
    pub(super) fn replace(&mut self, id: StreamId, mut names: Vec<ChangeName>, seen: CheckpointId) {
        names.sort_unstable();
        names.dedup();

        let Some(stream) = &mut self.streams[id.0 as usize] else { return };
        if *stream.names != *names {
            let former = std::mem::replace(&mut stream.names, names.clone().into());
            self.remove_names(id, &former);
            for name in names {
                self.dependents
                    .entry(name)
                    .and_modify(|dependents| dependents.insert(id.0))
                    .or_insert(Dependents::One(id.0));
            }
        }
        self.note_seen(id, seen);
    }

    /// Notes that a stream knows all changes up to a checkpoint. Those that came after it are pending.
    pub(super) fn note_seen(&mut self, id: StreamId, seen: CheckpointId) {
        let Some(stream) = &self.streams[id.0 as usize] else { return };
        let pending = self.changed_after(seen, &stream.names);
        let Some(stream) = &mut self.streams[id.0 as usize] else { return };
        stream.seen = seen;
        stream.pending = pending;
    }

    /// Returns the newest view and what has changed for a stream, if anything has. Otherwise, its
    /// waker is called once something has.
    pub(super) fn pending(&mut self, id: StreamId, waker: &Waker) -> Option<(V, Changed)> {
        let (_, view) = self.newest.as_ref()?;
        let stream = self.streams[id.0 as usize].as_mut()?;
        if let Some(changed) = &stream.pending {
            return Some((view.clone(), changed.clone()));
        }

        match &mut stream.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        None
    }

    /// Takes over a newer checkpoint. `changes` are those of each revision since the newest one, oldest
    /// first; `None` if they are unknown. Returns the wakers of the streams that they concern.
    pub(super) fn advance(
        &mut self,
        id: CheckpointId,
        view: V,
        changes: Option<Vec<&[ChangeName]>>,
    ) -> Vec<Waker> {
        let Some((former, _)) = &self.newest else { return Vec::new() };
        let former = *former;
        if id == former {
            return Vec::new();
        }
        self.newest = Some((id, view));

        // Changes are compared within a run and a generation only, and only forwards.
        let is_continued = id.contains(&former) && id.generation == former.generation;
        let Some(changes) = changes.filter(|_| is_continued) else {
            self.history.clear();
            return if former.contains(&id) {
                // The store was restored. What the streams have seen is void.
                self.wake_all(&Changed::Uncertain)
            } else {
                self.wake_all(&Changed::Everything)
            };
        };

        let mut concerned: HashMap<u32, Vec<ChangeName>> = HashMap::new();
        for &name in changes.iter().copied().flatten() {
            if let Some(dependents) = self.dependents.get(&name) {
                dependents.for_each(|stream| concerned.entry(stream).or_default().push(name));
            }
        }
        self.history.extend(changes.into_iter().map(Box::from));
        while self.history.len() > HISTORY_REVISIONS_MAX {
            self.history.pop_front();
        }

        // Any client may wait for a write checkpoint.
        if id.ticket != former.ticket {
            let mut wakers = self.wake_all(&Changed::Names(Vec::new()));
            for (stream, names) in concerned {
                wakers.extend(self.wake(stream, &Changed::Names(names)));
            }
            return wakers;
        }

        let mut concerned: Vec<_> = concerned.into_iter().collect();
        concerned.sort_unstable_by_key(|(stream, _)| *stream);
        concerned
            .into_iter()
            .filter_map(|(stream, names)| self.wake(stream, &Changed::Names(names)))
            .collect()
    }

    /// Makes a change pending for all streams. Returns their wakers.
    pub(super) fn wake_all(&mut self, changed: &Changed) -> Vec<Waker> {
        let count = u32::try_from(self.streams.len()).expect("streams are limited");
        (0..count).filter_map(|stream| self.wake(stream, changed)).collect()
    }

    fn wake(&mut self, stream: u32, changed: &Changed) -> Option<Waker> {
        let newest = self.newest()?;
        let stream = self.streams[stream as usize].as_mut()?;
        // A stream may have read a later record than the one that is followed here.
        if stream.seen.contains(&newest) && *changed != Changed::Uncertain {
            return None;
        }

        stream.pending = Some(match stream.pending.take() {
            Some(former) => former.and(changed),
            None => changed.clone(),
        });
        stream.waker.take()
    }

    /// Returns what has changed after a checkpoint, for a stream with these names.
    fn changed_after(&self, seen: CheckpointId, names: &[ChangeName]) -> Option<Changed> {
        let newest = self.newest()?;
        if seen.contains(&newest) {
            return None;
        }

        let is_comparable = seen.run == newest.run && seen.generation == newest.generation;
        let missed = usize::try_from(newest.revision.saturating_sub(seen.revision)).ok();
        let start = missed.and_then(|missed| self.history.len().checked_sub(missed));
        let Some(start) = start.filter(|_| is_comparable) else {
            return Some(Changed::Everything);
        };

        let mut changed = Vec::new();
        for name in self.history.range(start..).flatten() {
            if names.binary_search(name).is_ok() && !changed.contains(name) {
                changed.push(*name);
            }
        }
        let is_concerned = !changed.is_empty() || seen.ticket != newest.ticket;
        is_concerned.then_some(Changed::Names(changed))
    }

    fn remove_names(&mut self, id: StreamId, names: &[ChangeName]) {
        for name in names {
            let is_last = match self.dependents.get_mut(name) {
                Some(dependents) => dependents.remove(id.0),
                None => false,
            };
            if is_last {
                self.dependents.remove(name);
            }
        }
    }
}

impl Changed {
    /// Returns both changes as one.
    fn and(self, other: &Self) -> Self {
        match (self, other) {
            (Self::Names(mut names), Self::Names(others)) => {
                for name in others {
                    if !names.contains(name) {
                        names.push(*name);
                    }
                }
                Self::Names(names)
            }
            (Self::Uncertain, _) | (_, Self::Uncertain) => Self::Uncertain,
            (Self::Everything, _) | (_, Self::Everything) => Self::Everything,
        }
    }
}

impl Dependents {
    fn insert(&mut self, stream: u32) {
        match self {
            Self::One(one) if *one == stream => {}
            Self::One(one) => *self = Self::Several(BTreeSet::from([*one, stream])),
            Self::Several(all) => {
                all.insert(stream);
            }
        }
    }

    /// Removes a stream. Returns whether it was the last one.
    fn remove(&mut self, stream: u32) -> bool {
        match self {
            Self::One(one) => *one == stream,
            Self::Several(all) => {
                all.remove(&stream);
                all.is_empty()
            }
        }
    }

    fn for_each(&self, mut act: impl FnMut(u32)) {
        match self {
            Self::One(one) => act(*one),
            Self::Several(all) => all.iter().copied().for_each(act),
        }
    }
}

#[cfg(test)]
mod tests;
