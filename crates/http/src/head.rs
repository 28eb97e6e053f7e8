//! Parses the head of an HTTP/1.1 answer (RFC 9112): octets in; status, length of the body, and proof out. Both
//! programs' servers send `Content-Length`, so an answer without it comes from another server.
use contract::proof::PROOF_HEADER;

/// Most octets of a head that are read.
pub const LARGEST_HEAD: usize = 4 << 10;

/// More fields than an agent sends.
const MOST_FIELDS: usize = 32;

/// The parts of a head that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Length of the body, octets.
    pub length: usize,
    /// The proof, if there is one.
    pub proof: Option<Vec<u8>>,
}

/// The octets are not the head of an agent's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not HTTP of an agent")]
pub struct NotHttp;

impl Head {
    /// Parses a head. Returns it with its length in octets, or `None` if the end of the head has not arrived yet.
    ///
    /// # Errors
    /// If the octets are not a head, or the head is larger than [`LARGEST_HEAD`].
    pub fn parse(octets: &[u8]) -> Result<Option<(Self, usize)>, NotHttp> {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let end = match response.parse(octets).map_err(|_| NotHttp)? {
            httparse::Status::Complete(end) if end <= LARGEST_HEAD => end,
            httparse::Status::Partial if octets.len() < LARGEST_HEAD => return Ok(None),
            httparse::Status::Complete(_) | httparse::Status::Partial => return Err(NotHttp),
        };
        let status = response.code.ok_or(NotHttp)?;
        let field = |name: &str| {
            let mut found = response.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
            // A field that occurs twice counts as absent: no known server sends one.
            found.next().filter(|_| found.next().is_none()).map(|field| field.value.trim_ascii())
        };
        let length = field("content-length").filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let length =
            length.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).ok_or(NotHttp)?;
        Ok(Some((Self { status, length, proof: field(PROOF_HEADER).map(<[u8]>::to_vec) }, end)))
    }
}

/// The text of the request `GET target` without a body, with one more header field if `field` is given.
pub fn request(target: &str, host: &str, field: Option<(&str, &str)>) -> String {
    let field = field.map(|(name, value)| format!("{name}: {value}\r\n")).unwrap_or_default();
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{field}\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nTimesync-Proof:  abc \r\n\r\n{}";
        let expected = Head { status: 200, length: 2, proof: Some(b"abc".to_vec()) };
        let end = whole.len() - 2;
        for have in 0..=whole.len() {
            let expected = (have >= end).then(|| (expected.clone(), end));
            assert_eq!(Head::parse(&whole[..have]), Ok(expected), "{have} octets");
        }
    }

    #[test]
    fn what_is_no_head_of_an_agent() {
        for text in [
            "SSH-2.0\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        ] {
            assert_eq!(Head::parse(text.as_bytes()), Err(NotHttp), "{text}");
        }
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(LARGEST_HEAD));
        assert_eq!(Head::parse(long.as_bytes()), Err(NotHttp));
    }
}
