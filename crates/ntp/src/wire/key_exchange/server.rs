//! The server's side of the records of NTS-KE (RFC 8915 §4): a client's records go in; the response comes out. The
//! caller makes cookies from the keys of the connection.
use crate::wire::key_exchange::{
    AEAD, AES_SIV_CMAC_256, COOKIE, CRITICAL, END, ERROR, NEXT_PROTOCOL, NTP_V4, PORT, SERVER, WARNING, words,
};

/// Longest request, octets. No correct client sends more.
pub const LONGEST_REQUEST: usize = 16 * 1024;

/// What a client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// NTPv4 and AES-SIV-CMAC-256. The response is [`agreement`].
    Good,
    /// No NTPv4. The response is [`no_protocol`].
    NoProtocol,
    /// No AEAD that this server supports. The response is [`no_aead`].
    NoAead,
}

/// Why the response is [`refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The request has a critical record of an unknown type.
    UnknownRecord,
    /// The request violates RFC 8915 §4.
    BadRequest,
    /// The server itself failed.
    Internal,
}

/// Decodes the octets that were received so far. Returns `None` if the request is not complete yet.
///
/// # Errors
/// If the octets are not the beginning of a valid request.
pub fn read(octets: &[u8]) -> Result<Option<Offer>, Error> {
    let (mut protocols, mut aeads) = (None, None);
    let mut rest = octets;
    loop {
        let Some((&[k0, k1, l0, l1], after)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let Some((body, next)) = after.split_at_checked(length) else { return Ok(None) };
        rest = next;
        let kind = u16::from_be_bytes([k0, k1]);
        match kind & !CRITICAL {
            END if body.is_empty() => break,
            NEXT_PROTOCOL if protocols.is_none() => protocols = Some(list(body)?),
            AEAD if aeads.is_none() => aeads = Some(list(body)?),
            // Records that only a server sends, and records that are repeated or malformed.
            END | NEXT_PROTOCOL | AEAD | ERROR | WARNING | COOKIE => return Err(Error::BadRequest),
            // The server and port that the client prefers. There is only this one.
            SERVER | PORT => {}
            _ if kind & CRITICAL != 0 => return Err(Error::UnknownRecord),
            _ => {}
        }
    }
    let protocols = protocols.ok_or(Error::BadRequest)?;
    if !protocols.contains(&NTP_V4) {
        return Ok(Some(Offer::NoProtocol));
    }
    let aeads = aeads.ok_or(Error::BadRequest)?;
    Ok(Some(if aeads.contains(&AES_SIV_CMAC_256) { Offer::Good } else { Offer::NoAead }))
}

/// A list of at least one number.
fn list(body: &[u8]) -> Result<Vec<u16>, Error> {
    words(body).ok().filter(|words| !words.is_empty()).ok_or(Error::BadRequest)
}

/// The response to a good offer: protocol, AEAD, the port of the NTP server if it is not the default, and cookies.
pub fn agreement<'a>(port: Option<u16>, cookies: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut answer = Vec::new();
    put(&mut answer, CRITICAL | NEXT_PROTOCOL, &NTP_V4.to_be_bytes());
    put(&mut answer, CRITICAL | AEAD, &AES_SIV_CMAC_256.to_be_bytes());
    if let Some(port) = port {
        put(&mut answer, CRITICAL | PORT, &port.to_be_bytes());
    }
    for cookie in cookies {
        put(&mut answer, COOKIE, cookie);
    }
    put(&mut answer, CRITICAL | END, &[]);
    answer
}

/// The response to a client without NTPv4: an empty list (RFC 8915 §4.1.2).
pub fn no_protocol() -> Vec<u8> {
    let mut answer = Vec::new();
    put(&mut answer, CRITICAL | NEXT_PROTOCOL, &[]);
    put(&mut answer, CRITICAL | END, &[]);
    answer
}

/// The response to a client without a supported AEAD: an empty list (RFC 8915 §4.1.5).
pub fn no_aead() -> Vec<u8> {
    let mut answer = Vec::new();
    put(&mut answer, CRITICAL | NEXT_PROTOCOL, &NTP_V4.to_be_bytes());
    put(&mut answer, CRITICAL | AEAD, &[]);
    put(&mut answer, CRITICAL | END, &[]);
    answer
}

