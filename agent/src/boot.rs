//! What `timesync-agent boot` does after a boot, before the API server can be reached. It sets the clock forward to the
//! `floor`, then synchronises it by the last good profile, with those upstreams that are `usable` without any Secret.
//! Then it releases the lock for the agent. It prints a line for each step. The exit code shows how far it came.
use std::{
    io,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use contract::{Mode, ProfileName, approximately};
use ntp::{Served, Snapshot, Transition};
use profile::Agent;
use sys::signal;

use crate::{
    assemble,
    boot::usable::UsableUpstreams,
    clock::{self, SystemClock},
    engine::{self, EngineCommand, EngineHandle, Sink},
    floor::{self, Floor},
    host_root::HostRoot,
    load::{self, Candidate},
    lock::{Lock, TryLock},
    report::Reporter,
    rtc::{self, HardwareClock},
    state::{Booted, State},
    suspects::Suspects,
};

mod usable;

/// The inputs of a boot, and its time limit.
#[derive(Debug)]
pub(crate) struct Boot {
    /// The agent's folders and settings.
    pub(crate) agent: Agent,
    /// The profile of a node without Kubernetes. Otherwise the last good one is read from the disk.
    pub(crate) profile: Option<Candidate>,
    /// The kernel's boot id.
    pub(crate) boot_id: String,
    /// The clock must be synchronised within this time.
    pub(crate) timeout: Duration,
}

/// The result of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The clock is synchronised, or was before in this boot.
    Synchronized,
    /// An agent runs, or waits for the lock, and does the rest.
    HandedOver,
    /// There is no upstream to ask, or no right to set the clock: only the floor was used.
    FloorOnly,
    /// No upstream answered in time: only the floor was used. Another try may do better.
    TimedOut,
}

/// Tolerance, seconds: an RTC in local time can be an hour off twice a year, and one that was not written for weeks by
/// some seconds.
const RTC_TOLERANCE: f64 = 3_660.0;

/// Interval between two checks of the progress.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

impl Boot {
    /// Runs the boot. Afterwards the lock is free again.
    ///
    /// # Errors
    /// If the system has no thread or descriptor left.
    pub(crate) fn run(self) -> io::Result<Outcome> {
        let state = Arc::new(State::open(&self.agent.state_directory, &self.boot_id));
        let lock = match Lock::try_take(&self.agent.state_directory, "timesync-agent boot") {
            Ok(TryLock::Ours(lock)) => lock,
            Ok(TryLock::Theirs(holder)) => {
                print_line(&format!("{holder} runs already and looks after the clock: nothing to do."));
                // Then kubelet has started this program.
                if state.booted().is_none() {
                    state.save_booted(Booted::Began);
                }
                return Ok(Outcome::HandedOver);
            }
            Err(error) => {
                print_line(&format!(
                    "The state folder cannot be used, so nothing is known of this node: {error}."
                ));
                return Ok(Outcome::FloorOnly);
            }
        };
        if let Some(why) = done_before(&state) {
            print_line(why);
            state.save_booted(Booted::Done);
            return Ok(Outcome::Synchronized);
        }
        state.save_booted(Booted::Began);
        let outcome = self.synchronize(&state, &lock)?;
        if matches!(outcome, Outcome::Synchronized | Outcome::FloorOnly) {
            state.save_booted(Booted::Done);
        }
        Ok(outcome)
    }

    fn synchronize(mut self, state: &Arc<State>, lock: &Lock) -> io::Result<Outcome> {
        let Some(candidate) = self.profile.take().or_else(|| last_good(state)) else {
            print_line("No profile is known: no clock is touched.");
            return Ok(Outcome::FloorOnly);
        };
        let name = &candidate.name;
        if candidate.checked.mode() == Mode::Observe {
            print_line(&format!("Profile {name} only observes: the clock is not touched."));
            return Ok(Outcome::FloorOnly);
        }
        let may_set = clock::may_set();
        self.record_rtc(state);
        if may_set {
            print_line(&floor_line(floor::raise(state, &mut SystemClock::default())));
        } else {
            print_line("No right to set the clock (CAP_SYS_TIME): it is only measured.");
        }
        let config = assemble::engine_config(&candidate.checked, may_set);
        let UsableUpstreams { left_out, config } = usable::with_keys_in(config, &self.agent.keys_directory);
        left_out.iter().for_each(|line| print_line(line));
        let Some(config) = config else {
            print_line(
                "No upstream can be used before the agent runs: there is no more than the last known time.",
            );
            return Ok(Outcome::FloorOnly);
        };
        let names: Vec<_> = config.sources.iter().map(|source| source.name.as_str()).collect();
        print_line(&format!("Profile {name} runs; asked: {}.", names.join(", ")));
        let synchronized = self.steer(config, &candidate, state, lock)?;
        Ok(if may_set || synchronized != Outcome::Synchronized { synchronized } else { Outcome::FloorOnly })
    }

