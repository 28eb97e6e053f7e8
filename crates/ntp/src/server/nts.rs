//! The server's side of Network Time Security (RFC 8915 §5.7). A request goes in. The result is an authenticated reply
//! with new cookies, the kiss NTSN if the cookie cannot be decrypted or the authenticator is wrong, or the reason for
//! no answer. The server keeps no state of a client: the cookie contains it.
//!
//! [`respond`](crate::respond) has already decided that the request may be answered.
use crate::{
    DropReason, UnstampedReply, Wall,
    wire::{
        extension::{self, Field},
        key_exchange::KEY_LEN,
        nts::{
            AUTHENTICATOR, Aead, COOKIE, COOKIES, Nonce, PLACEHOLDER, UNIQUE_ID, break_seal,
            cookie::{self, COOKIE_LEN, KeyId, SessionKeys},
            put_seal,
        },
        packet::HEADER_LEN,
    },
};

/// The keys and random numbers of a server, which the program provides.
pub trait Keyring {
    /// The cipher.
    type Key: Aead;
    /// The key with which new cookies are encrypted.
    fn current(&self) -> (KeyId, &Self::Key);
    /// The key with this id, if it is still known.
    fn find(&self, id: KeyId) -> Option<&Self::Key>;
    /// The cipher with a session's key.
    fn session(&self, key: &[u8; KEY_LEN]) -> Self::Key;
    /// Random octets, never repeated.
    fn nonce(&mut self) -> Nonce;
}

/// What to do with a request.
#[derive(Debug)]
pub enum Outcome {
    /// Send this reply, after its transmit time is set.
    Answer(Sealed),
    /// Send this kiss (NTSN): the cookie or the authenticator is not valid. The kiss is not authenticated, and has no
    /// time.
    Kiss(Vec<u8>),
    /// Send nothing.
    Drop(DropReason),
}

/// A reply without its transmit time and its authenticator.
pub struct Sealed {
    answer: UnstampedReply,
    /// Space for the header, and the client's unique identifier.
    datagram: Vec<u8>,
    /// Fields to encrypt: cookies.
    plain: Vec<u8>,
    key: [u8; KEY_LEN],
    nonce: Nonce,
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed").field("answer", &self.answer).finish_non_exhaustive()
    }
}

impl Sealed {
    /// The octets of a reply that is sent at `transmit`. Read the clock immediately before.
    pub fn finish<R: Keyring>(self, transmit: Wall, ring: &R) -> Vec<u8> {
        let Self { answer, mut datagram, plain, key, nonce } = self;
        datagram[..HEADER_LEN].copy_from_slice(&answer.at(transmit));
        put_seal(&mut datagram, &nonce, &plain, &ring.session(&key))
            .expect("eight short cookies fit into a field");
        datagram
    }
}

/// Makes the reply to `datagram`. `answer` is the reply to its header.
pub fn reply<R: Keyring>(datagram: &[u8], answer: UnstampedReply, ring: &mut R) -> Outcome {
    let asked = match read(datagram) {
        Ok(asked) => asked,
        Err(reason) => return Outcome::Drop(reason),
    };
    let Some(keys) = open(datagram, &asked, ring) else { return Outcome::Kiss(kiss(&asked, answer)) };
    let mut sealed = Sealed {
        answer,
        datagram: vec![0; HEADER_LEN],
        plain: Vec::new(),
        key: keys.server_to_client,
        nonce: Nonce::default(),
    };
    put_id(&mut sealed.datagram, &asked);
    // The space of the request is used for cookies, and the reply does not exceed it.
    let room = datagram.len().checked_sub(sealed.datagram.len() + EMPTY_SEAL);
    let Some(room) = room else { return Outcome::Drop(DropReason::Malformed) };
    let count = (1 + asked.placeholders).min(COOKIES).min(room / COOKIE_FIELD);
    sealed.plain.reserve(count * COOKIE_FIELD);
    for _ in 0..count {
        let cookie = fresh_cookie(&keys, ring);
        extension::append(&mut sealed.plain, COOKIE, &cookie).expect("a cookie is short");
    }
    sealed.nonce = ring.nonce();
    Outcome::Answer(sealed)
}

/// A new cookie.
pub fn fresh_cookie<R: Keyring>(keys: &SessionKeys, ring: &mut R) -> Vec<u8> {
    let nonce = ring.nonce();
    let (id, key) = ring.current();
    cookie::seal(keys, (id, key), &nonce)
}

