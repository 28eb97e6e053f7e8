//! The part of the report about others who steer the clock: what was announced and who is suspected in, what to say out.
use contract::ConflictReport;
use ntp::Foreign;

use super::words;
use crate::suspects::Suspect;

/// The conflict that runs, and how many began.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    running: Option<(Foreign, f64)>,
    suspects: Vec<Suspect>,
    sees_node: bool,
    counts: [u64; Foreign::ALL.len()],
}

impl Conflicts {
    /// One began at `since`, seconds since 1970; nobody is suspected yet.
    pub(super) fn begin(&mut self, sign: Foreign, since: f64) {
        self.running = Some((sign, since));
        self.suspects.clear();
        if let Some(count) = Foreign::ALL.iter().position(|each| *each == sign).map(|at| &mut self.counts[at])
        {
            *count += 1;
        }
    }

    pub(super) fn end(&mut self) {
        self.running = None;
    }

    pub(super) fn running(&self) -> bool {
        self.running.is_some()
    }

    /// Takes who could have done it. Who steps a clock now and then is named only where it was stepped.
    pub(super) fn suspect(&mut self, suspects: Vec<Suspect>, sees_node: bool) {
        let stepped = self.running.is_some_and(|(sign, _)| sign == Foreign::Step);
        self.suspects = suspects.into_iter().filter(|suspect| suspect.steers || stepped).collect();
        self.sees_node = sees_node;
    }

    pub(super) fn report(&self) -> Option<ConflictReport> {
        let (sign, since) = self.running?;
        Some(ConflictReport {
            since,
            message: words::conflict(sign, &self.suspects, self.sees_node),
            suspects: words::names(&self.suspects),
        })
    }

    /// How many began, by the word of what showed them.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        Foreign::ALL.iter().zip(self.counts).map(|(sign, count)| (sign.as_str(), count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_says_what_was_seen_who_runs_and_what_to_do() {
        let mut conflicts = Conflicts::default();
        assert_eq!(conflicts.report(), None);
        conflicts.begin(Foreign::Frequency, 17.0);
        let blind = conflicts.report().unwrap().message;
        assert!(blind.contains("hostPID"), "{blind}");
        let chronyd = Suspect { name: "chronyd", pid: 312, unit: Some("chronyd"), steers: true };
        let tools = Suspect { name: "vmtoolsd", pid: 7, unit: Some("open-vm-tools"), steers: false };
        conflicts.suspect(vec![chronyd, tools], true);
        let report = conflicts.report().unwrap();
        assert_eq!(report.suspects, ["chronyd (pid 312)"]);
        assert_eq!(
            report.message,
            "Somebody else set the frequency of this node's clock; here runs chronyd (pid 312). The agent only \
             observes until it is alone: stop it (systemctl disable --now chronyd), or set mode: Observe in the policy"
        );
        conflicts.suspect(Vec::new(), true);
        assert!(conflicts.report().unwrap().message.contains("scripts"));
        conflicts.end();
        assert!(!conflicts.running() && conflicts.report().is_none());
        conflicts.begin(Foreign::Step, 18.0);
        assert_eq!(
            conflicts.counts(),
            [("frequency", 1), ("slew", 0), ("status", 0), ("error", 0), ("step", 1)]
        );
    }
}
