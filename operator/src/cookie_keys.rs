//! The keys that agents seal NTS cookies with (RFC 8915 §6). The operator makes a new key every day and gives all
//! agents the same keys, so that a client may use its cookies with any of them. Pure, except for [`draw`]: times and
//! random numbers are arguments. No key is ever shown.
//!
//! The file has one key per line, `<id: 8 hexadecimal digits> <key: 64>`; `#` begins a comment. The first key seals,
//! and every key opens. A new key is second for ten minutes, so that every agent has read it before it seals: volumes
//! lag by up to 81 s. Then it becomes the first. A comment records the last change and its time, so that the next
//! operator continues from there. The wall clock may be wrong, so no change is made sooner than the monotonic clock
//! allows, and no key is removed before seven newer ones exist.
use std::time::{Duration, Instant};

use contract::{CookieKey, MOST_COOKIE_KEYS};
use k8s_openapi::{
    ByteString,
    jiff::{SignedDuration, Timestamp},
};

use crate::keys::SecretValue;

/// A new key begins to seal this long after it was given out.
const SETTLE: Duration = Duration::from_secs(600);
/// A key seals for this long.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The next key is not made sooner, even if the wall clock is wrong.
const LEAST: Duration = Duration::from_secs(3600);
/// Octets drawn for a new key: four for its id, 32 for the key (AES-SIV-CMAC-256).
pub(crate) const DRAWN: usize = 36;

/// What this operator knows of the keys while it leads.
#[derive(Default)]
pub(crate) struct CookieKeys {
    known: Option<KnownContent>,
}

struct KnownContent {
    content: SecretValue,
    /// Since when this operator knows this content.
    since: Instant,
    /// The content before the last change; a watch may still show it for a moment.
    before: Option<SecretValue>,
}

impl CookieKeys {
    /// Returns the desired content of a file whose present content is `held`; none if there are no keys and none are
    /// `wanted`. The result changes with `held` and with time.
    ///
    /// # Errors
    /// That of `draw`, which fills the octets of a new key with random ones.
    pub(crate) fn update<E>(
        &mut self,
        held: Option<&SecretValue>,
        wanted: bool,
        now: Instant,
        time: Timestamp,
        draw: impl FnOnce() -> Result<[u8; DRAWN], E>,
    ) -> Result<Option<SecretValue>, E> {
        self.adopt(held, now);
        let next = match &self.known {
            None if wanted => {
                Some(Ring { keys: vec![fresh(draw()?, &[])], last: Event::Sealing(Some(time)) })
            }
            None => None,
            Some(known) => {
                let ring = Ring::read(&known.content);
                match ring.due(now.saturating_duration_since(known.since), time) {
                    Some(Step::Announce) => Some(ring.announce(draw()?)),
                    Some(Step::Promote) => Some(ring.promote(time)),
                    None => None,
                }
            }
        };
        if let Some(ring) = next {
            let before = self.known.take().map(|known| known.content);
            self.known = Some(KnownContent { content: ring.content(), since: now, before });
        }
        Ok(self.known.as_ref().map(|known| known.content.clone()))
    }

    /// Takes the content that an earlier operator or a person wrote. If it has no key, the known keys stay: keys that
    /// were deleted by mistake come back.
    fn adopt(&mut self, held: Option<&SecretValue>, now: Instant) {
        let held = held.filter(|held| !Ring::read(held).keys.is_empty());
        match (&mut self.known, held) {
            (Some(known), Some(held)) if known.content == *held => {}
            // The known content is not written yet, or was deleted and is written again.
            (Some(known), held) if held.is_none() || known.before.as_ref() == held => known.since = now,
            (known, Some(held)) => {
                // Agents refuse the whole file for one bad line, so it is written again without that line.
                let content = Ring::read(held).content();
                *known = Some(KnownContent { content, since: now, before: Some(held.clone()) });
            }
            (_, None) => {}
        }
    }
}

/// The content of the file.
struct Ring {
    /// The first one seals.
    keys: Vec<CookieKey>,
    last: Event,
}

/// The last change.
enum Event {
    /// The first key began to seal; at this time, if the time can be read.
    Sealing(Option<Timestamp>),
    /// The second key was given out.
    Announced,
}

/// The next change.
enum Step {
    /// Give out a new key, as the second one.
    Announce,
    /// Let the second key seal.
    Promote,
}

const SEALING: &str = "# sealing since ";
const ANNOUNCED: &str = "# the second key seals next";

impl Ring {
    fn read(content: &SecretValue) -> Self {
        let text = str::from_utf8(&content.0.0).unwrap_or_default();
        let mut ring = Self { keys: Vec::new(), last: Event::Sealing(None) };
        for line in text.lines() {
            if let Some(time) = line.strip_prefix(SEALING) {
                ring.last = Event::Sealing(time.trim().parse().ok());
            } else if line.starts_with(ANNOUNCED) {
                ring.last = Event::Announced;
            } else if let Some(key) = CookieKey::from_line(line).filter(|key| !ring.holds(key)) {
                ring.keys.push(key);
            }
        }
        ring.keys.truncate(MOST_COOKIE_KEYS);
        if ring.keys.len() < 2 && matches!(ring.last, Event::Announced) {
            ring.last = Event::Sealing(None);
        }
        ring
    }

