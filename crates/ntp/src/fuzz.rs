//! Fuzz tests of every decoder of external data: valid octets are damaged, and must not cause a panic or results that
//! violate their own rules. With `cargo test`, each test damages them at random a few thousand times. With `make fuzz`,
//! libFuzzer damages them, and prefers inputs that reach new code. bolero runs both. It shrinks and prints an input that
//! fails.
use std::{env, fs, net::SocketAddr, ops::Bound, panic::RefUnwindSafe, path::Path};

use bolero::{Driver, ValueGenerator};

use crate::{
    LeapTable, Mono, NtpTimestamp, RateLimit, RestrictEntry, RestrictFlags, RestrictTable, Served, Serving,
    Verdict, Wall, respond,
    server::{
        control::tests as queries,
        nts::{self as server_nts, Outcome},
        rate_limit::RateTable,
        response::Request,
    },
    source::{
        interleave::Previous,
        reply::{self, Exchange, Identity},
    },
    wire::{
        extension,
        key_exchange::{self, KEY_LEN, server::Offer},
        mac,
        nts::{
            self,
            cookie::{KeyId, SessionKeys},
        },
        packet::{self, HEADER_LEN, Header, MODE_SERVER},
    },
};

const COOKIE: NtpTimestamp = NtpTimestamp(0xdead_beef_0123_4567);
const NOW: Wall = Wall(1_800_000_000_000_000_000);
const UNIQUE_ID: nts::UniqueId = [7; 32];

/// Damages the seeds, and calls `read` with the results.
fn fuzz(name: &str, seeds: &[Vec<u8>], mut read: impl FnMut(&[u8]) + RefUnwindSafe) {
    let target = bolero::check!(name = name).with_iterations(ROUNDS);
    // `make fuzz` sets it: the corpus of libFuzzer, which damages its files and adds to them.
    let Some(folder) = env::var_os("TIMESYNC_FUZZ_CORPUS") else {
        let damaged = Damaged(seeds.to_vec());
        target.with_generator(damaged).for_each(|octets: &Vec<u8>| read(octets));
        return;
    };
    for (number, seed) in seeds.iter().enumerate() {
        let file = Path::new(&folder).join(format!("seed-{number}"));
        fs::write(file, seed).expect("the folder is there");
    }
    target.for_each(|octets: &[u8]| read(octets));
}

/// The number of rounds of `cargo test`. `BOLERO_RANDOM_ITERATIONS` or `BOLERO_RANDOM_TEST_TIME_MS` replaces it.
const ROUNDS: usize = 4_000;

/// Generates damaged octets from these seeds.
#[derive(Debug)]
struct Damaged(Vec<Vec<u8>>);

impl ValueGenerator for Damaged {
    type Output = Vec<u8>;

    fn generate<D: Driver>(&self, driver: &mut D) -> Option<Vec<u8>> {
        let mut octets = self.0[below(driver, self.0.len())?].clone();
        for _ in 0..below(driver, 6)? {
            self.damage(driver, &mut octets)?;
        }
        octets.truncate(4096);
        Some(octets)
    }
}

impl Damaged {
    fn damage<D: Driver>(&self, driver: &mut D, octets: &mut Vec<u8>) -> Option<()> {
        let (at, length) = (below(driver, octets.len())?, below(driver, 9)?);
        let end = (at + length).min(octets.len());
        match below(driver, 8)? {
            0 if !octets.is_empty() => octets[at] ^= 1 << below(driver, 8)?,
            1 => drop(octets.splice(at..end, any(driver, length)?)),
            // The values at which lengths and counters break.
            2 => octets[at..end].fill([0, 0xff, 0x7f, 0x80][below(driver, 4)?]),
            3 => octets.truncate(at),
            4 => drop(octets.drain(at..end)),
            5 => {
                let copy = octets[at..end].to_vec();
                octets.splice(at..at, copy);
            }
            6 => {
                let other = &self.0[below(driver, self.0.len())?];
                octets.extend_from_slice(&other[below(driver, other.len())?..]);
            }
            _ => octets.extend(any(driver, length)?),
        }
        Some(())
    }
}

/// A number below `limit`, or 0.
fn below<D: Driver>(driver: &mut D, limit: usize) -> Option<usize> {
    driver.gen_usize(Bound::Included(&0), Bound::Excluded(&limit.max(1)))
}

/// Any octets.
fn any<D: Driver>(driver: &mut D, length: usize) -> Option<Vec<u8>> {
    (0..length).map(|_| driver.gen_u8(Bound::Unbounded, Bound::Unbounded)).collect()
}

fn answer() -> Header {
    Header {
        version: 4,
        mode: MODE_SERVER,
        stratum: 2,
        precision: -24,
        reference_id: [192, 0, 2, 1],
        reference_time: NtpTimestamp::from_wall(NOW),
        origin: COOKIE,
        receive: NtpTimestamp::from_wall(NOW + 1.001),
        transmit: NtpTimestamp::from_wall(NOW + 1.003),
        ..Header::default()
    }
}

