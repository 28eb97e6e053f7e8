//! What was done in this boot of the node, in addition to the engine's own count. Each fact is in a file that begins
//! with the boot id: the content of a file from another boot is ignored.
use super::{State, booted::Booted};

const RAISES: &str = "floor";
const BOOTED: &str = "booted";

impl State {
    /// How often the clock was set forward to the last known time in this boot.
    pub(crate) fn raises(&self) -> u32 {
        self.of_this_boot(RAISES).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Adds one to this number.
    pub(crate) fn count_raise(&self) {
        let raises = self.raises().saturating_add(1);
        self.keep(RAISES, &format!("{} {raises}\n", self.boot_id));
    }

    /// How far `timesync-agent boot` came in this boot; none if it did not begin.
    pub(crate) fn booted(&self) -> Option<Booted> {
        match self.of_this_boot(BOOTED)?.as_str() {
            "began" => Some(Booted::Began),
            "done" => Some(Booted::Done),
            _ => None,
        }
    }

    /// Saves how far it came.
    pub(crate) fn save_booted(&self, booted: Booted) {
        let word = match booted {
            Booted::Began => "began",
            Booted::Done => "done",
        };
        self.keep(BOOTED, &format!("{} {word}\n", self.boot_id));
    }

    fn of_this_boot(&self, name: &str) -> Option<String> {
        let text = self.read(name)?;
        let (boot_id, rest) = text.trim().split_once(' ')?;
        (boot_id == self.boot_id).then(|| rest.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn another_boot_knows_nothing_of_it() {
        let folder = Scratch::new();
        let state = State::open(folder.path(), "boot-1");
        assert_eq!((state.raises(), state.booted()), (0, None));
        state.count_raise();
        state.count_raise();
        state.save_booted(Booted::Began);
        assert_eq!((state.raises(), state.booted()), (2, Some(Booted::Began)));
        state.save_booted(Booted::Done);
        assert_eq!(State::open(folder.path(), "boot-1").booted(), Some(Booted::Done));
        let next = State::open(folder.path(), "boot-2");
        assert_eq!((next.raises(), next.booted()), (0, None));
    }
}