    /// Returns true if the ring has a key with the same id, or the same key under another id.
    fn holds(&self, key: &CookieKey) -> bool {
        self.keys.iter().any(|held| held.id == key.id || held.key == key.key)
    }

    /// The change that is due. `age` is how long the ring is unchanged by the monotonic clock, as far as this operator
    /// knows.
    fn due(&self, age: Duration, time: Timestamp) -> Option<Step> {
        match self.last {
            Event::Announced => (age >= SETTLE).then_some(Step::Promote),
            Event::Sealing(since) => {
                let sealed = since.map(|since| time.duration_since(since));
                let young = |sealed: SignedDuration| !sealed.is_negative() && sealed.unsigned_abs() < DAY;
                // If the time is in the future, the clock was wrong when it was written, or is wrong now.
                let old = !sealed.is_some_and(young);
                (age >= DAY || age >= LEAST && old).then_some(Step::Announce)
            }
        }
    }

    fn announce(mut self, random: [u8; DRAWN]) -> Self {
        let key = fresh(random, &self.keys);
        self.keys.insert(1, key);
        self.keys.truncate(MOST_COOKIE_KEYS);
        self.last = Event::Announced;
        self
    }

    fn promote(mut self, time: Timestamp) -> Self {
        self.keys.swap(0, 1);
        self.last = Event::Sealing(Some(time));
        self
    }

    fn content(&self) -> SecretValue {
        let last = match self.last {
            Event::Sealing(Some(time)) => format!("{SEALING}{time}\n"),
            Event::Sealing(None) => String::new(),
            Event::Announced => format!("{ANNOUNCED}\n"),
        };
        let keys = self.keys.iter().map(CookieKey::to_line).collect::<Vec<_>>().join("\n");
        let text = format!("# Made and changed every day by timesync-operator.\n{last}{keys}\n");
        SecretValue(ByteString(text.into_bytes()))
    }
}

/// A key whose id differs from those of the others.
fn fresh(random: [u8; DRAWN], others: &[CookieKey]) -> CookieKey {
    let (mut id, mut key) = ([0; 4], [0; 32]);
    id.copy_from_slice(&random[..4]);
    key.copy_from_slice(&random[4..]);
    while others.iter().any(|other| other.id == id) {
        id = u32::from_be_bytes(id).wrapping_add(1).to_be_bytes();
    }
    CookieKey { id, key }
}