#[test]
fn headers() {
    let seeds = [answer().encode().to_vec(), packet::client_request(COOKIE).to_vec()];
    fuzz("header", &seeds, |octets| match packet::decode(octets) {
        Ok(header) => assert_eq!(&header.encode()[..], &octets[..HEADER_LEN]),
        Err(_) => assert!(octets.len() < HEADER_LEN),
    });
}

#[test]
fn replies() {
    let kiss = Header { stratum: 0, reference_id: *b"RATE", ..answer() };
    let interleaved = Header { origin: COOKIE.complement(), ..answer() };
    let seeds = [answer(), kiss, interleaved].map(|header| header.encode().to_vec());
    let before = NOW + -16.0;
    let arrived = NtpTimestamp::from_wall(before);
    let previous = Previous { sent: before, arrived, received: before, measured: false };
    fuzz("reply", &seeds, |octets| {
        for previous in [None, Some(previous)] {
            let exchange =
                Exchange { cookie: COOKIE, sent: NOW, received: NOW + 0.004, local: None, previous };
            if let Ok(reply::Reply::Time(Some(sample), ..)) =
                reply::judge(octets, &exchange, &Identity::default())
            {
                assert!(sample.offset.is_finite() && sample.root_distance().is_finite(), "{sample:?}");
                assert!(sample.delay > 0.0 && sample.root_delay >= 0.0, "{sample:?}");
            }
        }
    });
}