/// The response to a wrong request (RFC 8915 §4.1.3).
pub fn refusal(error: Error) -> Vec<u8> {
    let number: u16 = match error {
        Error::UnknownRecord => 0,
        Error::BadRequest => 1,
        Error::Internal => 2,
    };
    let mut answer = Vec::new();
    put(&mut answer, CRITICAL | ERROR, &number.to_be_bytes());
    put(&mut answer, CRITICAL | END, &[]);
    answer
}

/// Appends a record. Bodies are numbers and cookies, which are far shorter than the length field allows.
fn put(answer: &mut Vec<u8>, kind: u16, body: &[u8]) {
    answer.extend_from_slice(&kind.to_be_bytes());
    answer.extend_from_slice(&(body.len() as u16).to_be_bytes());
    answer.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::key_exchange::{self as client, Established};

    fn record(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut octets = Vec::new();
        put(&mut octets, kind, body);
        octets
    }

    const TERM: [u8; 4] = [0x80, 0, 0, 0];

    /// The result for a client's request with these records added before its end.
    fn with(records: &[u8]) -> Result<Option<Offer>, Error> {
        let offer = client::request();
        read(&[&offer[..offer.len() - 4], records, &TERM].concat())
    }

    #[test]
    fn our_client_and_server_agree() {
        let request = client::request();
        for length in 0..request.len() {
            assert_eq!(read(&request[..length]), Ok(None));
        }
        assert_eq!(read(&request), Ok(Some(Offer::Good)));
        let cookies = vec![vec![1; 100], vec![2; 100]];
        for port in [None, Some(4321)] {
            let answer = agreement(port, cookies.iter().map(Vec::as_slice));
            let expected = Established { cookies: cookies.clone(), server: None, port };
            assert_eq!(client::read(&answer), Ok(Some(expected)));
        }
        assert_eq!(client::read(&no_protocol()), Err(client::Error::NoNtp));
        assert_eq!(client::read(&no_aead()), Err(client::Error::NoAead));
        for (error, number) in [(Error::UnknownRecord, 0), (Error::BadRequest, 1), (Error::Internal, 2)] {
            assert_eq!(client::read(&refusal(error)), Err(client::Error::Refused(number)));
        }
    }

    #[test]
    fn offers() {
        let check = |records: &[u8], expected| assert_eq!(with(records), expected, "{records:?}");
        check(&[], Ok(Some(Offer::Good)));
        check(&record(99, b"?"), Ok(Some(Offer::Good)));
        check(&record(6, b"ntp.example"), Ok(Some(Offer::Good)));
        check(&record(0x8007, &[0, 123]), Ok(Some(Offer::Good)));
        check(&record(0x8063, &[]), Err(Error::UnknownRecord));
        for kind in [0x8001, 4, 0x8002, 3, 5] {
            check(&record(kind, &[0, 0]), Err(Error::BadRequest));
        }
        check(&record(0x8000, &[1]), Err(Error::BadRequest));

        let check = |records: &[Vec<u8>], expected| {
            assert_eq!(read(&[records.concat(), TERM.to_vec()].concat()), expected, "{records:?}");
        };
        let (ntp, siv) = (|| record(0x8001, &[0x80, 0, 0, 0]), || record(4, &[0, 30, 0, 15]));
        check(&[ntp(), siv()], Ok(Some(Offer::Good)));
        check(&[siv(), ntp()], Ok(Some(Offer::Good)));
        check(&[record(0x8001, &[0x80, 0]), siv()], Ok(Some(Offer::NoProtocol)));
        check(&[ntp(), record(4, &[0, 30])], Ok(Some(Offer::NoAead)));
        check(&[], Err(Error::BadRequest));
        check(&[siv()], Err(Error::BadRequest));
        check(&[ntp()], Err(Error::BadRequest));
        check(&[ntp(), record(4, &[])], Err(Error::BadRequest));
        check(&[ntp(), record(4, &[0])], Err(Error::BadRequest));
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&octets);
        }
    }
}
