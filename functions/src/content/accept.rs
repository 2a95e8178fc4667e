//! Content negotiation: which forms of a stream a client accepts.

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, ACCEPT_ENCODING, HeaderName};

/// Content type of a stream of BSON documents. SDKs compare it for equality, so it has no parameter.
pub(crate) const BSON_STREAM: &str = "application/vnd.powersync.bson-stream";

/// Content type of a stream of JSON lines.
const JSON_STREAM: &str = "application/x-ndjson";

/// A content coding of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// Zstandard.
    Zstd,
    /// Gzip.
    Gzip,
}

impl Coding {
    /// Returns the name in `Content-Encoding`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

/// Returns whether the client accepts BSON lines and prefers them to JSON.
///
/// It must name their type: a client that accepts anything is sent JSON, which every SDK reads.
pub(crate) fn accepts_bson(headers: &HeaderMap) -> bool {
    let Some(bson) = quality(headers, &ACCEPT, &[BSON_STREAM]).filter(|quality| *quality > 0)
    else {
        return false;
    };

    match quality(headers, &ACCEPT, &[JSON_STREAM]) {
        Some(json) => bson > json,
        // Of equals, the type that is named is preferred to one that a wildcard covers.
        None => quality(headers, &ACCEPT, &["application/*", "*/*"]).is_none_or(|any| bson >= any),
    }
}

/// Returns the best coding that the client accepts and we have; `None` for an uncompressed
/// response. Of codings that the client likes equally, zstd is smaller and takes less time.
///
/// A coding must be named: `*` comes from tools that do not decode anything.
pub(crate) fn accepted_coding(headers: &HeaderMap) -> Option<Coding> {
    let quality = |names: &[&str]| quality(headers, &ACCEPT_ENCODING, names).unwrap_or(0);
    let (zstd, gzip) = (quality(&["zstd"]), quality(&["gzip", "x-gzip"]));
    if zstd == 0 && gzip == 0 {
        return None;
    }
    Some(if zstd >= gzip { Coding::Zstd } else { Coding::Gzip })
}

/// Returns the greatest quality that a list header gives to one of the names, in thousandths. `None`
/// if it has none of them.
fn quality(headers: &HeaderMap, header: &HeaderName, names: &[&str]) -> Option<u16> {
    let lists = headers.get_all(header).into_iter().filter_map(|list| list.to_str().ok());
    let items = lists.flat_map(|list| list.split(','));

    let named = items.filter_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next()?;
        let is_named = names.iter().any(|one| one.eq_ignore_ascii_case(name));
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        is_named.then(|| weight.map_or(1_000, thousandths))
    });
    named.max()
}

/// Reads a weight such as `0.8`. One that cannot be read counts as 0, so that nothing is sent that the
/// client might not read.
fn thousandths(weight: &str) -> u16 {
    let weight = weight.parse::<f32>().ok().filter(|weight| (0.0..=1.0).contains(weight));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1000")]
    weight.map_or(0, |weight| (weight * 1_000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(header: &HeaderName, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header, value.parse().unwrap());
        }
        headers
    }

    fn check_bson(accept: &[&'static str], expected: bool) {
        assert_eq!(accepts_bson(&headers(&ACCEPT, accept)), expected, "{accept:?}");
    }

    #[test]
    fn bson_is_sent_where_it_is_named_and_preferred() {
        // The JavaScript SDKs.
        check_bson(
            &["application/vnd.powersync.bson-stream;q=0.9,application/x-ndjson;q=0.8"],
            true,
        );
        check_bson(&["application/vnd.powersync.bson-stream"], true);
        check_bson(&["Application/Vnd.PowerSync.BSON-Stream ; Q=0.5"], true);
        check_bson(&["application/x-ndjson;q=0.1", "application/vnd.powersync.bson-stream"], true);
        check_bson(&["application/vnd.powersync.bson-stream, */*"], true);
        check_bson(&["application/vnd.powersync.bson-stream, */*;q=0.1"], true);
    }

    #[test]
    fn json_is_sent_in_all_other_cases() {
        check_bson(&[], false);
        check_bson(&[""], false);
        check_bson(&["*/*"], false);
        check_bson(&["application/*"], false);
        check_bson(&["application/x-ndjson"], false);
        check_bson(&["application/vnd.powersync.bson-stream;q=0"], false);
        check_bson(&["application/vnd.powersync.bson-stream;q=abc"], false);
        check_bson(&["application/vnd.powersync.bson-stream;q=0.5, */*"], false);
        check_bson(&["application/x-ndjson, application/vnd.powersync.bson-stream"], false);
        check_bson(
            &["application/x-ndjson;q=0.9,application/vnd.powersync.bson-stream;q=0.8"],
            false,
        );
        check_bson(&["application/vnd.powersync.bson-streams"], false);
        check_bson(&["application/bson"], false);
    }

    fn check_coding(accept: &[&'static str], expected: Option<Coding>) {
        let accepted = accepted_coding(&headers(&ACCEPT_ENCODING, accept));
        assert_eq!(accepted, expected, "{accept:?}");
    }

    #[test]
    fn zstd_is_preferred_to_gzip_unless_the_client_says_otherwise() {
        check_coding(&["gzip, deflate, br, zstd"], Some(Coding::Zstd));
        check_coding(&["gzip, deflate, br"], Some(Coding::Gzip));
        check_coding(&["GZIP"], Some(Coding::Gzip));
        check_coding(&["x-gzip"], Some(Coding::Gzip));
        check_coding(&["gzip", "zstd"], Some(Coding::Zstd));
        check_coding(&["gzip;q=1.0, zstd;q=0.5"], Some(Coding::Gzip));
        check_coding(&["zstd;q=0, gzip"], Some(Coding::Gzip));
    }

    #[test]
    fn a_coding_that_is_not_named_is_not_used() {
        for accept in
            ["", "*", "identity", "br, deflate", "gzip;q=0", "zstd;q=0, gzip;q=0", "gzip;q=2"]
        {
            check_coding(&[accept], None);
        }
        check_coding(&[], None);
    }
}
