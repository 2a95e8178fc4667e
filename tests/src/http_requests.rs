//! A parser of a connection's HTTP/1.1 requests that rewrites their heads.

/// Headers by which a client accepts other forms than lines of JSON without compression.
const NEGOTIATION: [&str; 2] = ["accept:", "accept-encoding:"];

/// The parser's state within the bytes that the client has sent on one connection.
#[derive(Debug, Default)]
pub(crate) struct PlainRequests {
    /// The bytes so far of a head.
    head: Vec<u8>,
    /// Number of bytes of the body that are to come.
    body: usize,
    /// Set once the connection carries another protocol.
    is_upgraded: bool,
}

impl PlainRequests {
    /// Consumes the client's next bytes. Returns those to forward: the heads come whole, and without the
    /// headers of the negotiation.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut forwarded = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if self.is_upgraded {
                forwarded.push(*byte);
            } else if self.body > 0 {
                self.body -= 1;
                forwarded.push(*byte);
            } else {
                self.head.push(*byte);
                if self.head.ends_with(b"\r\n\r\n") {
                    let head = std::mem::take(&mut self.head);
                    forwarded.extend(self.rewritten(&String::from_utf8_lossy(&head)).into_bytes());
                }
            }
        }
        forwarded
    }

    fn rewritten(&mut self, head: &str) -> String {
        let mut rewritten = String::with_capacity(head.len());
        for line in head.split_inclusive("\r\n") {
            let lower = line.to_ascii_lowercase();
            if NEGOTIATION.iter().any(|name| lower.starts_with(name)) {
                continue;
            }
            if let Some(length) = lower.strip_prefix("content-length:") {
                self.body = length.trim().parse().unwrap_or(0);
            }
            self.is_upgraded |= lower.starts_with("upgrade:");
            rewritten.push_str(line);
        }
        rewritten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_lose_the_negotiation_and_bodies_keep_every_byte() {
        let sent =
            b"POST /sync/stream HTTP/1.1\r\nAccept: a/b\r\nhost: x\r\nAccept-Encoding: gzip\r\n\
            content-length: 12\r\n\r\naccept: c/d\nGET / HTTP/1.1\r\naccept: *\r\n\r\n";
        let expected = "POST /sync/stream HTTP/1.1\r\nhost: x\r\n\
            content-length: 12\r\n\r\naccept: c/d\nGET / HTTP/1.1\r\n\r\n";
        for size in [1, 7, sent.len()] {
            let mut requests = PlainRequests::default();
            let forwarded: Vec<u8> =
                sent.chunks(size).flat_map(|bytes| requests.push(bytes)).collect();
            assert_eq!(String::from_utf8(forwarded).unwrap(), expected, "by {size} bytes");
        }
    }

    #[test]
    fn another_protocol_is_forwarded_as_it_is() {
        let mut requests = PlainRequests::default();
        let sent = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\naccept: \r\n\r\n";
        assert_eq!(requests.push(sent), sent);
    }
}
