//! Values that never change, read once for all who ask.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Keys read in one call on behalf of others.
const BATCH_MAX: usize = 4_000;
/// Values kept; beyond it they are read again.
const KEPT_MAX: usize = 50_000;

/// A cache whose misses are read together: while one caller reads, others note what they want, and
/// the next to read takes all of it. A thousand streams woken by one checkpoint so cost a few
/// reads.
pub(crate) struct BatchingCache<K, V> {
    known: Mutex<HashMap<K, V>>,
    wanted: Mutex<Vec<K>>,
    turn: tokio::sync::Mutex<()>,
}

impl<K: Clone + Eq + Hash, V: Clone> BatchingCache<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            known: Mutex::default(),
            wanted: Mutex::default(),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// The values of `keys`, in their order. `read` is given distinct keys, and must answer in
    /// their order.
    pub(crate) async fn get<E, F>(
        &self,
        keys: &[K],
        read: impl FnOnce(Vec<K>) -> F,
    ) -> Result<Vec<V>, E>
    where
        F: Future<Output = Result<Vec<V>, E>>,
    {
        let missing = self.missing(keys);
        if missing.is_empty() {
            return Ok(self.among(keys, &HashMap::new()));
        }
        lock(&self.wanted).extend(missing);
        let _turn = self.turn.lock().await;
        let mut batch = self.missing(keys);
        if batch.is_empty() {
            return Ok(self.among(keys, &HashMap::new()));
        }
        batch.extend(self.others(batch.len()));
        let values = distinct(batch);
        let read_values = read(values.clone()).await?;
        let fresh: HashMap<K, V> = values.into_iter().zip(read_values).collect();
        let found = self.among(keys, &fresh);
        let mut known = lock(&self.known);
        let room = KEPT_MAX.saturating_sub(known.len());
        known.extend(fresh.into_iter().take(room));
        Ok(found)
    }

    /// What others want and is not known yet, as far as one call may read it.
    fn others(&self, own: usize) -> Vec<K> {
        let mut wanted = lock(&self.wanted);
        let count = wanted.len().min(BATCH_MAX.saturating_sub(own));
        let taken: Vec<K> = wanted.drain(..count).collect();
        drop(wanted);
        self.missing(&taken)
    }

    fn missing(&self, keys: &[K]) -> Vec<K> {
        let known = lock(&self.known);
        keys.iter().filter(|key| !known.contains_key(key)).cloned().collect()
    }

    /// The values of `keys`, all of which are known or fresh.
    fn among(&self, keys: &[K], fresh: &HashMap<K, V>) -> Vec<V> {
        let known = lock(&self.known);
        let value = |key| fresh.get(key).or_else(|| known.get(key)).cloned();
        keys.iter().filter_map(value).collect()
    }
}

fn distinct<K: Clone + Eq + Hash>(keys: Vec<K>) -> Vec<K> {
    let mut seen = std::collections::HashSet::new();
    keys.into_iter().filter(|key| seen.insert(key.clone())).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics while it is held, and a cache has no state that could be half done.
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
    async fn what_is_known_is_not_read_again() {
        let (cache, calls) = (BatchingCache::new(), AtomicUsize::new(0));
        for _ in 0..2 {
            let got = cache.get(&[3, 1, 3], |keys| doubled(&calls, keys)).await;
            assert_eq!(got, Ok(vec![6, 2, 6]));
        }
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn those_who_wait_are_served_by_one_read() {
        let (cache, calls) = (BatchingCache::new(), AtomicUsize::new(0));
        let ask = |key: u32| {
            let (cache, calls) = (&cache, &calls);
            async move { cache.get(&[key], |keys| doubled(calls, keys)).await.unwrap() }
        };
        let got = futures::future::join_all((0..100).map(ask)).await;
        assert_eq!(got, (0..100).map(|key| vec![key * 2]).collect::<Vec<_>>());
        assert_eq!(calls.load(Ordering::Relaxed), 2, "the first, then all the others");
    }

    #[tokio::test]
    async fn a_failed_read_fails_nobody_else() {
        let cache: BatchingCache<u32, u32> = BatchingCache::new();
        assert_eq!(cache.get(&[1], |_| async { Err("down") }).await, Err("down"));
        let again = cache.get(&[1], |keys| async move { Ok::<_, &str>(keys) }).await;
        assert_eq!(again, Ok(vec![1]));
    }
}
