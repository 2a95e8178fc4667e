//! The bodies of a connection's HTTP/1.1 answers, byte by byte as they pass.

/// What the bytes of one direction mean.
#[derive(Debug, Default)]
pub(crate) struct HttpAnswers {
    at: Place,
    /// The head, or the line of a chunk's size, so far.
    text: Vec<u8>,
    is_stream: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Head,
    /// A body of known length: so much is left.
    Body(usize),
    ChunkSize,
    Chunk(usize),
    /// The line end behind a chunk.
    ChunkEnd,
    /// Behind the last chunk.
    Trailer,
}

impl HttpAnswers {
    /// Takes the next byte. Returns whether it belongs to the body of a sync stream.
    pub(crate) fn push(&mut self, byte: u8) -> bool {
        match self.at {
            Place::Body(left) => {
                self.at = if left == 1 { Place::Head } else { Place::Body(left - 1) };
                return self.is_stream;
            }
            Place::Chunk(left) => {
                self.at = if left == 1 { Place::ChunkEnd } else { Place::Chunk(left - 1) };
                return self.is_stream;
            }
            Place::Head | Place::ChunkSize | Place::ChunkEnd | Place::Trailer => {
                self.text.push(byte);
            }
        }
        let end: &[u8] = if self.at == Place::Head { b"\r\n\r\n" } else { b"\r\n" };
        if self.text.ends_with(end) {
            let text = std::mem::take(&mut self.text);
            self.at = self.after(&String::from_utf8_lossy(&text).to_ascii_lowercase());
        }
        false
    }

    fn after(&mut self, text: &str) -> Place {
        match self.at {
            Place::Head => {
                self.is_stream = text.contains("application/x-ndjson");
                let value = |name: &str| text.split_once(name)?.1.lines().next();
                if value("transfer-encoding:").is_some() {
                    return Place::ChunkSize;
                }
                let length = value("content-length:").and_then(|text| text.trim().parse().ok());
                length.filter(|length| *length > 0).map_or(Place::Head, Place::Body)
            }
            Place::ChunkSize => match usize::from_str_radix(text.trim(), 16) {
                Ok(0) => Place::Trailer,
                Ok(size) => Place::Chunk(size),
                Err(_) => Place::Head,
            },
            Place::Trailer if text.trim().is_empty() => Place::Head,
            Place::ChunkEnd => Place::ChunkSize,
            at @ (Place::Trailer | Place::Body(_) | Place::Chunk(_)) => at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bodies_of_streams_are_told_from_heads_chunk_sizes_and_other_answers() {
        let wire = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno\n\
                    HTTP/1.1 204 No Content\r\n\r\n\
                    HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\
                    transfer-encoding: chunked\r\n\r\n\
                    a\r\n0123456\r\n\n\r\n2\r\nb\n\r\n0\r\n\r\n\
                    HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno";
        let mut answers = HttpAnswers::default();
        let body = wire.bytes().filter(|byte| answers.push(*byte)).collect();
        assert_eq!(String::from_utf8(body).unwrap(), "0123456\r\n\nb\n");
    }
}