    /// Records the RTC's time before the clock is moved or a time is saved. Later it would not show any more that the
    /// RTC had lost its time.
    fn record_rtc(&self, state: &State) {
        let host = HostRoot::new(self.agent.host_root.clone());
        let at_boot = match HardwareClock::new(self.agent.rtc_device.clone(), host, None).read() {
            Ok(reading) => state.rtc_at_boot(Some(reading.wall())),
            Err(rtc::Error::LostTime) => state.rtc_at_boot(None),
            Err(error) => return print_line(&format!("Of the RTC nothing is known: {error}.")),
        };
        if at_boot.lost(RTC_TOLERANCE) {
            print_line("The RTC has lost its time.");
        }
    }

    /// Runs the engine until the clock is synchronised, the time is up, or another agent takes over.
    fn steer(
        &self,
        config: ntp::Config,
        candidate: &Candidate,
        state: &Arc<State>,
        lock: &Lock,
    ) -> io::Result<Outcome> {
        let disciplines = config.mode == ntp::Mode::Discipline;
        let reporter = Arc::new(Reporter::new("", self.boot_id.clone(), String::new()));
        let sink = Box::new(SnapshotSink(Arc::clone(&reporter)));
        let host = HostRoot::new(self.agent.host_root.clone());
        let suspects = Arc::new(Suspects::new());
        let (handle, engine) = engine::start(
            Arc::clone(state),
            &self.agent.keys_directory,
            &host,
            suspects,
            Arc::default(),
            sink,
        )?;
        handle.send(EngineCommand::Run(config, assemble::restrict_table(candidate.checked.access())));
        let deadline = Instant::now() + self.timeout;
        let mut printed = Printed::default();
        let outcome = loop {
            thread::sleep(CHECK_INTERVAL);
            printed.print_changes(&reporter);
            if reporter.synchronized() {
                if disciplines && reporter.knows_true_time() {
                    state.save_time(clock::now().wall);
                }
                break Outcome::Synchronized;
            }
            if lock.is_wanted() {
                print_line("An agent waits: it goes on.");
                break Outcome::HandedOver;
            }
            if signal::stop_requested() {
                print_line("Told to stop.");
                break Outcome::TimedOut;
            }
            if Instant::now() >= deadline {
                print_line(&format!("Not synchronised within {} s; giving up.", self.timeout.as_secs()));
                break Outcome::TimedOut;
            }
            if engine.is_finished() {
                return Err(io::Error::other("the engine ended by itself"));
            }
        };
        if outcome == Outcome::Synchronized {
            print_line(&synchronized_line(&reporter, disciplines));
        }
        end(&handle, engine)?;
        Ok(outcome)
    }
}

/// Makes the engine stop: it leaves the clock in a safe state and saves what it measured.
fn end(handle: &EngineHandle, engine: JoinHandle<()>) -> io::Result<()> {
    handle.send(EngineCommand::Stop);
    engine.join().map_err(|_| io::Error::other("the engine ended by itself"))
}

/// The reason if nothing is left to do in this boot; none if something is.
fn done_before(state: &State) -> Option<&'static str> {
    if state.boot().synchronized {
        Some("The clock was synchronised in this boot already: nothing to do.")
    } else if state.booted() == Some(Booted::Done) {
        Some("All that can be done before the agent runs was done in this boot already: nothing to do.")
    } else {
        None
    }
}

fn last_good(state: &State) -> Option<Candidate> {
    let (name, text): (ProfileName, String) = state.profile()?;
    match load::candidate(name, text) {
        Ok(candidate) => Some(candidate),
        Err(error) => {
            print_line(&format!("The profile on disk cannot be used: {error}."));
            None
        }
    }
}

fn floor_line(floor: Floor) -> String {
    match floor {
        Floor::Unknown => {
            "No time is known to have been right on this node: the clock stays as it is.".to_owned()
        }
        Floor::Held => "The clock is not behind the last time known to be right.".to_owned(),
        Floor::Raised(by) => {
            format!("The clock was set forward by {}, to the last time known to be right.", approximately(by))
        }
        Floor::Behind(by) => {
            format!(
                "The clock is {} behind the last time known to be right, and cannot be set.",
                approximately(by)
            )
        }
    }
}

fn synchronized_line(reporter: &Reporter, disciplines: bool) -> String {
    let clock = reporter.report().clock;
    let offset = clock.offset.map_or_else(|| "unknown".to_owned(), approximately);
    if disciplines {
        format!("The clock is synchronised, offset {offset}. {}.", clock.message)
    } else {
        format!("The clock is {offset} from true time, and was not set. {}.", clock.message)
    }
}

