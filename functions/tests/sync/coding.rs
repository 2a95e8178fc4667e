//! Content codings of responses.

use std::io::Write;

use reqwest::Response;

/// Restores a response as it arrives.
pub(crate) enum Decoder {
    Identity(Vec<u8>),
    Zstd(zstd::stream::write::Decoder<'static, Vec<u8>>),
    Gzip(Box<flate2::write::GzDecoder<Vec<u8>>>),
}

impl Decoder {
    /// Returns the decoder for the coding that the response names.
    pub(crate) fn of(response: &Response) -> Self {
        match response.headers().get("content-encoding") {
            None => Self::Identity(Vec::new()),
            Some(coding) => Self::new(coding.to_str().unwrap()),
        }
    }

    pub(crate) fn new(coding: &str) -> Self {
        match coding {
            "zstd" => Self::Zstd(zstd::stream::write::Decoder::new(Vec::new()).unwrap()),
            "gzip" => Self::Gzip(Box::new(flate2::write::GzDecoder::new(Vec::new()))),
            _ => panic!("no server sends the coding {coding}"),
        }
    }

    /// Returns everything that the bytes so far restore.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> &[u8] {
        match self {
            Self::Identity(restored) => {
                restored.extend_from_slice(bytes);
                restored
            }
            Self::Zstd(decoder) => {
                decoder.write_all(bytes).unwrap();
                decoder.flush().unwrap();
                decoder.get_ref()
            }
            Self::Gzip(decoder) => {
                decoder.write_all(bytes).unwrap();
                decoder.flush().unwrap();
                decoder.get_ref()
            }
        }
    }
}
