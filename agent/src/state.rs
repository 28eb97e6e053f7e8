//! The state folder, which outlives the agent: drift, boot guard, samples, last good profile, last known time, cookie
//! keys, former time zone, and what was done in this boot (`this_boot`).
//!
//! Each is one small text file, replaced as a whole: a reader finds the old one or the new one, never a part of one. If
//! the folder cannot be written, the agent logs a warning and continues.
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use contract::ProfileName;
use ntp::{BootState, Clocks, Drift, Samples, Wall};
use tracing::{info, warn};

use crate::{
    exposure,
    host_root::HostRoot,
    replace::{self, FileAttributes},
};

mod booted;
mod file;
mod samples;

mod pending_writes;

mod this_boot;

pub(crate) use booted::{Booted, boot_id};
pub(crate) use file::Error;
use file::FileOptions;
use pending_writes::PendingWrites;
pub(crate) use samples::SavedSamples;

/// The state folder.
#[derive(Debug)]
pub(crate) struct State {
    directory: PathBuf,
    boot_id: String,
    pending_writes: PendingWrites,
    /// Held while a file is written: both the engine and the other tasks write.
    writing: Mutex<()>,
}

/// Written at the start, to see if the folder can be written.
const PROBE: &str = "probe";

/// The length of the file, octets: the boot id, two numbers, and spaces.
const BOOT_LENGTH: usize = 64;

const DRIFT: &str = "drift";
const BOOT: &str = "boot";
const SAMPLES: &str = "samples";
const PROFILE: &str = "profile";
const TIME: &str = "time";
const RTC: &str = "rtc";
const COOKIE_KEYS: &str = "cookie_keys";
const TIMEZONE: &str = "timezone";
const MANIFEST_FOLDER: &str = "manifest_folder";

/// What the RTC showed when it was first read in a boot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RtcAtBoot {
    /// The RTC's time; none if the kernel found that the RTC had lost it.
    pub(crate) shown: Option<Wall>,
    /// The last time known to be right before that reading.
    pub(crate) floor: Option<Wall>,
}

impl RtcAtBoot {
    /// Returns true if the RTC had lost its time: it had none, or one that was before the floor by more than
    /// `tolerance` seconds.
    pub(crate) fn lost(&self, tolerance: f64) -> bool {
        match (self.shown, self.floor) {
            (None, _) => true,
            (Some(shown), Some(floor)) => shown - floor < -tolerance,
            (Some(_), None) => false,
        }
    }
}

impl State {
    /// Opens the state in `directory`, of the node with the boot id `boot_id`. Creates the folder if it does not exist.
    pub(crate) fn open(directory: &Path, boot_id: &str) -> Self {
        let made = fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(directory);
        let pending_writes = PendingWrites::default();
        let state = Self {
            directory: directory.to_owned(),
            boot_id: boot_id.to_owned(),
            pending_writes,
            writing: Mutex::new(()),
        };
        state.close_folder();
        if let Err(source) = made {
            let error = Error { path: directory.to_owned(), source };
            state.pending_writes.failed(PROBE, PROBE, FileOptions::OPEN, &error);
        } else if state.keep(PROBE, PROBE) {
            let _ = state.remove(PROBE);
        }
        state
    }

    /// Removes other users' rights on the folder, which older versions gave them. A folder that has other files than
    /// the agent's is not changed.
    fn close_folder(&self) {
        let Ok(found) = fs::metadata(&self.directory) else { return };
        let is_open = found.mode() & 0o077 != 0 && found.uid() == sys::lock::own_user();
        if !is_open || !self.is_ours_alone() {
            return;
        }
        match fs::set_permissions(&self.directory, fs::Permissions::from_mode(FOLDER_MODE)) {
            Ok(()) => {
                info!(path = %self.directory.display(), "State directory closed to other users (mode 0700)")
            }
            Err(error) => {
                warn!(path = %self.directory.display(), %error, "State directory is open to other users")
            }
        }
    }