/// Length of an authenticator field without encrypted content: head, two lengths, nonce, tag.
const EMPTY_SEAL: usize = 4 + 4 + 16 + 16;

const COOKIE_FIELD: usize = 4 + COOKIE_LEN;

/// The extension fields of a request.
struct Asked<'a> {
    id: &'a [u8],
    cookie: &'a [u8],
    /// The number of placeholders that are at least as long as a cookie.
    placeholders: usize,
    seal: Field<'a>,
}

/// The shortest unique identifier (RFC 8915 §5.3).
const SHORTEST_ID: usize = 32;

/// Decodes the fields. Exactly one of each must be there, and nothing after the authenticator, where it would not be
/// authenticated.
fn read(datagram: &[u8]) -> Result<Asked<'_>, DropReason> {
    let (mut id, mut cookie, mut seal) = (None, None, None);
    let mut placeholders = 0;
    for field in extension::fields(datagram, HEADER_LEN) {
        let field = field.map_err(|_| DropReason::Malformed)?;
        match field.kind {
            _ if seal.is_some() => return Err(DropReason::Malformed),
            UNIQUE_ID if id.is_none() && field.body.len() >= SHORTEST_ID => id = Some(field.body),
            COOKIE if cookie.is_none() => cookie = Some(field.body),
            UNIQUE_ID | COOKIE => return Err(DropReason::Malformed),
            PLACEHOLDER if field.body.len() >= COOKIE_LEN => placeholders += 1,
            AUTHENTICATOR => seal = Some(field),
            // Unknown fields must be ignored. These are authenticated.
            _ => {}
        }
    }
    match (id, cookie, seal) {
        (Some(id), Some(cookie), Some(seal)) => Ok(Asked { id, cookie, placeholders, seal }),
        _ => Err(DropReason::Unauthenticated),
    }
}

/// The session's keys, if cookie and authenticator are valid. Encrypted fields of the request are ignored.
fn open<R: Keyring>(datagram: &[u8], asked: &Asked<'_>, ring: &R) -> Option<SessionKeys> {
    let keys = cookie::open(asked.cookie, |id| ring.find(id))?;
    break_seal(datagram, &asked.seal, &ring.session(&keys.client_to_server)).ok()?;
    Some(keys)
}

/// The kiss: header and unique identifier. Both were in the request, so the kiss is not longer.
fn kiss(asked: &Asked<'_>, answer: UnstampedReply) -> Vec<u8> {
    let mut kiss = answer.kiss(*b"NTSN").to_vec();
    put_id(&mut kiss, asked);
    kiss
}

