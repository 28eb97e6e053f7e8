//! The server's side of the records of NTS-KE (RFC 8915 §4): what a client says in, the answer out. Cookies are made
//! elsewhere, from the connection's keys.
use crate::wire::key_exchange::{
    AEAD, AES_SIV_CMAC_256, COOKIE, CRITICAL, END, ERROR, NEXT_PROTOCOL, NTP_V4, PORT, SERVER, WARNING, words,
};

/// More than this is no request of a sane client.
pub const LONGEST_REQUEST: usize = 16 * 1024;

/// What can be agreed on with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// NTPv4 and AES-SIV-CMAC-256: it gets [`agreement`].
    Good,
    /// It does not speak NTPv4: it gets [`no_protocol`].
    NoProtocol,
    /// It knows no AEAD of ours: it gets [`no_aead`].
    NoAead,
}

/// Why a client gets [`refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It has a record that must be understood, and is not.
    UnknownRecord,
    /// It is not what RFC 8915 §4 says.
    BadRequest,
    /// It is ours.
    Internal,
}

/// Reads what the client has said so far; nothing if its end is still to come.
///
/// # Errors
/// When it cannot become a good request any more.
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
            // Those of a server, and what is there twice or malformed.
            END | NEXT_PROTOCOL | AEAD | ERROR | WARNING | COOKIE => return Err(Error::BadRequest),
            // Which server and port the client would like: we are the only one.
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

/// At least one number.
fn list(body: &[u8]) -> Result<Vec<u16>, Error> {
    words(body).ok().filter(|words| !words.is_empty()).ok_or(Error::BadRequest)
}

/// The answer to a good offer: what is agreed on, the NTP server's port if it is not the usual one, and cookies.
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

/// The answer to a client without NTPv4: an empty list (RFC 8915 §4.1.2).
pub fn no_protocol() -> Vec<u8> {
    let mut answer = Vec::new();
    put(&mut answer, CRITICAL | NEXT_PROTOCOL, &[]);
    put(&mut answer, CRITICAL | END, &[]);
    answer
}

/// The answer to a client without an AEAD of ours: an empty list (RFC 8915 §4.1.5).
pub fn no_aead() -> Vec<u8> {
    let mut answer = Vec::new();
    put(&mut answer, CRITICAL | NEXT_PROTOCOL, &NTP_V4.to_be_bytes());
    put(&mut answer, CRITICAL | AEAD, &[]);
    put(&mut answer, CRITICAL | END, &[]);
    answer
}

/// The answer to what is wrong (RFC 8915 §4.1.3).
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

/// Bodies are numbers and cookies, which are far shorter than what a length can say.
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

    /// These records between an offer of ours and its end.
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
