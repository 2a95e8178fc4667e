//! Answers of bounded length: a function may not send more.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};

use super::accept::Coding;
use super::compression::Encoder;
use crate::stream_log::{StreamEnd, StreamLimit, StreamTally};

/// Bytes that are reserved for the last line and the end of a compressed answer.
const RESERVED_BYTES: usize = 256;

/// The bound of an answer.
pub(crate) struct AnswerBound {
    /// Maximum length in bytes, as they are sent: after compression.
    pub(crate) bytes_max: usize,
    /// The line that takes the place of what would exceed the bound.
    pub(crate) last_line: Bytes,
    /// The account of the stream.
    pub(crate) tally: Arc<StreamTally>,
}

/// An answer that is being sent.
struct Bounded<S> {
    chunks: Pin<Box<S>>,
    /// None if the answer is not compressed.
    encoder: Option<Encoder>,
    bound: AnswerBound,
    sent_bytes: usize,
    is_over: bool,
}

/// Compresses the chunks of a response if it has a coding, and ends it before it exceeds the bound. All its
/// lines are whole, and the client resumes after the last one. The first chunk is sent whatever its length.
///
/// Only its compressed form tells whether a chunk fits. Metrics have counted the lines of the chunk that does
/// not.
pub(crate) fn bounded<S>(
    chunks: S,
    coding: Option<Coding>,
    bound: AnswerBound,
) -> impl Stream<Item = io::Result<Bytes>>
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let encoder = coding.map(Encoder::new);
    let state = Bounded { chunks: Box::pin(chunks), encoder, bound, sent_bytes: 0, is_over: false };
    stream::unfold(state, |mut state| async move {
        let next = state.next().await?;
        Some((next, state))
    })
}

impl<S: Stream<Item = io::Result<Bytes>>> Bounded<S> {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.is_over {
            return None;
        }
        let next = match self.chunks.next().await {
            Some(Ok(chunk)) => self.chunk_or_end(&chunk),
            Some(Err(error)) => Err(error),
            None => {
                self.is_over = true;
                let end = self.encoder.as_ref().map(Encoder::end).unwrap_or_default();
                return (!end.is_empty()).then(|| Ok(end.into()));
            }
        };
        self.is_over |= next.is_err();
        Some(next)
    }

    /// Returns a chunk as it is sent or, if it does not fit, the end of the answer.
    fn chunk_or_end(&mut self, chunk: &Bytes) -> io::Result<Bytes> {
        let encoded = self.encode(chunk)?;
        let length = self.sent_bytes + encoded.len() + RESERVED_BYTES;
        if self.sent_bytes == 0 || length <= self.bound.bytes_max {
            self.note_sent(chunk, &encoded);
            return Ok(encoded);
        }

        self.is_over = true;
        self.bound.tally.end(StreamEnd::Limit(StreamLimit::AnswerBytes));
        let last_line = self.bound.last_line.clone();
        let encoded = self.encode(&last_line)?;
        self.note_sent(&last_line, &encoded);
        let end = self.encoder.as_ref().map(Encoder::end).unwrap_or_default();
        Ok([&encoded[..], &end].concat().into())
    }

    fn encode(&self, chunk: &Bytes) -> io::Result<Bytes> {
        match &self.encoder {
            Some(encoder) => Ok(encoder.compress(chunk)?.into()),
            None => Ok(chunk.clone()),
        }
    }

    fn note_sent(&mut self, chunk: &[u8], encoded: &[u8]) {
        self.sent_bytes += encoded.len();
        if let Some(encoder) = &mut self.encoder {
            encoder.note_sent(chunk, encoded);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Bytes that do not compress.
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        (0..length).map(|_| next()).collect()
    }

    async fn answer(chunks: &[Vec<u8>], coding: Option<Coding>, bytes_max: usize) -> Vec<u8> {
        let chunks: Vec<_> = chunks.iter().cloned().map(|chunk| Ok(chunk.into())).collect();
        let bound = AnswerBound {
            bytes_max,
            last_line: Bytes::from_static(b"last\n"),
            tally: Arc::default(),
        };
        let answer: Vec<io::Result<Bytes>> =
            bounded(stream::iter(chunks), coding, bound).collect().await;
        answer.into_iter().map(Result::unwrap).collect::<Vec<_>>().concat()
    }

    fn decoded(bytes: &[u8], coding: Option<Coding>) -> Vec<u8> {
        let mut plain = Vec::new();
        match coding {
            Some(Coding::Zstd) => plain = zstd::decode_all(bytes).unwrap(),
            Some(Coding::Gzip) => {
                flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
            }
            None => plain.extend_from_slice(bytes),
        }
        plain
    }

    #[tokio::test]
    async fn an_answer_ends_with_the_last_line_before_its_bound() {
        let chunks: Vec<_> = (0..10).map(|seed| noise(seed, 100_000)).collect();
        for coding in [None, Some(Coding::Zstd), Some(Coding::Gzip)] {
            let answer = answer(&chunks, coding, 350_000).await;
            assert!((300_000..=350_000).contains(&answer.len()), "{coding:?}: {}", answer.len());
            let expected = [&chunks[..3].concat()[..], b"last\n"].concat();
            assert!(decoded(&answer, coding) == expected, "{coding:?}");
        }
    }

    #[tokio::test]
    async fn the_bound_is_on_what_is_sent() {
        let chunks = vec![vec![b'x'; 1_000_000]; 10];
        for coding in [Coding::Zstd, Coding::Gzip] {
            let answer = answer(&chunks, Some(coding), 350_000).await;
            assert!(decoded(&answer, Some(coding)) == chunks.concat(), "{coding:?}");
        }
    }

    #[tokio::test]
    async fn the_first_chunk_is_sent_whatever_its_length() {
        let chunks = [noise(1, 5_000), noise(2, 10)];
        let answer = answer(&chunks, None, 1_000).await;
        assert!(answer == [&chunks[0][..], b"last\n"].concat());
    }

    #[tokio::test]
    async fn an_answer_that_fits_has_no_last_line() {
        let chunks = [noise(1, 500), noise(2, 200)];
        assert!(answer(&chunks, None, 1_000).await == chunks.concat());
    }
}
