//! Frames: the parts in which a file is compressed, fetched and checked.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use tidewater_protocol::{SnapshotFile, SnapshotFrame, SnapshotLine};

use crate::error::SnapshotError;
use crate::schema::PAGE_BYTES;

/// Maximum unpacked size of a frame in bytes. A reader holds a whole frame in memory, so this bounds
/// what a malicious announcement can make it allocate. Writers make frames of 4 MiB.
pub const FRAME_RAW_BYTES_MAX: u64 = 64 << 20;
/// Maximum compressed size of a frame in bytes. zstd adds less than 1/128 to incompressible data.
const FRAME_BYTES_MAX: u64 = FRAME_RAW_BYTES_MAX + (FRAME_RAW_BYTES_MAX >> 7);
/// Maximum unpacked size of a file in bytes. It bounds the disk space that an announcement can claim.
/// Writers begin a new file at 1 GiB; only a single row may make one larger.
const FILE_RAW_BYTES_MAX: u64 = 8 << 30;
/// Maximum number of files of a snapshot: 4 TiB at 1 GiB a file.
const FILES_MAX: usize = 4_096;

/// Checks the sizes in a `snapshot` line, so that they can be used as bounds for memory and disk.
///
/// # Errors
/// Fails with [`SnapshotError::Damaged`] if a size is out of bounds or contradicts another.
pub fn check_line(line: &SnapshotLine) -> Result<(), SnapshotError> {
    if line.files.is_empty() || line.files.len() > FILES_MAX {
        return Err(SnapshotError::damaged(format!("it has {} files", line.files.len())));
    }

    for (at, file) in line.files.iter().enumerate() {
        let is_whole = (PAGE_BYTES..=FILE_RAW_BYTES_MAX).contains(&file.raw_bytes)
            && file.raw_bytes.is_multiple_of(PAGE_BYTES);
        if !is_whole || !file.frames.iter().all(is_bounded) || raw_bytes(file) != file.raw_bytes {
            return Err(SnapshotError::damaged(format!("the sizes of file {at} are wrong")));
        }
    }
    Ok(())
}

fn is_bounded(frame: &SnapshotFrame) -> bool {
    (1..=FRAME_RAW_BYTES_MAX).contains(&frame.raw_bytes)
        && (1..=FRAME_BYTES_MAX).contains(&frame.bytes)
}

/// Returns the unpacked size of all frames of a file, or `u64::MAX` if it does not fit.
fn raw_bytes(file: &SnapshotFile) -> u64 {
    file.frames.iter().map(|frame| frame.raw_bytes).fold(0, u64::saturating_add)
}

/// Unpacks a frame and verifies by its hash that it is the announced one.
///
/// # Errors
/// Fails with [`SnapshotError::Damaged`] if the frame is not the announced one, or if it unpacks to
/// more bytes than announced.
pub fn unpack_frame(compressed: &[u8], frame: &SnapshotFrame) -> Result<Vec<u8>, SnapshotError> {
    if compressed.len() as u64 != frame.bytes {
        let what = format!("a frame has {} bytes instead of {}", compressed.len(), frame.bytes);
        return Err(SnapshotError::damaged(what));
    }

    let raw_bytes = usize::try_from(frame.raw_bytes.min(FRAME_RAW_BYTES_MAX))
        .map_err(|_| SnapshotError::damaged("a frame is too large for this machine"))?;
    // This allocates `raw_bytes` and never writes beyond them, whatever the frame claims.
    let raw = zstd::bulk::decompress(compressed, raw_bytes)
        .map_err(|error| SnapshotError::damaged_because("a frame cannot be unpacked", error))?;

    if !frame_matches(&raw, frame) {
        return Err(SnapshotError::damaged("a frame is not the announced one"));
    }
    Ok(raw)
}

