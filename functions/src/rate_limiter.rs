//! Rates of requests by key, in bounded memory.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::settings::Rate;

/// Number of keys that are remembered. A key is remembered only while it has not yet regained its
/// whole burst, so a busy server remembers some thousands. A full table takes 3 MB.
const KEYS_MAX: usize = 100_000;

/// Interval between two searches for keys that can be forgotten while the table is full.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A token bucket for each key.
///
/// Instead of tokens it keeps the time at which a bucket is full again, which needs no refilling.
pub(crate) struct RateLimiter {
    rate: Option<Rate>,
    keys_max: usize,
    /// Keys are hashed with a secret of the process, so that nobody can choose one that collides.
    hasher: RandomState,
    buckets: Mutex<Buckets>,
}

#[derive(Default)]
struct Buckets {
    full_at: HashMap<u64, Instant>,
    /// The bucket that all keys share which find no place in the table.
    others_full_at: Option<Instant>,
    swept_at: Option<Instant>,
}

impl RateLimiter {
    /// Creates a limiter; `None` limits nothing.
    pub(crate) fn new(rate: Option<Rate>) -> Self {
        Self { rate, keys_max: KEYS_MAX, hasher: RandomState::new(), buckets: Mutex::default() }
    }

    /// Takes one request of a key, or returns the time after which there is one to take.
    pub(crate) fn take(&self, key: &impl Hash, now: Instant) -> Result<(), Duration> {
        let Some(rate) = self.rate else { return Ok(()) };
        let interval = Duration::from_secs(1) / rate.per_second.max(1);
        let capacity = interval * rate.burst.max(1);
        let key = self.hasher.hash_one(key);

        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = buckets.full_at(key, self.keys_max, now);
        let next = (*full_at).max(now) + interval;
        if next > now + capacity {
            return Err(next - now - capacity);
        }
        *full_at = next;
        Ok(())
    }
}

impl Buckets {
    /// Returns when the bucket of a key is full again.
    fn full_at(&mut self, key: u64, keys_max: usize, now: Instant) -> &mut Instant {
        let is_known = self.full_at.contains_key(&key);
        let is_sweep_due = self.swept_at.is_none_or(|last| now - last >= SWEEP_INTERVAL);
        if !is_known && self.full_at.len() >= keys_max && is_sweep_due {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.swept_at = Some(now);
        }

        if is_known || self.full_at.len() < keys_max {
            self.full_at.entry(key).or_insert(now)
        } else {
            self.others_full_at.get_or_insert(now)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(keys_max: usize) -> RateLimiter {
        let rate = Rate { per_second: 10, burst: 3 };
        RateLimiter { keys_max, ..RateLimiter::new(Some(rate)) }
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limiter = limiter(10);
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(limiter.take(&"u1", start), Ok(()));
        }
        assert_eq!(limiter.take(&"u1", start), Err(ms(100)));
        assert_eq!(limiter.take(&"u2", start), Ok(()), "another user is not concerned");

        // A refused request takes nothing, so the wait does not grow with the attempts.
        for _ in 0..100 {
            assert_eq!(limiter.take(&"u1", start + ms(50)), Err(ms(50)));
        }
        assert_eq!(limiter.take(&"u1", start + ms(100)), Ok(()));
        assert!(limiter.take(&"u1", start + ms(100)).is_err());
        assert_eq!(limiter.take(&"u1", start + ms(10_000)), Ok(()));
    }

    #[test]
    fn the_memory_is_bounded_and_full_buckets_are_forgotten() {
        let limiter = limiter(3);
        let start = Instant::now();
        for user in 0..1_000 {
            let _ = limiter.take(&user, start);
        }
        assert_eq!(limiter.buckets.lock().unwrap().full_at.len(), 3);
        assert!(limiter.take(&1_000, start).is_err(), "those without a place share one bucket");
        assert_eq!(limiter.take(&0, start), Ok(()), "a known user keeps a bucket");

        assert_eq!(limiter.take(&1_001, start + ms(2_000)), Ok(()));
        assert_eq!(limiter.buckets.lock().unwrap().full_at.len(), 1);
    }

    #[test]
    fn without_a_rate_nothing_is_limited() {
        let limiter = RateLimiter::new(None);
        let start = Instant::now();
        assert!((0..10_000).all(|_| limiter.take(&"u", start).is_ok()));
    }
}
