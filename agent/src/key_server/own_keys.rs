//! Cookie keys of this agent alone: a new one each day and seven old ones. They are kept in the agent's state, so that
//! a restart does not send all clients to another key exchange at once. The stored text and the time in; out: the keys,
//! and whether they must be stored again.
use std::iter;

use contract::MOST_COOKIE_KEYS;
use ntp::{Wall, key_exchange::KEY_LEN, nts::cookie::KeyId};

use crate::cookie_keys::{self, RawKey};

/// The keys, and when the newest one was made.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct OwnKeys {
    /// Seconds since 1970.
    made: i64,
    keys: Vec<RawKey>,
}

/// How long a key is the newest, seconds: a day.
const LIFE: i64 = 86_400;

impl OwnKeys {
    /// Parses the stored text; none if it is not valid.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let (first, rest) = text.split_once('\n')?;
        let made = first.strip_prefix("made ")?.parse().ok()?;
        Some(Self { made, keys: cookie_keys::parse(rest).ok()? })
    }

    /// The text to store.
    pub(super) fn text(&self) -> String {
        format!("made {}\n{}", self.made, cookie_keys::text(&self.keys))
    }

    /// The keys, the current one first.
    pub(super) fn keys(&self) -> &[RawKey] {
        &self.keys
    }

    /// The keys that are valid at `now`: the same, or with a new one as the first. If the clock was set by more than a
    /// day, in either direction, there is a new key. The old ones stay.
    ///
    /// # Errors
    /// If a new key is due, but there is no random number.
    pub(super) fn renewed(before: Option<Self>, now: Wall) -> Result<Self, sys::Error> {
        let now = now.0.div_euclid(1_000_000_000);
        match before {
            Some(own) if (now - own.made).abs() < LIFE => Ok(own),
            before => {
                let old = before.map(|own| own.keys).unwrap_or_default();
                let fresh = fresh(&old)?;
                Ok(Self { made: now, keys: iter::once(fresh).chain(old).take(MOST_COOKIE_KEYS).collect() })
            }
        }
    }
}

fn fresh(old: &[RawKey]) -> Result<RawKey, sys::Error> {
    let (mut id, mut key) = ([0; 4], [0; KEY_LEN]);
    sys::random::fill(&mut key)?;
    loop {
        sys::random::fill(&mut id)?;
        if old.iter().all(|(known, _)| *known != KeyId(id)) {
            return Ok((KeyId(id), key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: f64) -> Wall {
        Wall(1_800_000_000_000_000_000) + days * 86_400.0
    }

    #[test]
    fn a_key_a_day_and_seven_old_ones() {
        let mut own = OwnKeys::renewed(None, at(0.0)).unwrap();
        let first = own.keys[0];
        assert_eq!(own.keys.len(), 1);
        for day in 1..=7 {
            let before = own.clone();
            own = OwnKeys::renewed(Some(own), at(f64::from(day) - 0.01)).unwrap();
            assert!(own == before, "not a day old");
            own = OwnKeys::renewed(Some(own), at(f64::from(day))).unwrap();
            assert!(own.keys[1..] == before.keys[..], "the new one comes first");
        }
        assert!((own.keys.len(), &own.keys[7]) == (MOST_COOKIE_KEYS, &first));
        own = OwnKeys::renewed(Some(own), at(8.0)).unwrap();
        assert!(own.keys.len() == MOST_COOKIE_KEYS && !own.keys.contains(&first));
        let back = OwnKeys::renewed(Some(own.clone()), at(-100.0)).unwrap();
        assert!(back.keys[1..] == own.keys[..7], "a clock that was far ahead");
    }

    #[test]
    fn what_is_stored_comes_back() {
        let own = OwnKeys::renewed(OwnKeys::renewed(None, at(0.0)).ok(), at(1.5)).unwrap();
        assert!(OwnKeys::from_text(&own.text()).as_ref() == Some(&own));
        for text in ["", "made \n", "made 17\n", &own.text()[5..], &own.text().replace("made ", "")] {
            assert!(OwnKeys::from_text(text).is_none(), "{text:?}");
        }
    }
}