    /// Why the folder cannot be written; none if everything is on disk. Until then drift, the number of steps, the
    /// profile and everything else exist only in this process, and are lost when it ends.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.pending_writes.trouble()
    }

    /// Tries again to write what could not be written, at most every ten seconds.
    pub(crate) fn retry(&self) {
        for (name, text, options) in self.pending_writes.due(Instant::now()) {
            let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            // Another thread may have written a newer text in the meantime.
            if self.pending_writes.text(&name).as_deref() != Some(&*text) {
                continue;
            }
            // The other files would fail too.
            if !self.write_now(&name, &text, options) {
                return;
            }
            if name == PROBE {
                let _ = self.remove(PROBE);
            }
        }
    }

    /// Returns true if the folder has only regular files of this user, and the folder with the agent's program. A
    /// folder such as /tmp or /var/lib has others.
    fn is_ours_alone(&self) -> bool {
        let Ok(entries) = fs::read_dir(&self.directory) else { return false };
        let is_own = |entry: fs::DirEntry| {
            let found = entry.metadata().ok().filter(|found| found.uid() == sys::lock::own_user());
            found.is_some_and(|found| found.is_file() || entry.file_name() == "bin")
        };
        entries.flatten().all(is_own)
    }

    /// Why other users may replace what is in the folder, and what to do; none if they cannot.
    pub(crate) fn exposure(&self) -> Option<String> {
        let here = HostRoot::new(PathBuf::from("/"));
        exposure::of(&here, &exposure::absolute(&self.directory)).ok().flatten()
    }

    /// The learned frequency error, if known.
    pub(crate) fn drift(&self) -> Option<Drift> {
        let text = self.read(DRIFT)?;
        let mut numbers =
            text.split_whitespace().map(|word| word.parse::<f64>().ok().filter(|n| n.is_finite()));
        let (frequency_ppm, skew_ppm) = (numbers.next()??, numbers.next()??);
        Some(Drift { frequency_ppm, skew_ppm })
    }

    /// Saves the learned frequency error.
    pub(crate) fn save_drift(&self, drift: Drift) {
        self.keep(DRIFT, &format!("{:.6} {:.6}\n", drift.frequency_ppm, drift.skew_ppm));
    }

    /// What was done to the clock since the node's boot; nothing if the file is from another boot.
    pub(crate) fn boot(&self) -> BootState {
        let text = self.read(BOOT).unwrap_or_default();
        let words: Vec<_> = text.split_whitespace().collect();
        match words[..] {
            [boot_id, steps, synchronized] if boot_id == self.boot_id => BootState {
                // An unreadable count ends the start phase, instead of beginning it again.
                steps: steps.parse().unwrap_or(u32::MAX),
                synchronized: synchronized != "0",
            },
            _ => BootState::default(),
        }
    }

    /// Saves what was done to the clock since the node's boot. Returns true if it is on disk. This also works on a full
    /// disk if the file exists, since it is then overwritten; a new file cannot be created.
    pub(crate) fn save_boot(&self, boot: BootState) -> bool {
        let text = format!("{} {} {}\n", self.boot_id, boot.steps, u8::from(boot.synchronized));
        // The text always has the same length, so that no part of a former text stays.
        self.save(BOOT, &format!("{text:<BOOT_LENGTH$}"), FileOptions { in_place: true, ..FileOptions::OPEN })
    }

    /// Returns true if the file has what was done to the clock.
    pub(crate) fn boot_is_saved(&self) -> bool {
        self.pending_writes.is_saved(BOOT)
    }

    /// What was measured in this boot. It must be converted to the moment at which it is used.
    pub(crate) fn samples(&self) -> Option<SavedSamples> {
        let text = self.read(SAMPLES)?;
        let saved = samples::from_text(&text);
        if saved.is_none() {
            warn!("Saved samples are damaged; measuring anew");
        }
        saved.filter(|saved| saved.boot_id == self.boot_id)
    }

    /// Saves what was measured in this boot, and the readings of the clocks to which it is relative.
    pub(crate) fn save_samples(&self, samples: Samples, clocks: Clocks) {
        let saved = SavedSamples { boot_id: self.boot_id.clone(), clocks, samples };
        // The samples are useless after a crash of the node, so there is no need to wait for the disk.
        self.save(SAMPLES, &samples::to_text(&saved), FileOptions { durable: false, ..FileOptions::OPEN });
    }

    /// The last profile that ran: its name, and its text, which the caller must verify.
    pub(crate) fn profile(&self) -> Option<(ProfileName, String)> {
        let text = self.read(PROFILE)?;
        let (name, text) = text.split_once('\n')?;
        Some((name.parse().ok()?, text.to_owned()))
    }

    /// Saves the running profile.
    pub(crate) fn save_profile(&self, name: &ProfileName, text: &str) {
        self.keep(PROFILE, &format!("{name}\n{text}"));
    }

    /// Removes the saved profile: no profile is to run any more, not even after a restart.
    pub(crate) fn forget_profile(&self) {
        if let Err(error) = self.remove(PROFILE) {
            warn!(%error, "State not removed");
        }
    }

    /// The last time known to be right.
    pub(crate) fn time(&self) -> Option<Wall> {
        self.read(TIME)?.trim().parse().ok().map(Wall)
    }

    /// Saves a time known to be right.
    pub(crate) fn save_time(&self, time: Wall) {
        self.keep(TIME, &format!("{}\n", time.0));
    }

    /// What the RTC showed when it was first read in this boot. If it was not read before, this is the first reading:
    /// the RTC has `shown` a time, or none because it had lost it. A caller that moves a clock, or saves a time, calls
    /// this first.
    pub(crate) fn rtc_at_boot(&self, shown: Option<Wall>) -> RtcAtBoot {
        let text = self.read(RTC).unwrap_or_default();
        if let [boot_id, shown, floor] = text.split_whitespace().collect::<Vec<_>>()[..]
            && boot_id == self.boot_id
            && let (Some(shown), Some(floor)) = (wall_or_dash(shown), wall_or_dash(floor))
        {
            return RtcAtBoot { shown, floor };
        }
        let at_boot = RtcAtBoot { shown, floor: self.time() };
        let word = |wall: Option<Wall>| wall.map_or_else(|| "-".to_owned(), |wall| wall.0.to_string());
        self.keep(RTC, &format!("{} {} {}\n", self.boot_id, word(at_boot.shown), word(at_boot.floor)));
        at_boot
    }

    /// The saved keys for cookies of this agent alone.
    pub(crate) fn cookie_keys(&self) -> Option<String> {
        self.read(COOKIE_KEYS)
    }

    /// Saves keys for cookies. No other user may read them.
    pub(crate) fn save_cookie_keys(&self, text: &str) {
        self.save(COOKIE_KEYS, text, FileOptions { mode: 0o600, ..FileOptions::OPEN });
    }

    /// What was saved of the host's own time zone.
    pub(crate) fn former_timezone(&self) -> Option<String> {
        self.read(TIMEZONE)
    }

    /// Saves what is known of the host's own time zone.
    ///
    /// # Errors
    /// If it cannot be saved. Then the time zone must not be changed.
    pub(crate) fn save_former_timezone(&self, text: &str) -> Result<(), Error> {
        self.replace(TIMEZONE, text, FileOptions::OPEN)
    }

    /// Removes the record of the host's own time zone, which is in force again.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(crate) fn forget_former_timezone(&self) -> Result<(), Error> {
        self.remove(TIMEZONE)
    }

    /// The host's folder in which the manifest of the static pod was written.
    pub(crate) fn manifest_folder(&self) -> Option<PathBuf> {
        self.read(MANIFEST_FOLDER).map(|text| PathBuf::from(text.trim()))
    }

    /// Saves the folder of the manifest.
    pub(crate) fn save_manifest_folder(&self, folder: &Path) {
        self.keep(MANIFEST_FOLDER, &format!("{}\n", folder.display()));
    }

    /// Removes the record of that folder: the manifest is not there any more.
    pub(crate) fn forget_manifest_folder(&self) {
        if let Err(error) = self.remove(MANIFEST_FOLDER) {
            warn!(%error, "State not removed");
        }
    }

    fn keep(&self, name: &str, text: &str) -> bool {
        self.save(name, text, FileOptions::OPEN)
    }

    /// Writes a file, or remembers it for [`Self::retry`]. Returns true if it is on disk.
    fn save(&self, name: &str, text: &str, options: FileOptions) -> bool {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_now(name, text, options)
    }

    fn write_now(&self, name: &str, text: &str, options: FileOptions) -> bool {
        let written = self.replace(name, text, options);
        match &written {
            Ok(()) => self.pending_writes.saved(name),
            Err(error) => self.pending_writes.failed(name, text, options, error),
        }
        written.is_ok()
    }

    /// The text of a file of the agent, even if it still waits for the disk; none if it does not exist, is not a
    /// regular file, or cannot be read.
    fn read(&self, name: &str) -> Option<String> {
        if let Some(text) = self.pending_writes.text(name) {
            return Some(text);
        }
        let path = self.directory.join(name);
        let is_file = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
        is_file.then(|| crate::load::read(&path).ok()).flatten()
    }

    fn replace(&self, name: &str, text: &str, options: FileOptions) -> Result<(), Error> {
        let path = self.directory.join(name);
        let FileOptions { mode, durable, in_place } = options;
        let written =
            replace::replace(&path, FileAttributes { mode, durable }, |file| file.write_all(text.as_bytes()));
        match written {
            Err(_) if in_place && replace::overwrite(&path, text).is_ok() => Ok(()),
            written => written.map_err(|source| Error { path, source }),
        }
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        self.pending_writes.saved(name);
        let path = self.directory.join(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error { path, source }),
            _ => Ok(()),
        }
    }
}