/// Returns whether these bytes are the frame's unpacked content, by length and hash.
#[must_use]
pub fn frame_matches(raw: &[u8], frame: &SnapshotFrame) -> bool {
    raw.len() as u64 == frame.raw_bytes && frame.sha256.eq_ignore_ascii_case(&sha256(raw))
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Compresses the file `raw` into consecutive frames in the file `packed`, and removes `raw`.
pub(crate) fn pack(
    raw: &Path,
    packed: &Path,
    frame_raw_bytes: u64,
    level: i32,
) -> Result<Vec<SnapshotFrame>, SnapshotError> {
    let mut input = File::open(raw).map_err(SnapshotError::file(raw))?;
    let mut output = File::create(packed).map_err(SnapshotError::file(packed))?;
    let mut compressor = zstd::bulk::Compressor::new(level).map_err(SnapshotError::file(packed))?;
    let mut frames = Vec::new();
    let mut buffer = Vec::new();

    loop {
        buffer.clear();
        let mut part = (&mut input).take(frame_raw_bytes);
        part.read_to_end(&mut buffer).map_err(SnapshotError::file(raw))?;
        if buffer.is_empty() {
            break;
        }

        let compressed = compressor.compress(&buffer).map_err(SnapshotError::file(packed))?;
        output.write_all(&compressed).map_err(SnapshotError::file(packed))?;
        frames.push(SnapshotFrame {
            bytes: compressed.len() as u64,
            raw_bytes: buffer.len() as u64,
            sha256: sha256(&buffer),
        });
    }

    fs::remove_file(raw).map_err(SnapshotError::file(raw))?;
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use tidewater_protocol::{Checksum, OpId};

    use super::*;

    fn frame(raw: &[u8]) -> (Vec<u8>, SnapshotFrame) {
        let compressed = zstd::bulk::compress(raw, 3).unwrap();
        let bytes = compressed.len() as u64;
        let raw_bytes = raw.len() as u64;
        (compressed, SnapshotFrame { bytes, raw_bytes, sha256: sha256(raw) })
    }

    #[test]
    fn a_frame_that_unpacks_to_more_than_announced_is_refused() {
        let (bomb, mut announced) = frame(&vec![0; 32 << 20]);
        assert!(bomb.len() < 4_096, "{}", bomb.len());
        announced.raw_bytes = 1_000;
        let refused = unpack_frame(&bomb, &announced).unwrap_err().to_string();
        assert!(refused.contains("cannot be unpacked"), "{refused}");
    }

    #[test]
    fn every_truncated_or_altered_frame_is_detected() {
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
                // zstd ignores some bits. A change of one of them leaves the content as it is.
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

    fn frame_of_sizes(bytes: u64, raw_bytes: u64) -> SnapshotFrame {
        SnapshotFrame { bytes, raw_bytes, sha256: String::new() }
    }

    fn line(raw_bytes: u64, frames: &[SnapshotFrame]) -> SnapshotLine {
        SnapshotLine {
            bucket: "b".into(),
            id: "x".into(),
            to: OpId::ZERO,
            checksum: Checksum::ZERO,
            rows: 0,
            count: 0,
            files: vec![SnapshotFile { url: String::new(), raw_bytes, frames: frames.to_vec() }],
        }
    }

    #[test]
    fn sizes_that_are_out_of_bounds_or_contradict_each_other_are_refused() {
        let good = frame_of_sizes(900, 8_192);
        assert!(check_line(&line(8_192, std::slice::from_ref(&good))).is_ok());
        assert!(check_line(&SnapshotLine { files: vec![], ..line(0, &[]) }).is_err());

        for (raw_bytes, frames) in [
            (0, vec![]),
            (8_192, vec![]),
            (4_096, vec![good.clone()]),
            (16_384, vec![good.clone()]),
            (8_193, vec![frame_of_sizes(900, 8_193)]),
            (8_192, vec![good.clone(), frame_of_sizes(1, 0)]),
            (8_192, vec![frame_of_sizes(0, 8_192)]),
            (8_192, vec![frame_of_sizes(u64::MAX, 8_192)]),
            (u64::MAX, vec![frame_of_sizes(1, u64::MAX)]),
            (8_192, vec![frame_of_sizes(1, u64::MAX), frame_of_sizes(1, 8_193)]),
            (1 << 40, vec![frame_of_sizes(1, 1 << 40)]),
        ] {
            assert!(check_line(&line(raw_bytes, &frames)).is_err(), "{raw_bytes} {frames:?}");
        }
    }
}
