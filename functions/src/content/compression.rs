//! Compression of a stream of chunks.
//!
//! Each chunk is compressed by itself, completely. So no line is held back, and a stream that waits
//! keeps no compressor: most streams wait most of the time, and a compressor takes up to a megabyte.
//! There is one for each thread, used by all streams. What is lost is small, since the chunks of a
//! large download are large.
//!
//! A zstd response is a sequence of frames. A gzip response is one member, because browsers ignore a
//! second one: its DEFLATE blocks of one chunk never refer to those of another, so they can come from
//! different compressors. Only checksum and length are carried on.

use std::cell::RefCell;
use std::io;

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use futures::{Stream, StreamExt, stream};
use metrics::counter;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::accept::Coding;
use crate::metrics::COMPRESSED_BYTES;

/// Size in bytes up to which a chunk is compressed at once. Compression holds its thread, for about a
/// millisecond with this size. A larger window would save few percent.
const PIECE_BYTES: usize = 256 << 10;

/// Level of zstd. It is fast enough for the network, and higher levels save little on JSON.
const ZSTD_LEVEL: i32 = 2;

/// Level of DEFLATE. The time doubles towards level 6, for a tenth of the size.
const GZIP_LEVEL: u32 = 3;

/// Header of a gzip member: DEFLATE, no name, no time, unknown system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// An empty final DEFLATE block.
const LAST_BLOCK: [u8; 2] = [3, 0];

thread_local! {
    static ZSTD: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DEFLATE: RefCell<Option<Compress>> = const { RefCell::new(None) };
}

/// The state of a compressed response between two chunks.
pub(super) enum Encoder {
    Zstd,
    Gzip { crc: Crc, is_begun: bool },
}

/// Compresses the chunks of a response. A failure of the chunks is passed on, and cuts the response.
pub(crate) fn compressed<S>(chunks: S, coding: Coding) -> impl Stream<Item = io::Result<Bytes>>
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let state = (Box::pin(chunks), Bytes::new(), Some(Encoder::new(coding)));
    stream::unfold(state, |(mut chunks, mut rest, encoder)| async move {
        let mut encoder = encoder?;
        if rest.is_empty() {
            rest = match chunks.next().await {
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => return Some((Err(error), (chunks, rest, None))),
                None => {
                    let end = encoder.end();
                    return (!end.is_empty()).then(|| (Ok(end.into()), (chunks, rest, None)));
                }
            };
        }

        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        let (piece, next) = match encoder.encode(&piece) {
            Ok(piece) => (Ok(piece.into()), Some(encoder)),
            Err(error) => (Err(error), None),
        };
        Some((piece, (chunks, rest, next)))
    })
}

impl Encoder {
    pub(super) fn new(coding: Coding) -> Self {
        match coding {
            Coding::Zstd => Self::Zstd,
            Coding::Gzip => Self::Gzip { crc: Crc::new(), is_begun: false },
        }
    }

    /// Returns a piece in its compressed form, from which a client can restore the whole piece.
    fn encode(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        let compressed = self.compress(piece)?;
        self.note_sent(piece, &compressed);
        Ok(compressed)
    }

    /// Returns the compressed form of what may be sent next. It is sent only once it is noted.
    pub(super) fn compress(&self, chunk: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        if matches!(self, Self::Gzip { is_begun: false, .. }) {
            out.extend_from_slice(&GZIP_HEADER);
        }
        for piece in chunk.chunks(PIECE_BYTES) {
            match self {
                Self::Zstd => out.append(&mut zstd_frame(piece)?),
                Self::Gzip { .. } => {
                    out.reserve(piece.len() / 2 + 64);
                    deflate_blocks(piece, &mut out)?;
                }
            }
        }
        Ok(out)
    }

    /// Notes that a chunk is sent in its compressed form.
    pub(super) fn note_sent(&mut self, chunk: &[u8], compressed: &[u8]) {
        let name = match self {
            Self::Zstd => Coding::Zstd.name(),
            Self::Gzip { crc, is_begun } => {
                *is_begun = true;
                crc.update(chunk);
                Coding::Gzip.name()
            }
        };
        counter!(COMPRESSED_BYTES, "coding" => name).increment(compressed.len() as u64);
    }

    /// Returns the end of the response.
    pub(super) fn end(&self) -> Vec<u8> {
        match self {
            Self::Zstd | Self::Gzip { is_begun: false, .. } => Vec::new(),
            Self::Gzip { crc, is_begun: true } => {
                let parts =
                    [&LAST_BLOCK[..], &crc.sum().to_le_bytes(), &crc.amount().to_le_bytes()];
                parts.concat()
            }
        }
    }
}

fn zstd_frame(piece: &[u8]) -> io::Result<Vec<u8>> {
    ZSTD.with_borrow_mut(|compressor| {
        let compressor = match compressor {
            Some(compressor) => compressor,
            none @ None => {
                let mut new = Compressor::new(ZSTD_LEVEL)?;
                // Without its size a frame names its window, which browsers limit to 8 MB.
                new.set_parameter(CParameter::ContentSizeFlag(false))?;
                none.insert(new)
            }
        };
        compressor.compress(piece)
    })
}

/// Appends DEFLATE blocks that end at a whole byte. None of them is the last of its stream.
fn deflate_blocks(piece: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    DEFLATE.with_borrow_mut(|compress| {
        let new = || Compress::new(Compression::new(GZIP_LEVEL), false);
        let compress = compress.get_or_insert_with(new);
        compress.reset();

        loop {
            let read = usize::try_from(compress.total_in()).map_err(io::Error::other)?;
            let status = compress.compress_vec(&piece[read..], out, FlushCompress::Sync)?;
            // The flush is complete once it leaves room.
            if out.len() < out.capacity() {
                debug_assert_eq!(compress.total_in(), piece.len() as u64);
                return match status {
                    Status::Ok | Status::BufError => Ok(()),
                    Status::StreamEnd => Err(io::Error::other("the compressed stream ended early")),
                };
            }
            out.reserve(out.capacity().max(256));
        }
    })
}

#[cfg(test)]
mod tests;
