//! The result of a key exchange: two keys and up to eight cookies. A header in, a sealed request out; a reply in, its
//! cookies kept. A cookie is used only once, so that it cannot be used to track a node (RFC 8915 §10.1).
use std::{collections::VecDeque, fmt};

use ntp::{
    extension,
    key_exchange::KEY_LEN,
    nts::{self, COOKIES, Nonce, UniqueId},
    packet::HEADER_LEN,
};

use crate::auth::siv::SivKey;

/// Keys and cookies of one source.
pub(crate) struct Session {
    client_to_server: SivKey,
    server_to_client: SivKey,
    cookies: VecDeque<Vec<u8>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session {{ cookies: {} }}", self.cookies.len())
    }
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("No cookies are left: the last eight requests went unanswered.")]
    NoCookies,
    #[error("No random number: {0}.")]
    Random(#[from] sys::Error),
    #[error("The cookie is too long: {0}.")]
    Cookie(#[from] extension::Error),
}

impl Session {
    /// A session after an exchange.
    pub(super) fn new([c2s, s2c]: [[u8; KEY_LEN]; 2], cookies: Vec<Vec<u8>>) -> Self {
        Self {
            client_to_server: SivKey::new(c2s),
            server_to_client: SivKey::new(s2c),
            cookies: cookies.into(),
        }
    }

    /// A sealed request, and the id that its reply must repeat.
    pub(super) fn request(&mut self, header: &[u8; HEADER_LEN]) -> Result<(Vec<u8>, UniqueId), Error> {
        let (mut id, mut nonce): (UniqueId, Nonce) = ([0; 32], [0; 16]);
        sys::random::fill(&mut id)?;
        sys::random::fill(&mut nonce)?;
        let cookie = self.cookies.pop_front().ok_or(Error::NoCookies)?;
        // The reply brings a cookie to replace the one that is used here.
        let missing = (COOKIES - 1).saturating_sub(self.cookies.len());
        let datagram = nts::request(header, (&id, &nonce), &cookie, missing, &self.client_to_server)?;
        Ok((datagram, id))
    }

    /// The number of cookies that are left.
    pub(super) fn cookies(&self) -> usize {
        self.cookies.len()
    }

    /// Opens the reply to the request with this id, and keeps its cookies.
    pub(super) fn open(&mut self, datagram: &[u8], id: &UniqueId) -> Result<(), nts::NtsError> {
        let cookies = nts::open(datagram, id, &self.server_to_client)?;
        self.cookies.extend(cookies);
        // A server may give more than were asked for. The oldest are dropped, since the server forgets their keys
        // first.
        let surplus = self.cookies.len().saturating_sub(COOKIES);
        self.cookies.drain(..surplus);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ntp::nts::Aead;

    use super::*;

    fn session(cookies: usize) -> Session {
        Session::new([[1; KEY_LEN], [2; KEY_LEN]], (0..cookies).map(|n| vec![n as u8; 100]).collect())
    }

    fn fields(datagram: &[u8]) -> Vec<(u16, Vec<u8>)> {
        extension::fields(datagram, HEADER_LEN).flatten().map(|f| (f.kind, f.body.to_vec())).collect()
    }

    /// A server's reply to a request of the session, with this number of cookies.
    fn reply(request: &[u8], cookies: usize) -> Vec<u8> {
        let mut datagram = vec![0x24; HEADER_LEN];
        extension::append(&mut datagram, 0x0104, &fields(request)[0].1).unwrap();
        let mut plain = Vec::new();
        for _ in 0..cookies {
            extension::append(&mut plain, 0x0204, &[9; 100]).unwrap();
        }
        let sealed = SivKey::new([2; KEY_LEN]).seal(&[5; 16], &datagram, &plain);
        let lengths = [16, u16::try_from(sealed.len()).unwrap()].map(u16::to_be_bytes).concat();
        extension::append(&mut datagram, 0x0404, &[&lengths[..], &[5; 16], &sealed].concat()).unwrap();
        datagram
    }

    #[test]
    fn no_cookie_is_used_twice_and_lost_ones_are_asked_for() {
        let mut session = session(8);
        let mut used = Vec::new();
        for lost in 0..8 {
            let (datagram, id) = session.request(&[0x23; HEADER_LEN]).unwrap();
            let fields = fields(&datagram);
            assert_eq!((fields[0].0, fields[0].1.as_slice()), (0x0104, &id[..]));
            let placeholders = fields.iter().filter(|field| field.0 == 0x0304).count();
            assert_eq!(placeholders, lost, "one for each that went with a request and did not come back");
            used.push(fields[1].1.clone());
        }
        used.dedup();
        assert_eq!(used.len(), 8);
        assert!(matches!(session.request(&[0x23; HEADER_LEN]), Err(Error::NoCookies)));
    }

    #[test]
    fn a_reply_refills_and_no_more_than_eight_are_kept() {
        let mut session = session(3);
        let (request, id) = session.request(&[0x23; HEADER_LEN]).unwrap();
        session.open(&reply(&request, 6), &id).unwrap();
        assert_eq!(session.cookies.len(), 8);
        session.open(&reply(&request, 6), &id).unwrap();
        assert_eq!(session.cookies.len(), 8);
        assert_eq!(session.open(&reply(&request, 1), &[0; 32]), Err(nts::NtsError::OtherRequest));
    }

    #[test]
    fn a_bit_flipped_anywhere_is_refused() {
        let mut session = session(1);
        let (request, id) = session.request(&[0x23; HEADER_LEN]).unwrap();
        let good = reply(&request, 1);
        for bit in 0..8 * good.len() {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(session.open(&bad, &id).is_err(), "bit {bit}");
        }
        assert!(session.open(&good, &id).is_ok());
    }
}
