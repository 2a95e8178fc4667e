//! Signed addresses of snapshot files, for a store that has none of its own: this API serves them.
//!
//! An address names its object and its expiry, signed with a key that the process draws when it
//! starts. A client whose address comes from a former process is refused, and requests another.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::clock::unix_now;

/// The route that serves these addresses.
pub(crate) const PATH: &str = "/sync/snapshot/{address}";

/// The part of [`PATH`] before the signed address.
pub(crate) const PREFIX: &str = "/sync/snapshot/";

/// Signs and checks addresses.
pub(crate) struct SnapshotUrls {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

/// Longest lifetime of an address. A client begins to fetch as soon as it has the line, and a fetch that
/// has begun goes on. One that comes too late connects again, gets new addresses, and resumes.
const LIFETIME_MAX: Duration = Duration::from_secs(300);

/// Makes the addresses of one stream.
#[derive(Clone, Copy)]
pub(crate) struct SnapshotAddresses<'a> {
    pub(crate) urls: &'a SnapshotUrls,
    /// Lifetime of addresses: no longer than the stream's token.
    pub(crate) lifetime: Duration,
}

impl<'a> SnapshotAddresses<'a> {
    /// Returns the addresses of a stream whose token is valid for another `token_left`.
    pub(crate) fn new(urls: &'a SnapshotUrls, token_left: Duration) -> Self {
        // S3 refuses to sign an address that is valid for less than a second.
        Self { urls, lifetime: token_left.clamp(Duration::from_secs(1), LIFETIME_MAX) }
    }
}

/// An object that the owner of an address may fetch.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignedObject {
    pub(crate) object: String,
    pub(crate) bytes: u64,
    /// Expiry, in seconds since 1970.
    exp: i64,
}

impl SnapshotUrls {
    /// Creates a signer with a key that nobody else may know.
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
        }
    }

    /// Returns an address for an object of `bytes` bytes that is valid for `lifetime`.
    pub(crate) fn sign(&self, object: &str, bytes: u64, lifetime: Duration) -> String {
        let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
        let exp = unix_now().saturating_add(seconds);
        let object = SignedObject { object: object.to_owned(), bytes, exp };
        let signed = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &object, &self.encoding)
            .expect("a struct of strings and numbers can be signed");
        format!("{PREFIX}{signed}")
    }

    /// Returns the object of an address. `None` if the address is not ours or has expired.
    pub(crate) fn check(&self, signed: &str) -> Option<SignedObject> {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.leeway = 0;
        rules.set_required_spec_claims(&["exp"]);
        rules.validate_aud = false;
        let checked = jsonwebtoken::decode::<SignedObject>(signed, &self.decoding, &rules);
        checked.ok().map(|token| token.claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_live_for_five_minutes_and_no_longer_than_the_token() {
        let urls = SnapshotUrls::new(&[7; 32]);
        let lifetime = |left| SnapshotAddresses::new(&urls, Duration::from_secs(left)).lifetime;
        assert_eq!(lifetime(3_600), Duration::from_secs(300));
        assert_eq!(lifetime(40), Duration::from_secs(40));
    }

    #[test]
    fn an_address_is_valid_for_its_object_until_it_expires() {
        let urls = SnapshotUrls::new(&[7; 32]);
        let signed = urls.sign("snapshots/a/file-0", 9, Duration::from_secs(60));
        let address = urls.check(signed.strip_prefix(PREFIX).unwrap()).unwrap();
        assert_eq!((address.object.as_str(), address.bytes), ("snapshots/a/file-0", 9));
        let expired = SignedObject { object: "o".into(), bytes: 9, exp: unix_now() - 1 };
        let expired =
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &expired, &urls.encoding).unwrap();
        assert!(urls.check(&expired).is_none());
    }

    #[test]
    fn an_address_of_another_key_is_refused() {
        let signed = SnapshotUrls::new(&[7; 32]).sign("o", 9, Duration::from_secs(60));
        let other = SnapshotUrls::new(&[8; 32]);
        assert!(other.check(signed.strip_prefix(PREFIX).unwrap()).is_none());
        assert!(other.check("nonsense").is_none());
    }
}