fn put_id(datagram: &mut Vec<u8>, asked: &Asked<'_>) {
    extension::append(datagram, UNIQUE_ID, asked.id).expect("it came in a field");
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::SocketAddr};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        Mono, NtpTimestamp, RateLimit, RestrictEntry, RestrictFlags, RestrictTable, Served, Serving, Verdict,
        respond,
        server::{rate_limit::RateTable, response::Request},
        wire::{
            nts::{self, NtsError, UniqueId},
            packet::{self, Header},
        },
    };

    /// A cipher for tests, like the one in the client's tests: it does not encrypt.
    #[derive(Clone, Debug)]
    struct TestCipher([u8; KEY_LEN]);

    impl Aead for TestCipher {
        fn seal(&self, nonce: &[u8], associated: &[u8], plain: &[u8]) -> Vec<u8> {
            nts::tests::TestCipher.seal(nonce, &[&self.0[..], associated].concat(), plain)
        }

        fn open(&self, nonce: &[u8], associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
            nts::tests::TestCipher.open(nonce, &[&self.0[..], associated].concat(), sealed)
        }
    }

    struct Ring {
        keys: Vec<(KeyId, TestCipher)>,
        drawn: u8,
    }

    impl Ring {
        /// The first key makes new cookies.
        fn of(keys: &[u8]) -> Self {
            let keys = keys.iter().map(|&n| (KeyId([0, 0, 0, n]), TestCipher([n; KEY_LEN])));
            Self { keys: keys.collect(), drawn: 0 }
        }
    }

    impl Keyring for Ring {
        type Key = TestCipher;

        fn current(&self) -> (KeyId, &TestCipher) {
            (self.keys[0].0, &self.keys[0].1)
        }

        fn find(&self, id: KeyId) -> Option<&TestCipher> {
            self.keys.iter().find(|(known, _)| *known == id).map(|(_, key)| key)
        }

        fn session(&self, key: &[u8; KEY_LEN]) -> TestCipher {
            TestCipher(*key)
        }

        fn nonce(&mut self) -> Nonce {
            self.drawn += 1;
            [self.drawn; 16]
        }
    }

    const ID: UniqueId = [0x55; 32];
    const SENT: NtpTimestamp = NtpTimestamp(0x0123_4567_89ab_cdef);
    const NOW: Wall = Wall(1_800_000_000_000_000_000);

    fn keys() -> SessionKeys {
        SessionKeys { client_to_server: [0xc2; KEY_LEN], server_to_client: [0x2c; KEY_LEN] }
    }

    fn asked_with(cookie: &[u8], missing: usize) -> Vec<u8> {
        let header = packet::client_request(SENT);
        nts::request(&header, (&ID, &[0x66; 16]), cookie, missing, &TestCipher(keys().client_to_server))
            .unwrap()
    }

    fn asked(missing: usize) -> Vec<u8> {
        asked_with(&fresh_cookie(&keys(), &mut Ring::of(&[1])), missing)
    }

    fn decided(datagram: &[u8], flags: RestrictFlags) -> Verdict {
        let from: SocketAddr = "192.0.2.9:40000".parse().unwrap();
        let entry = RestrictEntry { network: "0.0.0.0/0".parse().unwrap(), ntpport: false, flags };
        let (rules, limit) = (RestrictTable::new(&[entry]), RateLimit { interval: 3, burst: 8, leak: 2 });
        let serving = Serving { served: &Served::UNSYNCHRONIZED, rules: &rules, limit: &limit };
        let request = Request { datagram, from, to_group: false, received: NOW, now: Mono(0) };
        respond(&request, &serving, &mut RateTable::new(8, 1)).verdict
    }

    fn done(datagram: &[u8], ring: &mut Ring) -> Outcome {
        match decided(datagram, RestrictFlags { notrust: true, ..RestrictFlags::default() }) {
            Verdict::Seal(answer) => reply(datagram, answer, ring),
            // This server has no shared keys.
            Verdict::Sign(_) => Outcome::Drop(DropReason::Unauthenticated),
            Verdict::Drop(reason) => Outcome::Drop(reason),
            other => panic!("{other:?}"),
        }
    }

    fn sent(outcome: Outcome) -> Option<Vec<u8>> {
        match outcome {
            Outcome::Answer(sealed) => Some(sealed.finish(NOW + 0.001, &Ring::of(&[1]))),
            Outcome::Kiss(octets) => Some(octets),
            Outcome::Drop(_) => None,
        }
    }

    fn opened(octets: &[u8]) -> Result<Vec<Vec<u8>>, NtsError> {
        nts::open(octets, &ID, &TestCipher(keys().server_to_client))
    }

    #[test]
    fn our_client_accepts_the_reply_and_gets_missing_cookies() {
        for missing in 0..COOKIES {
            let request = asked(missing);
            let mut ring = Ring::of(&[2, 1]);
            let octets = sent(done(&request, &mut ring)).unwrap();
            assert_eq!(octets.len(), request.len());
            let header = packet::decode(&octets).unwrap();
            assert_eq!((header.mode, header.origin, header.transmit.to_wall()), (4, SENT, NOW + 0.001));
            let cookies = opened(&octets).unwrap();
            assert_eq!(cookies.iter().collect::<BTreeSet<_>>().len(), missing + 1, "each is another one");
            for cookie in cookies {
                assert_eq!(cookie[..4], [0, 0, 0, 2], "by the current key");
                assert_eq!(cookie::open(&cookie, |id| ring.find(id)), Some(keys()));
            }
        }
    }

    #[test]
    fn a_cookie_of_a_key_that_is_gone_gets_a_kiss() {
        let request = asked(3);
        let octets = sent(done(&request, &mut Ring::of(&[2]))).unwrap();
        assert_eq!(octets.len(), 48 + 36);
        assert_eq!(opened(&octets), Err(NtsError::CookieUnknown));
        let Header { leap, stratum, origin, receive, transmit, reference_time, version, mode, .. } =
            packet::decode(&octets).unwrap();
        assert_eq!((leap, stratum, origin, version, mode), (crate::Leap::Unknown, 0, SENT, 4, 4));
        assert_eq!((receive, transmit, reference_time), (SENT, SENT, NtpTimestamp(0)), "it tells no time");
        for wrong in [vec![0; 100], vec![], vec![7; 64], vec![1; 260]] {
            assert!(matches!(done(&asked_with(&wrong, 0), &mut Ring::of(&[1])), Outcome::Kiss(_)));
        }
    }

    #[test]
    fn what_is_not_a_request_of_nts_gets_nothing() {
        let good = asked(0);
        let field = |kind, len: usize| {
            let mut octets = Vec::new();
            extension::append(&mut octets, kind, &vec![3; len]).unwrap();
            octets
        };
        let check = |datagram: Vec<u8>, expected| {
            let Outcome::Drop(reason) = done(&datagram, &mut Ring::of(&[1])) else { panic!("{datagram:?}") };
            assert_eq!(reason, expected, "{datagram:?}");
        };
        use DropReason::{Malformed, Mode, Unauthenticated};
        check([&good[..], &field(0x7777, 28)].concat(), Malformed);
        check([&good[..48], &field(UNIQUE_ID, 16), &good[84..]].concat(), Malformed);
        check([&good[..84], &good[48..]].concat(), Malformed);
        check([&good[..188], &good[84..]].concat(), Malformed);
        check([&good[..48], &good[84..]].concat(), Unauthenticated);
        check([&good[..84], &good[188..]].concat(), Unauthenticated);
        check(good[..188].to_vec(), Unauthenticated);
        let with = |first| [&[first], &good[1..]].concat();
        check(with(0x21), Unauthenticated);
        check(with(0x1b), Malformed);
        check(with(0x24), Mode);
    }

    #[test]
    fn the_rate_is_limited_before_anything_is_opened() {
        let limited = RestrictFlags { limited: true, ..RestrictFlags::default() };
        assert!(matches!(decided(&asked(0), limited), Verdict::Seal(_)));
        let refused = RestrictFlags { noserve: true, ..RestrictFlags::default() };
        assert_eq!(decided(&asked(0), refused), Verdict::Drop(DropReason::Noserve));
    }

    #[test]
    fn a_long_request_gets_eight_cookies_and_a_short_one_fewer() {
        let mut datagram = packet::client_request(SENT).to_vec();
        extension::append(&mut datagram, UNIQUE_ID, &ID).unwrap();
        extension::append(&mut datagram, COOKIE, &fresh_cookie(&keys(), &mut Ring::of(&[1]))).unwrap();
        for _ in 0..12 {
            extension::append(&mut datagram, PLACEHOLDER, &[0; COOKIE_LEN]).unwrap();
        }
        put_seal(&mut datagram, &[1; 16], &[], &TestCipher(keys().client_to_server)).unwrap();
        let octets = sent(done(&datagram, &mut Ring::of(&[1]))).unwrap();
        assert_eq!(opened(&octets).unwrap().len(), COOKIES);

        // With a short nonce there is no space for a whole cookie.
        let mut datagram = asked(0)[..188].to_vec();
        let tag = TestCipher(keys().client_to_server).seal(&[1; 4], &datagram, &[]);
        extension::append(&mut datagram, AUTHENTICATOR, &[&[0, 4, 0, 16, 1, 1, 1, 1][..], &tag].concat())
            .unwrap();
        let octets = sent(done(&datagram, &mut Ring::of(&[1]))).unwrap();
        assert!(octets.len() <= datagram.len());
        assert_eq!(opened(&octets).unwrap().len(), 0);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_never_brings_time(bit in 0_usize..(48 + 36 + 3 * 104 + 40) * 8) {
            let mut datagram = asked(2);
            prop_assert_eq!(datagram.len(), 48 + 36 + 3 * 104 + 40);
            datagram[bit / 8] ^= 1 << (bit % 8);
            match decided(&datagram, RestrictFlags::default()) {
                Verdict::Seal(answer) => {
                    let outcome = reply(&datagram, answer, &mut Ring::of(&[1]));
                    prop_assert!(!matches!(outcome, Outcome::Answer(_)));
                    prop_assert!(sent(outcome).is_none_or(|octets| octets.len() <= datagram.len()));
                }
                Verdict::Answer(_) => prop_assert!(false, "{} octets were taken for a plain request", datagram.len()),
                Verdict::Query | Verdict::Sign(_) | Verdict::Kiss(_) | Verdict::Drop(_) => {}
            }
        }

        #[test]
        fn no_reply_is_longer_than_its_request(more in proptest::collection::vec(any::<u8>(), 0..400), cut in 0_usize..600) {
            let mut datagram = asked(1);
            datagram.truncate(cut.max(48));
            datagram.extend(more);
            if let Some(octets) = sent(done(&datagram, &mut Ring::of(&[1]))) {
                prop_assert!(octets.len() <= datagram.len());
            }
        }
    }
}
