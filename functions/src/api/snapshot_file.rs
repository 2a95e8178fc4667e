//! Serves snapshot files of a store that has no addresses of its own.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use tidewater_storage::Storage;

use super::error::ApiError;
use crate::snapshot_url::SignedObject;

/// Bytes read from the store at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// Serves an object, or the range of it that the headers ask for.
pub(crate) async fn serve<S: Storage>(
    storage: S,
    address: SignedObject,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let size = address.bytes;
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let (start, end) = match range.map(|range| parse_range(range, size)) {
        None | Some(RequestedRange::Whole) => (0, size),
        Some(RequestedRange::Part(start, end)) => (start, end),
        Some(RequestedRange::Unsatisfiable) => {
            let whole = [(CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, whole).into_response());
        }
    };
    // The first piece is read before the head is sent: what is not there can still be said so.
    let first = read_piece(&storage, &address.object, start, end).await?;
    let rest = start + first.len() as u64;
    let object = address.object;
    let pieces = stream::unfold((storage, object, rest), move |(storage, object, at)| async move {
        if at >= end {
            return None;
        }
        let read = read_piece(&storage, &object, at, end).await;
        let read = read.map_err(|_| std::io::Error::other("the object cannot be read"));
        let at = read.as_ref().map_or(end, |read| at + read.len() as u64);
        Some((read, (storage, object, at)))
    });
    let first = stream::once(async { Ok::<_, std::io::Error>(first) });
    let body = Body::from_stream(futures::StreamExt::chain(first, pieces));
    let mut response = (
        [
            (CONTENT_TYPE, "application/zstd".to_owned()),
            (ACCEPT_RANGES, "bytes".to_owned()),
            (CACHE_CONTROL, "private, max-age=3600".to_owned()),
            (CONTENT_LENGTH, (end - start).to_string()),
        ],
        body,
    )
        .into_response();
    if range.is_some() && (start, end) != (0, size) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let what = format!("bytes {start}-{}/{size}", end - 1);
        if let Ok(what) = what.parse() {
            response.headers_mut().insert(CONTENT_RANGE, what);
        }
    }
    Ok(response)
}

async fn read_piece<S: Storage>(
    storage: &S,
    object: &str,
    start: u64,
    end: u64,
) -> Result<Bytes, ApiError> {
    let end = end.min(start.saturating_add(PIECE_BYTES));
    let read = storage.object_range(object, start..end).await?;
    let read = read.ok_or(ApiError::AddressRefused)?;
    // An object that is shorter than its catalog says would never end.
    if (read.len() as u64) < end - start {
        return Err(ApiError::Internal("a stored object is shorter than it should be"));
    }
    Ok(read)
}

enum RequestedRange {
    /// What we do not understand is answered whole, as HTTP allows.
    Whole,
    Part(u64, u64),
    Unsatisfiable,
}

/// Reads one range of bytes: `bytes=5-9`, `bytes=5-`, `bytes=-5`.
fn parse_range(range: &str, size: u64) -> RequestedRange {
    let read = || {
        let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
        if start.is_empty() {
            let last: u64 = end.parse().ok()?;
            return Some((size.saturating_sub(last), size));
        }
        let start = start.parse().ok()?;
        let end = if end.is_empty() { u64::MAX } else { end.parse().ok()? };
        (start <= end).then_some((start, end.saturating_add(1).min(size)))
    };
    match read() {
        None => RequestedRange::Whole,
        Some((start, end)) if start >= end => RequestedRange::Unsatisfiable,
        Some((start, end)) => RequestedRange::Part(start, end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_says() {
        let check = |range, expected: Option<(u64, u64)>| match parse_range(range, 10) {
            RequestedRange::Part(start, end) => assert_eq!(Some((start, end)), expected, "{range}"),
            RequestedRange::Whole => assert_eq!(expected, Some((0, 0)), "{range}"),
            RequestedRange::Unsatisfiable => assert_eq!(expected, None, "{range}"),
        };
        check("bytes=0-4", Some((0, 5)));
        check("bytes=5-", Some((5, 10)));
        check("bytes=8-100", Some((8, 10)));
        check("bytes=-3", Some((7, 10)));
        check("bytes=-30", Some((0, 10)));
        check("bytes=10-", None);
        check("bytes=-0", None);
        // Not one range of bytes: answered whole.
        for other in ["bytes=5-4", "bytes=0-1,3-4", "lines=1-2", "bytes=a-b", ""] {
            check(other, Some((0, 0)));
        }
    }
}