/// Draws random octets from the operating system.
pub(crate) fn draw() -> Result<[u8; DRAWN], getrandom::Error> {
    let mut random = [0; DRAWN];
    getrandom::fill(&mut random).map(|()| random)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// An operator and its clocks. Each key that it draws differs.
    struct Bench {
        operator: CookieKeys,
        start: Instant,
        age: Duration,
        time: Timestamp,
        drawn: u8,
        held: Option<SecretValue>,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                operator: CookieKeys::default(),
                start: Instant::now(),
                age: Duration::ZERO,
                time: "2026-11-23T04:00:00Z".parse().unwrap(),
                drawn: 0,
                held: None,
            }
        }

        fn update(&mut self, wanted: bool) -> Option<SecretValue> {
            let random = [self.drawn; DRAWN];
            let mut drawn = self.drawn;
            let draw = || {
                drawn += 1;
                Ok::<_, Infallible>(random)
            };
            let now = self.start + self.age;
            let content = self.operator.update(self.held.as_ref(), wanted, now, self.time, draw).unwrap();
            self.drawn = drawn;
            content
        }

        /// Runs a round after this many minutes, and writes its content. Returns the first digits of the keys.
        fn round(&mut self, minutes: u64) -> String {
            self.age += Duration::from_secs(60 * minutes);
            self.time += Duration::from_secs(60 * minutes);
            self.held = self.update(true);
            self.keys()
        }

        fn keys(&self) -> String {
            let keys = self.held.as_ref().map(|held| Ring::read(held).keys).unwrap_or_default();
            keys.iter().map(|key| hex::encode(&key.id[..1])).collect::<Vec<_>>().join(" ")
        }

        fn restart(&mut self) {
            self.operator = CookieKeys::default();
        }
    }

    fn content(text: &str) -> SecretValue {
        SecretValue(ByteString(text.as_bytes().to_vec()))
    }

    #[test]
    fn there_are_none_until_somebody_wants_them() {
        let mut bench = Bench::new();
        assert_eq!(bench.update(false), None);
        assert_eq!(bench.round(0), "00");
        let text = String::from_utf8(bench.held.clone().unwrap().0.0).unwrap();
        let expected = format!(
            "# Made and changed every day by timesync-operator.\n# sealing since 2026-11-23T04:00:00Z\n00000000 {}\n",
            "0".repeat(64)
        );
        assert_eq!(text, expected);
        assert_eq!(bench.round(1), "00", "and they stay");
    }

    #[test]
    fn a_new_key_is_known_to_all_before_it_seals() {
        let mut bench = Bench::new();
        bench.round(0);
        assert_eq!(bench.round(24 * 60 - 1), "00");
        assert_eq!(bench.round(1), "00 01");
        assert_eq!(bench.round(9), "00 01");
        assert_eq!(bench.round(1), "01 00");
        assert_eq!(bench.round(24 * 60), "01 02 00");
        assert_eq!(bench.round(10), "02 01 00");
    }

    #[test]
    fn a_key_that_could_not_be_written_does_not_seal() {
        let mut bench = Bench::new();
        bench.round(0);
        let before = bench.held.clone();
        bench.round(24 * 60);
        for _ in 0..30 {
            bench.held = before.clone();
            assert_eq!(bench.round(1), "00 01");
        }
        assert_eq!(bench.round(9), "00 01");
        assert_eq!(bench.round(1), "01 00");
    }

    #[test]
    fn seven_old_keys_stay() {
        let mut bench = Bench::new();
        bench.round(0);
        for _ in 0..20 {
            bench.round(24 * 60);
            let announced = bench.keys();
            bench.round(10);
            assert_eq!(announced.split(' ').count(), (bench.drawn as usize).min(8));
        }
        assert_eq!(bench.keys(), "14 13 12 11 10 0f 0e 0d");
    }

    #[test]
    fn the_next_operator_goes_on_where_the_last_one_ended() {
        let mut bench = Bench::new();
        bench.round(0);
        bench.round(20 * 60);
        bench.restart();
        assert_eq!(bench.round(5 * 60), "00", "it has seen it only now");
        assert_eq!(bench.round(60), "00 01", "25 hours by the comment, one by its own clock");
        bench.round(9);
        bench.restart();
        assert_eq!(bench.round(9), "00 01");
        assert_eq!(bench.round(10), "01 00");
    }

    #[test]
    fn a_wrong_wall_clock_neither_hurries_nor_stops_it() {
        let mut bench = Bench::new();
        bench.round(0);
        bench.time += Duration::from_secs(10 * 366 * 24 * 3600);
        assert_eq!(bench.round(59), "00");
        assert_eq!(bench.round(1), "00 01");
        assert_eq!(bench.round(10), "01 00");
        bench.time -= Duration::from_secs(10 * 366 * 24 * 3600);
        assert_eq!(bench.round(59), "01 00", "its time is in the future");
        assert_eq!(bench.round(1), "01 02 00");
        assert_eq!(bench.round(10), "02 01 00");
        for _ in 0..23 {
            // The wall clock stands still.
            bench.time -= Duration::from_secs(3600);
            assert_eq!(bench.round(60), "02 01 00");
        }
        assert_eq!(bench.round(60), "02 03 01 00");
    }

    #[test]
    fn keys_that_are_lost_by_mistake_come_back() {
        let mut bench = Bench::new();
        bench.round(0);
        let before = bench.held.clone();
        for lost in [
            None,
            Some(content("")),
            Some(content("00000000 00\n")),
            Some(SecretValue(ByteString(vec![0xff]))),
        ] {
            bench.held = lost;
            bench.round(1);
            assert_eq!(bench.held, before);
        }
    }

    #[test]
    fn what_a_person_or_another_operator_wrote_is_taken() {
        let mut bench = Bench::new();
        bench.round(0);
        let stale = bench.held.clone();
        bench.round(24 * 60);
        bench.held = stale;
        assert_eq!(bench.round(0), "00 01", "a watch that lags is nobody");
        let (seven, eight) = ("7".repeat(64), "8".repeat(64));
        let other = format!("  ABCDEF01\t{seven}\nabcdef01 {eight}\n12345678 {seven}\nnonsense\n");
        bench.held = Some(content(&other));
        let clean = format!("# Made and changed every day by timesync-operator.\nabcdef01 {seven}\n");
        assert_eq!(bench.update(true), Some(content(&clean)), "agents would refuse all of it");
        bench.round(0);
        assert_eq!(bench.round(59), "ab", "and not changed at once");
        assert_eq!(bench.round(1), "ab 02");
    }

    #[test]
    fn no_two_keys_have_one_id() {
        let line = fresh([0xff; DRAWN], &[fresh([0xff; DRAWN], &[])]);
        assert_eq!(line.id, [0; 4]);
        assert_eq!(CookieKey::from_line(&line.to_line()), Some(line));
    }

    #[test]
    fn no_random_number_no_key() {
        let now = Instant::now();
        let failed = CookieKeys::default().update(None, true, now, Timestamp::UNIX_EPOCH, || Err("none"));
        assert_eq!(failed, Err("none"));
    }
}
