//! Frames: the pieces in which a file is compressed, fetched and checked.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use tidewater_protocol::{SnapshotFile, SnapshotFrame, SnapshotLine};

use crate::error::SnapshotError;
use crate::schema::PAGE_BYTES;

/// A reader takes no greater frame, since it holds it in memory.
pub const FRAME_RAW_BYTES_MAX: u64 = 64 << 20;
/// zstd makes at most this of bytes that cannot be compressed, and a little.
const FRAME_BYTES_MAX: u64 = FRAME_RAW_BYTES_MAX + (FRAME_RAW_BYTES_MAX >> 7);
/// A reader takes no greater file. Writers begin a new one at 1 GiB.
const FILE_RAW_BYTES_MAX: u64 = 8 << 30;
const FILES_MAX: usize = 4_096;

/// Whether a line's sizes make sense, so that they can be used to bound memory and disk.
///
/// # Errors
/// [`SnapshotError::Damaged`], naming what does not.
pub fn check_line(line: &SnapshotLine) -> Result<(), SnapshotError> {
    let damaged = |what: String| Err(SnapshotError::Damaged(what));
    if line.files.is_empty() || line.files.len() > FILES_MAX {
        return damaged(format!("it has {} files", line.files.len()));
    }
    for (at, file) in line.files.iter().enumerate() {
        let is_whole = (PAGE_BYTES..=FILE_RAW_BYTES_MAX).contains(&file.raw_bytes)
            && file.raw_bytes.is_multiple_of(PAGE_BYTES);
        let in_bounds = |frame: &SnapshotFrame| {
            (1..=FRAME_RAW_BYTES_MAX).contains(&frame.raw_bytes)
                && (1..=FRAME_BYTES_MAX).contains(&frame.bytes)
        };
        if !is_whole || !file.frames.iter().all(in_bounds) || raw_bytes(file) != file.raw_bytes {
            return damaged(format!("the sizes of file {at} are wrong"));
        }
    }
    Ok(())
}

/// To be called on frames that are in bounds.
fn raw_bytes(file: &SnapshotFile) -> u64 {
    file.frames.iter().map(|frame| frame.raw_bytes).fold(0, u64::saturating_add)
}

/// Unpacks a frame and proves that it is the announced one.
///
/// # Errors
/// [`SnapshotError::Damaged`] when it is not, among it when more comes out than announced.
pub fn unpack_frame(compressed: &[u8], frame: &SnapshotFrame) -> Result<Vec<u8>, SnapshotError> {
    let damaged = |what: String| SnapshotError::Damaged(what);
    if compressed.len() as u64 != frame.bytes {
        let got = compressed.len();
        return Err(damaged(format!("a frame of {} bytes has {got}", frame.bytes)));
    }
    let raw_bytes = usize::try_from(frame.raw_bytes.min(FRAME_RAW_BYTES_MAX))
        .map_err(|_| damaged("a frame is too large for this machine".to_owned()))?;
    // Never writes more than it is given room for.
    let raw = zstd::bulk::decompress(compressed, raw_bytes)
        .map_err(|error| damaged(format!("a frame cannot be unpacked ({error})")))?;
    if !frame_matches(&raw, frame) {
        return Err(damaged("a frame is not the one announced".to_owned()));
    }
    Ok(raw)
}

/// Whether these are the frame's unpacked bytes.
#[must_use]
pub fn frame_matches(raw: &[u8], frame: &SnapshotFrame) -> bool {
    raw.len() as u64 == frame.raw_bytes && frame.sha256.eq_ignore_ascii_case(&sha256(raw))
}

fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        write!(hex, "{byte:02x}").expect("a String takes every write");
    }
    hex
}

