//! The conflict in the report: the evidence and the suspected programs in; what to report out.
use contract::ConflictReport;
use ntp::Foreign;

use super::{suspect_search::SuspectSearch, words};
use crate::suspects::Suspect;

/// The present conflict, and the number of conflicts.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    running: Option<(Foreign, f64)>,
    search: Option<SuspectSearch>,
    counts: [u64; Foreign::ALL.len()],
}

impl Conflicts {
    /// Begins a conflict at `since`, seconds since 1970. No search for programs was made yet.
    pub(super) fn begin(&mut self, sign: Foreign, since: f64) {
        self.running = Some((sign, since));
        self.search = None;
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

    /// Takes the programs that could have done it. A program that only steps the clock now and then is named only if
    /// the clock was stepped.
    pub(super) fn suspect(&mut self, mut suspects: Vec<Suspect>, sees_node: bool) {
        let stepped = self.running.is_some_and(|(sign, _)| sign == Foreign::Step);
        suspects.retain(|suspect| suspect.steers || stepped);
        self.search = Some(SuspectSearch { suspects, sees_node });
    }

    pub(super) fn report(&self) -> Option<ConflictReport> {
        let (sign, since) = self.running?;
        Some(ConflictReport {
            since,
            message: words::conflict(sign, self.search.as_ref()),
            suspects: words::names(self.search.iter().flat_map(|search| &search.suspects)),
        })
    }

    /// The number of conflicts, by the kind of evidence.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        Foreign::ALL.iter().zip(self.counts).map(|(sign, count)| (sign.as_str(), count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suspects::ManagedBy;

    #[test]
    fn a_conflict_says_what_was_seen_who_runs_and_what_to_do() {
        let mut conflicts = Conflicts::default();
        assert_eq!(conflicts.report(), None);
        conflicts.begin(Foreign::Frequency, 17.0);
        let message = |conflicts: &Conflicts| conflicts.report().unwrap().message;
        let unknown = message(&conflicts);
        assert!(!unknown.contains("hostPID") && unknown.contains("mode: Observe"), "{unknown}");
        let suspect = |name, pid, home, steers| Suspect { name, pid, home, steers };
        let chronyd = suspect("chronyd", 312, ManagedBy::Unit("chrony".to_owned()), true);
        let tools = suspect("vmtoolsd", 7, ManagedBy::Unit("open-vm-tools".to_owned()), false);
        let podded = suspect("ntpd", 9, ManagedBy::Pod, true);
        conflicts.suspect(vec![chronyd.clone(), tools], true);
        let report = conflicts.report().unwrap();
        assert_eq!(report.suspects, ["chronyd (pid 312)"]);
        assert_eq!(
            report.message,
            "Another process set the frequency of this node's clock; here runs chronyd (pid 312). The agent only \
             observes until it is alone: stop it (systemctl disable --now chrony), or set mode: Observe in the policy"
        );
        conflicts.suspect(vec![chronyd, podded.clone()], true);
        let two = message(&conflicts);
        assert!(two.contains("chronyd (pid 312), ntpd (pid 9)"), "{two}");
        assert!(two.contains("stop them (systemctl disable --now chrony; remove their pods)"), "{two}");
        conflicts.suspect(vec![podded], true);
        assert!(message(&conflicts).contains("stop it (remove its pod)"), "{}", message(&conflicts));
        conflicts.suspect(Vec::new(), true);
        assert!(message(&conflicts).contains("scripts"));
        conflicts.suspect(Vec::new(), false);
        assert!(message(&conflicts).contains("hostPID"));
        conflicts.end();
        assert!(!conflicts.running() && conflicts.report().is_none());
        conflicts.begin(Foreign::Step, 18.0);
        assert_eq!(
            conflicts.counts(),
            [("frequency", 1), ("slew", 0), ("status", 0), ("error", 0), ("step", 1)]
        );
    }
}
