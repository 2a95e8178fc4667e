//! Serves snapshot files of a store that has no addresses of its own.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE,
    REFERRER_POLICY,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tidewater_storage::ObjectStore;

use super::error::ApiError;
use crate::snapshot_url::SignedObject;

/// Bytes that are read from the store at a time. Snapshot files have up to 1 GiB; a megabyte costs
/// little memory per download, and few calls.
const PIECE_BYTES: u64 = 1 << 20;

/// Serves an object, or the range of it that the headers request.
pub(super) async fn serve<S: ObjectStore + Clone + 'static>(
    storage: S,
    object: SignedObject,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let size = object.bytes;
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok());
    let requested = range.map_or(RequestedRange::Whole, |range| parse_range(range, size));
    let (start, end) = match requested {
        RequestedRange::Whole => (0, size),
        RequestedRange::Part(start, end) => (start, end),
        RequestedRange::Unsatisfiable => {
            let whole = [(CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, whole).into_response());
        }
    };

    // The first piece is read before the head is sent, so that a deleted object gets a status of
    // its own.
    let first = read_piece(&storage, &object.object, start, end).await?;
    let body = pieces(storage, object.object, first, start, end);

    let mut response = (
        [
            (CONTENT_TYPE, "application/zstd".to_owned()),
            (ACCEPT_RANGES, "bytes".to_owned()),
            // Who has lost a right must not find the file in a cache.
            (CACHE_CONTROL, "private, no-store".to_owned()),
            // The address is the permission, so it must not reach another site.
            (REFERRER_POLICY, "no-referrer".to_owned()),
            (CONTENT_LENGTH, (end - start).to_string()),
        ],
        Body::from_stream(body),
    )
        .into_response();
    if range.is_some() && (start, end) != (0, size) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let content_range = format!("bytes {start}-{}/{size}", end - 1);
        if let Ok(content_range) = content_range.parse() {
            response.headers_mut().insert(CONTENT_RANGE, content_range);
        }
    }
    Ok(response)
}

/// Returns the pieces of an object from `start` to `end`, of which the first has been read. The
/// others are read as they are pulled.
fn pieces<S: ObjectStore + Clone>(
    storage: S,
    object: String,
    first: Bytes,
    start: u64,
    end: u64,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    let after_first = start + first.len() as u64;
    let rest = stream::unfold(after_first, move |at| {
        let storage = storage.clone();
        let object = object.clone();
        async move {
            if at >= end {
                return None;
            }
            let read = read_piece(&storage, &object, at, end).await;
            let read = read.map_err(|_| std::io::Error::other("the object cannot be read"));
            let next = read.as_ref().map_or(end, |read| at + read.len() as u64);
            Some((read, next))
        }
    });

    stream::once(async { Ok(first) }).chain(rest)
}

async fn read_piece<S: ObjectStore>(
    storage: &S,
    object: &str,
    start: u64,
    end: u64,
) -> Result<Bytes, ApiError> {
    let end = end.min(start.saturating_add(PIECE_BYTES));
    let read = storage.object_range(object, start..end).await?;
    let read = read.ok_or(ApiError::AddressRefused)?;

    // A download of an object that is shorter than its catalog says would never end.
    if (read.len() as u64) < end - start {
        return Err(ApiError::Internal("a stored object is shorter than it should be"));
    }
    Ok(read)
}

/// The bytes that a `Range` header requests.
enum RequestedRange {
    /// The whole object. HTTP allows this answer to a range that the server does not understand.
    Whole,
    /// The bytes from the first number up to, but not including, the second.
    Part(u64, u64),
    /// Bytes that do not exist.
    Unsatisfiable,
}

/// Parses one range of bytes: `bytes=5-9`, `bytes=5-`, `bytes=-5`.
fn parse_range(range: &str, size: u64) -> RequestedRange {
    match parse_bounds(range, size) {
        None => RequestedRange::Whole,
        Some((start, end)) if start >= end => RequestedRange::Unsatisfiable,
        Some((start, end)) => RequestedRange::Part(start, end),
    }
}

fn parse_bounds(range: &str, size: u64) -> Option<(u64, u64)> {
    let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
    if start.is_empty() {
        let length: u64 = end.parse().ok()?;
        return Some((size.saturating_sub(length), size));
    }
    let start = start.parse().ok()?;
    let end = if end.is_empty() { u64::MAX } else { end.parse().ok()? };
    (start <= end).then_some((start, end.saturating_add(1).min(size)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidewater_storage::Embedded;

    use super::*;
    use crate::snapshot_url::{PREFIX, SnapshotUrls};

    /// Checks the range of an object of ten bytes: `(0, 0)` is the whole object, `None` is an error.
    fn check(range: &str, expected: Option<(u64, u64)>) {
        match parse_range(range, 10) {
            RequestedRange::Part(start, end) => assert_eq!(Some((start, end)), expected, "{range}"),
            RequestedRange::Whole => assert_eq!(expected, Some((0, 0)), "{range}"),
            RequestedRange::Unsatisfiable => assert_eq!(expected, None, "{range}"),
        }
    }

    #[tokio::test]
    async fn a_file_is_neither_cached_nor_are_its_readers_sites_told_its_address() {
        let storage = Embedded::temporary().unwrap();
        storage.put_object("o", Bytes::from_static(b"content")).await.unwrap();
        let urls = SnapshotUrls::new(&[7; 32]);
        let signed = urls.sign("o", 7, Duration::from_secs(60));
        let object = urls.check(signed.strip_prefix(PREFIX).unwrap()).unwrap();

        let reply = serve(storage, object, &HeaderMap::new()).await.unwrap();
        assert_eq!(reply.headers()[CACHE_CONTROL], "private, no-store");
        assert_eq!(reply.headers()[REFERRER_POLICY], "no-referrer");
    }

    #[test]
    fn ranges_are_parsed_as_http_defines_them() {
        check("bytes=0-4", Some((0, 5)));
        check("bytes=5-", Some((5, 10)));
        check("bytes=8-100", Some((8, 10)));
        check("bytes=-3", Some((7, 10)));
        check("bytes=-30", Some((0, 10)));
        check("bytes=10-", None);
        check("bytes=-0", None);

        // Anything but one range of bytes gets the whole object.
        for other in ["bytes=5-4", "bytes=0-1,3-4", "lines=1-2", "bytes=a-b", ""] {
            check(other, Some((0, 0)));
        }
    }
}
