//! Restores a stream that the server has compressed, as it arrives.

use std::io::{self, Write};

use bytes::BytesMut;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use zstd::stream::write::Decoder;

/// The codings that the client accepts, as the value of `Accept-Encoding`.
pub(super) const ACCEPTED: &str = "zstd";

/// Logarithm of the longest window that is accepted: 8 MB, as RFC 9659 recommends. It bounds the memory
/// of the decoder.
const WINDOW_LOG_MAX: u32 = 23;

/// Number of compressed bytes that are restored at once. Zstandard turns them into 30 MB at most.
const PIECE_BYTES: usize = 1 << 10;

/// The decoder of one response.
pub(super) enum ContentDecoder {
    /// The response is not compressed.
    Identity,
    /// The response is a sequence of Zstandard frames.
    Zstd(Box<Decoder<'static, Vec<u8>>>),
}

impl ContentDecoder {
    /// Returns the decoder of a response with these headers. `None` if it has a coding that the client
    /// does not accept.
    pub(super) fn of(headers: &HeaderMap) -> io::Result<Option<Self>> {
        let Some(coding) = headers.get(CONTENT_ENCODING) else { return Ok(Some(Self::Identity)) };
        if coding != ACCEPTED {
            return Ok(None);
        }
        let mut decoder = Decoder::new(Vec::new())?;
        decoder.window_log_max(WINDOW_LOG_MAX)?;
        Ok(Some(Self::Zstd(Box::new(decoder))))
    }

    /// Appends what the next bytes of the response restore. Fails if the buffer would have more than
    /// `bytes_max` bytes.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        buffer: &mut BytesMut,
        bytes_max: usize,
    ) -> io::Result<()> {
        let Self::Zstd(decoder) = self else {
            buffer.extend_from_slice(bytes);
            return Ok(());
        };
        for piece in bytes.chunks(PIECE_BYTES) {
            decoder.write_all(piece)?;
            decoder.flush()?;
            let restored = decoder.get_mut();
            buffer.extend_from_slice(restored);
            restored.clear();
            if buffer.len() > bytes_max {
                return Err(io::Error::other(format!("more than {bytes_max} bytes at once")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn decoder(coding: Option<&'static str>) -> Option<ContentDecoder> {
        let mut headers = HeaderMap::new();
        if let Some(coding) = coding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        ContentDecoder::of(&headers).unwrap()
    }

    #[test]
    fn each_frame_is_restored_when_its_last_byte_arrives() {
        let mut decoder = decoder(Some("zstd")).unwrap();
        let mut buffer = BytesMut::new();
        for line in ["one\n", "two\n"] {
            let frame = zstd::bulk::compress(line.repeat(10_000).as_bytes(), 2).unwrap();
            for byte in frame.chunks(1) {
                decoder.push(byte, &mut buffer, 1 << 20).unwrap();
            }
            assert_eq!(buffer.split(), line.repeat(10_000));
        }
    }

    #[test]
    fn a_response_without_coding_stays_as_it_is() {
        let mut buffer = BytesMut::new();
        decoder(None).unwrap().push(b"one\n", &mut buffer, 10).unwrap();
        assert_eq!(buffer, "one\n");
    }

    #[test]
    fn what_cannot_be_restored_is_an_error() {
        assert!(decoder(Some("gzip")).is_none());
        let mut buffer = BytesMut::new();
        assert!(decoder(Some("zstd")).unwrap().push(b"one\n", &mut buffer, 10).is_err());

        // A few bytes that stand for many.
        let bomb = zstd::bulk::compress(&vec![0; 100 << 20], 2).unwrap();
        assert!(decoder(Some("zstd")).unwrap().push(&bomb, &mut buffer, 1 << 20).is_err());
        assert!(buffer.len() < 40 << 20);
    }
}