/// How much of the clock's state was printed.
#[derive(Debug, Default)]
struct Printed {
    message: String,
    transition: u64,
}

impl Printed {
    fn print_changes(&mut self, reporter: &Reporter) {
        let report = reporter.report();
        for transition in report.transitions.iter().filter(|next| next.number > self.transition) {
            print_line(&format!("{}.", transition.message));
        }
        self.transition = report.transitions.last().map_or(0, |last| last.number);
        if report.clock.message != self.message && !report.clock.synchronized {
            print_line(&format!("{}.", report.clock.message));
        }
        self.message = report.clock.message;
    }
}

/// Stores the engine's snapshot.
struct SnapshotSink(Arc<Reporter>);

impl Sink for SnapshotSink {
    fn publish(&mut self, snapshot: Option<Snapshot>, transitions: &[Transition], _: Served) {
        self.0.engine(clock::now().wall, snapshot, transitions);
    }
}

/// Prints a line for a reader of the pod's log, or of the console.
pub(crate) fn print_line(line: &str) {
    println!("boot: {line}");
}

/// Waits up to `limit` for an agent, which would take the lock. Returns true if none came; false if an agent holds or
/// wants the lock, or if a signal asks this program to stop.
pub(crate) fn no_agent_within(state_directory: &Path, limit: Duration) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < limit {
        if signal::stop_requested() {
            return false;
        }
        match Lock::try_take(state_directory, "timesync-agent boot, which looks for an agent") {
            Ok(TryLock::Theirs(_)) => return false,
            Ok(TryLock::Ours(lock)) if lock.is_wanted() => return false,
            Ok(TryLock::Ours(_)) | Err(_) => {}
        }
        thread::sleep(AGENT_CHECK_INTERVAL.min(limit.saturating_sub(begin.elapsed())));
    }
    true
}

/// Interval between two checks for an agent.
const AGENT_CHECK_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use ntp::{BootState, Wall};

    use super::*;
    use crate::scratch::Scratch;

    const PROFILE: &str = "[[upstreams]]\nname = \"a\"\nserver = \"192.0.2.1\"\n";

    fn boot(folder: &Scratch) -> io::Result<Outcome> {
        let agent = Agent { state_directory: folder.path().to_owned(), ..Agent::default() };
        let boot = Boot { agent, profile: None, boot_id: "b".to_owned(), timeout: Duration::ZERO };
        boot.run()
    }

    #[test]
    fn a_boot_that_was_handled_is_left_alone() {
        let folder = Scratch::new();
        let state = State::open(folder.path(), "b");
        assert_eq!(done_before(&state), None);
        state.save_booted(Booted::Began);
        assert_eq!(done_before(&state), None, "one that did not come to its end is begun again");
        state.save_boot(BootState { steps: 1, synchronized: true });
        assert!(done_before(&state).unwrap().contains("synchronised"));
        assert_eq!(boot(&folder).unwrap(), Outcome::Synchronized);
        assert_eq!(state.booted(), Some(Booted::Done));
        assert!(done_before(&State::open(folder.path(), "next")).is_none());
    }

    #[test]
    fn without_a_profile_that_steers_nothing_is_touched() {
        let folder = Scratch::new();
        let state = State::open(folder.path(), "b");
        // Saves any time: it is not used.
        state.save_time(Wall(i64::MAX));
        assert_eq!(boot(&folder).unwrap(), Outcome::FloorOnly);
        assert_eq!((state.booted(), state.raises()), (Some(Booted::Done), 0));

        let folder = Scratch::new();
        let state = State::open(folder.path(), "b");
        state.save_time(Wall(i64::MAX));
        let text = format!("mode = \"Observe\"\n{PROFILE}");
        state.save_profile(&ProfileName::of("p", &text), &text);
        assert_eq!(boot(&folder).unwrap(), Outcome::FloorOnly);
        assert_eq!(state.raises(), 0);

        let folder = Scratch::new();
        let state = State::open(folder.path(), "b");
        state.save_profile(&ProfileName::of("p", PROFILE), &format!("{PROFILE}# changed\n"));
        assert!(last_good(&state).is_none(), "its text is not what its name stands for");
    }

    #[test]
    fn an_agent_that_runs_is_left_alone() {
        let folder = Scratch::new();
        let Ok(TryLock::Ours(lock)) = Lock::try_take(folder.path(), "timesync-agent run") else { panic!() };
        assert_eq!(boot(&folder).unwrap(), Outcome::HandedOver);
        let state = State::open(folder.path(), "b");
        assert_eq!(state.booted(), Some(Booted::Began), "that it was started is known all the same");
        assert!(!no_agent_within(folder.path(), Duration::from_secs(3600)));
        drop(lock);
        assert!(no_agent_within(folder.path(), Duration::from_millis(1)));
    }
}
