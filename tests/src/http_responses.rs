//! A parser of a connection's HTTP/1.1 responses that finds the bodies of sync streams.

/// The parser's state within the bytes that the server has sent on one connection.
#[derive(Debug, Default)]
pub(crate) struct HttpResponses {
    part: ResponsePart,
    /// The bytes so far of a head or of the line with a chunk's size.
    text: Vec<u8>,
    is_stream: bool,
}

/// The part of a response that the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ResponsePart {
    #[default]
    Head,
    /// A body with a content length, and the number of remaining bytes.
    Body(usize),
    ChunkSize,
    /// A chunk and the number of remaining bytes.
    Chunk(usize),
    /// The end of line after a chunk.
    ChunkEnd,
    /// The lines after the last chunk.
    Trailer,
}

impl HttpResponses {
    /// Consumes the next byte. Returns whether it belongs to the body of a sync stream.
    pub(crate) fn push(&mut self, byte: u8) -> bool {
        match self.part {
            ResponsePart::Body(left) => {
                self.part =
                    if left == 1 { ResponsePart::Head } else { ResponsePart::Body(left - 1) };
                return self.is_stream;
            }
            ResponsePart::Chunk(left) => {
                self.part =
                    if left == 1 { ResponsePart::ChunkEnd } else { ResponsePart::Chunk(left - 1) };
                return self.is_stream;
            }
            ResponsePart::Head
            | ResponsePart::ChunkSize
            | ResponsePart::ChunkEnd
            | ResponsePart::Trailer => {
                self.text.push(byte);
            }
        }

        let end: &[u8] = if self.part == ResponsePart::Head { b"\r\n\r\n" } else { b"\r\n" };
        if self.text.ends_with(end) {
            let text = std::mem::take(&mut self.text);
            self.part = self.next_part(&String::from_utf8_lossy(&text).to_ascii_lowercase());
        }
        false
    }

    /// Returns the part that follows the current one, of which `text` is the whole.
    fn next_part(&mut self, text: &str) -> ResponsePart {
        match self.part {
            ResponsePart::Head => {
                self.is_stream = text.contains("application/x-ndjson");
                if header_value(text, "transfer-encoding:").is_some() {
                    return ResponsePart::ChunkSize;
                }

                let length = header_value(text, "content-length:");
                let length = length.and_then(|length| length.trim().parse().ok());
                length.filter(|length| *length > 0).map_or(ResponsePart::Head, ResponsePart::Body)
            }
            ResponsePart::ChunkSize => match usize::from_str_radix(text.trim(), 16) {
                Ok(0) => ResponsePart::Trailer,
                Ok(size) => ResponsePart::Chunk(size),
                Err(_) => ResponsePart::Head,
            },
            ResponsePart::Trailer if text.trim().is_empty() => ResponsePart::Head,
            ResponsePart::ChunkEnd => ResponsePart::ChunkSize,
            part @ (ResponsePart::Trailer | ResponsePart::Body(_) | ResponsePart::Chunk(_)) => part,
        }
    }
}

fn header_value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split_once(name)?.1.lines().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bytes_of_a_streams_body_are_recognised() {
        let wire = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno\n\
                    HTTP/1.1 204 No Content\r\n\r\n\
                    HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\
                    transfer-encoding: chunked\r\n\r\n\
                    a\r\n0123456\r\n\n\r\n2\r\nb\n\r\n0\r\n\r\n\
                    HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno";
        let mut responses = HttpResponses::default();
        let body = wire.bytes().filter(|byte| responses.push(*byte)).collect();
        assert_eq!(String::from_utf8(body).unwrap(), "0123456\r\n\nb\n");
    }
}
