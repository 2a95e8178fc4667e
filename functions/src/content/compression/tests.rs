use std::io::{Read, Write};

use proptest::prelude::*;

use super::*;

const CODINGS: [Coding; 2] = [Coding::Zstd, Coding::Gzip];

/// Compresses chunks. Returns each part of the response.
fn parts(coding: Coding, chunks: &[Vec<u8>]) -> Vec<Bytes> {
    let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from(chunk.clone()))).collect();
    let parts = compressed(stream::iter(chunks), coding).map(Result::unwrap).collect();
    futures::executor::block_on(parts)
}

/// Returns what an independent decoder has restored once it has read these bytes.
fn restored(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(bytes).unwrap();
            decoder.window_log_max(23).unwrap(); // As browsers do: 8 MB.
            decoder.read_to_end(&mut out).unwrap();
        }
        Coding::Gzip => {
            let mut decoder = flate2::write::GzDecoder::new(&mut out);
            decoder.write_all(bytes).unwrap();
            decoder.flush().unwrap();
            drop(decoder);
        }
    }
    out
}

fn lines(count: usize) -> Vec<u8> {
    let line = |n: usize| format!("{{\"op_id\":\"{n}\",\"data\":\"{}\"}}\n", n * 7919 % 1_000_003);
    (0..count).flat_map(|n| line(n).into_bytes()).collect()
}

#[test]
fn each_part_restores_everything_up_to_its_chunk() {
    for coding in CODINGS {
        let chunks = [lines(1), lines(30), lines(2_000), lines(1)];
        let mut sent = Vec::new();
        let mut expected = Vec::new();
        let parts = parts(coding, &chunks);
        for (part, chunk) in parts.iter().zip(&chunks) {
            sent.extend_from_slice(part);
            expected.extend_from_slice(chunk);
            assert_eq!(restored(coding, &sent), expected, "{coding:?}");
        }
    }
}

#[test]
fn a_large_chunk_is_sent_in_pieces() {
    for coding in CODINGS {
        let large = lines(100_000);
        let parts = parts(coding, std::slice::from_ref(&large));
        assert!(parts.len() > large.len() / PIECE_BYTES, "{}", parts.len());
        assert_eq!(restored(coding, &parts.concat()), large);
        assert!(parts.concat().len() * 3 < large.len());
    }
}

#[test]
fn a_whole_gzip_response_is_one_valid_member() {
    let chunks = [lines(10), lines(3_000), lines(1)];
    let response = parts(Coding::Gzip, &chunks).concat();
    let mut out = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(&response[..]);
    decoder.read_to_end(&mut out).unwrap(); // Checks the checksum and the length.
    assert_eq!(out, chunks.concat());
    assert!(decoder.into_inner().is_empty(), "nothing follows the member");
}

#[test]
fn a_failure_cuts_the_response_after_what_was_sent() {
    for coding in CODINGS {
        let chunks = [Ok(Bytes::from(lines(3))), Err(io::Error::other("cut"))];
        let parts: Vec<_> =
            futures::executor::block_on(compressed(stream::iter(chunks), coding).collect());
        assert_eq!(parts.len(), 2, "no end follows a failure");
        assert_eq!(restored(coding, parts[0].as_ref().unwrap()), lines(3));
        assert!(parts[1].is_err());
    }
}

#[test]
fn an_empty_stream_is_an_empty_response() {
    for coding in CODINGS {
        assert!(parts(coding, &[]).is_empty());
    }
}

proptest! {
    #[test]
    fn any_chunks_are_restored(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..5_000), 1..8),
    ) {
        for coding in CODINGS {
            prop_assert_eq!(restored(coding, &parts(coding, &chunks).concat()), chunks.concat());
        }
    }
}
