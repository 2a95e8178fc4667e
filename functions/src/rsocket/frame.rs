//! Frames: the header, the fields of each type, and metadata before data.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Flag of a frame that has metadata.
const METADATA: u16 = 0x100;
/// Flag of a keep-alive that wants an answer, and of a SETUP with a resume token.
const RESPOND: u16 = 0x80;
/// Flag of a payload that continues in the next frame.
const FOLLOWS: u16 = 0x80;
/// Flag of a SETUP whose client respects leases, and of a payload that ends its stream.
const LEASE: u16 = 0x40;
const COMPLETE: u16 = 0x40;
/// Flag of a payload that has a value.
const NEXT: u16 = 0x20;

/// The types of frames.
mod kind {
    pub(super) const SETUP: u16 = 0x01;
    pub(super) const LEASE: u16 = 0x02;
    pub(super) const KEEP_ALIVE: u16 = 0x03;
    pub(super) const REQUEST_RESPONSE: u16 = 0x04;
    pub(super) const REQUEST_FNF: u16 = 0x05;
    pub(super) const REQUEST_STREAM: u16 = 0x06;
    pub(super) const REQUEST_CHANNEL: u16 = 0x07;
    pub(super) const REQUEST_N: u16 = 0x08;
    pub(super) const CANCEL: u16 = 0x09;
    pub(super) const PAYLOAD: u16 = 0x0A;
    pub(super) const ERROR: u16 = 0x0B;
    pub(super) const METADATA_PUSH: u16 = 0x0C;
    pub(super) const RESUME: u16 = 0x0D;
    pub(super) const EXTENSION: u16 = 0x3F;
}

/// The reasons in ERROR frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorCode {
    /// The SETUP frame is malformed, or is missing.
    InvalidSetup,
    /// The SETUP frame asks for what the server does not have.
    UnsupportedSetup,
    /// The server refuses the client.
    RejectedSetup,
    /// The client violates the protocol.
    ConnectionError,
    /// The server closes the connection.
    ConnectionClose,
    /// The application refuses or ends a stream.
    ApplicationError,
    /// The server does not process a request.
    Rejected,
}

impl ErrorCode {
    const fn number(self) -> u32 {
        match self {
            Self::InvalidSetup => 0x001,
            Self::UnsupportedSetup => 0x002,
            Self::RejectedSetup => 0x003,
            Self::ConnectionError => 0x101,
            Self::ConnectionClose => 0x102,
            Self::ApplicationError => 0x201,
            Self::Rejected => 0x202,
        }
    }
}

/// A frame of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Setup(Setup),
    KeepAlive {
        wants_answer: bool,
        data: Bytes,
    },
    RequestStream {
        stream: u32,
        credits: u32,
        part: Part,
    },
    /// A request of another interaction than request/stream.
    OtherRequest {
        stream: u32,
        wants_answer: bool,
    },
    RequestN {
        stream: u32,
        credits: u32,
    },
    Cancel {
        stream: u32,
    },
    Payload {
        stream: u32,
        part: Part,
    },
    Error {
        stream: u32,
    },
    Resume,
    /// A frame that may be ignored.
    Ignored,
}

/// The fields of a SETUP frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setup {
    pub(super) major_version: u16,
    /// Time in milliseconds after which the client takes a silent connection for lost.
    pub(super) lifetime_ms: u32,
    pub(super) wants_resume: bool,
    pub(super) wants_lease: bool,
    pub(super) metadata_type: Bytes,
    pub(super) data_type: Bytes,
    pub(super) part: Part,
}

/// The payload of a frame, or a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) metadata: Bytes,
    pub(super) data: Bytes,
    /// Set if more of the payload follows.
    pub(super) follows: bool,
}

