//! The floor: a time that has certainly passed. A source that gives an earlier time is not believed. In the start phase
//! of a boot the clock may be stepped to any time, so without the floor a single server that lost its time, for
//! instance back in 1980, would set this clock back too. The sources' times go in; the reasons against each come out.
use crate::Wall;

/// Times that have certainly passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The last time that is known to be right on this node.
    pub saved: Option<Wall>,
    /// The time at which this program was built.
    pub built: Wall,
}

/// If this number of sources gives times before the saved one, the saved time is assumed to be wrong.
const ENOUGH: usize = 2;

impl Floor {
    /// For each time in `said`: why its source is not believed. None if it is believed.
    pub(crate) fn judge(&self, said: &[Wall]) -> Vec<Option<String>> {
        let said: Vec<Wall> = said.iter().map(|said| self.in_era(*said)).collect();
        let before = |floor: Option<Wall>, said: Wall| floor.filter(|floor| said < *floor);
        let possible = |said: &&Wall| before(Some(self.built), **said).is_none();
        let earlier =
            said.iter().filter(possible).filter(|said| before(self.saved, **said).is_some()).count();
        said.iter()
            .map(|&said| {
                if let Some(built) = before(Some(self.built), said) {
                    return Some(format!(
                        "It says a time {} before this program was made: its clock is wrong.",
                        length(built - said)
                    ));
                }
                let saved = before(self.saved, said).filter(|_| earlier < ENOUGH)?;
                Some(format!(
                    "It says a time {} before the last one known to be right on this node. The clock is set back only if \
                     a second source agrees. If that last time was wrong, remove the file `time` in the state folder \
                     and restart the agent.",
                    length(saved - said)
                ))
            })
            .collect()
    }

    /// Resolves the era. NTP timestamps repeat every 2^32 seconds (136 years): one of 1980 is also one of 2116. The
    /// time is taken to be less than half an era after the program was built.
    fn in_era(&self, said: Wall) -> Wall {
        const ERA: f64 = 4_294_967_296.0;
        if said - self.built > ERA / 2.0 { said.plus(-ERA) } else { said }
    }
}

/// A length of time as text for a user. The text stays the same for a day, since each change of it would be written to
/// the API.
fn length(seconds: f64) -> String {
    const HOUR: f64 = 3600.0;
    const DAY: f64 = 24.0 * HOUR;
    if seconds < HOUR {
        "less than an hour".to_owned()
    } else if seconds < 2.0 * DAY {
        "hours".to_owned()
    } else {
        format!("{:.0} days", seconds / DAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_sets_no_clock_back_and_none_before_the_program() {
        let at = |secs: i64| Wall(secs * 1_000_000_000);
        let check = |saved: Option<i64>, said: &[i64], expected: &[&str]| {
            let floor = Floor { saved: saved.map(at), built: at(1_000_000) };
            let said: Vec<_> = said.iter().map(|&secs| at(secs)).collect();
            let found = floor.judge(&said);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                let found = found.as_deref().unwrap_or_default();
                assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{found}");
            }
        };
        let saved = "less than an hour before the last one known to be right";
        check(None, &[2_000_000], &[""]);
        check(Some(2_000_000), &[2_000_000], &[""]);
        check(Some(2_000_100), &[2_000_000], &[saved]);
        check(Some(2_000_100), &[2_000_000, 2_000_100], &[saved, ""]);
        check(Some(2_000_100), &[2_000_000, 2_000_000], &["", ""]);
        // The timestamp is read as 136 years later.
        check(None, &[4_294_967_296], &["12 days before this program was made"]);
        let built = "12 days before this program was made";
        check(None, &[0, 0, 0], &[built, built, built]);
        check(Some(2_000_100), &[0, 2_000_000], &[built, saved]);
    }
}
