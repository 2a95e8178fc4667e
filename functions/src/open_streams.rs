//! The open streams of each user, which bound what one user can occupy.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidewater_storage::ClientKey;
use tokio_util::sync::CancellationToken;

/// Number of streams with one client id. SDKs have one at a time, and a second one for a moment when
/// they connect again over a lost network. Browser tabs that share a database may have one each.
const STREAMS_OF_CLIENT_MAX: usize = 10;

/// Bytes that the streams of one user may keep of their requests. An ordinary stream keeps some KB, so
/// a thousand devices with one user id fit.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// The number of open streams of a process. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct OpenStreamCount(Arc<AtomicU64>);

impl OpenStreamCount {
    /// Returns the number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All open streams, by user.
pub(crate) struct OpenStreams {
    streams_max: usize,
    count: OpenStreamCount,
    users: Mutex<Users>,
}

#[derive(Default)]
struct Users {
    by_id: HashMap<String, Vec<OpenStream>>,
    last_number: u64,
}

struct OpenStream {
    number: u64,
    client_id: String,
    kept_bytes: usize,
    ended: CancellationToken,
}

/// The place of one stream among those of its user. The stream is open until this is dropped.
pub(crate) struct StreamPlace {
    streams: Arc<OpenStreams>,
    user_id: String,
    number: u64,
    ended: CancellationToken,
}

impl OpenStreams {
    /// Creates the register of a process in which each user may have `streams_max` streams.
    pub(crate) fn new(streams_max: usize, count: OpenStreamCount) -> Self {
        Self { streams_max, count, users: Mutex::default() }
    }

    /// Adds a stream; `None` if the user has too many. The oldest stream of the same client ends if
    /// the client has too many.
    pub(crate) fn open(self: &Arc<Self>, client: &ClientKey) -> Option<StreamPlace> {
        let mut users = self.lock();
        users.last_number += 1;
        let number = users.last_number;
        let streams = users.by_id.entry(client.user_id.clone()).or_default();

        let of_client = streams.iter().filter(|stream| stream.client_id == client.client_id);
        let is_named = !client.client_id.is_empty();
        let must_end = is_named && of_client.clone().count() >= STREAMS_OF_CLIENT_MAX;
        if must_end && let Some(oldest) = of_client.clone().find(|one| !one.ended.is_cancelled()) {
            oldest.ended.cancel();
        }
        if streams.len() >= self.streams_max {
            return None;
        }

        let ended = CancellationToken::new();
        let client_id = client.client_id.clone();
        streams.push(OpenStream { number, client_id, kept_bytes: 0, ended: ended.clone() });
        self.count.0.fetch_add(1, Ordering::Relaxed);
        let user_id = client.user_id.clone();
        Some(StreamPlace { streams: Arc::clone(self), user_id, number, ended })
    }

    fn lock(&self) -> MutexGuard<'_, Users> {
        // Each change of the state is complete before anything can panic.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StreamPlace {
    /// Notes what the stream keeps of its request. Returns `false` if that is too much, together with
    /// what the other streams of the user keep.
    pub(crate) fn keep(&self, bytes: usize) -> bool {
        let mut users = self.streams.lock();
        let Some(streams) = users.by_id.get_mut(&self.user_id) else { return false };
        let kept: usize = streams.iter().map(|stream| stream.kept_bytes).sum();
        if let Some(own) = streams.iter_mut().find(|stream| stream.number == self.number) {
            own.kept_bytes = bytes;
        }
        kept.saturating_add(bytes) <= KEPT_BYTES_MAX
    }

    /// Waits until the stream must end, because later ones of its client need the place.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.streams.count.0.fetch_sub(1, Ordering::Relaxed);
        let mut users = self.streams.lock();
        if let Some(streams) = users.by_id.get_mut(&self.user_id) {
            streams.retain(|stream| stream.number != self.number);
            if streams.is_empty() {
                users.by_id.remove(&self.user_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(user_id: &str, client_id: &str) -> ClientKey {
        ClientKey { user_id: user_id.to_owned(), client_id: client_id.to_owned() }
    }

    fn is_ended(place: &StreamPlace) -> bool {
        place.ended.is_cancelled()
    }

    #[test]
    fn a_user_has_a_bounded_number_of_streams() {
        let streams = Arc::new(OpenStreams::new(3, OpenStreamCount::default()));
        let open: Vec<_> = (0..3).map(|n| streams.open(&client("u1", &n.to_string()))).collect();
        assert!(open.iter().all(Option::is_some));
        assert!(streams.open(&client("u1", "4")).is_none());
        assert!(streams.open(&client("u2", "4")).is_some());

        drop(open);
        assert!(streams.open(&client("u1", "4")).is_some());
        assert!(streams.lock().by_id.is_empty(), "nothing is kept of users without streams");
    }

    #[test]
    fn the_oldest_streams_of_a_client_end_for_later_ones() {
        let streams = Arc::new(OpenStreams::new(100, OpenStreamCount::default()));
        let same: Vec<_> = (0..12).map(|_| streams.open(&client("u1", "c")).unwrap()).collect();
        let other = streams.open(&client("u1", "d")).unwrap();
        assert_eq!(same.iter().filter(|place| is_ended(place)).count(), 2);
        assert!(is_ended(&same[0]) && is_ended(&same[1]) && !is_ended(&other));

        // Without a client id, nobody can tell whether two streams belong together.
        let nameless: Vec<_> = (0..12).map(|_| streams.open(&client("u1", "")).unwrap()).collect();
        assert!(!nameless.iter().any(is_ended));
    }

    #[test]
    fn what_the_streams_of_a_user_keep_is_bounded_together() {
        let streams = Arc::new(OpenStreams::new(100, OpenStreamCount::default()));
        let first = streams.open(&client("u1", "a")).unwrap();
        let second = streams.open(&client("u1", "b")).unwrap();
        assert!(first.keep(KEPT_BYTES_MAX - 10));
        assert!(!second.keep(11));
        assert!(streams.open(&client("u2", "a")).unwrap().keep(11));
        drop(first);
        assert!(streams.open(&client("u1", "c")).unwrap().keep(11));
    }
}