/// The error of bytes that are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Frame {
    /// Reads a frame, which is a whole message. A frame of an unknown type is ignored if it allows it.
    pub(super) fn read(mut message: Bytes) -> Result<Self, Malformed> {
        let stream = take_u32(&mut message)?;
        let type_and_flags = take_u16(&mut message)?;
        let flags = type_and_flags & 0x3FF;
        if stream > i32::MAX.unsigned_abs() {
            return Err(Malformed);
        }

        Ok(match type_and_flags >> 10 {
            kind::SETUP => Self::Setup(read_setup(message, flags)?),
            kind::KEEP_ALIVE => {
                take(&mut message, 8)?; // The position for a resumption, which we do not support.
                Self::KeepAlive { wants_answer: flags & RESPOND != 0, data: message }
            }
            kind::REQUEST_STREAM => {
                let credits = take_u32(&mut message)?;
                Self::RequestStream { stream, credits, part: Part::read(message, flags)? }
            }
            kind::REQUEST_RESPONSE | kind::REQUEST_CHANNEL => {
                Self::OtherRequest { stream, wants_answer: true }
            }
            kind::REQUEST_FNF => Self::OtherRequest { stream, wants_answer: false },
            kind::REQUEST_N => Self::RequestN { stream, credits: take_u32(&mut message)? },
            kind::CANCEL => Self::Cancel { stream },
            kind::PAYLOAD => Self::Payload { stream, part: Part::read(message, flags)? },
            kind::ERROR => Self::Error { stream },
            kind::RESUME => Self::Resume,
            kind::LEASE | kind::METADATA_PUSH | kind::EXTENSION => Self::Ignored,
            _ if type_and_flags & 0x200 != 0 => Self::Ignored,
            _ => return Err(Malformed),
        })
    }
}

impl Part {
    fn read(mut rest: Bytes, flags: u16) -> Result<Self, Malformed> {
        let metadata = if flags & METADATA != 0 {
            let high = take(&mut rest, 1)?[0];
            let low = take_u16(&mut rest)?;
            take(&mut rest, usize::from(high) << 16 | usize::from(low))?
        } else {
            Bytes::new()
        };
        Ok(Self { metadata, data: rest, follows: flags & FOLLOWS != 0 })
    }
}

fn read_setup(mut rest: Bytes, flags: u16) -> Result<Setup, Malformed> {
    let major_version = take_u16(&mut rest)?;
    take(&mut rest, 2)?; // Minor versions are compatible.
    take(&mut rest, 4)?; // The client's interval of keep-alives. It sends them by itself.
    let lifetime_ms = take_u32(&mut rest)?;

    let wants_resume = flags & RESPOND != 0;
    if wants_resume {
        let length = take_u16(&mut rest)?;
        take(&mut rest, length.into())?;
    }
    let [metadata_type, data_type] = {
        let mut mime_type = || {
            let length = take(&mut rest, 1)?[0];
            take(&mut rest, length.into())
        };
        [mime_type()?, mime_type()?]
    };

    // In a SETUP the flag of a continuation means something else.
    let part = Part { follows: false, ..Part::read(rest, flags)? };
    Ok(Setup {
        major_version,
        lifetime_ms,
        wants_resume,
        wants_lease: flags & LEASE != 0,
        metadata_type,
        data_type,
        part,
    })
}

fn take(rest: &mut Bytes, count: usize) -> Result<Bytes, Malformed> {
    if rest.len() < count { Err(Malformed) } else { Ok(rest.split_to(count)) }
}

fn take_u16(rest: &mut Bytes) -> Result<u16, Malformed> {
    Ok(take(rest, 2)?.get_u16())
}

fn take_u32(rest: &mut Bytes) -> Result<u32, Malformed> {
    Ok(take(rest, 4)?.get_u32())
}

fn head(stream: u32, kind: u16, flags: u16, capacity: usize) -> BytesMut {
    let mut frame = BytesMut::with_capacity(6 + capacity);
    frame.put_u32(stream);
    frame.put_u16(kind << 10 | flags);
    frame
}

/// Returns the answer to a keep-alive.
pub(super) fn keep_alive_answer(data: &[u8]) -> Bytes {
    let mut frame = head(0, kind::KEEP_ALIVE, 0, 8 + data.len());
    frame.put_u64(0);
    frame.put_slice(data);
    frame.freeze()
}

/// Returns an ERROR frame. Stream 0 is the connection, which ends with it.
pub(crate) fn error_frame(stream: u32, code: ErrorCode, message: &str) -> Bytes {
    let mut frame = head(stream, kind::ERROR, 0, 4 + message.len());
    frame.put_u32(code.number());
    frame.put_slice(message.as_bytes());
    frame.freeze()
}

