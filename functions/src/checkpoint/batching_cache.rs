//! A cache of immutable values that reads misses in batches.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Number of keys that one call reads at most, on behalf of all waiting callers. It bounds the
/// memory and duration of a call: 4,000 keys are 40 requests to DynamoDB.
const BATCH_KEYS_MAX: usize = 4_000;

/// Number of values that are cached. Further values are read again by each caller. At about 200
/// bytes a value, a full cache takes 10 MB.
const CACHED_VALUES_MAX: usize = 50_000;

/// A cache whose misses are read together. While one caller reads, others note the keys they need,
/// and the next caller reads all of them. So a thousand streams that are woken by one checkpoint
/// cost a few reads.
pub(super) struct BatchingCache<K, V> {
    values: Mutex<HashMap<K, V>>,
    /// Keys that callers wait for.
    wanted: Mutex<Vec<K>>,
    /// Locked by the caller that reads.
    reading: tokio::sync::Mutex<()>,
}

impl<K: Clone + Eq + Hash, V: Clone> Default for BatchingCache<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Eq + Hash, V: Clone> BatchingCache<K, V> {
    /// Creates an empty cache.
    pub(super) fn new() -> Self {
        Self {
            values: Mutex::default(),
            wanted: Mutex::default(),
            reading: tokio::sync::Mutex::new(()),
        }
    }

    /// Returns the values of `keys`, in their order. `read` is given distinct keys, and returns
    /// their values in the same order.
    pub(super) async fn get<E>(
        &self,
        keys: &[K],
        read: impl AsyncFnOnce(Vec<K>) -> Result<Vec<V>, E>,
    ) -> Result<Vec<V>, E> {
        let missing = self.missing(keys);
        if missing.is_empty() {
            return Ok(self.among(keys, &HashMap::new()));
        }
        lock(&self.wanted).extend(missing);
        let _reading = self.reading.lock().await;

        // The caller before may have read these keys meanwhile.
        let mut batch = self.missing(keys);
        if batch.is_empty() {
            return Ok(self.among(keys, &HashMap::new()));
        }
        batch.extend(self.wanted_by_others(batch.len()));
        let batch = distinct(batch);

        // If this fails, the other callers find their keys missing, and each reads its own.
        let values = read(batch.clone()).await?;
        let fresh: HashMap<K, V> = batch.into_iter().zip(values).collect();
        let found = self.among(keys, &fresh);

        let mut cached = lock(&self.values);
        let room = CACHED_VALUES_MAX.saturating_sub(cached.len());
        cached.extend(fresh.into_iter().take(room));
        Ok(found)
    }

    /// Takes the keys that others wait for and that are not cached yet, as many as fit into a
    /// batch that has `own` keys already.
    fn wanted_by_others(&self, own: usize) -> Vec<K> {
        let mut wanted = lock(&self.wanted);
        let count = wanted.len().min(BATCH_KEYS_MAX.saturating_sub(own));
        let taken: Vec<K> = wanted.drain(..count).collect();
        drop(wanted);
        self.missing(&taken)
    }

    fn missing(&self, keys: &[K]) -> Vec<K> {
        let cached = lock(&self.values);
        keys.iter().filter(|key| !cached.contains_key(key)).cloned().collect()
    }

    /// Returns the values of `keys`, all of which are cached or fresh.
    fn among(&self, keys: &[K], fresh: &HashMap<K, V>) -> Vec<V> {
        let cached = lock(&self.values);
        let values = keys.iter().filter_map(|key| fresh.get(key).or_else(|| cached.get(key)));
        values.cloned().collect()
    }
}

fn distinct<K: Clone + Eq + Hash>(keys: Vec<K>) -> Vec<K> {
    let mut seen = HashSet::new();
    keys.into_iter().filter(|key| seen.insert(key.clone())).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change of the state is one call, so a panic of a caller leaves it consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    async fn doubled(calls: &AtomicUsize, keys: Vec<u32>) -> Result<Vec<u32>, Infallible> {
        calls.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        Ok(keys.into_iter().map(|key| key * 2).collect())
    }

    #[tokio::test]
    async fn cached_values_are_not_read_again() {
        let cache = BatchingCache::new();
        let calls = AtomicUsize::new(0);
        for _ in 0..2 {
            let got = cache.get(&[3, 1, 3], async |keys| doubled(&calls, keys).await).await;
            assert_eq!(got, Ok(vec![6, 2, 6]));
        }
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn waiting_callers_share_one_read() {
        let cache = BatchingCache::new();
        let calls = AtomicUsize::new(0);
        let reads = (0..100).map(async |key| {
            cache.get(&[key], async |keys| doubled(&calls, keys).await).await.unwrap()
        });
        let got = futures::future::join_all(reads).await;
        assert_eq!(got, (0..100).map(|key| vec![key * 2]).collect::<Vec<_>>());
        assert_eq!(calls.load(Ordering::Relaxed), 2, "the first, then all the others");
    }

    #[tokio::test]
    async fn a_failed_read_fails_only_its_caller() {
        let cache: BatchingCache<u32, u32> = BatchingCache::new();
        assert_eq!(cache.get(&[1], async |_| Err("down")).await, Err("down"));
        let again = cache.get(&[1], async |keys| Ok::<_, &str>(keys)).await;
        assert_eq!(again, Ok(vec![1]));
    }
}
