//! MACs: computes them from a token and a message, and checks them in constant time. Pure.
use contract::proof::{Direction, Message, Nonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::token::Token;

/// What both sides know of a connection after the exchange of nonces.
#[derive(Clone, Debug)]
pub(crate) struct Handshake {
    pub(crate) client: Nonce,
    pub(crate) agent: Nonce,
    pub(crate) node: String,
    pub(crate) instance: String,
}

/// A request and, for an answer, its outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange<'a> {
    /// Number of the exchange on this connection.
    pub(crate) counter: u64,
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
}

impl Handshake {
    /// The MAC of a request without a body.
    pub(crate) fn request(&self, token: &Token, exchange: Exchange<'_>) -> String {
        hex::encode(self.mac(token, exchange, Direction::Request, 0, b"").finalize().into_bytes())
    }

    /// The MAC of an answer.
    #[cfg(any(test, feature = "server"))]
    pub(crate) fn response(&self, token: &Token, exchange: Exchange<'_>, status: u16, body: &[u8]) -> String {
        hex::encode(self.mac(token, exchange, Direction::Response, status, body).finalize().into_bytes())
    }

    /// Returns true if `given` is the MAC of this request.
    #[cfg(any(test, feature = "server"))]
    pub(crate) fn proves_request(&self, token: &Token, exchange: Exchange<'_>, given: &[u8]) -> bool {
        proves(self.mac(token, exchange, Direction::Request, 0, b""), given)
    }

    /// Returns true if `given` is the MAC of this answer.
    pub(crate) fn proves_response(
        &self,
        token: &Token,
        exchange: Exchange<'_>,
        status: u16,
        body: &[u8],
        given: &[u8],
    ) -> bool {
        proves(self.mac(token, exchange, Direction::Response, status, body), given)
    }

    fn mac(
        &self,
        token: &Token,
        exchange: Exchange<'_>,
        direction: Direction,
        status: u16,
        body: &[u8],
    ) -> Hmac<Sha256> {
        let Exchange { counter, method, target } = exchange;
        let Self { client, agent, node, instance } = self;
        let message =
            Message { direction, client, agent, node, instance, counter, method, target, status, body };
        let mut mac = Hmac::<Sha256>::new_from_slice(token.key()).expect("HMAC takes keys of any length");
        mac.update(&message.octets());
        mac
    }
}

/// Compares in constant time, so that an attacker learns only that a MAC is wrong, not at which octet.
fn proves(mac: Hmac<Sha256>, given: &[u8]) -> bool {
    unhex::<32>(given).is_some_and(|given| mac.verify_slice(&given).is_ok())
}

/// Draws a nonce.
pub(crate) fn nonce() -> std::io::Result<Nonce> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(std::io::Error::other)?;
    Ok(nonce)
}

/// The octets of exactly 2 × N hexadecimal digits; none for any other text.
pub(crate) fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut octets = [0; N];
    hex::decode_to_slice(text, &mut octets).ok().map(|()| octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits() {
        assert_eq!(unhex::<2>(b"0aFf"), Some([10, 255]));
        for wrong in ["", "0", "0a", "0aff0", "0aff00", "0ag0", "+1+1"] {
            assert_eq!(unhex::<2>(wrong.as_bytes()), None, "{wrong}");
        }
    }

    /// RFC 4231, test case 2: another implementation computes the same.
    #[test]
    fn the_mac_is_hmac_sha256() {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"Jefe").unwrap();
        mac.update(b"what do ya want for nothing?");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert!(proves(mac.clone(), expected.as_bytes()));
        for wrong in ["", &expected[..62], &expected.replace("5bdc", "5bdd"), &format!("{expected}00")] {
            assert!(!proves(mac.clone(), wrong.as_bytes()), "{wrong}");
        }
    }
}