#[test]
fn requests() {
    let entry = RestrictEntry {
        network: "0.0.0.0/0".parse().expect("a network"),
        ntpport: false,
        flags: RestrictFlags { limited: true, kod: true, ..RestrictFlags::default() },
    };
    let (rules, limit) = (RestrictTable::new(&[entry]), RateLimit { interval: 3, burst: 8, leak: 2 });
    let from: SocketAddr = "192.0.2.7:40000".parse().expect("an address");
    let mut clients = RateTable::new(8, 1);
    let mut signed = packet::client_request(COOKIE).to_vec();
    mac::sign(&mut signed, 1, &NoCipher);
    let query = vec![0x16, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let seeds = [packet::client_request(COOKIE).to_vec(), signed, query];
    fuzz("request", &seeds, |datagram| {
        let request = Request { datagram, from, to_group: false, received: NOW, now: Mono(1) };
        let octets = match respond(
            &request,
            &Serving { served: &Served::UNSYNCHRONIZED, rules: &rules, limit: &limit },
            &mut clients,
        )
        .verdict
        {
            Verdict::Answer(answer) => answer.at(NOW).to_vec(),
            Verdict::Sign(answer) => match answer.signed_at(|| NOW, datagram, |_| Some(&NoCipher)) {
                Ok(octets) => octets,
                Err(_) => return,
            },
            Verdict::Kiss(octets) => octets.to_vec(),
            Verdict::Seal(_) | Verdict::Drop(_) => return,
            Verdict::Query => return assert!(datagram.len() >= 12 && datagram[1] & 0xe0 == 0),
        };
        assert!(octets.len() <= datagram.len());
    });
}

#[test]
fn queries() {
    let known = queries::many();
    let seeds =
        [(1, 0, ""), (2, 0, ""), (2, 1000, ""), (2, 0, "leap, offset,ss_received_r"), (2, 1001, "rec,flash")];
    let seeds = seeds.map(|(opcode, association, data)| queries::query(opcode, association, data));
    fuzz("query", &seeds, |datagram| {
        let parts = queries::ask_of(Some(&known), datagram, true);
        assert!(parts.len() <= 4 && parts.iter().all(|part| part.len() <= 480), "{}", parts.len());
        if parts.first().is_some_and(|part| part[1] & 0x40 == 0) {
            queries::together(&parts);
        }
    });
}

#[test]
fn extension_fields() {
    let mut seed = Vec::new();
    for (kind, length) in [(0x0104, 32), (0x0204, 100), (0x0304, 0), (0x7777, 13)] {
        extension::append(&mut seed, kind, &vec![kind as u8; length]).expect("it is short");
    }
    fuzz("extension field", &[seed], |octets| {
        let mut at = 0;
        for field in extension::fields(octets, 0).map_while(Result::ok) {
            assert_eq!(field.start, at);
            at += 4 + field.body.len();
        }
        assert!(at <= octets.len());
    });
}

/// A cipher and MAC without any security.
struct NoCipher;

impl nts::Aead for NoCipher {
    fn seal(&self, _: &[u8], _: &[u8], plain: &[u8]) -> Vec<u8> {
        [&[0; 16], plain].concat()
    }

    fn open(&self, _: &[u8], _: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        sealed.get(16..).map(<[u8]>::to_vec)
    }
}

impl mac::Mac for NoCipher {
    fn digest(&self, message: &[u8]) -> Vec<u8> {
        message[..20].to_vec()
    }
}

#[test]
fn proofs() {
    let header = answer().encode();
    let sealed =
        nts::request(&header, (&UNIQUE_ID, &[1; 16]), &[2; 100], 7, &NoCipher).expect("a short cookie");
    let mut signed = header.to_vec();
    mac::sign(&mut signed, 7, &NoCipher);
    assert!(mac::verify(&signed, 7, &NoCipher).is_ok());
    fuzz("proof", &[sealed, signed], |octets| {
        if let Ok(cookies) = nts::open(octets, &UNIQUE_ID, &NoCipher) {
            assert!(cookies.iter().map(Vec::len).sum::<usize>() <= octets.len());
        }
        if mac::verify(octets, 7, &NoCipher).is_ok() {
            assert_eq!(octets.len(), HEADER_LEN + 4 + 20);
        }
    });
}

#[test]
fn key_exchanges() {
    let record =
        |kind: u16, body: &[u8]| [&kind.to_be_bytes()[..], &(body.len() as u16).to_be_bytes(), body].concat();
    let mut seed =
        [record(0x8001, &[0, 0]), record(0x8004, &[0, 15]), record(6, b"ntp.example.com")].concat();
    for _ in 0..8 {
        seed.extend(record(5, &[9; 100]));
    }
    seed.extend([record(7, &[0, 123]), record(0x8000, &[])].concat());
    assert!(key_exchange::read(&seed).is_ok_and(|established| established.is_some()));
    fuzz("key exchange", &[seed], |octets| {
        if let Ok(Some(established)) = key_exchange::read(octets) {
            assert!((1..=nts::COOKIES).contains(&established.cookies.len()), "{established:?}");
            assert!(established.cookies.iter().all(|cookie| cookie.len() <= nts::LONGEST_COOKIE));
        }
    });
}

impl server_nts::Keyring for NoCipher {
    type Key = Self;

    fn current(&self) -> (KeyId, &Self) {
        (KeyId([1; 4]), self)
    }

    fn find(&self, id: KeyId) -> Option<&Self> {
        (id == KeyId([1; 4])).then_some(self)
    }

    fn session(&self, _: &[u8; KEY_LEN]) -> Self {
        Self
    }

    fn nonce(&mut self) -> nts::Nonce {
        [5; 16]
    }
}

#[test]
fn sealed_requests() {
    let keys = SessionKeys { client_to_server: [3; KEY_LEN], server_to_client: [4; KEY_LEN] };
    let seed = |missing| {
        let cookie = server_nts::fresh_cookie(&keys, &mut NoCipher);
        let header = packet::client_request(COOKIE);
        nts::request(&header, (&UNIQUE_ID, &[1; 16]), &cookie, missing, &NoCipher).expect("a short cookie")
    };
    let (rules, limit) = (RestrictTable::new(&[]), RateLimit { interval: 3, burst: 8, leak: 2 });
    let from: SocketAddr = "192.0.2.7:40000".parse().expect("an address");
    let mut answered = 0;
    fuzz("sealed request", &[seed(0), seed(7)], |datagram| {
        let request = Request { datagram, from, to_group: false, received: NOW, now: Mono(1) };
        let serving = Serving { served: &Served::UNSYNCHRONIZED, rules: &rules, limit: &limit };
        let Verdict::Seal(answer) = respond(&request, &serving, &mut RateTable::new(8, 1)).verdict else {
            return;
        };
        let octets = match server_nts::reply(datagram, answer, &mut NoCipher) {
            Outcome::Answer(sealed) => sealed.finish(NOW, &NoCipher),
            Outcome::Kiss(octets) => octets,
            Outcome::Drop(_) => return,
        };
        answered += 1;
        assert!(octets.len() <= datagram.len(), "{} then {}", datagram.len(), octets.len());
    });
    assert!(answered > 0);
}

#[test]
fn key_exchange_requests() {
    let records: [&[u8]; 4] =
        [&[0x80, 1, 0, 4, 0x80, 0, 0, 0], &[0, 4, 0, 4, 0, 30, 0, 15], &[0, 6, 0, 1, b'a'], &[0x80, 0, 0, 0]];
    let seed = records.concat();
    assert_eq!(key_exchange::server::read(&seed), Ok(Some(Offer::Good)));
    fuzz("key exchange request", &[seed, key_exchange::request()], |octets| {
        let said = key_exchange::server::read(octets);
        if said != Ok(None) {
            let more = [octets, &[0x80, 2, 0, 0]].concat();
            assert_eq!(key_exchange::server::read(&more), said, "what follows the end changes nothing");
        }
    });
}

#[test]
fn leap_tables() {
    let seed = "#@ 3991593600\n# a comment\n2272060800 10 # 1 Jan 1972\n3692217600 37\n";
    assert!(LeapTable::parse(seed).is_ok());
    fuzz("leap table", &[seed.as_bytes().to_vec()], |octets| {
        if let Ok(table) = LeapTable::parse(&String::from_utf8_lossy(octets)) {
            assert!(table.tai_minus_utc(NOW).is_none_or(|seconds| (0..1000).contains(&seconds)));
        }
    });
}