/// Returns the beginning of a frame that carries a value of a stream. The value follows it.
pub(crate) fn payload_head(stream: u32) -> Bytes {
    head(stream, kind::PAYLOAD, NEXT, 0).freeze()
}

/// Returns the frame that ends a stream.
pub(crate) fn stream_end(stream: u32) -> Bytes {
    head(stream, kind::PAYLOAD, COMPLETE, 0).freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Result<Frame, Malformed>) {
        assert_eq!(Frame::read(Bytes::copy_from_slice(bytes)), expected, "{bytes:?}");
    }

    #[test]
    fn requests_are_read_with_their_metadata() {
        let part = Part {
            metadata: Bytes::from_static(b"ab"),
            data: Bytes::from_static(b"c"),
            follows: false,
        };
        // Type 6 and the flag of metadata; 10 credits; 2 bytes of metadata.
        let request = [0, 0, 0, 1, 0x19, 0, 0, 0, 0, 10, 0, 0, 2, b'a', b'b', b'c'];
        check(&request, Ok(Frame::RequestStream { stream: 1, credits: 10, part: part.clone() }));
        // Type 10, with a continuation.
        let part = Part { follows: true, ..part };
        let payload = [0, 0, 0, 1, 0x29, 0x80, 0, 0, 2, b'a', b'b', b'c'];
        check(&payload, Ok(Frame::Payload { stream: 1, part }));

        check(&[0, 0, 0, 1, 0x20, 0, 0, 0, 0, 7], Ok(Frame::RequestN { stream: 1, credits: 7 }));
        check(&[0, 0, 0, 1, 0x24, 0], Ok(Frame::Cancel { stream: 1 }));
        check(&[0, 0, 0, 1, 0x10, 0], Ok(Frame::OtherRequest { stream: 1, wants_answer: true }));
    }

    #[test]
    fn a_setup_is_read_with_its_types() {
        let mut bytes = vec![0, 0, 0, 0, 0x05, 0, 0, 1, 0, 0, 0, 0, 78, 32, 0, 1, 95, 144];
        bytes.extend_from_slice(b"\x10application/bson\x10application/json\x00\x00\x01{");
        let Ok(Frame::Setup(setup)) = Frame::read(bytes.into()) else { panic!("no SETUP") };
        assert_eq!((setup.major_version, setup.lifetime_ms), (1, 90_000));
        assert_eq!(&setup.metadata_type[..], b"application/bson");
        assert_eq!(&setup.data_type[..], b"application/json");
        assert_eq!((&setup.part.metadata[..], &setup.part.data[..]), (&b"{"[..], &b""[..]));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        check(b"", Err(Malformed));
        check(&[0, 0, 0, 1, 0x20], Err(Malformed));
        check(&[0, 0, 0, 1, 0x20, 0, 0, 0, 0], Err(Malformed));
        check(&[0x80, 0, 0, 1, 0x24, 0], Err(Malformed));
        // More metadata than there are bytes.
        check(&[0, 0, 0, 1, 0x19, 0, 0, 0, 0, 10, 255, 255, 255, b'a'], Err(Malformed));
        // An unknown type, which may be ignored only with the flag.
        check(&[0, 0, 0, 1, 0x7C, 0], Err(Malformed));
        check(&[0, 0, 0, 1, 0x7E, 0], Ok(Frame::Ignored));
    }

    #[test]
    fn frames_are_written_as_the_specification_says() {
        assert_eq!(&payload_head(3)[..], [0, 0, 0, 3, 0x28, 0x20]);
        assert_eq!(&stream_end(3)[..], [0, 0, 0, 3, 0x28, 0x40]);
        assert_eq!(
            &keep_alive_answer(b"x")[..],
            [0, 0, 0, 0, 0x0C, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'x']
        );
        let error = error_frame(0, ErrorCode::RejectedSetup, "no");
        assert_eq!(&error[..], [0, 0, 0, 0, 0x2C, 0, 0, 0, 0, 3, b'n', b'o']);
    }
}