/// Compresses a file into frames, one after the other.
pub(crate) fn pack(
    raw: &Path,
    packed: &Path,
    frame_raw_bytes: u64,
    level: i32,
) -> Result<Vec<SnapshotFrame>, SnapshotError> {
    let reading = SnapshotError::file;
    let mut input = File::open(raw).map_err(reading(raw))?;
    let mut output = File::create(packed).map_err(reading(packed))?;
    let mut compressor = zstd::bulk::Compressor::new(level).map_err(reading(packed))?;
    let mut frames = Vec::new();
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let mut part = (&mut input).take(frame_raw_bytes);
        part.read_to_end(&mut buffer).map_err(reading(raw))?;
        if buffer.is_empty() {
            break;
        }
        let compressed = compressor.compress(&buffer).map_err(reading(packed))?;
        output.write_all(&compressed).map_err(reading(packed))?;
        frames.push(SnapshotFrame {
            bytes: compressed.len() as u64,
            raw_bytes: buffer.len() as u64,
            sha256: sha256(&buffer),
        });
    }
    fs::remove_file(raw).map_err(reading(raw))?;
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use tidewater_protocol::{Checksum, OpId};

    use super::*;

    fn frame(raw: &[u8]) -> (Vec<u8>, SnapshotFrame) {
        let compressed = zstd::bulk::compress(raw, 3).unwrap();
        let (bytes, raw_bytes) = (compressed.len() as u64, raw.len() as u64);
        (compressed, SnapshotFrame { bytes, raw_bytes, sha256: sha256(raw) })
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let (bomb, mut announced) = frame(&vec![0; 32 << 20]);
        assert!(bomb.len() < 4_096, "{}", bomb.len());
        announced.raw_bytes = 1_000;
        let refused = unpack_frame(&bomb, &announced).unwrap_err().to_string();
        assert!(refused.contains("cannot be unpacked"), "{refused}");
    }

    #[test]
    fn every_cut_and_every_changed_byte_of_a_frame_is_found() {
        let (compressed, announced) = frame(b"rows and rows and rows and rows");
        assert!(unpack_frame(&compressed, &announced).is_ok());
        for at in 0..compressed.len() {
            assert!(unpack_frame(&compressed[..at], &announced).is_err());
            let mut cut = announced.clone();
            cut.bytes = at as u64;
            assert!(unpack_frame(&compressed[..at], &cut).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut changed = compressed.clone();
                changed[at] ^= 1 << bit;
                // A bit that zstd does not use may differ: what comes out is the same.
                let unpacked = unpack_frame(&changed, &announced);
                assert!(
                    unpacked.is_err()
                        || unpacked.is_ok_and(|raw| raw == b"rows and rows and rows and rows")
                );
            }
        }
        let mut other = announced;
        other.sha256.replace_range(..1, if other.sha256.starts_with('0') { "1" } else { "0" });
        assert!(unpack_frame(&compressed, &other).is_err());
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused() {
        let good = SnapshotFrame { bytes: 900, raw_bytes: 8_192, sha256: String::new() };
        let line = |raw_bytes, frames: &[SnapshotFrame]| SnapshotLine {
            bucket: "b".into(),
            id: "x".into(),
            to: OpId::ZERO,
            checksum: Checksum::ZERO,
            rows: 0,
            count: 0,
            files: vec![SnapshotFile { url: String::new(), raw_bytes, frames: frames.to_vec() }],
        };
        let with = |bytes, raw_bytes| SnapshotFrame { bytes, raw_bytes, ..good.clone() };
        assert!(check_line(&line(8_192, std::slice::from_ref(&good))).is_ok());
        assert!(check_line(&SnapshotLine { files: vec![], ..line(0, &[]) }).is_err());
        for (raw_bytes, frames) in [
            (0, vec![]),
            (8_192, vec![]),
            (4_096, vec![good.clone()]),
            (16_384, vec![good.clone()]),
            (8_193, vec![with(900, 8_193)]),
            (8_192, vec![good.clone(), with(1, 0)]),
            (8_192, vec![with(0, 8_192)]),
            (8_192, vec![with(u64::MAX, 8_192)]),
            (u64::MAX, vec![with(1, u64::MAX)]),
            (8_192, vec![with(1, u64::MAX), with(1, 8_193)]),
            (1 << 40, vec![with(1, 1 << 40)]),
        ] {
            assert!(check_line(&line(raw_bytes, &frames)).is_err(), "{raw_bytes} {frames:?}");
        }
    }
}