/// A time, or `-` for none. Nothing if the word is neither.
fn wall_or_dash(word: &str) -> Option<Option<Wall>> {
    if word == "-" { Some(None) } else { word.parse().ok().map(|nanos| Some(Wall(nanos))) }
}

/// Other users need no access to the folder.
const FOLDER_MODE: u32 = 0o700;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::{clock, scratch::Scratch};

    #[test]
    fn what_is_saved_comes_back() {
        let folder = Scratch::new();
        let state = State::open(&folder.path().join("made/here"), "boot-1");
        assert_eq!(
            (state.drift(), state.boot(), state.profile(), state.time()),
            (None, BootState::default(), None, None)
        );
        let (drift, boot) =
            (Drift { frequency_ppm: -12.5, skew_ppm: 0.25 }, BootState { steps: 2, synchronized: true });
        let name = ProfileName::of("p", "text\nof two lines\n");
        state.save_drift(drift);
        state.save_boot(boot);
        state.save_profile(&name, "text\nof two lines\n");
        state.save_time(Wall(17));
        assert_eq!((state.drift(), state.boot(), state.time()), (Some(drift), boot, Some(Wall(17))));
        assert_eq!(state.profile(), Some((name, "text\nof two lines\n".to_owned())));
        state.forget_profile();
        state.forget_profile();
        assert_eq!(state.profile(), None);
    }

    #[test]
    fn the_folder_is_for_us_alone() {
        let folder = Scratch::new();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let made = folder.path().join("made");
        let state = State::open(&made, "b");
        assert_eq!((mode(&made), state.exposure()), (0o700, None));
        // As an older version created it.
        fs::create_dir(made.join("bin")).unwrap();
        set(&made, 0o755);
        State::open(&made, "b");
        assert_eq!(mode(&made), 0o700);
        // A folder with files of others must not be closed.
        let shared = folder.path().join("shared");
        fs::create_dir_all(shared.join("another program")).unwrap();
        set(&shared, 0o777);
        let state = State::open(&shared, "b");
        assert_eq!(mode(&shared), 0o777);
        assert!(state.exposure().unwrap().contains("mode 0777"));
    }

    #[test]
    fn nobody_else_may_read_the_cookie_keys() {
        let folder = Scratch::new();
        let state = State::open(folder.path(), "b");
        assert_eq!(state.cookie_keys(), None);
        state.save_cookie_keys("secret");
        assert_eq!(state.cookie_keys().as_deref(), Some("secret"));
        let mode = |name| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("cookie_keys"), 0o600);
    }

    #[test]
    fn another_boot_opens_the_start_phase_again() {
        let folder = Scratch::new();
        State::open(folder.path(), "boot-1").save_boot(BootState { steps: 3, synchronized: true });
        assert_eq!(State::open(folder.path(), "boot-1").boot().steps, 3);
        assert_eq!(State::open(folder.path(), "boot-2").boot(), BootState::default());
    }

    #[test]
    fn a_link_is_neither_followed_nor_written_through() {
        let folder = Scratch::new();
        let victim = folder.path().join("victim");
        fs::write(&victim, "1 1\n").unwrap();
        let state = State::open(&folder.path().join("state"), "b");
        for name in ["drift", ".drift.new"] {
            symlink(&victim, folder.path().join("state").join(name)).unwrap();
        }
        assert_eq!(state.drift(), None);
        state.save_drift(Drift { frequency_ppm: 5.0, skew_ppm: 1.0 });
        assert_eq!(fs::read_to_string(&victim).unwrap(), "1 1\n");
        assert_eq!(state.drift().unwrap().frequency_ppm, 5.0);
    }

    #[test]
    fn an_interrupted_write_leaves_the_old_file() {
        let folder = Scratch::new();
        let state = State::open(folder.path(), "b");
        state.save_time(Wall(1));
        fs::write(folder.path().join(".time.new"), "half of a numb").unwrap();
        assert_eq!(state.time(), Some(Wall(1)));
        state.save_time(Wall(2));
        assert_eq!(state.time(), Some(Wall(2)));
    }

    #[test]
    fn what_cannot_be_written_is_tried_again() {
        let folder = Scratch::new();
        let directory = folder.path().join("state");
        let state = State::open(&directory, "b");
        assert_eq!(state.trouble(), None);
        fs::remove_dir_all(&directory).unwrap();
        let boot = BootState { steps: 1, synchronized: false };
        assert!(!state.save_boot(boot) && !state.boot_is_saved());
        state.save_time(Wall(1));
        state.save_time(Wall(2));
        let trouble = state.trouble().unwrap();
        assert!(trouble.contains("state/boot: No such file"), "{trouble}");
        assert_eq!((state.boot(), state.time()), (boot, Some(Wall(2))), "known here all the same");
        fs::create_dir(&directory).unwrap();
        state.retry();
        assert!(state.trouble().is_some(), "not at once");
        for (name, text, options) in
            state.pending_writes.due(Instant::now() + std::time::Duration::from_secs(11))
        {
            assert!(state.save(&name, &text, options));
        }
        assert_eq!(state.trouble(), None);
        let again = State::open(&directory, "b");
        assert_eq!((again.boot(), again.time()), (boot, Some(Wall(2))));
    }

    #[test]
    fn steps_are_counted_where_no_new_file_can_be_made() {
        let folder = Scratch::new();
        let (one, two) =
            (BootState { steps: 1, synchronized: false }, BootState { steps: 2, synchronized: true });
        let state = State::open(folder.path(), "b");
        // As an agent of an earlier version left it.
        fs::write(folder.path().join("boot"), "a 1 0\n").unwrap();
        // A folder has the name of the new file.
        fs::create_dir(folder.path().join(".boot.new")).unwrap();
        for boot in [one, two, one] {
            assert!(state.save_boot(boot));
            assert_eq!(State::open(folder.path(), "b").boot(), boot);
        }
        fs::remove_file(folder.path().join("boot")).unwrap();
        assert!(!state.save_boot(two), "there is nothing to write over");
    }

    #[test]
    fn nonsense_is_no_state() {
        let folder = Scratch::new();
        let state = State::open(folder.path(), "b");
        for name in ["drift", "boot", "samples", "profile", "time"] {
            fs::write(folder.path().join(name), "NaN inf\n\u{0}").unwrap();
        }
        assert_eq!(
            (state.drift(), state.boot(), state.profile(), state.time()),
            (None, BootState::default(), None, None)
        );
        assert_eq!(state.samples(), None);
        fs::write(folder.path().join("rtc"), "b x y\n").unwrap();
        assert_eq!(state.rtc_at_boot(Some(Wall(1))), RtcAtBoot { shown: Some(Wall(1)), floor: None });
    }

    #[test]
    fn the_first_look_of_a_boot_is_kept() {
        let folder = Scratch::new();
        let state = State::open(folder.path(), "boot-1");
        state.save_time(Wall(5));
        let first = RtcAtBoot { shown: Some(Wall(3)), floor: Some(Wall(5)) };
        assert_eq!(state.rtc_at_boot(Some(Wall(3))), first);
        state.save_time(Wall(9));
        assert_eq!(State::open(folder.path(), "boot-1").rtc_at_boot(Some(Wall(9))), first);
        let next = RtcAtBoot { shown: None, floor: Some(Wall(9)) };
        let state = State::open(folder.path(), "boot-2");
        assert_eq!((state.rtc_at_boot(None), state.rtc_at_boot(Some(Wall(9)))), (next, next));
    }

    #[test]
    fn samples_hold_for_their_boot_and_while_nobody_steps() {
        let folder = Scratch::new();
        let state = State::open(folder.path(), "boot-1");
        let clocks = clock::clocks();
        let drift = Drift { frequency_ppm: 0.25, skew_ppm: 0.125 };
        let saved = Samples { drift, sources: Vec::new() };
        assert_eq!(state.samples(), None);
        state.save_samples(saved.clone(), clocks);
        let carried = |now| state.samples().expect("they are of this boot").at(now);
        assert_eq!(carried(clocks), Some(saved.clone()));
        assert_eq!(State::open(folder.path(), "boot-2").samples(), None);
        let mut stepped = clocks;
        stepped.now.wall = stepped.now.wall.plus(0.01);
        assert_eq!(carried(stepped), None);
        let text = fs::read_to_string(folder.path().join("samples")).unwrap();
        fs::write(folder.path().join("samples"), text.trim_end()).unwrap();
        assert_eq!(state.samples(), None);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_survived() {
        let state = State::open(Path::new("/proc/no-such-directory"), "b");
        state.save_time(Wall(1));
        assert_eq!(state.time(), Some(Wall(1)));
        assert_eq!(State::open(Path::new("/proc/no-such-directory"), "b").time(), None);
    }
}
