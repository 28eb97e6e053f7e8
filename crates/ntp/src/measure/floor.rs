//! Times that have passed already, and sources that say an earlier one. In a boot's start phase a clock may be stepped to
//! any time, so a server that lost its own would take it along: a lone server that is back in 1980, for instance. What
//! sources say comes in; which of them are not believed, and why, goes out.
use crate::Wall;

/// Times before which it cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The last time known to be right on this node.
    pub saved: Option<Wall>,
    /// This program did not exist before.
    pub built: Wall,
}

/// Sources that must say the same time before the saved one is doubted: it may have been wrong itself.
const ENOUGH: usize = 2;

impl Floor {
    /// Why a source is not believed, for each of the times that sources say it is; none if it is.
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

    /// NTP's time stamps repeat each 2^32 seconds, 136 years: one of 1980 is one of 2116, too. The time meant is the one
    /// that is less than half of that after the program was made.
    fn in_era(&self, said: Wall) -> Wall {
        const ERA: f64 = 4_294_967_296.0;
        if said - self.built > ERA / 2.0 { said.plus(-ERA) } else { said }
    }
}

/// Seconds as a reader takes them in. The text stays the same for a day: each change of it would be written to the API.
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
        // As 136 years later.
        check(None, &[4_294_967_296], &["12 days before this program was made"]);
        let built = "12 days before this program was made";
        check(None, &[0, 0, 0], &[built, built, built]);
        check(Some(2_000_100), &[0, 2_000_000], &[built, saved]);
    }
}
